"""Which job comes first, and beside which: the agent's program with real restics.

A job's start and end are in its status, by the clock of the one process that wrote both, in whole
seconds: each job takes some, because the agent's bandwidth is limited and its volume is not empty.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from ararat.api import PodVolumeBackup, PodVolumeRestore
from tests.cluster.apiserver import ControlPlane
from tests.component.agent.program import Program
from tests.component.agent.real import another_repository, as_restore, claimed
from tests.component.agent.world import CLUSTER, World

pytestmark = [pytest.mark.timeout(240), pytest.mark.usefixtures("restic")]


#: At 256 KiB a second the index of it comes two seconds after its data.
_BYTES = 512 << 10
_SLOW = {"ARARAT_BANDWIDTH_KIB": "256"}


@dataclass(frozen=True)
class Ran:
    start: datetime
    end: datetime


@asynccontextmanager
async def agent(
    world: World, plane: ControlPlane, settings: dict[str, str]
) -> AsyncIterator[Program]:
    log = world.path / "agent.log"
    program = Program(world.config, kubeconfig=plane.kubeconfig, log=log, settings=settings)
    await program.start()
    try:
        yield program
    finally:
        await program.end(signal.SIGTERM)


async def job(world: World, name: str, **spec: Any) -> None:
    """A backup of a small volume of its own."""
    uid, source = await claimed(world, name)
    (source / "file").write_bytes(os.urandom(_BYTES))
    await world.backup(name, name, uid, host=f"{CLUSTER}/{name}", **spec)


async def ran(world: World, kind: Any, name: str) -> Ran:
    status = await world.until(kind, name, "Completed", seconds=90)
    assert status["attempts"] == 0
    return Ran(*(datetime.fromisoformat(status[key]) for key in ("startTime", "completionTime")))


async def next_second() -> None:
    """Creation times have whole seconds."""
    await asyncio.sleep(1.1)


async def test_restores_first_then_the_oldest_and_one_after_the_other(
    real_world: World, control_plane: ControlPlane
):
    world = real_world
    await job(world, "source")
    async with agent(world, control_plane, {}):
        made = await world.until(PodVolumeBackup, "source", "Completed", seconds=90)
    # Nobody is there to run them while they come: the youngest is the restore.
    await job(world, "z-oldest")
    await next_second()
    await job(world, "a-younger")
    await next_second()
    uid, _ = await claimed(world, "r-youngest", gated=True)
    await world.restore("r-youngest", "r-youngest", uid, **as_restore(made))
    async with agent(world, control_plane, {**_SLOW, "ARARAT_CONCURRENCY": "1"}):
        found = [
            await ran(world, kind, name)
            for kind, name in (
                (PodVolumeRestore, "r-youngest"),
                (PodVolumeBackup, "z-oldest"),
                (PodVolumeBackup, "a-younger"),
            )
        ]
    assert all(backup.start < backup.end for backup in found[1:]), found
    for earlier, later in itertools.pairwise(found):
        assert earlier.end <= later.start, found


async def test_one_repository_at_a_time_does_not_hold_up_the_others(
    real_world: World, control_plane: ControlPlane
):
    world = real_world
    other, _ = await another_repository(world, "other")
    await job(world, "a1")
    await job(world, "a2")
    await job(world, "b1", repository=other)
    settings = {**_SLOW, "ARARAT_CONCURRENCY": "3", "ARARAT_REPOSITORY_CONCURRENCY": "1"}
    async with agent(world, control_plane, settings):
        a1, a2, b1 = [await ran(world, PodVolumeBackup, name) for name in ("a1", "a2", "b1")]
    assert all(one.start < one.end for one in (a1, a2, b1)), "too quick to tell anything"
    assert a1.end <= a2.start or a2.end <= a1.start, "two at once in one repository"
    first = min(a1, a2, key=lambda one: one.start)
    assert b1.start < first.end, "the other repository's job waited for a slot that was free"
