"""A month of nights in minutes: everything that a backup's life meets, at once and in its order.

Each night the clock is moved, volumes change, a backup is made by the schedule; some nights a
volume cannot be read, and in some the agent is killed while its restic works. Retention deletes,
real prunes and checks run, backups arrive while they do, and half-way a deletion and a rotation of
the master key are done by controllers each of which is killed at another write, until every write
of both was the last of a life, once made and once not. In the end the agent restores every backup
that is kept, all is as it was to the last bit and attribute, and restic finds nothing wrong in the
repositories, having read all of it.

``ARARAT_NIGHTS`` sets how many nights; ``make month`` runs 31. ``ARARAT_SEED`` picks what happens.
Agents, maintenance and restic are the real programs, volumes are mounts; the clocks of the
controller and of maintenance's store are moved.
Limits: pods are objects without containers. The same with nodes: ``tests/e2e/test_a_month.py``.
"""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from ararat.api.base import utcnow
from controller.restore.source import read_manifest
from tests.cluster.apiserver import ControlPlane
from tests.component.agent.walker import Tree, differences, every_kind_of_file, walk
from tests.component.controller.backup.world import BACKUPS, World, eventually
from tests.component.controller.life.dying import deleted_by_the_dying, rotated_by_the_dying
from tests.component.controller.life.mortal import Life
from tests.component.controller.life.node import Node, node_of
from tests.component.controller.life.real_agent import RealAgent, real_agent
from tests.component.controller.life.test_maintenance import REPOSITORIES, maintained
from tests.component.controller.life.time_machine import (
    SCHEDULES,
    Clock,
    backups,
    directories,
    exists,
    nudge,
    repository,
    schedule,
)
from tests.component.controller.repository.test_rotation_kills import controller

NIGHTS = int(os.environ.get("ARARAT_NIGHTS", "7"))
SEED = os.environ.get("ARARAT_SEED", "1")
PATIENCE = 240.0
PODS = ("pod-db", "pod-web")
PRUNE_EVERY = timedelta(days=4 if NIGHTS > 16 else 2)


@dataclass
class Month:
    world: World
    clock: Clock
    node: Node
    agent: RealAgent
    chance: random.Random = field(default_factory=lambda: random.Random(f"month-{SEED}"))
    #: Backup → pod → what its volume held.
    stored: dict[str, dict[str, Tree]] = field(default_factory=dict)

    def begin(self) -> None:
        for pod in PODS:
            every_kind_of_file(self.agent.volume(pod))
            (self.agent.volume(pod) / "large").write_bytes(self.chance.randbytes(400_000))

    def change(self, night: int) -> None:
        """What the day has done to the volumes."""
        for pod in PODS:
            volume = self.agent.volume(pod)
            (volume / f"day-{night % 5}").write_bytes(self.chance.randbytes(150_000))
            if night % 4 == 0:
                (volume / "large").write_bytes(self.chance.randbytes(400_000))
            # Each cannot be read now and then, never both.
            gone = night % 10 == (3 if pod == "pod-db" else 6)
            self.agent.mounted(pod, not gone)

    def held(self) -> dict[str, Tree]:
        readable = [pod for pod in PODS if pod not in self.agent.unmounted]
        return {pod: walk(self.agent.volume(pod)) for pod in readable}

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
        async with asyncio.TaskGroup() as group:
            over = asyncio.Event()
            if night % 4 == 1:
                group.create_task(self.agent.kill_when_working(over))
            await nudge(world, SCHEDULES, "nightly", clock)
            await self.ended(name)
            over.set()

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
        good = len(self.stored[name]) == len(PODS)
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
            for volume in volumes.values():
                named[volume.directory].add(str(volume.snapshot_id))
            back = await asyncio.gather(
                *(self.agent.restored(f"{name}-{pod}", volume) for pod, volume in volumes.items())
            )
            for pod, tree in zip(volumes, back, strict=True):
                assert differences(self.stored[name][pod], tree) == [], (name, pod)
        for directory, snapshots in named.items():
            async with repository(world, directory) as restic:
                assert (await restic.check(read_data_subset="100%")).ok, directory
                assert {s.id for s in await restic.snapshots()} == snapshots, directory


@pytest.mark.timeout(3600)
async def test_a_month(
    world: World, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(world)
    often = {
        "ARARAT_MAINTENANCE_PRUNE_EVERY": f"{PRUNE_EVERY.days}d",
        "ARARAT_MAINTENANCE_CHECK_EVERY": f"{PRUNE_EVERY.days + 2}d",
    }
    world.config = replace(world.config, maintenance=often)
    maintained(world, control_plane)
    await world.workload_of("db", "web")
    spec = {
        "cron": "30 2 * * *",
        "timeZone": "Europe/Berlin",
        "template": {"includedNamespaces": [world.workload]},
        "retention": {"keepDaily": 3, "keepWeekly": 1 + NIGHTS // 16},
    }
    await world.create(SCHEDULES, "nightly", world.namespace, spec=spec)
    async with (
        real_agent(world, control_plane.kubeconfig) as agent,
        node_of(world, moved=lambda: clock.now - utcnow()) as node,
    ):
        month = Month(world, clock, node, agent)
        month.begin()
        for part in range(2):
            async with world.leader():
                first, last = part * NIGHTS // 2, (part + 1) * NIGHTS // 2
                for night in range(first, last):
                    await month.night(night)
                    if night == last - 1 or (NIGHTS > 16 and night % 8 == 4):
                        clock.move(hours=2)
                        await month.maintained(arrives=f"hand-{night}")
                await month.expired()
            if part == 0:
                await rotated_by_the_dying(world)
                await deleted_by_the_dying(world, monkeypatch, f"hand-{NIGHTS // 2 - 1}")
        kept = await backups(world)
        assert len(month.stored) >= NIGHTS
        assert agent.kills >= max(1, NIGHTS // 8)
        assert len(kept) < len(month.stored) - 1, "retention has deleted some"
        pruned = [t for t in node.ran if t["action"] == "Prune"]
        assert any("volumes" in t["repository"]["directory"] for t in pruned)
        if NIGHTS >= 20:  # what was dropped is noted, and goes with a later prune
            states = [repo.status.maintenance for repo in await world.repositories()]
            assert any(state is not None and state.reclaimed_bytes > 0 for state in states)
        await month.prove()
