"""The one error of the toolchain: a sentence that names the item and the next step."""

from __future__ import annotations


class ToolchainError(Exception):
    """An item of the toolchain cannot be had; the message says which and what to do."""
