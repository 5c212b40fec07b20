"""Fills a directory with files such as volumes have: `python3 filler.py DIRECTORY [OPTION...]`.

Problem: a copy of plain files proves little. What gets lost is the rest: owners, odd modes, times
to the nanosecond, links of both kinds, extended attributes, holes, names that no one expects.
Decision: a tree that is the same for the same seed, on the standard library alone, made inside the
container that owns the volume; a few large files, thousands of small ones, and one folder "odd".
Limits: wants root (owners); extended attributes of the user.* kind only; no device files, which an
application's container has no business to make.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from pathlib import Path

_MODES = (0o644, 0o644, 0o600, 0o640, 0o664, 0o755, 0o444, 0o400)
_OWNERS = ((33, 33), (33, 33), (0, 0), (1000, 33), (65534, 65534), (123456, 654321))
_EPOCH_NS = 1_500_000_000 * 10**9
_FOLDERS = 64
_MIB = 1 << 20


class Filler:
    """Writes below one directory, from one seed."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.random = random.Random(seed)
        self.bytes = 0
        self.files = 0

    def fill(self, *, large: int, large_mib: int, small: int) -> None:
        """The whole tree; times of directories last, for writing changes them."""
        self.root.mkdir(parents=True, exist_ok=True)
        for number in range(large):
            self._file(self.root / f"large-{number}.bin", large_mib * _MIB)
        for number in range(small):
            folder = (
                self.root / f"{2010 + number % _FOLDERS // 12}" / f"{number % _FOLDERS % 12:02}"
            )
            folder.mkdir(parents=True, exist_ok=True)
            self._file(folder / f"image-{number:05}.jpg", self.random.randint(1_000, 60_000))
        self._odd(self.root / "odd")
        for directory, _, _ in os.walk(self.root, topdown=False):
            self._dress(Path(directory), self.random.choice((0o755, 0o775, 0o2775, 0o1777)))
        self._dress(self.root / "odd", 0o700)

    def _odd(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "empty directory").mkdir(exist_ok=True)
        names = ("empty", "-dash", "two  blanks", "line\nbreak", "Արարատ ⛰", "tab\t'\"$(x)`", "*")
        for number, name in enumerate(names):
            self._file(folder / name, number * 1_000)
        self._file(Path(os.fsdecode(os.fsencode(folder) + b"/not-utf8-\xff\xfe")), 10)
        self._file(folder / ("n" * 255), 255)
        holes = folder / "holes"
        with holes.open("wb") as handle:
            handle.seek(8 * _MIB)
            handle.write(self.random.randbytes(4_096))
            handle.truncate(16 * _MIB)
        self._dress(holes, 0o600)
        self._file(folder / "setuid", 100, mode=0o4755)
        self._file(folder / "unreadable", 100, mode=0o000)
        original = self._file(folder / "first name", 5_000)
        for other in ("second name", "third name"):
            os.link(original, folder / other)
        for name, target in (
            ("relative", "first name"),
            ("dangling", "nowhere/at/all"),
            ("outside", "/etc/hostname"),
            ("up", "../large-0.bin"),
        ):
            link = folder / name
            link.symlink_to(target)
            os.lchown(link, *self.random.choice(_OWNERS))
            self._stamp(link)
        os.mkfifo(folder / "fifo")
        self._dress(folder / "fifo", 0o600)
        attributed = self._file(folder / "attributes", 2_000)
        os.setxattr(attributed, "user.mime_type", b"image/jpeg")
        os.setxattr(attributed, "user.binary", bytes(range(256)))
        os.setxattr(folder / "empty directory", "user.note", b"a directory has them too")

    def _file(self, path: Path, size: int, *, mode: int | None = None) -> Path:
        path.write_bytes(self.random.randbytes(size))
        self._dress(path, self.random.choice(_MODES) if mode is None else mode)
        self.bytes += size
        self.files += 1
        return path

    def _dress(self, path: Path, mode: int) -> None:
        os.chown(path, *self.random.choice(_OWNERS))
        path.chmod(mode)  # after chown, which drops setuid
        self._stamp(path)

    def _stamp(self, path: Path) -> None:
        moment = _EPOCH_NS + self.random.randrange(10**17)
        os.utime(path, ns=(moment, moment), follow_symlinks=False)


def main(arguments: list[str]) -> int:
    """Fill the directory and say with how much."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--large", type=int, default=3, help="how many large files")
    parser.add_argument("--large-mib", type=int, default=40, help="size of each")
    parser.add_argument("--small", type=int, default=4000, help="how many small files")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    filler = Filler(options.directory, options.seed)
    filler.fill(large=options.large, large_mib=options.large_mib, small=options.small)
    seconds = time.monotonic() - began
    print(f"{filler.files} files, {filler.bytes / 1e6:.1f} MB written in {seconds:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
