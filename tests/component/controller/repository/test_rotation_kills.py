"""The controller is killed after each write of a key rotation: nothing ever opens with no key."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from ararat import keys, layout
from ararat.api.names import KEY_ROTATED_AT, KEY_ROTATION
from ararat.blob.errors import StoreUnreachable
from ararat.blob.open import open_store as really_open
from ararat.kube.resources import SECRETS
from ararat.restic import keyfile
from ararat.restic.errors import WrongPassword
from ararat.restic.models import Access, LockOwner
from ararat.restic.session import open_repository
from controller.app import make_context
from controller.context import Context
from controller.keys import FIELD, FORMER_FIELD, NEXT_FIELD, KeyRing, MasterKey, encoded
from controller.repository.rotation import KeyRotation
from controller.restore.source import read_manifest
from tests.component.controller.backup.world import World
from tests.component.controller.life.mortal import Life, Mortal

BACKUPS = ("one", "two")


@asynccontextmanager
async def controller(world: World, life: Life) -> AsyncIterator[Context]:
    """What a rotation looks at, without the rest of a leader."""

    async def mortal_store(*args: object, **kwargs: object) -> Mortal:
        return Mortal(await really_open(*args, **kwargs), life, what="store")  # type: ignore[arg-type]

    api = Mortal(world.api, life, what="api")
    context = make_context(world.config, api, cluster_uid=world.cluster, version="v1")
    informers = (context.locations_informer, context.backups, context.restores)
    tasks = [asyncio.create_task(informer.run()) for informer in informers]
    try:
        for informer in informers:
            await informer.synced()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("controller.location.open.open_store", mortal_store)
            patched.setattr(KeyRotation, "settle", timedelta(0))
            yield context
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await context.locations.close()


async def rotate(world: World, life: Life) -> Life:
    """As far as this life gets."""
    async with controller(world, life) as context:
        rotation = KeyRotation(context)
        for _ in range(20):
            found = await ring(world)
            if life.dead or (found.next is None and found.former is None):
                break
            try:
                await rotation.step()
            except StoreUnreachable:
                break
            await asyncio.sleep(0.05)
    return life


async def ring(world: World) -> KeyRing:
    found = await MasterKey(world.api, namespace=world.config.keys_namespace).ring()
    assert found is not None
    return found


async def set_ring(world: World, *, key: bytes, wanted: bytes) -> None:
    """As ``ararat key rotate`` leaves the Secret."""
    patch = {
        "metadata": {"annotations": {KEY_ROTATED_AT: None, KEY_ROTATION: None}},
        "data": {FIELD: encoded(key), NEXT_FIELD: encoded(wanted), FORMER_FIELD: None},
    }
    await world.api.patch(SECRETS, "master-key", patch, namespace=world.config.keys_namespace)


def opened_with(world: World, directory: str, master: bytes) -> bool:
    """Whether a key file of the repository opens with what is derived from a master key."""
    location_id = world.location_file()["locationID"]
    password = keys.repository_password(master, location_id, layout.repository_name(directory))
    for name in world.names(f"{directory}/keys/"):
        try:
            keyfile.unwrap(world.stored(name), password=password)
        except WrongPassword:
            continue
        return True
    return False


async def check_usable(world: World, directories: list[str]) -> None:
    """With the key that the Secret says is the key, everything opens and proves itself."""
    current = (await ring(world)).current
    for directory in directories:
        assert opened_with(world, directory, current), directory
    async with controller(world, Life()) as context:
        location = await context.location("main")
        assert location.master == current
        for name in BACKUPS:
            assert (await read_manifest(location, name)).backup == name


@pytest.mark.timeout(900)
async def test_killed_after_every_write(world: World) -> None:
    await world.workload_of("db")
    async with world.running():
        for name in BACKUPS:
            await world.backup(name)
            await world.phase("Completed", name=name)
            await world.settled(name)
    old, new = await world.master(), keys.new_master_key()
    directories = [r.directory for r in (await world.manifest("two")).repositories]
    assert len(directories) == 2
    saved = world.path / "saved"
    shutil.copytree(world.store_path, saved, symlinks=True)

    async def begin_anew() -> None:
        shutil.rmtree(world.store_path)
        shutil.copytree(saved, world.store_path, symlinks=True)
        await set_ring(world, key=old, wanted=new)

    async def check_ended() -> None:
        found = await ring(world)
        assert (found.current, found.next, found.former) == (new, None, None)
        await check_usable(world, directories)
        assert not any(opened_with(world, directory, old) for directory in directories)
        assert world.location_file()["keyFingerprints"] == [keys.fingerprint(new)]

    await begin_anew()
    clean = await rotate(world, Life())
    await check_ended()
    assert len(clean.writes) >= 10, clean.writes
    for at in range(1, len(clean.writes) + 1):
        await begin_anew()
        life = await rotate(world, Life(at=at, after=True))
        assert life.dead, at
        try:
            await check_usable(world, directories)
            await rotate(world, Life())
            await check_ended()
        except Exception as error:
            error.add_note(f"killed after write {at}: {life.writes[-1]}")
            raise
    # What stands in the end is whole, to the last byte.
    for directory in directories:
        async with open_repository(
            store=world.store,
            directory=directory,
            password=keys.repository_password(
                new, world.location_file()["locationID"], layout.repository_name(directory)
            ),
            access=Access.APPEND_ONLY,
            owner=LockOwner("test", "test", "test", "test"),
            cache_dir=None,
            scratch_dir=world.path / "scratch",
        ) as restic:
            assert (await restic.check(read_data_subset="100%")).ok
            assert len(await restic.snapshots()) == 2
