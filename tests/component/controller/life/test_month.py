"""A month of nights in minutes: everything that a backup's life meets, at once and in its order.

Each night the clock is moved, volumes change, a backup is made by the schedule; some nights a
volume cannot be read. Retention deletes, real prunes and checks run, backups arrive while they do,
and half-way a deletion and a rotation of the master key are done by controllers that are killed
again and again. In the end every backup that is kept restores as it was, bit by bit, and restic
finds nothing wrong in the repositories, having read all of it.

``ARARAT_NIGHTS`` sets how many nights; ``make month`` runs 31. ``ARARAT_SEED`` picks what happens.
Limits: agents are played by the test, with the real engine; maintenance jobs are the real program,
whose store's clock is moved with the controller's.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from ararat import keys
from ararat.api.base import utcnow
from ararat.restic.models import RestoreRequest
from controller.restore.source import read_manifest
from tests.cluster.apiserver import ControlPlane
from tests.component.controller.backup.world import BACKUPS, Volume, World, eventually
from tests.component.controller.life.mortal import Life
from tests.component.controller.life.node import Node, node_of
from tests.component.controller.life.test_deletion import one_life
from tests.component.controller.life.test_maintenance import REPOSITORIES, maintained
from tests.component.controller.life.time_machine import (
    SCHEDULES,
    Clock,
    backups,
    directories,
    exists,
    nudge,
    repository,
    request,
    schedule,
)
from tests.component.controller.repository.test_rotation_kills import (
    controller,
    ring,
    rotate,
    set_ring,
)

NIGHTS = int(os.environ.get("ARARAT_NIGHTS", "10"))
SEED = os.environ.get("ARARAT_SEED", "1")
PATIENCE = 240.0
PRUNE_EVERY = timedelta(days=4)
#: Each life ends a write later than the one before, so that they get somewhere.
_LIVES = 60


@dataclass
class Month:
    world: World
    clock: Clock
    node: Node
    chance: random.Random = field(default_factory=lambda: random.Random(f"month-{SEED}"))
    #: Backup → pod → what its volume held.
    stored: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)

    def change(self, night: int) -> None:
        """What the day has done to the volumes."""
        for pod, volume in self.world.volumes.items():
            volume.files[f"day-{night % 5}"] = self.chance.randbytes(150_000)
            if night % 4 == 0:
                volume.files["large"] = self.chance.randbytes(400_000)
            # Each is unreadable for some nights, never both.
            turn = 3 if pod == "pod-db" else 6
            volume.fail = "Unreadable" if night % 10 in (turn, turn + 1) else ""

    def held(self) -> dict[str, dict[str, bytes]]:
        return {pod: dict(v.files) for pod, v in self.world.volumes.items() if not v.fail}

    async def night(self, night: int) -> None:
        """The schedule makes its backup."""
        world, clock = self.world, self.clock
        self.change(night)

        async def known() -> bool:
            due = (await schedule(world)).status.next_run_time
            return due is not None and due > clock.now

        await eventually(known, what="the schedule says when it is due", within=PATIENCE)
        due = (await schedule(world)).status.next_run_time
        assert due is not None
        clock.now = due
        clock.move(seconds=20)
        name = f"nightly-{due:%Y%m%d%H%M%S}"
        self.stored[name] = self.held()
        await nudge(world, SCHEDULES, "nightly", clock)
        await self.ended(name)

    async def by_hand(self, name: str) -> None:
        self.stored[name] = self.held()
        await self.world.backup(name)
        await self.ended(name)

    async def ended(self, name: str) -> None:
        async def look() -> bool:
            if not await exists(self.world, BACKUPS, name):
                return False
            backup = await self.world.get(name)
            return backup.status.phase.restorable and not backup.metadata.finalizers

        await eventually(look, what=f"{name} has ended", within=PATIENCE)
        good = len(self.stored[name]) == len(self.world.volumes)
        backup = await self.world.get(name)
        assert backup.status.phase == ("Completed" if good else "PartiallyFailed"), name

    async def maintained(self, *, arrives: str = "") -> None:
        """Prune and check what is due; a backup arrives when the first program has begun."""
        world, clock, before = self.world, self.clock, len(self.node.ran)

        async def quiet() -> bool:
            for repo in await world.repositories():
                await nudge(world, REPOSITORIES, repo.name, clock)
            states = [repo.status.maintenance for repo in await world.repositories()]
            return all(
                state is not None
                and state.running is None
                and state.last_prune_time is not None
                and clock.now - state.last_prune_time < PRUNE_EVERY
                for state in states
            )

        if arrives:

            async def begun() -> bool:
                for repo in await world.repositories():
                    await nudge(world, REPOSITORIES, repo.name, clock)
                return any(
                    "volumes" in t["repository"]["directory"] for t in self.node.ran[before:]
                )

            await eventually(begun, what="a program has begun", within=PATIENCE)
            await self.by_hand(arrives)
        await eventually(quiet, what="nothing is due to be pruned", within=PATIENCE)

    async def expired(self) -> None:
        """Deletions that retention has asked for are over."""

        async def look() -> bool:
            await nudge(self.world, SCHEDULES, "nightly", self.clock)
            return "Deleting" not in (await backups(self.world)).values()

        await eventually(look, what="nothing is being deleted", within=PATIENCE)

    async def prove(self) -> None:
        """Everything that is kept is what it was, and the repositories are whole."""
        world = self.world
        kept = await backups(world)
        assert {name.split("/")[1] for name in world.files() if name.startswith("backups/")} == set(
            kept
        )
        named: dict[str, set[str]] = {directory: set() for directory in await directories(world)}
        async with controller(world, Life()) as context:
            location = await context.location("main")
            # Also those that were signed under the former master key.
            manifests = [await read_manifest(location, name) for name in kept]
        for name, manifest in zip(kept, manifests, strict=True):
            named[manifest.objects.directory].update(manifest.objects.snapshots)
            volumes = {v.pod: v for v in manifest.volumes if v.snapshot_id}
            assert set(volumes) == set(self.stored[name]), name
            for pod, volume in volumes.items():
                named[volume.directory].add(str(volume.snapshot_id))
                target = world.path / f"restored-{name}-{pod}"
                target.mkdir()
                wanted = RestoreRequest(snapshot_id=str(volume.snapshot_id), target=target)
                async with repository(world, volume.directory) as restic:
                    await restic.restore(wanted)
                found = {p.name: p.read_bytes() for p in target.iterdir() if p.is_file()}
                assert found == self.stored[name][pod], (name, pod)
        for directory, snapshots in named.items():
            async with repository(world, directory) as restic:
                assert (await restic.check(read_data_subset="100%")).ok, directory
                assert {s.id for s in await restic.snapshots()} == snapshots, directory


async def rotated_by_the_dying(world: World) -> None:
    """The master key is changed by controllers of which each is killed after a few writes."""
    new = keys.new_master_key()
    await set_ring(world, key=await world.master(), wanted=new)
    for number in range(_LIVES):
        life = await rotate(world, Life(at=number + 1, after=bool(number % 2)))
        if not life.dead:
            break
    found = await ring(world)
    assert (found.current, found.next, found.former) == (new, None, None)


async def deleted_by_the_dying(world: World, monkeypatch: pytest.MonkeyPatch, backup: str) -> None:
    name = await request(world, backup)
    for number in range(_LIVES):
        life = await one_life(world, monkeypatch, name, at=number + 1, after=bool(number % 2))
        if not life.dead:
            break
    monkeypatch.undo()
    assert not any(file.startswith(f"backups/{backup}/") for file in world.files())
    assert not await exists(world, BACKUPS, backup)


@pytest.mark.timeout(3600)
async def test_a_month(
    world: World, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(world)
    often = {"ARARAT_MAINTENANCE_PRUNE_EVERY": "4d", "ARARAT_MAINTENANCE_CHECK_EVERY": "6d"}
    world.config = replace(world.config, maintenance=often)
    maintained(world, control_plane)
    await world.workload_of(
        "db", "web", db=Volume({"large": b"db" * 9000}), web=Volume({"large": b"web" * 9000})
    )
    spec = {
        "cron": "30 2 * * *",
        "timeZone": "Europe/Berlin",
        "template": {"includedNamespaces": [world.workload]},
        "retention": {"keepDaily": 4, "keepWeekly": 2},
    }
    await world.create(SCHEDULES, "nightly", world.namespace, spec=spec)
    async with world.agents(), node_of(world, moved=lambda: clock.now - utcnow()) as node:
        month = Month(world, clock, node)
        for part in range(2):
            async with world.leader():
                first, last = part * NIGHTS // 2, (part + 1) * NIGHTS // 2
                for night in range(first, last):
                    await month.night(night)
                    if night == last - 1 or night % 8 == 4:
                        clock.move(hours=2)
                        await month.maintained(arrives=f"hand-{night}")
                await month.expired()
            if part == 0:
                await rotated_by_the_dying(world)
                await deleted_by_the_dying(world, monkeypatch, "hand-4")
        kept = await backups(world)
        assert len(month.stored) >= NIGHTS
        if NIGHTS >= 10:
            assert len(kept) < len(month.stored) - 1, "retention has deleted some"
        pruned = [t for t in node.ran if t["action"] == "Prune"]
        assert any("volumes" in t["repository"]["directory"] for t in pruned)
        if NIGHTS >= 20:  # what was dropped is noted, and goes with a later prune
            states = [repo.status.maintenance for repo in await world.repositories()]
            assert any(state is not None and state.reclaimed_bytes > 0 for state in states)
        await month.prove()
