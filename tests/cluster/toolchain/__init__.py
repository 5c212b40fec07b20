"""Fetches and builds the programs that the tests and the local cluster need.

Runs on the standard library alone, before any virtual environment exists:
`python3 -m tests.cluster.toolchain [all|system|restic|azurite|kubectl|prometheus|kubernetes ...]`.
Nothing is fetched twice; versions are in `pins.py`, the cache in `cache.py`.
"""

from __future__ import annotations

from tests.cluster.toolchain.cache import cache_root
from tests.cluster.toolchain.errors import ToolchainError

__all__ = ["ToolchainError", "cache_root"]
