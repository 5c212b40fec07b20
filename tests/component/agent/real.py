"""Worlds whose locations hold a real repository, and looks at what restic leaves there."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ararat.api.location import BackupLocationSpec, FilesystemLocation
from ararat.blob.open import open_store
from ararat.blob.store import BlobStore
from ararat.keys import new_master_key, repository_password
from ararat.kube.resources import SECRETS
from ararat.layout import LOCATION, CurrentFile, LocationFile
from ararat.restic.create import create_repository
from ararat.restic.models import LockOwner
from tests.cluster.azurite import Azurite
from tests.component.agent.world import CLUSTER, LOCATION_ID, World
from tests.component.blob.locations import account_key, new_container
from tests.component.blob.locations import location as blob_location


async def prepare_real(made: World) -> None:
    made.location_path.mkdir()
    spec = BackupLocationSpec(filesystem=FilesystemLocation(path=str(made.location_path)))
    store = await open_store(spec, {})
    master = new_master_key()
    current = await _repository(made, store, master)
    await store.close()
    made.location_path.rename(made.path / "made")
    await made.prepare(
        directory=current.directory,
        password=repository_password(master, LOCATION_ID, current.repository_name),
    )
    for entry in (made.path / "made").iterdir():
        entry.rename(made.location_path / entry.name)
    made.repository["keyID"] = current.key_id


async def another_repository(made: World, name: str) -> tuple[dict[str, Any], str]:
    """One more repository in the directory: as jobs name it, and its id."""
    spec = BackupLocationSpec(filesystem=FilesystemLocation(path=str(made.location_path)))
    store = await open_store(spec, {})
    master = new_master_key()
    current = await _repository(made, store, master, folder=f"repositories/volumes/{name}")
    await store.close()
    secret = f"password-{name}"
    await made.secret(secret, repository_password(master, LOCATION_ID, current.repository_name))
    reference = {
        **made.repository,
        "directory": current.directory,
        "keyID": current.key_id,
        "passwordSecret": secret,
    }
    return reference, current.repository_id


@dataclass(frozen=True)
class InAzure:
    """A repository in Azurite, and what opens it."""

    store: BlobStore
    master: bytes
    current: CurrentFile
    password: str


async def prepare_azure(
    made: World, azurite: Azurite, *, endpoint: str | None = None, ca_bundle: str | None = None
) -> InAzure:
    """``endpoint`` and ``ca_bundle``: of what stands between the agent and the emulator."""
    container = await new_container(azurite)
    credentials = account_key(azurite)
    store = await open_store(
        BackupLocationSpec(azure=blob_location(azurite, container)), credentials
    )
    await store.put(LOCATION, LocationFile(location_id=LOCATION_ID, owner=CLUSTER).encode())
    master = new_master_key()
    current = await _repository(made, store, master)
    password = repository_password(master, LOCATION_ID, current.repository_name)
    azure = blob_location(azurite, container, endpoint=endpoint, ca_bundle=ca_bundle)
    await made.prepare(
        directory=current.directory, password=password, location={"azure": azure.to_dict()}
    )
    made.repository["keyID"] = current.key_id
    await made.api.create(
        SECRETS,
        {
            "metadata": {"name": "azure", "namespace": made.namespace},
            "stringData": {key: value.decode() for key, value in credentials.items()},
        },
    )
    return InAzure(store, master, current, password)


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
    """Processes of ours that run restic. Asked in tight loops: no program is started for it."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            name, rest = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)
            if name.endswith("(restic") and int(rest.split()[1]) == os.getpid():
                found.append(int(entry))
    return found


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


async def _repository(
    made: World, store: BlobStore, master: bytes, *, folder: str = "repositories/volumes/web"
) -> CurrentFile:
    return await create_repository(
        store,
        folder=folder,
        master=master,
        location_id=LOCATION_ID,
        owner=LockOwner(CLUSTER, "test", "now", "init"),
        scratch_dir=made.config.scratch_dir,
    )
