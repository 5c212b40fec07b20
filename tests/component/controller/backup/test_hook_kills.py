"""The controller may be killed at any line: no pod is left frozen, and none is read unfrozen.

Each life of the leader ends in the middle of a call, or at any moment, as the seed says; commands
that it started go on without it. ``ARARAT_HOOK_KILL_SEEDS`` runs more than the few always run.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ararat.kube import KubeClient
from tests.cluster.apiserver import ControlPlane
from tests.component.kubelet import Kubelet, running

from .kills import Killed, Killer
from .test_hooks import Frozen, freezing, hooked, records
from .world import World, eventually

SEEDS = range(int(os.environ.get("ARARAT_HOOK_KILL_SEEDS", "4")))
FIRST = int(os.environ.get("ARARAT_HOOK_KILL_FIRST", "0"))
LIVES = 4
#: Of a life that is ended at a moment, in seconds.
_SPAN = 6.0


@pytest.fixture
async def kubelet(
    control_plane: ControlPlane, api: KubeClient, world: World, work: Path
) -> AsyncIterator[Kubelet]:
    async with running(control_plane, api, node=world.node, root=work / "pods") as kubelet:
        yield kubelet


async def live(world: World, killer: Killer, *, seconds: float | None = None) -> bool:
    """One life of the leader, of so many seconds at most. True: the backup has ended."""
    api: Any = Killed(world.api, killer, what="api")
    end = asyncio.get_running_loop().time() + seconds if seconds is not None else None
    async with world.leader(api) as leader:

        async def over() -> bool:
            if killer.fired.is_set():
                return True
            if end is not None and asyncio.get_running_loop().time() > end:
                killer.fired.set()
                return True
            assert not leader.task.done()
            backup = await world.get()
            return backup.status.phase.terminal and not backup.metadata.finalizers

        await eventually(over, what="the backup has ended, or the leader")
    return not killer.fired.is_set()


def check(frozen: Frozen) -> None:
    assert not frozen.flag, frozen.journal()
    assert frozen.seen, "it was never read"
    assert all(frozen.seen), frozen.journal()
    journal = frozen.journal()
    # It may begin with a post hook: one that was owed before its pre hook was started.
    assert "pre" in journal
    assert journal[-1] == "post"
    # Never frozen again before it was let go.
    assert ("pre", "pre") not in itertools.pairwise(journal), journal


@pytest.mark.parametrize("seed", [FIRST + seed for seed in SEEDS])
async def test_no_pod_is_left_frozen(
    world: World, kubelet: Kubelet, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr("controller.hooks.execute.GRACE_SECONDS", 2.0)
    chance = random.Random(f"hooks-{seed}")
    annotations = freezing(pre="sleep 0.3;", post="sleep 0.1;", timeout="5s")
    pods = [await hooked(world, kubelet, name, annotations=annotations) for name in ("db", "web")]
    story = []
    async with world.agents() as agents:
        await world.backup()
        for _ in range(LIVES):
            if chance.random() < 0.4:
                killer, seconds = Killer(), chance.uniform(0.3, _SPAN)
            else:
                # Reads, writes and commands alike; some eighty calls make a whole backup.
                killer = Killer(at=chance.randint(1, 90), after=chance.random() < 0.5)
                seconds = None
            if await live(world, killer, seconds=seconds):
                break
            story.append(f"after {seconds:.1f} s" if seconds else f"at {killer.last}")
        else:
            assert await live(world, Killer())
        print(f"seed {seed}: killed {len(story)} times: {'; '.join(story)}")
        try:
            backup = await world.get()
            assert backup.status.phase == "Completed", backup.status.message
            for pod in pods:
                check(pod)
            assert kubelet.processes == set()
            assert await records(world) == []
            assert sorted(agents.taken) == sorted(job.uid for job in await world.jobs())
        except AssertionError as exc:
            exc.add_note(f"seed {seed} was killed {'; '.join(story) or 'never'}")
            raise


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
