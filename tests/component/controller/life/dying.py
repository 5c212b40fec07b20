"""A deletion and a rotation of the master key by controllers that die: one at every write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from ararat import keys
from tests.component.controller.backup.world import BACKUPS, World
from tests.component.controller.life.mortal import Life
from tests.component.controller.life.test_deletion import live_once
from tests.component.controller.life.time_machine import exists, request
from tests.component.controller.repository.test_rotation_kills import ring, rotate, set_ring

#: More than there are writes, made and not made.
_LIVES = 200


async def by_the_dying(live: Callable[[Life], Awaitable[object]]) -> None:
    """Every write that there is ends two lives, one before it is made and one after."""
    graves: set[tuple[tuple[str, ...], bool]] = set()
    for _ in range(_LIVES):
        life = Life(graves=graves)
        await live(life)
        if not life.dead:
            break
    else:
        raise AssertionError(f"nobody came to an end: {sorted(graves)}")
    print(f"{len(graves)} deaths: " + ", ".join(" ".join(step) for step, after in sorted(graves)))
    assert len(graves) >= 20, sorted(graves)


async def rotated_by_the_dying(world: World) -> None:
    new = keys.new_master_key()
    await set_ring(world, key=await world.master(), wanted=new)
    await by_the_dying(lambda life: rotate(world, life))
    found = await ring(world)
    assert (found.current, found.next, found.former) == (new, None, None)


async def deleted_by_the_dying(world: World, monkeypatch: pytest.MonkeyPatch, backup: str) -> None:
    name = await request(world, backup)
    await by_the_dying(lambda life: live_once(world, monkeypatch, name, life))
    monkeypatch.undo()
    assert not any(file.startswith(f"backups/{backup}/") for file in world.files())
    assert not await exists(world, BACKUPS, backup)
