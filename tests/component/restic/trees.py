"""Volumes to back up, and how two of them are compared."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path


def fill(volume: Path, *, files: int = 20, size: int = 20_000, seed: int = 1) -> None:
    """Ordinary files in a few directories; the same seed gives the same bytes."""
    source = random.Random(seed)
    for number in range(files):
        folder = volume / f"dir{number % 4}"
        folder.mkdir(exist_ok=True)
        (folder / f"file{number}").write_bytes(source.randbytes(size))


def special(volume: Path) -> None:
    """What makes a file system more than names and bytes."""
    (volume / "empty-dir").mkdir()
    (volume / "empty-file").touch()
    plain = volume / "plain"
    plain.write_text("text")
    os.chmod(plain, 0o4751)
    os.chown(plain, 12345, 54321)
    os.utime(plain, ns=(1_600_000_000_000_000_001, 1_600_000_000_123_456_789))
    os.symlink("plain", volume / "link")
    os.symlink("/etc/passwd", volume / "outside-link")
    os.link(plain, volume / "dir-hard")
    (volume / "sub").mkdir()
    os.link(plain, volume / "sub" / "hard-in-sub")
    os.mkfifo(volume / "fifo")
    os.setxattr(plain, "user.colour", b"blue\0green")
    (volume / os.fsdecode(b"not-utf8-\xff\xfe")).write_bytes(b"x")
    (volume / ("n" * 255)).write_bytes(b"long name")
    with (volume / "sparse").open("wb") as handle:
        handle.truncate(20 * 1024 * 1024)
        handle.write(b"start")
        handle.seek(19 * 1024 * 1024)
        handle.write(b"end")


def describe(volume: Path) -> dict[str, tuple[object, ...]]:
    """Everything about every entry that a restore must bring back, by relative path."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, directories, files in os.walk(volume):
        for name in [*directories, *files]:
            path = Path(folder) / name
            info = path.lstat()
            kind = stat.S_IFMT(info.st_mode)
            content: object = None
            if stat.S_ISREG(info.st_mode):
                content = path.read_bytes()
            elif stat.S_ISLNK(info.st_mode):
                content = os.readlink(path)
            attributes = {
                key: os.getxattr(path, key, follow_symlinks=False)
                for key in os.listxattr(path, follow_symlinks=False)
            }
            found[str(path.relative_to(volume))] = (
                kind,
                stat.S_IMODE(info.st_mode),
                info.st_uid,
                info.st_gid,
                info.st_mtime_ns,
                info.st_nlink if stat.S_ISREG(info.st_mode) else 0,
                content,
                tuple(sorted(attributes.items())),
            )
    return found
