"""Walks of volumes taken inside pods, and what differs between two of them.

The walk itself is `walker.py`, which runs in the container that owns the volume; here two walks are
compared, attribute by attribute, so that a failing proof names the file and what is wrong with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.support.tools import Tools

_WALKER = Path(__file__).with_name("walker.py")
_EVERYTHING = ("type", "mode", "uid", "gid", "mtime_ns", "xattrs", "size", "sha256", "target")
#: Where files with several names form groups: the group's first name.
_GROUP = "same_as"


@dataclass(frozen=True)
class Walk:
    """Every entry of one volume, by path."""

    entries: Mapping[str, Mapping[str, Any]] = field(repr=False)

    @classmethod
    def parse(cls, lines: str) -> Walk:
        """From what `walker.py` printed."""
        entries = (json.loads(line) for line in lines.splitlines() if line.strip())
        return cls({entry["path"]: entry for entry in entries})

    @property
    def files(self) -> int:
        """Regular files, each name counted."""
        return sum(1 for entry in self.entries.values() if entry["type"] == "file")

    @property
    def bytes(self) -> int:
        """Size of the regular files, each inode counted once."""
        return sum(
            entry["size"]
            for path, entry in self.entries.items()
            if entry["type"] == "file" and entry.get(_GROUP, path) == path
        )

    def differences(self, other: Walk, *, ignore: Iterable[str] = ()) -> list[str]:
        """What is not the same in *other*, one sentence per path and attribute.

        *ignore* holds paths that are not looked at.
        """
        left_out = set(ignore)
        found: list[str] = []
        for path in sorted({*self.entries, *other.entries} - left_out):
            mine, theirs = self.entries.get(path), other.entries.get(path)
            if mine is None:
                found.append(f"{path!r} was not there before")
            elif theirs is None:
                found.append(f"{path!r} is missing")
            else:
                found += [
                    f"{path!r}: {name} was {mine.get(name)!r} and is {theirs.get(name)!r}"
                    for name in (*_EVERYTHING, _GROUP)
                    if mine.get(name) != theirs.get(name)
                ]
        return found


def walk(
    tools: Tools, *, namespace: str, pod: str, directory: str, container: str | None = None
) -> Walk:
    """Walk a directory in a running container that has a python3."""
    printed = tools.exec(
        namespace,
        pod,
        ["python3", "-", directory],
        container=container,
        stdin=_WALKER.read_text(),
        timeout=180.0,
    )
    return Walk.parse(printed)


def same(before: Walk, after: Walk, *, ignore: Iterable[str] = ()) -> None:
    """Assert that nothing differs."""
    found = before.differences(after, ignore=ignore)
    if found:
        shown = "\n  ".join(found[:20])
        raise AssertionError(f"{len(found)} differences between the walks:\n  {shown}")
