"""What key files of low cost gain: 100 small volumes, each backed up by its own restic.

    python -m bench.keys [volumes]

Every volume holds ten files of 2 KiB. The same repository is opened once by a key that restic made
(scrypt calibrated by ``restic key add``) and once by Ararat's, in turns, so that a busy machine
treats both alike. Wall time is the whole session's: server, restic, sweep.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import tempfile
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from ararat import keys, layout
from ararat.blob.filesystem import FilesystemStore
from ararat.restic.commands import Restic
from ararat.restic.create import create_repository
from ararat.restic.models import Access, BackupRequest, LockOwner
from ararat.restic.session import open_repository
from ararat.restic.version import find_restic

_OWNER = LockOwner("bench", "bench", "1", "bench")
_HARD_PASSWORD = "of the kind that people choose"


@dataclass
class Sum:
    wall: float = 0.0
    cpu: float = 0.0
    peak: int = 0


async def measure(volumes: int, work: Path) -> dict[str, Sum]:
    (work / "location").mkdir()
    (work / "scratch").mkdir()
    store = FilesystemStore(work / "location")
    master = keys.new_master_key()
    current = await create_repository(
        store,
        folder=layout.volumes_repository("bench"),
        master=master,
        location_id="bench",
        owner=_OWNER,
        scratch_dir=work / "scratch",
    )
    passwords = {
        "restic's own": _HARD_PASSWORD,
        "low cost": keys.repository_password(master, "bench", current.repository_name),
    }
    ids = {"low cost": current.key_id}

    def session(password: str, key_id: str) -> AbstractAsyncContextManager[Restic]:
        return open_repository(
            store=store,
            directory=current.directory,
            password=password,
            key_id=key_id,
            access=Access.APPEND_ONLY,
            owner=_OWNER,
            cache_dir=work / "cache",
            scratch_dir=work / "scratch",
        )

    async with session(passwords["low cost"], current.key_id) as restic:
        ids["restic's own"] = await restic.key_add(_HARD_PASSWORD)
    found = {name: Sum() for name in passwords}
    for number in range(volumes):
        for name, password in passwords.items():
            volume = work / f"{number}-{name[0]}"
            volume.mkdir()
            for file in range(10):
                (volume / str(file)).write_bytes(os.urandom(2048))
            began = time.monotonic()
            async with session(password, ids[name]) as restic:
                made = await restic.backup(BackupRequest(source=volume, host=volume.name))
            total = found[name]
            total.wall += time.monotonic() - began
            total.cpu += made.cpu_seconds
            total.peak = max(total.peak, made.peak_rss)
    return found


def main() -> None:
    volumes = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory(prefix="ab", dir="/tmp") as work:
        found = asyncio.run(measure(volumes, Path(work)))
    binary = asyncio.run(find_restic())
    print(f"restic {binary.version_text}, {os.cpu_count()} cores, Linux {platform.release()}")
    print(f"{volumes} volumes     wall s   CPU s (restic)   peak MiB")
    for name, total in found.items():
        print(f"{name:14} {total.wall:8.1f} {total.cpu:12.1f} {total.peak / 2**20:13.0f}")


if __name__ == "__main__":
    main()
