"""Backups: selection, planning, node jobs, API objects, the manifest."""
