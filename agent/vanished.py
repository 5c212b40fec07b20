"""Files that were in a volume when its backup began, and were gone before restic came to read them.

Problem: restic reads a directory's names when it gets there and its files one after the other. A
file that is removed, or moved, between the two is left out without a word (one that goes between
the look at it and its opening is an error, and the backup incomplete). Which of the two windows it
was must make no difference to who reads the result: both are told.
Decision: whoever looks for sockets beside restic (agent/sockets.py) reads the names of all
directories anyway. They are kept, compressed, in a file without a name, each directory with its
time of change. When restic has ended only directories that changed since are read again, and of
what is gone from them the snapshot is asked: what it holds was read in time.
Limits: asked about are the first 200 that are gone. Nothing is known of directories with more than
50,000 files, of files that came after their directory was looked at, and of file systems that keep
no times of directories; empty directories are not told of. What was moved is told of as gone from
where it was, also where the snapshot has it elsewhere. None of this ever fails a backup.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import struct
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Protocol

import structlog

from ararat import excludes
from ararat.errors import AraratError
from ararat.restic.models import Node, PathError

from .directory import open_beneath_descriptor
from .stoppable import in_thread

_log = structlog.get_logger(__name__)

MESSAGE = "was gone before it could be read"
#: restic compares each with every entry that it passes.
MOST = 200
_HEAD = struct.Struct("<qII")
#: A directory that changed this shortly before it was looked at may have changed again unseen:
#: the clocks of file systems tick, those of servers in seconds.
_TICK_NS = 2 * 10**9
_DAMAGED = re.compile("�+")


class Listing(Protocol):
    """What is asked of an open repository."""

    def ls(
        self, snapshot_id: str, *, path: str | Sequence[str] | None = None, recursive: bool = True
    ) -> AsyncIterator[Node]: ...


class Inventory:
    """The names that a volume held, directory by directory; closed by whoever made it."""

    def __init__(self, scratch: Path, *, exclude_caches: bool = False) -> None:
        self._exclude_caches = exclude_caches
        self._caches: list[str] = []
        self._file: IO[bytes] = io.BytesIO()
        self._broken = False
        try:
            self._file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - closed by ``close``
        except OSError as error:
            self._break(error)
        self._written = gzip.GzipFile(fileobj=self._file, mode="wb", compresslevel=1, mtime=0)

    def add(self, descriptor: int, path: str, names: Iterable[str]) -> None:
        """The names of an open directory, read just now; ``path`` is empty or ends in a slash."""
        held = sorted(names)
        if self._exclude_caches and "CACHEDIR.TAG" in held:
            self._caches.append(path)
        if self._broken or not held or path.startswith(tuple(self._caches)):
            return
        changed = os.fstat(descriptor).st_mtime_ns
        if changed > time.time_ns() - _TICK_NS:
            changed = -1
        where, what = os.fsencode(path), b"/".join(map(os.fsencode, held))
        try:
            self._written.write(_HEAD.pack(changed, len(where), len(what)) + where + what)
        except OSError as error:
            self._break(error)

    def gone(self, volume: int, *, stopped: Callable[[], bool] = lambda: False) -> list[str]:
        """What is there no more, relative to the volume's root; the first of it."""
        found: list[str] = []
        for changed, path, names in self._records():
            if stopped() or len(found) >= MOST:
                break
            if changed == _changed(volume, path):
                continue
            still = _names(volume, path)
            found += [path + name for name in names if name not in still]
        return found[:MOST]

    def close(self) -> None:
        self._file.close()

    def _break(self, error: OSError) -> None:
        self._broken = True
        _log.warning("vanished.not_looked_for", cause=str(error))

    def _records(self) -> Iterator[tuple[int, str, list[str]]]:
        if self._broken:
            return
        self._written.close()
        self._file.seek(0)
        with gzip.GzipFile(fileobj=self._file, mode="rb") as written:
            while head := written.read(_HEAD.size):
                changed, where, what = _HEAD.unpack(head)
                path = os.fsdecode(written.read(where))
                names = written.read(what).split(b"/")
                yield changed, path, [os.fsdecode(name) for name in names]


async def find(
    inventory: Inventory,
    restic: Listing,
    *,
    volume: int,
    snapshot_id: str,
    excluded: Sequence[str] = (),
    known: Iterable[PathError] = (),
) -> tuple[PathError, ...]:
    """What the snapshot does not hold of what is gone. ``known``: what restic told of itself."""
    gone = await in_thread(lambda stopped: inventory.gone(volume, stopped=stopped))
    told = tuple(f"/{_shown(error.path).lstrip('/')}" for error in known)
    asked = [
        path
        for path in gone
        if not excludes.match(path, excluded)
        and not any(one.endswith(f"/{_shown(path)}") for one in told)
    ]
    if not asked:
        return ()
    try:
        nodes = restic.ls(snapshot_id, path=[f"/{path}" for path in asked], recursive=False)
        stored = {_shown(node.path) async for node in nodes}
    except AraratError as error:
        _log.warning("vanished.not_looked_up", cause=error.message, gone=len(asked))
        return ()
    return tuple(PathError(path, MESSAGE) for path in asked if f"/{_shown(path)}" not in stored)


def _shown(path: str) -> str:
    """As restic prints it: bytes that are not UTF-8 come out as one sign or several."""
    return _DAMAGED.sub("�", os.fsencode(path).decode(errors="replace"))


def _changed(volume: int, path: str) -> int | None:
    """When; a link on the way is followed, but only to a time that will not be the same."""
    try:
        return os.stat(path or ".", dir_fd=volume, follow_symlinks=False).st_mtime_ns
    except OSError:
        return None


def _names(volume: int, path: str) -> frozenset[str]:
    try:
        descriptor = open_beneath_descriptor(volume, *path.split("/")[:-1])
    except OSError:
        return frozenset()
    try:
        return frozenset(os.listdir(descriptor))
    finally:
        os.close(descriptor)
