"""Locations: opened, proven, synced."""
