"""The sockets of a volume, which restic leaves out without a word.

Problem: a socket holds no data, and whoever listens on it makes it anew; but a backup that left out
anything has to say so. No version of restic does.
Decision: the directories are read once more, beside restic, which reads them at the same time. The
kernel says with each name what it is, so that nothing is asked about files. Nothing that goes wrong
here fails a backup: what restic cannot read it reports itself.
Who wants to know what else was met is told of each directory (agent/vanished.py).
Limits: directories more than 256 levels deep are not looked into, nor what is mounted below.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from .stoppable import in_thread

#: Names kept; all are counted.
NAMES_KEPT = 5
_DEEPEST = 256
#: Of a directory with more the names are not kept: they would fill the agent's memory.
_MOST_FILES = 50_000
_ASK_EVERY = 1024
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass
class Sockets:
    count: int = 0
    #: Relative to the volume's root.
    names: list[str] = field(default_factory=list)


#: Told of a directory's descriptor, its path with a slash behind it, and the names of the files.
OnDirectory = Callable[[int, str, list[str]], None]


async def find(volume: int, *, on_directory: OnDirectory | None = None) -> Sockets:
    """Those below an open directory, which stays the caller's."""
    try:
        # Not a duplicate, which would share the place in the listing with whoever lists it now.
        descriptor = os.open(".", _FLAGS, dir_fd=volume)
    except OSError:
        return Sockets()

    def work(stopped: Callable[[], bool]) -> Sockets:
        try:
            return look(descriptor, stopped=stopped, on_directory=on_directory)
        finally:
            os.close(descriptor)

    return await in_thread(work)


def look(
    volume: int,
    *,
    stopped: Callable[[], bool] = lambda: False,
    on_directory: OnDirectory | None = None,
) -> Sockets:
    """No link is followed on the way, also where a pod puts one there now."""
    found = Sockets()
    device = os.fstat(volume).st_dev

    def below(directory: int, path: str, depth: int) -> None:
        inner: list[str] = []
        files: list[str] = []
        with os.scandir(directory) as entries:
            for number, entry in enumerate(entries):
                if number % _ASK_EVERY == 0 and stopped():
                    return
                if entry.is_file(follow_symlinks=False):
                    if len(files) <= _MOST_FILES:
                        files.append(entry.name)
                elif entry.is_dir(follow_symlinks=False):
                    inner.append(entry.name)
                elif not entry.is_symlink() and _is_socket(entry):
                    found.count += 1
                    if len(found.names) < NAMES_KEPT:
                        found.names.append(path + entry.name)
                else:
                    files.append(entry.name)
        if on_directory is not None and len(files) <= _MOST_FILES:
            on_directory(directory, path, files)
        for name in inner if depth < _DEEPEST else ():
            # It may be gone, or a link, by now.
            with contextlib.suppress(OSError):
                descriptor = os.open(name, _FLAGS, dir_fd=directory)
                try:
                    if os.fstat(descriptor).st_dev == device:
                        below(descriptor, f"{path}{name}/", depth + 1)
                finally:
                    os.close(descriptor)

    with contextlib.suppress(OSError):
        below(volume, "", 0)
    return found


def _is_socket(entry: os.DirEntry[str]) -> bool:
    return stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode)
