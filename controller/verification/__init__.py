"""Verification: everything of a backup is restored into scratch volumes and read."""
