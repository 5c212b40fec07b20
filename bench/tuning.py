"""What restic's knobs cost and gain, volume by volume: the measurements behind restic/tuning.py.

    python -m bench.tuning [small|large|random] [repeats]

Every setting is measured in turns with the others, and the best of the repeats counts, so that a
busy machine treats all alike. ``delay`` is what every request to the store takes besides its work,
as a store in another building would.
"""

from __future__ import annotations

import asyncio
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ararat import keys, layout
from ararat.blob.filesystem import FilesystemStore
from ararat.restic.commands import Restic
from ararat.restic.create import create_repository
from ararat.restic.models import Access, BackupRequest, LockOwner, RestoreRequest, Tuning
from ararat.restic.session import open_repository
from ararat.restic.version import find_restic

_OWNER = LockOwner("bench", "bench", "1", "bench")
_KIB, _MIB = 1 << 10, 1 << 20


class Distant(FilesystemStore):
    """A directory whose every data request takes some milliseconds more."""

    delay = 0.0

    async def put(self, name: str, data: bytes, **more: Any) -> Any:
        await asyncio.sleep(self.delay)
        return await super().put(name, data, **more)

    async def put_stream(self, name: str, chunks: AsyncIterator[bytes], **more: Any) -> Any:
        await asyncio.sleep(self.delay)
        return await super().put_stream(name, chunks, **more)

    async def read(
        self, name: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        await asyncio.sleep(self.delay)
        async for piece in super().read(name, offset=offset, length=length):
            yield piece


def small(volume: Path) -> None:
    """10,000 text-like files of 1 to 16 KiB in 100 directories."""
    source = random.Random(1)
    words = [source.randbytes(6).hex() for _ in range(500)]
    for number in range(10_000):
        folder = volume / f"d{number % 100}"
        folder.mkdir(exist_ok=True)
        size = source.randrange(1 * _KIB, 16 * _KIB)
        text = " ".join(source.choices(words, k=size // 13))
        (folder / f"f{number}").write_text(f"{number} {text}")


def large(volume: Path) -> None:
    """512 MiB in four files, half of it compressible."""
    source = random.Random(2)
    for number in range(4):
        with (volume / f"f{number}").open("wb") as handle:
            for _ in range(128):
                piece = source.randbytes(_MIB // 2)
                handle.write(piece + (b"%08d" % number) * (_MIB // 16))


def incompressible(volume: Path) -> None:
    """512 MiB of noise in four files."""
    for number in range(4):
        with (volume / f"f{number}").open("wb") as handle:
            for _ in range(128):
                handle.write(os.urandom(_MIB))


_BASE = Tuning(read_concurrency=2, pack_size=16, connections=5, compression="auto")
_CASES: dict[str, tuple[Any, float, list[Tuning]]] = {
    "small": (
        small,
        0.02,
        [
            *(replace(_BASE, read_concurrency=n) for n in (1, 2, 4, 8)),
            *(replace(_BASE, read_concurrency=4, pack_size=n) for n in (4, 8, 32)),
            *(replace(_BASE, read_concurrency=4, connections=n) for n in (1, 2, 8)),
        ],
    ),
    "large": (
        large,
        0.02,
        [
            *(replace(_BASE, read_concurrency=n) for n in (1, 2, 4)),
            *(replace(_BASE, pack_size=n) for n in (4, 8, 32, 64)),
            *(replace(_BASE, connections=n) for n in (1, 2, 3, 8)),
        ],
    ),
    "random": (
        incompressible,
        0.02,
        [replace(_BASE, compression=level) for level in ("off", "auto", "max")],
    ),
}


@dataclass
class Best:
    wall: float = 1e9
    cpu: float = 1e9
    peak: int = 0
    requests: int = 0
    restore_wall: float = 1e9
    restore_peak: int = 0


async def measure(case: str, repeats: int, work: Path) -> list[tuple[Tuning, Best]]:
    fill, delay, settings = _CASES[case]
    volume = work / "volume"
    volume.mkdir()
    fill(volume)
    for name in ("location", "scratch", "target"):
        (work / name).mkdir()
    found = [(setting, Best()) for setting in settings]
    for _ in range(repeats):
        for setting, best in found:
            store = Distant(work / "location")
            store.delay = delay
            async with _fresh(store, work) as restic:
                began = time.monotonic()
                made = await restic.backup(BackupRequest(source=volume, host="h", tuning=setting))
                best.wall = min(best.wall, time.monotonic() - began)
                best.cpu = min(best.cpu, made.cpu_seconds)
                best.peak = max(best.peak, made.peak_rss)
                best.requests = restic.stats.operations["post data"].requests
                assert made.snapshot_id
                target = Path(tempfile.mkdtemp(dir=work / "target"))
                began = time.monotonic()
                back = await restic.restore(
                    RestoreRequest(snapshot_id=made.snapshot_id, target=target, tuning=setting)
                )
                best.restore_wall = min(best.restore_wall, time.monotonic() - began)
                best.restore_peak = max(best.restore_peak, back.peak_rss)
                shutil.rmtree(target)
            shutil.rmtree(work / "location")
            (work / "location").mkdir()
    return found


@asynccontextmanager
async def _fresh(store: FilesystemStore, work: Path) -> AsyncIterator[Restic]:
    master = keys.new_master_key()
    made = await create_repository(
        store,
        folder=layout.objects_repository(),
        master=master,
        location_id="bench",
        owner=_OWNER,
        scratch_dir=work / "scratch",
    )
    async with open_repository(
        store=store,
        directory=made.directory,
        password=keys.repository_password(master, "bench", made.repository_name),
        key_id=made.key_id,
        access=Access.APPEND_ONLY,
        owner=_OWNER,
        cache_dir=work / "cache",
        scratch_dir=work / "scratch",
    ) as restic:
        yield restic


def main() -> None:
    case = sys.argv[1] if len(sys.argv) > 1 else "small"
    repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with tempfile.TemporaryDirectory(prefix="ab", dir="/tmp") as work:
        found = asyncio.run(measure(case, repeats, Path(work)))
    binary = asyncio.run(find_restic())
    print(f"restic {binary.version_text}, {os.cpu_count()} cores, Linux {platform.release()}")
    print(f"{_CASES[case][0].__doc__} Best of {repeats}.")
    print("readers pack conns compr.   backup s  CPU s  MiB  puts   restore s  MiB")
    for setting, best in found:
        print(
            f"{setting.read_concurrency:7} {setting.pack_size:4} {setting.connections:5} "
            f"{setting.compression:6} {best.wall:10.1f} {best.cpu:6.1f} {best.peak >> 20:4} "
            f"{best.requests:5} {best.restore_wall:10.1f} {best.restore_peak >> 20:5}"
        )


if __name__ == "__main__":
    main()
