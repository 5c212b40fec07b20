"""A location's phase follows what it is, at its own pace."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ararat.blob.filesystem import FilesystemStore
from ararat.kube import KubeClient
from ararat.kube.resources import SECRETS
from controller.location import reconcile
from tests.component.controller.backup.world import LOCATIONS, World, eventually

from .test_sync import give_key


async def test_a_location_is_made_and_its_key_with_it(world: World) -> None:
    async with world.leader():
        location = await world.location_phase("Available")
    file = world.location_file()
    assert location.status.location_id == file["locationID"]
    assert location.status.owner == file["owner"] == world.cluster
    assert location.status.backup_count == 0
    assert location.status.last_sync_time is not None
    assert [(c.type, c.status, c.reason) for c in location.status.conditions] == [
        ("Available", "True", "Proven"),
        ("Damaged", "False", "NoneFound"),
    ]
    assert len(await world.master()) == 32


async def test_it_is_looked_at_once_a_period_and_at_once_where_it_changes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    really = FilesystemStore.list
    clock = asyncio.get_running_loop().time

    def counted(store: FilesystemStore, prefix: str, *, metadata: bool = False) -> object:
        looks.append(clock())
        return really(store, prefix, metadata=metadata)

    monkeypatch.setattr(FilesystemStore, "list", counted)
    async with world.leader():
        await world.location_phase("Available")
        # Its own writes of status are no reason to look again: longer than a second, because
        # times in status are in whole seconds.
        await asyncio.sleep(2.5)
        assert len(looks) == 1
        changed = {"spec": {"syncPeriodSeconds": 3600}}
        await world.patch(LOCATIONS, "main", changed)

        async def looked() -> bool:
            return len(looks) == 2

        await eventually(looked, what="a look at the changed spec", within=10)
        await world.patch(LOCATIONS, "main", {"metadata": {"annotations": {"somebodys": "note"}}})
        await asyncio.sleep(1)
        assert len(looks) == 2


async def test_an_outage_and_its_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "_UNAVAILABLE_RETRY_SECONDS", 1.0)
    away = Path(f"{world.store_path}-away")
    async with world.leader():
        await world.location_phase("Available")
        world.store_path.rename(away)
        location = await world.location_phase("Unavailable")
        assert [(c.type, c.reason) for c in location.status.conditions if c.status == "False"] == [
            ("Damaged", "NoneFound"),
            ("Available", "ContainerNotFound"),
        ]
        assert len(await world.events("ContainerNotFound")) == 1
        away.rename(world.store_path)
        location = await world.location_phase("Available")
    assert location.status.message is None


async def test_a_location_changes_hands(
    world: World, api: KubeClient, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "_UNAVAILABLE_RETRY_SECONDS", 1.0)
    other = World(api, work, store=world.store_path)
    async with world.leader():
        await world.location_phase("Available")
        await other.prepare()
        async with other.leader():
            await other.location_phase("Unavailable", message="import it with `ararat key import`")
            await give_key(other, await world.master())
            await other.location_phase("Unavailable", message="ararat location take-over main")
            await other.backup()
            assert "take-over" in ((await other.phase("Failed")).status.message or "")
            take = {"metadata": {"annotations": {"ararat.dev/take-over-from": world.cluster}}}
            await other.patch(LOCATIONS, "main", take)
            location = await other.location_phase("Available")
            assert location.status.owner == other.cluster
            assert world.location_file()["owner"] == other.cluster
            await other.backup("after")
            await other.phase("Completed", name="after")
            # The former owner writes no more, and says why.
            await world.location_phase("Unavailable", message=other.cluster)
            await world.backup()
            assert "belongs to cluster" in ((await world.phase("Failed")).status.message or "")
            assert not (world.store_path / "backups/nightly").exists()


async def test_a_place_that_was_lost_is_not_begun_anew(world: World) -> None:
    async with world.leader():
        await world.location_phase("Available")
    before = await world.master()
    (world.store_path / "location.json").unlink()
    async with world.leader():
        await world.location_phase("Unavailable", message="see docs/recovery.md")
    assert not (world.store_path / "location.json").exists()
    assert await world.master() == before


async def test_a_reader_waits_for_its_owner(world: World) -> None:
    await world.patch(LOCATIONS, "main", {"spec": {"accessMode": "ReadOnly"}})
    async with world.leader():
        await world.location_phase("Unavailable", message="is ReadOnly and holds no backups")
    assert [p.name for p in world.store_path.iterdir()] == []
    secrets = world.api.list(SECRETS, namespace=world.config.keys_namespace)
    assert [secret async for secret in secrets] == []
