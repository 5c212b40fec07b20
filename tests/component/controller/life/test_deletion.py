"""Deleting: everything of a backup, nothing of another, whatever happens on the way."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from ararat.api import Backup, DeleteBackupRequest, Repository, Restore
from ararat.blob.errors import StoreUnreachable
from ararat.blob.open import open_store as really_open
from ararat.errors import AraratError
from ararat.kube import of, patch_status
from controller.app import make_context
from controller.deletion.manifests import ManifestReader
from controller.deletion.run import Deletion
from tests.component.controller.backup.world import BACKUPS, Volume, World, eventually
from tests.component.controller.life.mortal import Life, Mortal
from tests.component.controller.life.time_machine import (
    REQUESTS,
    Clock,
    backups,
    directories,
    exists,
    outcome,
    repository,
    request,
)


async def two_backups(world: World) -> None:
    await world.workload_of("db", "web")
    async with world.running():
        await world.backup("one")
        await world.phase("Completed", name="one")
        world.volumes["pod-db"] = Volume({"file": b"newer" * 1000})
        # Another pod UID would do as well; a new job is enough.
        await world.backup("two")
        await world.phase("Completed", name="two")
        await world.settled("one")
        await world.settled("two")


async def test_one_goes_and_the_other_stays_whole(world: World) -> None:
    await two_backups(world)
    kept = await world.manifest("two")
    async with world.leader():
        done = await outcome(world, await request(world, "one"))
        assert (done.status.phase, done.status.snapshots) == ("Completed", 3)
        assert done.status.removing == []
        assert await backups(world) == {"two": "Completed"}
        assert not any(name.startswith("backups/one/") for name in world.files())
        for stored in kept.repositories:
            async with repository(world, stored.directory) as restic:
                found = {s.id for s in await restic.snapshots()}
                assert (await restic.check(read_data_subset="100%")).ok
            named = {v.snapshot_id for v in kept.volumes if v.directory == stored.directory}
            assert found == named or found == {kept.objects.snapshot_id}
        # The last one takes the namespace's repository with it; the objects' stays.
        volumes, objects = sorted(await directories(world), reverse=True)
        done = await outcome(world, await request(world, "two"))
        assert done.status.removing == [volumes]
        assert await directories(world) == [objects]
        assert not (world.store_path / volumes).exists() or not any(
            p.is_file() for p in (world.store_path / volumes).rglob("*")
        )
        assert world.files() == {"location.json"}
        # And the namespace can be backed up again, into a new one.
        async with world.agents():
            await world.backup("three")
            await world.phase("Completed", name="three")
        assert volumes not in await directories(world)
        assert len(await directories(world)) == 2


async def test_what_is_refused_and_why(world: World) -> None:
    await world.workload_of("db")
    hold = asyncio.Event()
    world.volumes["pod-db"].hold = hold
    async with world.running():
        await world.backup("busy")
        await world.phase("InProgress", name="busy")
        refused = await outcome(world, await request(world, "busy"))
        assert (refused.status.phase, refused.status.reason) == ("Refused", "BackupRunning")
        assert "ararat backup cancel busy" in (refused.status.message or "")
        hold.set()
        await world.phase("Completed", name="busy")
        assert (await outcome(world, await request(world, "nothing"))).status.reason == (
            "BackupNotFound"
        )
    # A restore that stands still, because nobody leads.
    await world.create(of(Restore), "back", world.namespace, spec={"backup": "busy"})
    name = "again"
    await world.create(REQUESTS, name, world.namespace, spec={"backup": "busy"})
    context = make_context(world.config, world.api, cluster_uid=world.cluster, version="v1")
    raw = await world.api.get(REQUESTS, name, namespace=world.namespace)
    deletion = Deletion(context, ManifestReader(), raw, DeleteBackupRequest.parse(raw))
    with pytest.raises(AraratError, match="being restored by back") as error:
        await deletion.run()
    assert error.value.reason == "BackupBeingRestored"
    await context.locations.close()
    await world.patch(of(Restore), "back", {"spec": {"cancel": True}})
    # A location that is another cluster's to write.
    await world.patch(of(Backup), "busy", {"metadata": {"annotations": {"test/x": "y"}}})
    from tests.component.controller.backup.world import LOCATIONS

    await world.patch(LOCATIONS, "main", {"spec": {"accessMode": "ReadOnly"}})
    async with world.leader():
        refused = await outcome(world, name)
        assert refused.status.phase == "Refused"
        assert refused.status.reason == "LocationReadOnly"
    assert await backups(world) == {"busy": "Completed"}
    assert "backups/busy/manifest.json" in world.files()


async def test_a_missing_snapshot_stops_everything(world: World) -> None:
    await two_backups(world)
    kept = await world.manifest("two")
    (lost,) = [v for v in kept.volumes if v.pod == "pod-db"]
    (world.store_path / lost.directory / "snapshots" / str(lost.snapshot_id)).unlink()
    before = set(world.store_path.rglob("*/snapshots/*"))
    async with world.leader():
        name = await request(world, "one")

        async def waits() -> bool:
            raw = await world.api.get(REQUESTS, name, namespace=world.namespace)
            found = DeleteBackupRequest.parse(raw)
            return found.status.reason == "SnapshotsMissing" and "pod-db/data" in str(
                found.status.message
            )

        await eventually(waits, what="the deletion says what is missing")
    # Nothing of that repository was touched, and the backup is not offered any more.
    after = {p for p in world.store_path.rglob("*/snapshots/*") if "volumes" in str(p)}
    assert after == {p for p in before if "volumes" in str(p)}
    assert (await backups(world))["one"] == "Deleting"


async def one_life(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str, *, at: int | None, after: bool
) -> Life:
    return await live_once(world, monkeypatch, name, Life(at=at, after=after))


async def live_once(world: World, monkeypatch: pytest.MonkeyPatch, name: str, life: Life) -> Life:
    """A deletion, as far as this life gets."""

    async def open_store(*args: Any, **kwargs: Any) -> Any:
        return Mortal(await really_open(*args, **kwargs), life, what="store")

    monkeypatch.setattr("controller.location.open.open_store", open_store)
    api: Any = Mortal(world.api, life, what="api")
    context = make_context(world.config, api, cluster_uid=world.cluster, version="v1")
    try:
        raw = await world.api.get(REQUESTS, name, namespace=world.namespace)
        deletion = Deletion(context, ManifestReader(), raw, DeleteBackupRequest.parse(raw))
        await deletion.run()
    except StoreUnreachable:
        pass
    finally:
        await context.locations.close()
    return life


async def test_killed_at_every_step(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last backup of its namespace: every write, made or not made, is the last of a life."""
    await world.workload_of("db")
    async with world.running():
        await world.backup("one")
        await world.phase("Completed", name="one")
        await world.settled("one")
    raw = await world.api.get(BACKUPS, "one", namespace=world.namespace)
    (repo,) = [r for r in await world.repositories() if r.spec.namespace]
    saved = world.path / "saved"
    shutil.copytree(world.store_path, saved, symlinks=True)

    async def begin_anew(number: str) -> str:
        shutil.rmtree(world.store_path)
        shutil.copytree(saved, world.store_path, symlinks=True)
        if await exists(world, BACKUPS, "one"):
            await world.api.delete(BACKUPS, "one", namespace=world.namespace)
        again = await world.create(BACKUPS, "one", world.namespace, spec=raw["spec"])
        await patch_status(world.api, BACKUPS, again, raw["status"])
        if not await exists(world, of(Repository), repo.name):
            await world.api.create(of(Repository), repo.manifest(), namespace=world.namespace)
        name = f"request-{number}"
        await world.create(REQUESTS, name, world.namespace, spec={"backup": "one"})
        return name

    clean = await one_life(world, monkeypatch, await begin_anew("clean"), at=None, after=False)
    steps = len(clean.writes)
    assert steps > 12, clean.writes
    await all_gone(world, repo)
    for at in range(1, steps + 1):
        for after in (False, True):
            name = await begin_anew(f"{at}-{after}".lower())
            life = await one_life(world, monkeypatch, name, at=at, after=after)
            assert life.dead, at
            offered = "backups/one/manifest.json" in world.files()
            marked = "backups/one/deleting.json" in world.files()
            if snapshots(world.store_path) != snapshots(saved):
                assert marked or not offered, life.writes  # nobody is offered half a backup
            await one_life(world, monkeypatch, name, at=None, after=False)
            try:
                await all_gone(world, repo)
            except AssertionError as error:
                error.add_note(f"killed {'after' if after else 'before'} {life.writes[-1]}")
                raise


def snapshots(store: Path) -> set[str]:
    return {str(p.relative_to(store)) for p in store.rglob("*/snapshots/*") if p.is_file()}


async def all_gone(world: World, repo: Repository) -> None:
    assert world.files() == {"location.json"}
    assert snapshots(world.store_path) == set()
    left = world.store_path / "repositories" / "volumes"
    assert [p for p in left.rglob("*") if p.is_file()] == []
    assert not await exists(world, BACKUPS, "one")
    assert not await exists(world, of(Repository), repo.name)


async def test_an_interrupted_deletion_is_found_and_ended(world: World) -> None:
    """Its request is gone with the old cluster's objects; deleting.json says that it began."""
    await two_backups(world)
    (world.store_path / "backups/one/deleting.json").write_text("{}")
    async with world.leader():
        await world.gone(BACKUPS, "one")

        async def gone() -> bool:
            return not any(name.startswith("backups/one/") for name in world.files())

        await eventually(gone, what="the rest of it is gone")
        assert await backups(world) == {"two": "Completed"}
        # So is one whose request somebody removed before anything else was written.
        raw = await world.api.get(BACKUPS, "two", namespace=world.namespace)
        await patch_status(world.api, BACKUPS, raw, {"phase": "Deleting"})
        await world.gone(BACKUPS, "two")


async def test_a_wrong_clock_deletes_nothing(world: World) -> None:
    """A clock three years ahead: every backup looks old, and none goes."""
    await world.workload_of("db")
    async with world.agents():
        async with world.leader():
            await world.backup("one")
            await world.phase("Completed", name="one")
            await world.settled("one")
        Clock(world).move(days=1000)
        async with world.leader() as leader:
            leader.context.clock_is_moved = False

            async def look() -> DeleteBackupRequest | None:
                async for raw in world.api.list(REQUESTS, namespace=world.namespace):
                    found = DeleteBackupRequest.parse(raw)
                    if found.status.phase.terminal:
                        return found
                return None

            refused = await eventually(look, what="a request is made, and refused")
            assert refused.spec.cause == "Expired"
            assert refused.status.reason == "ClocksDisagree"
    assert await backups(world) == {"one": "Completed"}
    assert "backups/one/manifest.json" in world.files()
