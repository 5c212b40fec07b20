"""What the tests on a real cluster and the demo share: commands, walks of volumes, watching pods.

`walker.py`, `guard.py` and `filler.py` are for containers: standard library only, brought in by a
ConfigMap. Everything else runs beside the tests.
"""
