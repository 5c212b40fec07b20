"""A world whose location holds a real repository, and looks at what restic leaves there."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import Any

from ararat.api.location import BackupLocationSpec, FilesystemLocation
from ararat.blob.open import open_store
from ararat.keys import new_master_key, repository_password
from ararat.restic.create import create_repository
from ararat.restic.models import LockOwner
from tests.component.agent.world import CLUSTER, LOCATION_ID, World


async def prepare_real(made: World) -> None:
    made.location_path.mkdir()
    spec = BackupLocationSpec(filesystem=FilesystemLocation(path=str(made.location_path)))
    store = await open_store(spec, {})
    master = new_master_key()
    current = await create_repository(
        store,
        folder="repositories/volumes/web",
        master=master,
        location_id=LOCATION_ID,
        owner=LockOwner(CLUSTER, "test", "now", "init"),
        scratch_dir=made.config.scratch_dir,
    )
    await store.close()
    made.location_path.rename(made.path / "made")
    await made.prepare(
        directory=current.directory,
        password=repository_password(master, LOCATION_ID, current.repository_name),
    )
    for entry in (made.path / "made").iterdir():
        entry.rename(made.location_path / entry.name)
    made.repository["keyID"] = current.key_id


def locks(world: World) -> list[str]:
    folder = world.location_path / world.repository["directory"] / "locks"
    return os.listdir(folder) if folder.is_dir() else []


def working() -> list[int]:
    """Those that back up or restore; others only list and check."""
    found = []
    for pid in restics():
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"backup" in command or b"restore" in command:
                found.append(pid)
    return found


def restics() -> list[int]:
    """Processes of ours that run restic."""
    found = subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-x", "restic"],
        capture_output=True,
        check=False,
        text=True,
    )
    return [int(pid) for pid in found.stdout.split()]


async def claimed(world: World, pod: str, *, gated: bool = False) -> tuple[str, Path]:
    volume = await world.claim(pod)
    uid = await world.pod(pod, volume=volume, gated=gated)
    return uid, world.kubelet.csi(uid, world.pv(pod))


def as_restore(status: dict[str, Any]) -> dict[str, Any]:
    """What the controller makes of a finished backup."""
    return {
        "snapshotID": status["snapshotID"],
        "root": status["root"],
        "expectedBytes": status["summary"]["bytesProcessed"],
        "expectedFiles": status["summary"]["filesTotal"],
    }
