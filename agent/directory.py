"""Opens directories below a trusted root, following no link on the way.

Problem: the agent is root on the node, and pods write into directories below the kubelet's root. A
link put in the right place would lead the agent to the host's own files.
Decision: every component is opened by itself, relative to its parent's descriptor, with
``O_NOFOLLOW | O_DIRECTORY``. Work then goes on through the descriptor, never through the path.
Limits: the root itself is what the administrator configured and may contain links.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_beneath(root: Path, *components: str) -> int:
    """Descriptor of ``root/components…``; the caller closes it.

    Raises FileNotFoundError where one is missing, NotADirectoryError or OSError (ELOOP) where one
    is a link or no directory, ValueError for a component that is not a plain name.
    """
    _check(components)
    return _descend(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), components)


def open_beneath_descriptor(directory: int, *components: str) -> int:
    """The same below an open directory, which stays the caller's."""
    _check(components)
    # Not a duplicate, which would share the place in the listing with whoever lists it now.
    return _descend(os.open(".", _FLAGS, dir_fd=directory), components)


def _check(components: tuple[str, ...]) -> None:
    for component in components:
        if component in ("", ".", "..") or "/" in component or "\0" in component:
            raise ValueError(f"not a plain file name: {component!r}")


def _descend(fd: int, components: tuple[str, ...]) -> int:
    """Closes ``fd`` on the way."""
    for component in components:
        try:
            below = os.open(component, _FLAGS, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd


@contextmanager
def opened(root: Path, *components: str) -> Iterator[int]:
    """``open_beneath`` for a ``with`` block."""
    fd = open_beneath(root, *components)
    try:
        yield fd
    finally:
        os.close(fd)


def is_empty(fd: int, *, ignore: frozenset[str] = frozenset()) -> tuple[bool, str]:
    """Whether the directory holds nothing but ignored names; else also one name it holds."""
    with os.scandir(fd) as entries:
        for entry in entries:
            if entry.name not in ignore:
                return False, entry.name
    return True, ""
