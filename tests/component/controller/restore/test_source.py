"""What is read from a location, with the real restic."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from ararat import keys, layout
from ararat.api.backup import ObjectsResult
from ararat.api.manifest import ManifestRepository
from ararat.blob.filesystem import FilesystemStore
from ararat.errors import Damaged, NotFound, WrongKey
from ararat.restic.create import create_repository
from ararat.restic.models import Access, BackupRequest, LockOwner
from ararat.restic.session import open_repository
from controller.repository.ensure import password_of
from controller.restore.source import read_manifest, read_objects
from controller.restore.stored import StoredObject
from tests.cluster.toolchain import restic as toolchain
from tests.component.controller.restore.world import LOCATION_ID, MASTER, World
from tests.unit.controller.restore.make import claim, manifest, pod, stored

OWNER = LockOwner(cluster="cluster-a", pod_uid="p", container_start="s", job="j")


@pytest.fixture(autouse=True)
def real_restic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{toolchain.ensure().parent}:/usr/bin:/bin")


def lay_out(root: Path, objects: list[StoredObject]) -> Path:
    for obj in objects:
        scope = f"namespaces/{obj.namespace}" if obj.namespace else "cluster"
        file = root / "resources" / obj.resource / scope / f"{obj.name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(obj.body))
    return root


async def backed_up(world: World, objects: list[StoredObject]) -> ObjectsResult:
    """The objects as a snapshot in the location's repository."""
    store = FilesystemStore(world.store_path)
    current = await create_repository(
        store,
        folder=layout.objects_repository(),
        master=MASTER,
        location_id=LOCATION_ID,
        owner=OWNER,
        scratch_dir=world.path,
    )
    tree = await asyncio.to_thread(lay_out, world.path / "tree", objects)
    async with open_repository(
        store=store,
        directory=current.directory,
        password=keys.repository_password(MASTER, LOCATION_ID, current.repository_name),
        access=Access.APPEND_ONLY,
        owner=OWNER,
        cache_dir=None,
        scratch_dir=world.path,
    ) as restic:
        result = await restic.backup(BackupRequest(source=tree, host="cluster-a/objects"))
    assert result.snapshot_id
    return ObjectsResult(
        directory=current.directory, snapshot_id=result.snapshot_id, count=len(objects)
    )


OBJECTS = [pod(), claim(), stored("ClusterRole", "system:x", namespace=None)]


async def test_objects_come_from_the_location_and_leave_no_trace(world: World) -> None:
    held = manifest().model_copy(update={"objects": await backed_up(world, OBJECTS)})
    before = sorted(str(p) for p in world.store_path.rglob("*"))
    location = await world.context.location("default")
    assert not location.writable
    found = await read_objects(world.context, location, held, job="r")
    assert sorted(map(str, found)) == sorted(map(str, OBJECTS))
    assert {str(o): o.body for o in found} == {str(o): o.body for o in OBJECTS}
    # Another cluster's location: not even a lock was written. Nothing stays in the spool.
    assert sorted(str(p) for p in world.store_path.rglob("*")) == before
    assert list(world.context.spool_dir.iterdir()) == []


async def test_a_snapshot_that_is_not_there(world: World) -> None:
    held = manifest().model_copy(
        update={
            "objects": (await backed_up(world, OBJECTS)).model_copy(
                update={"snapshot_id": "f" * 64}
            )
        }
    )
    location = await world.context.location("default")
    with pytest.raises(Exception, match=r"f{8}"):
        await read_objects(world.context, location, held, job="r")
    assert list(world.context.spool_dir.iterdir()) == []


async def test_the_wrong_password_is_named(world: World) -> None:
    objects = await backed_up(world, OBJECTS)
    other = ManifestRepository(directory=objects.directory, repository_name="objects/another")
    held = manifest().model_copy(update={"objects": objects, "repositories": [other]})
    location = await world.context.location("default")
    assert password_of(location, "objects/another")
    with pytest.raises(WrongKey):
        await read_objects(world.context, location, held, job="r")


async def test_manifests(world: World) -> None:
    await world.backup(*OBJECTS)
    location = await world.context.location("default")
    assert (await read_manifest(location, "b1")).backup == "b1"
    with pytest.raises(NotFound, match="no finished backup 'b2'"):
        await read_manifest(location, "b2")
    # Somebody put one backup's manifest in the place of another's.
    store = FilesystemStore(world.store_path)
    await store.put(layout.backup_manifest("b2"), await store.get(layout.backup_manifest("b1")))
    with pytest.raises(Damaged):
        await read_manifest(location, "b2")
    await store.put(layout.backup_deleting("b1"), b"{}")
    with pytest.raises(NotFound, match="is being deleted"):
        await read_manifest(location, "b1")
