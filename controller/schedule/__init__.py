"""Schedules: when backups are due, which of them are kept, and what has run its time."""
