"""What is mounted where, by the kernel's own word.

Problem: a directory below the kubelet's root that is *not* mounted is the node's disk. Backing it
up stores an empty volume as if it were the data; restoring into it fills the node and is gone when
the real volume is mounted over it.
Decision: ``/proc/self/mountinfo`` is parsed into a tree and walked the way the kernel walks a
path: from the root, crossing the first mount met on the way. So a mount that another one covers is
never taken for the one a path leads to. An open descriptor is tied to its mount by the mount id in
``/proc/self/fdinfo``, which no path trick can change.
Limits: Linux only. The table is a snapshot; callers look again after the work.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_ESCAPE = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo."""

    id: int
    parent: int
    device: tuple[int, int]
    root: str
    point: str
    fstype: str
    source: str
    read_only: bool

    def __str__(self) -> str:
        return f"{self.fstype} {self.source} on {self.point}"


class MountTable:
    """The mounts of this process's mount namespace, at one moment."""

    def __init__(self, mounts: Iterable[Mount]) -> None:
        self.mounts = tuple(mounts)
        ids = {mount.id for mount in self.mounts}
        self._children: dict[int | None, list[Mount]] = {}
        for mount in self.mounts:
            orphan = mount.parent not in ids or mount.parent == mount.id
            self._children.setdefault(None if orphan else mount.parent, []).append(mount)

    def containing(self, path: str) -> Mount | None:
        """The mount that ``path`` (absolute, without links or ``..``) leads into."""
        current: Mount | None = None
        while True:
            key = None if current is None else current.id
            onward = [m for m in self._children.get(key, []) if _within(path, m.point)]
            if not onward:
                return current
            # The lookup crosses the first mount point it meets; deeper ones of the same parent
            # lie underneath and cannot be reached. Of equals the later line is on top.
            shortest = min(len(mount.point) for mount in onward)
            current = [mount for mount in onward if len(mount.point) == shortest][-1]

    def at(self, path: str) -> Mount | None:
        """The visible mount whose mount point is ``path``, or None if that is just a directory."""
        mount = self.containing(path)
        return mount if mount is not None and mount.point == path else None

    def by_id(self, mount_id: int) -> Mount | None:
        return next((mount for mount in self.mounts if mount.id == mount_id), None)

    def below(self, path: str) -> list[Mount]:
        """Mounts whose mount point lies strictly below ``path``, visible or not."""
        return [m for m in self.mounts if m.point != path and _within(m.point, path)]


def _within(path: str, ancestor: str) -> bool:
    return ancestor in ("/", path) or path.startswith(ancestor + "/")


def parse(text: bytes) -> MountTable:
    """A table from the content of mountinfo. Raises ValueError for a line it does not know."""
    return MountTable(_parse_line(line) for line in text.splitlines() if line.strip())


def _parse_line(line: bytes) -> Mount:
    fields = line.split(b" ")
    try:
        # Optional fields (shared:7, master:1, …) stand between the sixth and a lone hyphen.
        end = fields.index(b"-", 6)
        major, minor = fields[2].split(b":")
        return Mount(
            id=int(fields[0]),
            parent=int(fields[1]),
            device=(int(major), int(minor)),
            root=_unescape(fields[3]),
            point=_unescape(fields[4]),
            fstype=_unescape(fields[end + 1]),
            source=_unescape(fields[end + 2]),
            read_only=b"ro" in fields[5].split(b","),
        )
    except (IndexError, ValueError) as error:
        raise ValueError(f"unknown line in mountinfo: {line!r}") from error


def _unescape(field: bytes) -> str:
    """The kernel writes blanks, tabs, newlines and backslashes as three octal digits."""
    return os.fsdecode(_ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), field))


def read_mounts(path: Path = Path("/proc/self/mountinfo")) -> MountTable:
    """The table as it is now."""
    return parse(path.read_bytes())


def mount_id_of(fd: int) -> int:
    """Id of the mount that an open descriptor stands on."""
    for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines():
        if line.startswith("mnt_id:"):
            return int(line.split(":")[1])
    raise OSError(f"the kernel does not tell the mount of descriptor {fd}")
