"""Maintenance: pruning, checks, and snapshots that nobody names."""
