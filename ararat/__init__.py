"""Ararat: what agent and controller share, and the command line."""

__version__ = "0.1.0"
