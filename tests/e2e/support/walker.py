"""Lists everything a backup must bring back of a volume: `python3 walker.py DIRECTORY`.

Problem: "nothing is missing" must not be judged by the program that made the backup.
Decision: a walk of its own on the standard library alone, so that it runs in any container with a
Python. One JSON line per file, directory, link or special file, in the order of names: type, mode,
owner, mtime in nanoseconds, size and SHA-256 of content, link target, extended attributes, and for
files with several names the first of them.
Limits: of extended attributes only those that the caller may read (trusted.* needs CAP_SYS_ADMIN);
ctime, inode numbers and directory sizes are left out, they differ by nature. Times of access too.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterator
from typing import Any

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


def walk(root: str) -> Iterator[dict[str, Any]]:
    """Every entry of *root*, itself included as ".", parents before children."""
    first_name: dict[tuple[int, int], str] = {}
    pending = ["."]
    while pending:
        relative = pending.pop()
        absolute = os.path.join(root, relative)
        status = os.lstat(absolute)
        entry = _entry(relative, absolute, status)
        if entry["type"] == "directory":
            children = sorted(os.listdir(absolute), reverse=True)
            pending.extend(os.path.normpath(os.path.join(relative, name)) for name in children)
        elif status.st_nlink > 1:
            entry["same_as"] = first_name.setdefault((status.st_dev, status.st_ino), relative)
        yield entry


def _entry(relative: str, absolute: str, status: os.stat_result) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "path": relative,
        "type": _KINDS[stat.S_IFMT(status.st_mode)],
        "mode": oct(stat.S_IMODE(status.st_mode)),
        "uid": status.st_uid,
        "gid": status.st_gid,
        "mtime_ns": status.st_mtime_ns,
        "xattrs": {
            name: os.getxattr(absolute, name, follow_symlinks=False).hex()
            for name in sorted(os.listxattr(absolute, follow_symlinks=False))
        },
    }
    if entry["type"] == "file":
        entry["size"] = status.st_size
        with open(absolute, "rb") as handle:
            entry["sha256"] = hashlib.file_digest(handle, "sha256").hexdigest()
    elif entry["type"] == "link":
        entry["target"] = os.readlink(absolute)
    return entry


def main(arguments: list[str]) -> int:
    """Print the walk of the one directory named."""
    (root,) = arguments
    for entry in walk(root):
        # Names that are not UTF-8 come out as escaped surrogates and go in again as they were.
        sys.stdout.write(json.dumps(entry, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
