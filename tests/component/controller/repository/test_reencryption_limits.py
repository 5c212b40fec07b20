"""A re-encryption beside deletions, what people made by hand, and a location it may not write."""

from __future__ import annotations

import shutil

import pytest

from ararat import layout
from ararat.layout import FollowingFile
from ararat.restic.models import Access, BackupRequest
from controller.repository.rotation import KeyRotation
from tests.component.controller.backup.world import LOCATIONS, Volume, World
from tests.component.controller.life.mortal import Life
from tests.component.controller.life.time_machine import outcome, request

from .test_reencryption_kills import Scene, leaked
from .test_rotation_kills import controller, ring


async def said(scene: Scene, *, copies: int) -> str:
    """What is waited for when so many copies were made."""
    async with controller(scene.world, Life()) as context:
        context.now = lambda: scene.clock.now
        context.maintenance_template = {}
        rotation = KeyRotation(context)
        for _ in range(copies):
            await rotation.step()
            await scene.copy(context)
        await rotation.step()
        return (await ring(scene.world)).message


async def patched(world: World, access: str) -> None:
    """The location, with another access; seen by the next controller."""
    await world.patch(LOCATIONS, "main", {"spec": {"accessMode": access}})


@pytest.mark.timeout(300)
async def test_what_is_deleted_meanwhile_and_what_people_made(world: World) -> None:
    await world.workload_of("db")
    world.volumes["pod-db"] = Volume({"file": b"content"})
    async with world.running():
        await world.backup("one")
        await world.phase("Completed", name="one")
        await world.settled("one")
    scene = await leaked(world)
    before = {current.directory for current in scene.currents()}
    (objects,) = [one for one in before if "/objects/" in one]
    (volumes,) = before - {objects}
    folder = world.store_path / volumes.rpartition("/")[0]
    by_hand = BackupRequest(source=world.path / "volumes", host="h", tags=("mine",))
    async with scene.opened(objects) as restic:
        await restic.backup(by_hand)

    await patched(world, "ReadOnly")
    assert "set it to ReadWrite, so that it can be re-encrypted" in await said(scene, copies=0)
    assert not [*world.store_path.rglob("next.json")]
    await patched(world, "ReadWrite")

    # The first one is copied, the second has its successor and waits for its turn.
    message = await said(scene, copies=1)
    assert f"0 of 1 snapshots of {volumes.rpartition('/')[0]} are copied" in message
    assert (folder / "next.json").exists()
    async with world.running():
        assert (await outcome(world, await request(world, "one"))).status.phase == "Completed"
    assert not (folder / "current.json").exists()

    assert "is kept until" in await scene.live(Life())
    scene.clock.move(hours=25)
    await scene.live(Life())
    assert not (await ring(world)).reencrypt
    assert not [one for one in folder.rglob("*") if one.is_file()]
    (current,) = scene.currents()
    assert current.directory != objects
    async with scene.opened(current.directory) as restic:
        assert "mine" in {tag for one in await restic.snapshots() for tag in one.tags}
        assert (await restic.check(read_data_subset="100%")).ok


class LifeUntil(Life):
    """Its last write is the one of this name."""

    def ends(self, step: tuple[str, ...]) -> bool:
        self.after = True
        return step[:3] == ("store", "put", layout.backup_manifest("one"))


@pytest.mark.timeout(300)
async def test_the_last_backup_goes_before_what_people_made_is_copied(world: World) -> None:
    await world.workload_of("db")
    async with world.running():
        await world.backup("one")
        await world.phase("Completed", name="one")
        await world.settled("one")
    scene = await leaked(world)
    (former,) = [one.directory for one in scene.currents() if "/volumes/" in one.directory]
    # Each time the manifest was moved from another repository.
    for _ in range(2):
        await scene.live(LifeUntil())
    (successor,) = [one.directory for one in scene.currents() if "/volumes/" in one.directory]
    assert successor != former
    assert {v.directory for v in scene.manifest("one").volumes if v.snapshot_id} == {successor}
    async with scene.opened(former) as restic:
        by_hand = BackupRequest(source=world.path / "volumes", host="h", tags=("mine",))
        await restic.backup(by_hand)
    async with world.running():
        assert (await outcome(world, await request(world, "one"))).status.phase == "Completed"
    # The successor is still to get what people made, and is not taken away with its last backup.
    assert successor in {one.directory for one in scene.currents()}
    assert "is kept until" in await scene.live(Life())
    async with scene.opened(successor) as restic:
        assert [one.tags for one in await restic.snapshots()] == [("mine",)]

    # Somebody makes another one there, and the successor is lost: it is said what to do.
    (path,) = (world.store_path / former).parent.glob("next.json")
    following = FollowingFile.decode(path.read_bytes())
    path.write_bytes(following.model_copy(update={"released_at": None}).encode())
    shutil.rmtree(world.store_path / successor)
    (path.parent / "current.json").unlink()
    message = await said(scene, copies=0)
    assert f"1 snapshot of {former}" in message
    assert f"because {successor} is gone" in message
    async with scene.opened(former, Access.MAINTENANCE) as restic:
        await restic.forget([one.id for one in await restic.snapshots() if "mine" in one.tags])
    assert "is kept until" in await scene.live(Life())
    scene.clock.move(hours=25)
    await scene.live(Life())
    assert not (await ring(world)).reencrypt
    assert not (world.store_path / former).exists()
