"""Files of volumes in backups: asked of the controller, which can read them."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ararat.cli import remote, render
from ararat.cli.settings import Settings
from ararat.kube import KubeApi

_KINDS = {
    "dir": stat.S_IFDIR,
    "symlink": stat.S_IFLNK,
    "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
    "dev": stat.S_IFBLK,
    "chardev": stat.S_IFCHR,
}
_PERMISSIONS = 0o777
#: Go's own bits for what chmod calls 4000, 2000 and 1000.
_SPECIAL = ((1 << 23, stat.S_ISUID), (1 << 22, stat.S_ISGID), (1 << 20, stat.S_ISVTX))


async def entries(
    api: KubeApi, settings: Settings, backup: str, volume: str, path: str
) -> list[dict[str, Any]]:
    """What is in a directory, by name. Raises NotFound, AraratError."""
    output = bytearray()
    arguments = ["ls", backup, volume, path]
    async for part in remote.ask(api, settings, arguments, about=f"{volume} of backup {backup}"):
        output += part
    found = [json.loads(line) for line in output.splitlines()]
    return sorted(found, key=lambda entry: str(entry["path"]))


async def cat(api: KubeApi, settings: Settings, backup: str, volume: str, path: str) -> None:
    """The file to standard output, piece by piece."""
    arguments = ["cat", backup, volume, path]
    async for part in remote.ask(api, settings, arguments, about=f"{path} of {volume}"):
        sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()


def table(found: Sequence[dict[str, Any]]) -> str:
    rows = [
        (
            mode(entry),
            f"{entry['uid']}:{entry['gid']}",
            render.size(entry["size"]) if entry["type"] == "file" else "",
            _time(entry.get("modified")),
            str(entry["path"]).rpartition("/")[2] + ("/" if entry["type"] == "dir" else ""),
        )
        for entry in found
    ]
    return render.table(("MODE", "OWNER", "SIZE", "MODIFIED", "NAME"), rows)


def mode(entry: dict[str, Any]) -> str:
    """``-rw-r--r--``, from the way in which restic writes modes."""
    bits = int(entry["mode"])
    special = sum(flag for bit, flag in _SPECIAL if bits & bit)
    kind = _KINDS.get(str(entry["type"]), stat.S_IFREG)
    return stat.filemode(kind | special | (bits & _PERMISSIONS))


def _time(text: str | None) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S}" if text else ""
