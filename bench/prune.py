"""What memory prune and check take: by the number of blobs, and by the bytes in them.

    python -m bench.prune [--output FILE] [blobs ...]

Each repository gets one snapshot with all blobs and one with half of them; the first is forgotten,
so that prune has half of everything to drop and to repack. Blobs are files of 1 KiB, each with
content of its own; the last repository has the bytes of the largest one in a hundredth of the
blobs. Memory is restic's own largest resident size, of prune and of a check that reads all data.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from ararat import keys, layout
from ararat.blob.filesystem import FilesystemStore
from ararat.restic.commands import Restic
from ararat.restic.create import create_repository
from ararat.restic.drops import Drops
from ararat.restic.models import Access, BackupRequest, LockOwner
from ararat.restic.session import open_repository
from ararat.restic.version import find_restic

_OWNER = LockOwner("bench", "bench", "1", "bench")
_KIB = 1024
_FOLDER = 1000


@dataclass(frozen=True)
class Cell:
    blobs: int
    bytes: int
    prune_peak: int
    prune_seconds: float
    check_peak: int
    check_seconds: float


async def measure(blobs: int, size: int, work: Path) -> Cell:
    for name in ("location", "scratch", "volume"):
        (work / name).mkdir()
    store, master = FilesystemStore(work / "location"), keys.new_master_key()
    current = await create_repository(
        store,
        folder=layout.volumes_repository("bench"),
        master=master,
        location_id="bench",
        owner=_OWNER,
        scratch_dir=work / "scratch",
    )
    password = keys.repository_password(master, "bench", current.repository_name)
    async with open_repository(
        store=store,
        directory=current.directory,
        password=password,
        key_id=current.key_id,
        access=Access.MAINTENANCE,
        owner=_OWNER,
        cache_dir=work / "cache",
        scratch_dir=work / "scratch",
        drops=Drops(now=await store.now()),
    ) as restic:
        await _fill(restic, work / "volume", blobs, size)
        began = time.monotonic()
        prune = await restic.prune()
        pruned = time.monotonic()
        check = await restic.check(read_data_subset="100%")
        assert check.ok, check
        return Cell(
            blobs=blobs,
            bytes=blobs * size,
            prune_peak=prune,
            prune_seconds=round(pruned - began, 1),
            check_peak=check.peak_rss,
            check_seconds=round(time.monotonic() - pruned, 1),
        )


async def _fill(restic: Restic, volume: Path, blobs: int, size: int) -> None:
    """Every other file goes between the two snapshots."""
    for number in range(blobs):
        folder = volume / str(number // _FOLDER)
        folder.mkdir(exist_ok=True)
        (folder / str(number)).write_bytes(os.urandom(size))
    whole = await restic.backup(BackupRequest(source=volume, host="bench"))
    for number in range(0, blobs, 2):
        (volume / str(number // _FOLDER) / str(number)).unlink()
    await restic.backup(BackupRequest(source=volume, host="bench"))
    assert whole.snapshot_id
    await restic.forget([whole.snapshot_id])
    shutil.rmtree(volume)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("blobs", nargs="*", type=int)
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    counts = asked.blobs or [10_000, 50_000, 100_000, 200_000]
    wanted = [(count, _KIB) for count in counts] + [(max(counts) // 100, 100 * _KIB)]
    cells = []
    print("   blobs      MiB   prune MiB      s   check MiB      s", flush=True)
    for count, size in wanted:
        with tempfile.TemporaryDirectory(prefix="ab", dir="/tmp") as work:
            cell = asyncio.run(measure(count, size, Path(work)))
        cells.append(cell)
        print(
            f"{cell.blobs:8,} {cell.bytes >> 20:8,} {cell.prune_peak / 2**20:11.0f} "
            f"{cell.prune_seconds:6.1f} {cell.check_peak / 2**20:11.0f} {cell.check_seconds:6.1f}",
            flush=True,
        )
    if asked.output is not None:
        binary = asyncio.run(find_restic())
        machine = {"restic": binary.version_text, "cores": os.cpu_count()}
        machine["linux"] = platform.release()
        told = {"machine": machine, "cells": [asdict(cell) for cell in cells]}
        asked.output.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
