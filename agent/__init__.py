"""Runs on a node: node jobs, the volumes on the host, the gate's answer (``python -m agent``)."""
