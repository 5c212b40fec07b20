"""An agent dies with its node, and a new node takes its place: nothing needs a person."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ararat.restic.locks import STALE_AFTER
from tests.cluster.apiserver import ControlPlane
from tests.component.controller.backup.world import World
from tests.component.controller.life.node import node_of
from tests.component.controller.life.real_agent import RealAgent, real_agent
from tests.component.controller.life.test_maintenance import (
    PATIENCE,
    maintained,
    until,
    volumes_repository,
)
from tests.component.controller.life.time_machine import Clock, repository

pytestmark = pytest.mark.timeout(900)


async def test_its_lock_stops_prune_until_it_may_be_dead_and_nothing_else(
    world: World, control_plane: ControlPlane
) -> None:
    """The lock of a pod that is gone proves nothing: its node might write on. It ages.

    On the same node the next agent removes it at once: tests/component/agent/test_adoption.py.
    """
    clock = Clock(world)
    maintained(world, control_plane)
    await world.workload_of("db")
    async with (
        real_agent(world, control_plane.kubeconfig) as agent,
        world.leader(),
        node_of(world) as node,
    ):
        await backup_of(world, agent, "one")
        directory = str((await volumes_repository(world)).status.directory)
        lock = await killed_with_its_lock(world, agent, world.store_path / directory / "locks")
        await backup_of(world, agent, "afterwards")
        assert lock.exists()

        clock.move(days=7, hours=1)

        def locked(state: Any) -> bool:
            return bool(state.last and state.last.reason == "RepositoryLocked")

        await until(world, clock, locked, what="the prune finds the lock")
        assert lock.exists()
        assert [t["action"] for t in node.ran if t["repository"]["directory"] == directory] == [
            "Prune"
        ]
        # So much later nobody has renewed it.
        written = lock.stat().st_mtime - (STALE_AFTER + timedelta(minutes=1)).total_seconds()
        os.utime(lock, (written, written))
        clock.move(hours=2)
        done = await until(
            world, clock, lambda m: m.last_prune_time and not m.running, what="pruned in the end"
        )
        assert not lock.exists()
        assert done.status.maintenance is not None
        assert done.status.maintenance.failures == 0
        await backup_of(world, agent, "in-the-end")
        async with repository(world, directory) as restic:
            assert (await restic.check(read_data_subset="100%")).ok
            names = len(await restic.snapshots())
        assert names == 3 + agent.kills


async def backup_of(world: World, agent: RealAgent, name: str) -> None:
    (agent.volume("pod-db") / "file").write_bytes(secrets.token_bytes(1_000_000))
    await world.backup(name)
    await world.phase("Completed", name=name, within=PATIENCE)
    await world.settled(name)


async def killed_with_its_lock(world: World, agent: RealAgent, locks: Path) -> Path:
    """The lock that a lost node has left; its backup is completed by the node that comes after."""
    for number in range(10):
        (agent.volume("pod-db") / "file").write_bytes(secrets.token_bytes(40_000_000))
        name = f"killed-{number}"
        await world.backup(name)
        await world.phase("InProgress", name=name, within=PATIENCE)
        end = time.monotonic() + PATIENCE
        # Nobody else gets a turn of this loop between the look and the kill.
        while not (locks.is_dir() and any(locks.iterdir())):
            assert time.monotonic() < end, "restic has taken no lock"
            await asyncio.sleep(0.002)
        pid = agent.program.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await agent.program.end(signal.SIGKILL)
        agent.kills += 1
        agent.program.new_pod(new_disk=True)
        await agent.program.start()
        await world.phase("Completed", name=name, within=PATIENCE)
        await world.settled(name)
        left = list(locks.iterdir())
        if left:
            (lock,) = left
            return lock
    raise AssertionError("restic was always done before it was killed")
