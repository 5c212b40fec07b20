"""A restore that names a schedule: its newest Completed backup, also when one is just going."""

from __future__ import annotations

from typing import Any

from ararat.api import Backup, Restore
from ararat.kube import of
from ararat.kube.status import patch_status
from controller.deletion.request import active_restores, restored_backup
from controller.restore import chosen
from tests.component.controller.restore.scene import database, ended
from tests.component.controller.restore.world import World, until


async def backed_up(world: World, name: str, *, day: int, phase: str = "Completed") -> None:
    """The backup of one night, with its manifest in the location."""
    await world.backup(*database(world), name=name)
    patch = {"spec": {"schedule": "nightly"}}
    await world.api.patch(of(Backup), name, patch, namespace=world.namespace)
    raw = await world.api.get(of(Backup), name, namespace=world.namespace)
    status = {"phase": phase, "startTime": f"2026-05-0{day}T02:00:00Z"}
    await patch_status(world.api, of(Backup), raw, status)


async def test_the_newest_completed_backup_is_restored(world: World) -> None:
    await backed_up(world, "n2", day=2)
    await backed_up(world, "n1", day=1)
    await backed_up(world, "n3", day=3, phase="PartiallyFailed")
    await world.create(Restore, "r1", {"schedule": "nightly"})
    status = await ended(world, "Completed")
    assert status["backup"] == "n2"
    # By its own word a deletion knows what it must wait for.
    await world.kill_controller()
    raw = await world.raw_restore()
    assert restored_backup(raw) == "n2"
    await patch_status(world.api, of(Restore), raw, {"phase": "InProgress"})

    async def seen() -> bool:
        return active_restores(world.context, "n2") == ["r1"]

    await until(seen, seconds=60, what="the cache shows it")
    assert active_restores(world.context, "n1") == []


async def test_one_that_is_deleted_in_that_moment_is_not_taken(
    world: World, monkeypatch: Any
) -> None:
    await backed_up(world, "n1", day=1)
    await backed_up(world, "n2", day=2)
    note = chosen._note
    taken = []

    async def and_a_deletion_begins(look: Any, name: str) -> None:
        taken.append(name)
        if name == "n2":
            raw = await world.api.get(of(Backup), "n2", namespace=world.namespace)
            await patch_status(world.api, of(Backup), raw, {"phase": "Deleting"})
        await note(look, name)

    monkeypatch.setattr(chosen, "_note", and_a_deletion_begins)
    await world.create(Restore, "r1", {"schedule": "nightly"})
    status = await ended(world, "Completed")
    assert taken[:2] == ["n2", "n1"]
    assert status["backup"] == "n1"


async def test_what_is_not_clear_is_refused(world: World) -> None:
    await backed_up(world, "n1", day=1, phase="PartiallyFailed")
    await world.create(Restore, "r1", {"schedule": "nightly"})
    status = await ended(world, "Failed")
    assert "n1, which is PartiallyFailed, can be restored by its name" in status["message"]
    for number, spec in enumerate(({}, {"schedule": "nightly", "backup": "n1"})):
        await world.create(Restore, f"both-{number}", spec)
        status = await ended(world, "Failed", f"both-{number}")
        assert "either 'backup' or 'schedule'" in status["message"]
