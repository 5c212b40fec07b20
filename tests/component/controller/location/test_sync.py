"""Backups appear where their location is seen, and go when they are gone from it."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ararat.api import Backup
from ararat.api.manifest import decode_manifest
from ararat.api.names import SYNCED
from ararat.blob.filesystem import FilesystemStore
from ararat.blob.store import BlobInfo
from ararat.keys import manifest_mac_key
from ararat.kube import KubeClient
from ararat.kube.resources import SECRETS
from controller.location.sync import backup_from_manifest
from tests.component.controller.backup.world import BACKUPS, LOCATIONS, Volume, World, eventually


async def give_key(world: World, master: bytes) -> None:
    data = {"key": base64.b64encode(master.hex().encode()).decode()}
    await world.create(SECRETS, "master-key", world.config.keys_namespace, data=data)


async def reader_of(owner: World, api: KubeClient, work: Path) -> World:
    """A second cluster that may only read, and has the owner's key."""
    reader = World(api, work, store=owner.store_path)
    await reader.prepare(read_only=True)
    await give_key(reader, await owner.master())
    return reader


async def appears(world: World, name: str) -> Backup:
    async def look() -> Backup | None:
        names = [
            b["metadata"]["name"] async for b in world.api.list(BACKUPS, namespace=world.namespace)
        ]
        if name not in names:
            return None
        backup = await world.get(name)
        return backup if backup.status.phase.terminal else None

    return await eventually(look, what=f"{name} appears")


async def test_a_second_cluster_sees_what_the_first_has_and_changes_nothing(
    world: World, api: KubeClient, work: Path
) -> None:
    await world.workload_of("bad", "good", bad=Volume(fail="NotMounted"))
    async with world.running():
        await world.backup("nightly")
        theirs = await world.phase("PartiallyFailed")
        await world.backup("other", cancel=True)
        await world.phase("Cancelled", name="other")
    before = {name: (world.store_path / name).read_bytes() for name in world.files()}
    reader = await reader_of(world, api, work)
    async with reader.leader():
        location = await reader.location_phase("Available")
        ours = await appears(reader, "nightly")
        assert ours.metadata.labels == {
            "ararat.dev/location": "main",
            "ararat.dev/synced": "true",
        }
        assert ours.metadata.finalizers == []
        same = {"status": {"phase", "coverage", "objects", "failures", "namespaces", "warnings",
                           "bytes_processed", "bytes_stored", "start_time", "completion_time",
                           "failure_count", "namespace_count", "location"}}  # fmt: skip
        assert ours.model_dump(include=same) == theirs.model_dump(include=same)
        assert ours.spec == theirs.spec.model_copy(update={"location": "main"})
        assert location.status.owner == world.cluster
        assert location.status.location_id == world.location_file()["locationID"]
        await reader.backup("mine")
        mine = await reader.phase("Failed", name="mine")
        assert mine.status.message == (
            "location main is ReadOnly: backups can only be restored from it"
        )
        after = {name: (world.store_path / name).read_bytes() for name in world.files()}
        assert after == before
        assert await reader.jobs() == []
        # It goes with its manifest; what was asked for here does not.
        (world.store_path / "backups/nightly/manifest.json").unlink()
        await reader.gone(BACKUPS, "nightly")
        assert (await reader.get("mine")).uid == mine.uid


async def test_a_deletion_that_has_begun_ends_a_backup(
    world: World, api: KubeClient, work: Path
) -> None:
    async with world.running():
        await world.backup()
        await world.phase("Completed")
        (world.store_path / "backups/nightly/deleting.json").write_text("{}")
        await world.gone(BACKUPS, "nightly")


async def test_an_object_that_is_deleted_comes_back(world: World) -> None:
    async with world.running():
        await world.backup()
        first = await world.phase("Completed")
        await world.settled()
        await world.api.delete(BACKUPS, "nightly", namespace=world.namespace)
        await world.gone(BACKUPS, "nightly")
        again = await appears(world, "nightly")
    assert again.uid != first.uid
    assert again.metadata.labels[SYNCED] == "true"
    assert again.status.completion_time == first.status.completion_time


async def test_a_damaged_manifest_is_reported_and_hurts_nothing_else(
    world: World, api: KubeClient, work: Path
) -> None:
    async with world.running():
        for name in ("good", "nightly"):
            await world.backup(name)
            await world.phase("Completed", name=name)
    folder = world.store_path / "backups"
    manifest = json.loads((folder / "nightly/manifest.json").read_text())
    damaged: dict[str, bytes] = {
        "changed": json.dumps({**manifest, "phase": "Failed"}).encode(),
        "half": (folder / "nightly/manifest.json").read_bytes()[:100],
        "surrogate": b'{"formatVersion": 1, "hmac": "\\ud800"}',
        "nested": b"[" * 50_000,
        "newer": json.dumps({**manifest, "formatVersion": 99}).encode(),
        "renamed": (folder / "nightly/manifest.json").read_bytes(),
        "Not_A_Name": b"{}",
    }
    for name, content in damaged.items():
        (folder / name).mkdir()
        (folder / name / "manifest.json").write_bytes(content)
    reader = await reader_of(world, api, work)
    async with reader.leader():
        await appears(reader, "good")
        await appears(reader, "nightly")
        location = await reader.location_phase("Available", message="backup ")
        found = [b["metadata"]["name"] async for b in api.list(BACKUPS, namespace=reader.namespace)]
        assert sorted(found) == ["good", "nightly"]
        (condition,) = (c for c in location.status.conditions if c.type == "Damaged")
        assert (condition.status, condition.reason) == ("True", "ManifestsUnreadable")
        assert "backup changed: the manifest's HMAC does not match" in condition.message
        assert "backup half: the manifest is not readable JSON" in condition.message
        newer = "backup newer: the manifest has format 99, this Ararat reads up to 1: upgrade"
        assert newer in condition.message
        for name in damaged:
            shutil.rmtree(folder / name)

        async def mended() -> bool:
            raw = await api.get(LOCATIONS, "main", namespace=reader.namespace)
            conditions = {c["type"]: c["status"] for c in raw["status"]["conditions"]}
            return conditions == {"Available": "True", "Damaged": "False"}

        await eventually(mended, what="the location is whole again")


async def test_a_location_of_another_format_is_refused_and_what_is_known_of_it_stays(
    world: World,
) -> None:
    periods = itertools.count(6)

    async def look_now() -> None:
        await world.patch(LOCATIONS, "main", {"spec": {"syncPeriodSeconds": next(periods)}})

    async with world.running():
        await world.backup()
        ended = await world.phase("Completed")
        await world.settled()
        file = world.store_path / "location.json"
        whole = file.read_bytes()
        newer = json.dumps({**json.loads(whole), "formatVersion": 99})
        for name, content, sentence in (
            ("one", newer, "location.json has format 99, this Ararat reads up to 1: upgrade"),
            ("two", "[]", "location.json is not what Ararat writes: it is damaged, or another"),
        ):
            file.write_text(content)
            await look_now()
            await world.location_phase("Unavailable", message=sentence)
            await world.backup(name)
            refused = await world.phase("Failed", name=name)
            assert sentence in (refused.status.message or "")
            assert not (world.store_path / "backups" / name).exists()
        file.write_bytes(whole)
        await look_now()
        await world.location_phase("Available")
        assert (await world.get()).uid == ended.uid


async def test_an_object_that_sync_could_not_finish(
    world: World, api: KubeClient, work: Path
) -> None:
    """The controller was killed between making the object and writing its status."""
    async with world.running():
        await world.backup()
        theirs = await world.phase("Completed")
    reader = await reader_of(world, api, work)
    file = world.location_file()
    key = manifest_mac_key(await world.master(), file["locationID"])
    data = (world.store_path / "backups/nightly/manifest.json").read_bytes()
    body, _ = backup_from_manifest(
        decode_manifest(data, key), location="main", namespace=reader.namespace
    )
    made = await api.create(BACKUPS, body, namespace=reader.namespace)
    # And one whose backup has gone since.
    metadata: Any = body["metadata"]
    stale = {**body, "metadata": {**metadata, "name": "stale"}}
    await api.create(BACKUPS, stale, namespace=reader.namespace)
    async with reader.leader():
        ours = await appears(reader, "nightly")
        await reader.gone(BACKUPS, "stale")
    assert ours.uid == made["metadata"]["uid"]
    assert ours.status.phase == "Completed"
    assert ours.status.objects == theirs.status.objects
    assert ours.status.conditions == []
    assert await reader.events("BackupFailed") == []


async def test_a_backup_that_ends_while_the_location_is_listed_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing, go_on = asyncio.Event(), asyncio.Event()
    really = FilesystemStore.list

    async def slowly(
        store: FilesystemStore, prefix: str, *, metadata: bool = False
    ) -> AsyncIterator[BlobInfo]:
        found = [info async for info in really(store, prefix, metadata=metadata)]
        if prefix == "backups/":
            listing.set()
            await go_on.wait()
        for info in found:
            yield info

    monkeypatch.setattr(FilesystemStore, "list", slowly)
    async with world.running():
        async with asyncio.timeout(30):
            await listing.wait()
        await world.backup()
        await world.phase("Completed")
        ended = await world.settled()
        go_on.set()

        async def synced() -> bool:
            raw = await world.api.get(LOCATIONS, "main", namespace=world.namespace)
            return bool(raw["status"].get("backupCount") == 1)

        await eventually(synced, what="a later look that sees the backup")
        assert (await world.get()).uid == ended.uid
