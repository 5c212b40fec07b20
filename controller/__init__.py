"""Runs once per cluster (leader-elected): plans backups, reconciles, restores."""
