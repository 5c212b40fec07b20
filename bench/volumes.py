"""The volumes that are backed up, and how one per cent of each changes.

Half of the data is random, half is hexadecimal text, which compresses to about half: neither the
best nor the worst case. The same seed gives the same bytes.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

KIB = 1024
MIB = 1024 * KIB
_PER_DIRECTORY = 500


class Cell(StrEnum):
    """``--scale`` shrinks the number of files in a and c, and the size of the files in b."""

    SMALL_FILES = "a"
    LARGE_FILES = "b"
    TINY_FILES = "c"
    ONE_FILE = "d"


@dataclass(frozen=True)
class Shape:
    text: str
    files: int
    smallest: int
    largest: int


def shape(cell: Cell, scale: float) -> Shape:
    match cell:
        case Cell.SMALL_FILES:
            files = max(10, round(20_000 * scale))
            return Shape(f"{files:,} files of 1 to 64 KiB", files, KIB, 64 * KIB)
        case Cell.LARGE_FILES:
            size = max(MIB, round(128 * MIB * scale))
            return Shape(f"16 files of {size / MIB:.0f} MiB", 16, size, size)
        case Cell.ONE_FILE:
            return Shape("1 file of 1 KiB: what every volume costs at least", 1, KIB, KIB)
        case Cell.TINY_FILES:
            files = max(10, round(1_000_000 * scale))
            return Shape(
                f"{files:,} files, half of them empty, half of 1 to 64 bytes", files, 0, 64
            )


def fill(root: Path, cell: Cell, scale: float, *, seed: int = 1) -> None:
    """Make the volume; one that is there is made anew."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    wanted = shape(cell, scale)
    source = random.Random(seed)
    for number in range(wanted.files):
        path = _path(root, cell, number)
        if number % _PER_DIRECTORY == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, cell, number, source.randint(wanted.smallest, wanted.largest), source)


def change(root: Path, cell: Cell, scale: float, *, seed: int) -> None:
    """One per cent is new: every hundredth file, or a hundredth of every large file."""
    wanted = shape(cell, scale)
    source = random.Random(seed)
    if cell is Cell.LARGE_FILES:
        for number in range(wanted.files):
            with _path(root, cell, number).open("r+b") as handle:
                handle.seek(source.randrange(wanted.largest - wanted.largest // 100))
                handle.write(source.randbytes(wanted.largest // 100))
        return
    for number in range(0, wanted.files, 100):
        size = source.randint(max(1, wanted.smallest), wanted.largest)
        _path(root, cell, number).write_bytes(source.randbytes(size))


def _path(root: Path, cell: Cell, number: int) -> Path:
    if cell is Cell.LARGE_FILES:
        return root / f"file{number:02d}"
    return root / f"dir{number // _PER_DIRECTORY:04d}" / f"file{number:07d}"


def _write(path: Path, cell: Cell, number: int, size: int, source: random.Random) -> None:
    if cell is Cell.TINY_FILES and number % 2:
        size = 0
    with path.open("wb") as handle:
        while size:
            piece = min(size, MIB)
            if number % 4 < 2:
                handle.write(source.randbytes(piece))
            else:
                handle.write(source.randbytes(piece // 2 + 1).hex().encode()[:piece])
            size -= piece
