"""Commands in pods' containers, whoever asked for them: backups and restores share this.

``execute``: one command in one container, and its end. ``results``: what came of it. ``kept``: a
record outside of this process, written before what it announces is done.
"""
