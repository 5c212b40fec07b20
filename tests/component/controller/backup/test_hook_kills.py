"""The controller may be killed at any line: no pod is left frozen, and none is read unfrozen.

A few backups whose leaders are killed at random, as processes; ``make hook-kills`` goes on until
two hundred kills have met a pod that was owed its post hook. Beside them the lines that decide,
each in turn.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ararat.kube import KubeClient
from tests.cluster.apiserver import ControlPlane
from tests.component.kubelet import Kubelet, running

from .hook_kills import HookKills, check
from .kills import Killed, Killer
from .test_hooks import freezing, hooked
from .world import World, eventually

SEED = int(os.environ.get("ARARAT_SEED", "1"))
BACKUPS = 3


@pytest.fixture
async def kubelet(
    control_plane: ControlPlane, api: KubeClient, world: World, work: Path
) -> AsyncIterator[Kubelet]:
    async with running(control_plane, api, node=world.node, root=work / "pods") as kubelet:
        yield kubelet


async def live(world: World, killer: Killer) -> bool:
    """One life of the leader, in this process. True: the backup has ended."""
    api: Any = Killed(world.api, killer, what="api")
    async with world.leader(api) as leader:

        async def over() -> bool:
            if killer.fired.is_set():
                return True
            assert not leader.task.done()
            backup = await world.get()
            return backup.status.phase.terminal and not backup.metadata.finalizers

        await eventually(over, what="the backup has ended, or the leader")
    return not killer.fired.is_set()


async def test_no_pod_is_left_frozen(
    control_plane: ControlPlane, api: KubeClient, work: Path
) -> None:
    kills = HookKills(seed=SEED, plane=control_plane, api=api, path=work, each=2)
    async with asyncio.TaskGroup() as group:
        for number in range(BACKUPS):
            group.create_task(kills.run(number))
    print(kills.tally)
    assert kills.tally.backups == BACKUPS
    assert kills.tally.owed


@pytest.mark.parametrize(
    ("moment", "nth", "after"),
    [
        ("api create secrets hooks", 1, True),  # the post hook is owed, nothing was run
        ("api exec", 2, False),
        ("api exec", 2, True),  # the pre hook has ended, and nobody knows
        ("api replace secrets", 1, True),  # frozen
        ("api exec", 3, True),  # the post hook was run, and nobody knows
        ("api replace secrets", 2, True),  # let go
    ],
)
async def test_killed_at_the_lines_that_decide(
    world: World,
    kubelet: Kubelet,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    nth: int,
    after: bool,
) -> None:
    monkeypatch.setattr("controller.hooks.execute.GRACE_SECONDS", 2.0)
    frozen = await hooked(world, kubelet, annotations=freezing(pre="sleep 0.3;", timeout="5s"))

    class AtMoment(Killer):
        met = 0

        async def around(self, name: str, work: Any) -> Any:
            if not self.fired.is_set() and name.startswith(moment):
                self.met += 1
                if self.met == nth:
                    self.at = len(self.calls) + 1
            return await super().around(name, work)

    async with world.agents():
        await world.backup()
        assert not await live(world, AtMoment(after=after)), "the moment never came"
        assert await live(world, Killer())
        backup = await world.get()
    assert backup.status.phase == "Completed", backup.status.message
    check(frozen)
    assert kubelet.processes == set()
