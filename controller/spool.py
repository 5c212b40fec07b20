"""Memory-backed room for API objects on their way to or from a repository.

Each use has a directory of its own name: two runs of the same work (a leader that lost its Lease
and has not noticed yet, and its successor in the same process) must not empty each other's.
``clear`` is for the start of the process: what a killed predecessor in this container left there
would take memory for ever.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path


@asynccontextmanager
async def room(root: Path, name: str) -> AsyncIterator[Path]:
    """An empty directory below ``root`` that only its owner reads; it goes with the block."""
    path = _make(root, name)  # not in a thread: who is cancelled meanwhile would leave it there
    try:
        yield path
    finally:
        await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)


def clear(root: Path) -> None:
    """Remove what is below ``root``, which itself may be a mount point and stays."""
    for left in root.glob("*"):
        shutil.rmtree(left, ignore_errors=True)


def _make(root: Path, name: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=root))  # mode 0700
