"""The controller is killed after each write of a re-encryption: no backup is ever without its data.

One life after the other makes one write more that matters, and ends there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from ararat import keys, layout
from ararat.api.manifest import Manifest, decode_manifest
from ararat.api.names import KEY_REENCRYPT
from ararat.blob.errors import StoreUnreachable
from ararat.kube.resources import SECRETS
from ararat.layout import CurrentFile, FollowingFile, LocationFile
from ararat.restic import keyfile
from ararat.restic.commands import Restic
from ararat.restic.create import remove_abandoned
from ararat.restic.crypt import Keys
from ararat.restic.models import Access, LockOwner, RestoreRequest
from ararat.restic.session import open_repository
from ararat.restic.settings import Settings
from controller.context import Context
from controller.deletion.manifests import promise_of
from controller.repository.rotation import KeyRotation
from controller.restore.source import read_manifest, read_objects
from tests.component.controller.backup.world import Volume, World
from tests.component.controller.life.mortal import Life
from tests.component.controller.life.time_machine import Clock
from tests.component.inner_keys import opens

from .test_rotation_kills import controller, opened_with, ring, rotate, set_ring

BACKUPS = {"one": b"first" * 500, "two": b"second" * 500}


@dataclass
class Scene:
    world: World
    clock: Clock
    #: The present master key.
    master: bytes

    def manifest(self, name: str) -> Manifest:
        """Proven by what location.json says that the present key proves."""
        file = LocationFile.model_validate(self.world.location_file())
        ours = keys.fingerprint(self.master)
        proofs = [keys.manifest_mac_key(self.master, file.location_id)]
        proofs += [
            keys.open_manifest_key(
                one.sealed, master=self.master, location_id=file.location_id, former=one.former
            )
            for one in file.former_manifest_keys
            if one.opened_by == ours
        ]
        return decode_manifest(self.world.stored(layout.backup_manifest(name)), *proofs)

    def check_whole(self) -> None:
        """Whatever backups name is there, and opens with the present key."""
        there = set(self.world.names())
        for name in BACKUPS:
            named = promise_of(self.manifest(name)).snapshots
            assert len(named) == 2
            for directory, snapshots in named.items():
                assert opened_with(self.world, directory, self.master), directory
                assert {f"{directory}/snapshots/{one}" for one in snapshots} <= there, name
        for current in self.currents():
            assert f"{current.directory}/config" in there

    def currents(self) -> list[CurrentFile]:
        found = [name for name in self.world.names() if name.endswith("/current.json")]
        return [CurrentFile.decode(self.world.stored(name)) for name in found]

    def footprint(self) -> dict[str, bytes]:
        """What is stored, but for what nothing names."""
        names = self.world.names()
        nexts = [name for name in names if name.endswith("/next.json")]
        kept = ["location", *nexts]
        for name in nexts:
            following = FollowingFile.decode(self.world.stored(name))
            kept += [f"{following.former}/", f"{following.successor.directory}/"]
        ends = ("/manifest.json", "/current.json")
        return {
            name: self.world.stored(name)
            for name in names
            if name.endswith(ends) or (name.startswith(tuple(kept)) and "/locks/" not in name)
        }

    async def live(self, life: Life) -> str:
        """One controller's life; what is said in the end."""
        async with controller(self.world, life) as context:
            context.now = lambda: self.clock.now
            context.maintenance_template = {}
            rotation = KeyRotation(context)
            for _ in range(30):
                step = asyncio.create_task(rotation.step())
                while not step.done():
                    await asyncio.wait([step], timeout=0.05)
                    if life.dead:
                        step.cancel()
                with suppress(StoreUnreachable, asyncio.CancelledError):
                    await step
                found = await ring(self.world)
                if life.dead or not found.reencrypt or "is kept until" in found.message:
                    return found.message
                await self.copy(context)
        raise AssertionError(f"it comes to no end: {found.message}")

    async def copy(self, context: Context) -> None:
        """What the repository's maintenance job does, which does not die with the controller."""
        for slot, wanted in list(context.to_copy.items()):
            async with (
                self.opened(wanted.source, Access.READ_ONLY) as source,
                self.opened(wanted.target.directory) as target,
            ):
                await target.copy_from(source, wanted.snapshots)
            del context.to_copy[slot]

    @asynccontextmanager
    async def opened(
        self, directory: str, access: Access = Access.APPEND_ONLY
    ) -> AsyncIterator[Restic]:
        location_id, name = (
            self.world.location_file()["locationID"],
            layout.repository_name(directory),
        )
        async with open_repository(
            store=self.world.store,
            directory=directory,
            password=keys.repository_password(self.master, location_id, name),
            access=access,
            owner=LockOwner("test", "test", "test", "test"),
            cache_dir=None,
            scratch_dir=self.world.path / "scratch",
        ) as restic:
            yield restic

    def inner_keys(self, directory: str) -> Keys:
        """What restic encrypts a repository with, unwrapped from its only key file."""
        location_id, name = (
            self.world.location_file()["locationID"],
            layout.repository_name(directory),
        )
        (file,) = self.world.names(f"{directory}/keys/")
        password = keys.repository_password(self.master, location_id, name)
        return keyfile.unwrap(self.world.stored(file), password=password)

    async def check_ended(self, former: Mapping[str, Keys]) -> None:
        """Everything is whole, and whoever had the former inner keys opens none of it."""
        names = self.world.names()
        assert not [name for name in names if name.endswith("/next.json")]
        assert "formerManifestKeys" not in self.world.location_file()
        currents = self.currents()
        assert len(currents) == 2
        shown = {repository.status.directory for repository in await self.world.repositories()}
        assert shown == {current.directory for current in currents}
        for current in currents:
            assert current.made_under == keys.fingerprint(self.master)
            folder = current.directory.rpartition("/")[0]
            await remove_abandoned(self.world.store, folder, older_than=timedelta(days=-1))
            assert await self.world.store.list_directories(folder) == [
                current.directory.rpartition("/")[2]
            ]
            # Whoever had the inner keys opens nothing any more.
            config = self.world.stored(f"{current.directory}/config")
            assert opens(config, self.inner_keys(current.directory))
            assert not any(opens(config, inner) for inner in former.values())
            async with self.opened(current.directory) as restic:
                assert (await restic.check(read_data_subset="100%")).ok
                assert len(await restic.snapshots()) == 2
        async with controller(self.world, Life()) as context:
            location = await context.location("main")
            assert location.manifest_keys == (
                keys.manifest_mac_key(self.master, location.location_id),
            )
            for name, content in BACKUPS.items():
                manifest = await read_manifest(location, name)
                assert {one.directory for one in manifest.repositories} == {
                    current.directory for current in currents
                }
                assert await read_objects(context, location, manifest, job="r")
                (volume,) = [one for one in manifest.volumes if one.snapshot_id]
                target = self.world.path / "back" / name
                target.mkdir(parents=True)
                async with self.opened(volume.directory) as restic:
                    await restic.restore(
                        RestoreRequest(snapshot_id=volume.snapshot_id or "", target=target)
                    )
                assert (Path(target) / "file").read_bytes() == content


async def leaked(world: World) -> Scene:
    """As after ``ararat key rotate --reencrypt``, when the rotation itself is done: how that one
    is killed is tested beside this."""
    old, new = await world.master(), keys.new_master_key()
    await set_ring(world, key=old, wanted=new)
    patch = {"metadata": {"annotations": {KEY_REENCRYPT: "2026-11-23T08:00:00+00:00"}}}
    namespace = world.config.keys_namespace
    await world.api.patch(SECRETS, "master-key", patch, namespace=namespace)
    await rotate(world, Life())
    return Scene(world, Clock(world), new)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is dead to a killed controller is not waited for."""
    settings = Settings(grace=2, closing=1, outage_patience=0.1, start_patience=0.1)
    monkeypatch.setattr("ararat.restic.session.Settings", lambda: settings)


@pytest.mark.timeout(900)
async def test_killed_after_every_write(world: World) -> None:
    await world.workload_of("db")
    async with world.running():
        for name, content in BACKUPS.items():
            world.volumes["pod-db"] = Volume({"file": content})
            await world.backup(name)
            await world.phase("Completed", name=name)
            await world.settled(name)
    scene = await leaked(world)
    scene.check_whole()
    former = {
        current.directory: scene.inner_keys(current.directory) for current in scene.currents()
    }
    assert len(former) == 2

    allowed, lives, deaths = 1, 0, 0
    writes: list[tuple[str, ...]] = []
    while (await ring(world)).reencrypt:
        lives += 1
        assert lives < 300, writes[-20:]
        before = scene.footprint()
        life = Life(at=allowed, after=True)
        said = await scene.live(life)
        try:
            scene.check_whole()
        except Exception as error:
            error.add_note(f"killed after {life.writes[-1:]}")
            raise
        if life.dead:
            deaths += 1
            writes += life.writes[-1:]
            after = scene.footprint()
            allowed = 1 if after != before else allowed + 1
        elif "is kept until" in said:
            scene.clock.move(hours=25)
    assert deaths > 30, writes

    await scene.check_ended(former)
