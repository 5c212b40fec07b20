"""Commands in pods around the reading of their volumes: planned, run, and always brought to an end.

``plan``: which pods, and which volumes are read between whose hooks. ``decide``: what to do next.
``record``: what stands outside this process. ``driver``: the hooks of all backups of this process.
``outcome`` and ``output``: what is told and kept. One command, and its end: ``controller.hooks``.
"""
