"""The master key changes under a running backup, and location.json is lost afterwards."""

from __future__ import annotations

import asyncio
import base64
import os
from datetime import timedelta
from pathlib import Path

import pytest

from ararat import keys
from ararat.api.manifest import Manifest, decode_manifest
from ararat.cli import keyring
from ararat.kube.resources import SECRETS
from controller.coverage_metrics import CoverageMetrics
from controller.keys import NEXT_FIELD, KeyRing, MasterKey, encoded
from controller.repository import rotation
from controller.repository.rotation import KeyRotation
from controller.restore.source import read_manifest, read_objects
from tests.component.controller.backup.world import LOCATIONS, Volume, World, eventually


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "LOOK_SECONDS", 0.3)
    monkeypatch.setattr(KeyRotation, "settle", timedelta(seconds=1))


async def ask(world: World, new: bytes) -> None:
    patch = {"data": {NEXT_FIELD: encoded(new)}}
    await world.api.patch(SECRETS, "master-key", patch, namespace=world.config.keys_namespace)


async def ring(world: World) -> KeyRing:
    found = await MasterKey(world.api, namespace=world.config.keys_namespace).ring()
    assert found is not None
    return found


async def opens(restic: Path, world: World, directory: str, master: bytes) -> bool:
    """Whether stock restic opens a repository with what is derived from a master key."""
    location_id = world.location_file()["locationID"]
    export = keys.export_key(master, {"main": location_id})
    process = await asyncio.create_subprocess_exec(
        restic,
        "--repo",
        world.store_path / directory,
        "--no-cache",
        "--no-lock",
        "snapshots",
        env={
            **os.environ,
            "RESTIC_PASSWORD": keyring.password_by_directory(export, directory, location="main"),
        },
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await process.wait() == 0


@pytest.mark.timeout(240)
async def test_a_rotation_under_a_running_backup_and_a_recovery_after_it(
    world: World, restic: Path
) -> None:
    held = asyncio.Event()
    await world.workload_of("db", "web")
    async with world.running():
        await world.backup("first")
        await world.phase("Completed", name="first")
    old, new = await world.master(), keys.new_master_key()
    first = await world.manifest("first")
    directories = [repository.directory for repository in first.repositories]
    assert len(directories) == 2

    world.volumes["pod-web"] = Volume({"file": b"second"}, hold=held)
    async with world.agents(), world.leader() as leader:
        await world.backup("second")
        await world.phase("InProgress", name="second")

        async def web_runs() -> bool:
            return any(job.status.phase == "InProgress" for job in await world.jobs())

        await eventually(web_runs, what="the held job runs")
        await ask(world, new)

        async def rotated() -> bool:
            return (await ring(world)).current == new

        await eventually(rotated, what="the new key is the key")
        # Both work while a run holds the old one.
        for directory in directories:
            assert await opens(restic, world, directory, old)
            assert await opens(restic, world, directory, new)
        assert set(world.location_file()["keyFingerprints"]) == {
            keys.fingerprint(old),
            keys.fingerprint(new),
        }

        async def waits() -> bool:
            return "backup second began with the former key" in (await ring(world)).message

        await eventually(waits, what="the rotation waits for the run")
        await world.backup("third", includedNamespaces=["default"])
        await world.phase("Completed", name="third")
        held.set()
        await world.phase("Completed", name="second")

        async def retired() -> bool:
            return (await ring(world)).former is None

        await eventually(retired, what="the former key is forgotten")
        for directory in directories:
            assert not await opens(restic, world, directory, old)
            assert await opens(restic, world, directory, new)
        assert world.location_file()["keyFingerprints"] == [keys.fingerprint(new)]

        # What was signed and stored under the former key is read as before.
        location = await leader.context.locations.open("main")
        for name in ("first", "second", "third"):
            manifest = await read_manifest(location, name)
            assert manifest.backup == name
            assert await read_objects(leader.context, location, manifest, job="r")
        metrics = CoverageMetrics(per_claim=False)
        await metrics.look(leader.context)
        assert len(metrics.ledger.backups) == 3, "what was backed up before counts as before"
        await world.backup("fourth")
        await world.phase("Completed", name="fourth")
    assert (await world.manifest("fourth")).backup == "fourth"
    with pytest.raises(Exception, match="HMAC"):
        forged(world, "first", new)

    # location.json is lost: everything is found out again from key files and the key.
    before = world.location_file()
    (world.store_path / "location.json").unlink()
    async with world.leader() as leader:
        lost = await world.location_phase("Unavailable", message="location recover main")
        assert "LocationLost" in {condition.reason for condition in lost.status.conditions}
        patch = {"metadata": {"annotations": {"ararat.dev/recover": "true"}}}
        await world.patch(LOCATIONS, "main", patch)
        await world.location_phase("Available")
        location = await leader.context.locations.open("main")
        assert (await read_manifest(location, "first")).backup == "first"
    assert world.location_file() == before


def forged(world: World, name: str, master: bytes) -> Manifest:
    """Read a manifest with one master key alone."""
    data = (world.store_path / f"backups/{name}/manifest.json").read_bytes()
    key = keys.manifest_mac_key(master, world.location_file()["locationID"])
    return decode_manifest(data, key)


@pytest.mark.timeout(120)
async def test_what_it_waits_for_is_said_and_nothing_is_lost_meanwhile(
    world: World, work: Path
) -> None:
    async with world.leader():
        await world.location_phase("Available")
        old, new = await world.master(), keys.new_master_key()
        away = Path(f"{world.store_path}-away")
        world.store_path.rename(away)
        await ask(world, new)

        async def says() -> bool:
            return "location main cannot be used" in (await ring(world)).message

        await eventually(says, what="it says what it waits for")
        assert (await ring(world)).current == old
        away.rename(world.store_path)

        async def done() -> bool:
            found = await ring(world)
            return found.current == new and found.former is None and not found.message

        await eventually(done, what="it goes on by itself")
    assert base64.b64decode(encoded(new)).decode() == new.hex()


@pytest.mark.timeout(120)
async def test_a_lost_location_is_not_recovered_under_another_key(world: World) -> None:
    async with world.running():
        await world.workload_of("db")
        await world.backup()
        await world.phase("Completed")
    theirs = keys.fingerprint(await world.master())
    (world.store_path / "location.json").unlink()
    patch = {"data": {"key": encoded(keys.new_master_key())}}
    await world.api.patch(SECRETS, "master-key", patch, namespace=world.config.keys_namespace)
    await world.patch(
        LOCATIONS, "main", {"metadata": {"annotations": {"ararat.dev/recover": "true"}}}
    )
    async with world.leader():
        await world.location_phase("Unavailable", message=f"under master key {theirs}")
    assert not (world.store_path / "location.json").exists()
