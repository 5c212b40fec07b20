"""Leaders killed while pods are frozen, counted: ``python -m ... --kills 200``.

Problem: a pod that nobody lets go of stays frozen for good; "whatever happens" includes a SIGKILL
at any moment, and only kills that meet a frozen pod prove anything.
Decision: backups of two pods each with hooks that are real commands; every life of the leader is a
process (see mortal) that is killed around the time its hooks run; some backups are cancelled while
none lives. After each kill the records tell
whether a post hook was owed, and the node whether a hook was running and a flag was set; those are
counted. In the end no flag may be left, nothing may have been read without one, and every record
and every process must be gone. All that is random comes from the seed and the backup's number.
Limits: a seed repeats choices, not the scheduler's interleaving. Agents are the test's own.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from ararat.kube import KubeClient, connect
from ararat.kube.resources import SECRETS
from ararat.restic.version import VARIABLE
from controller.backup.hooks import record
from controller.backup.hooks.decide import ATTEMPTS, INTERRUPTED, State
from tests.cluster.apiserver import ControlPlane
from tests.cluster.toolchain import restic as toolchain
from tests.component.kubelet import Kubelet, running
from tests.component.our_kinds import serving_our_kinds

from .mortal import Life, killed, last_words
from .test_hooks import Frozen, freezing, hooked, records
from .world import BACKUPS, DEADLINE, World, eventually

_AT_ONCE = 3
_CANCELLED = 0.2
_MORE = {"post": "sleep 0.1;", "timeout": "6s"}
_LOOK_SECONDS = 0.05


@dataclass
class Tally:
    """What the kills of all backups met."""

    backups: int = 0
    kills: int = 0
    #: A post hook was owed: what is asked for.
    owed: int = 0
    met: Counter[str] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    read: int = 0

    def __str__(self) -> str:
        def listed(counter: Counter[str]) -> str:
            return ", ".join(f"{name} {count}" for name, count in sorted(counter.items())) or "none"

        return (
            f"{self.backups} backups ({listed(self.phases)}), volumes looked at {self.read} times\n"
            f"{self.kills} kills, {self.owed} of them while a post hook was owed\n"
            f"what those met, by pod: {listed(self.met)}"
        )


class HookKills:
    """One backup after the other, each in a world of its own.

    ``each``: kills of one backup's leaders, at most; then one is let live.
    """

    def __init__(
        self, *, seed: int, plane: ControlPlane, api: KubeClient, path: Path, each: int = 4
    ) -> None:
        self.seed = seed
        self.each = each
        self.tally = Tally()
        self._plane = plane
        self._api = api
        self._path = path

    async def run(self, number: int) -> None:
        """The backup of this number, to its end. Raises AssertionError with its story."""
        path = self._path / str(number)
        path.mkdir()
        world = World(self._api, path)
        await world.prepare()
        async with running(self._plane, self._api, node=world.node, root=path / "pods") as kubelet:
            pods = [
                # One takes so long that it goes on while the next leader is at work.
                await hooked(world, kubelet, name, annotations=freezing(f"sleep {pre};", **_MORE))
                for name, pre in (("db", 3.0), ("web", 0.3))
            ]
            backup = _Killed(world, kubelet, pods, self._plane, self.tally)
            try:
                await backup.run(random.Random(f"{self.seed}/{number}"), kills=self.each)
            except BaseException as exc:
                story = "; ".join(backup.story) or "never"
                exc.add_note(f"seed {self.seed}, backup {number} in {path}: killed {story}")
                raise
        shutil.rmtree(path, ignore_errors=True)


class _Killed:
    """One backup whose leaders are killed."""

    def __init__(
        self,
        world: World,
        kubelet: Kubelet,
        pods: list[Frozen],
        plane: ControlPlane,
        tally: Tally,
    ) -> None:
        self.story: list[str] = []
        self._world = world
        self._kubelet = kubelet
        self._pods = pods
        self._plane = plane
        self._tally = tally
        self._log = world.path / "leader.log"
        #: Kills after which a pre hook's end was unknown: only so many are made up for.
        self._unknown = 0

    async def run(self, chance: random.Random, *, kills: int) -> None:
        world = self._world
        async with world.agents() as agents:
            await world.backup()
            for _ in range(kills):
                if not await self._live_and_die(chance):
                    break
                if chance.random() < _CANCELLED:
                    self.story.append("cancelled")
                    await world.patch(BACKUPS, "nightly", {"spec": {"cancel": True}})
            else:
                await self._live(None)
            await self._judge()
            jobs = {job.uid for job in await world.jobs()}
            assert len(set(agents.taken)) == len(agents.taken), "a volume was read twice"
            assert set(agents.taken) <= jobs
        self._tally.backups += 1
        self._tally.read += sum(len(pod.seen) for pod in self._pods)

    async def _live_and_die(self, chance: random.Random) -> bool:
        """A life that ends in the middle; False: the backup had ended before."""
        if chance.random() < 0.5:
            # Where hooks run for the first time, a second is all; where they are begun again, ten.
            span = 1.5 if chance.random() < 0.5 else 9.0
            ended = await self._live(chance.uniform(0.0, span))
        else:
            begun = bool(await records(self._world))
            at = chance.randint(1, 90 if begun else 40)
            ended = await self._live(
                None, at=at, after=chance.random() < 0.5, since_hooks=not begun
            )
        if ended:
            return False
        await self._count()
        return True

    async def _live(
        self,
        seconds: float | None,
        *,
        at: int | None = None,
        after: bool = False,
        since_hooks: bool = False,
    ) -> bool:
        """One life, which is over so many seconds after a post hook is owed, or by itself.

        True: the backup has ended.
        """
        world, clock = self._world, asyncio.get_running_loop().time
        life = Life(
            world.config,
            str(self._plane.kubeconfig),
            world.cluster,
            str(self._log),
            at=at,
            after=after,
            since_hooks=since_hooks,
        )
        process = life.start()
        death: float | None = None
        end = clock() + DEADLINE
        try:
            while process.is_alive():
                backup = await world.get()
                if backup.status.phase.terminal and not backup.metadata.finalizers:
                    return True
                if seconds is not None and death is None and await records(world):
                    death = clock() + seconds
                if death is not None and clock() >= death:
                    self.story.append(f"{seconds:.2f} s after a record was seen")
                    return False
                assert clock() < end, f"the backup has not ended: {backup.status}"
                await asyncio.sleep(_LOOK_SECONDS)
            self.story.append(last_words(self._log))
            return False
        finally:
            await killed(process)

    async def _count(self) -> None:
        """What the kill just now met."""
        world, tally = self._world, self._tally
        tally.kills += 1
        found = world.api.list(SECRETS, namespace=world.namespace, labels="ararat.dev/hooks-of")
        states = {r.pod.name: r.state async for s in found for r in [record.decode(s)]}
        owing = {name: state for name, state in states.items() if state.owes}
        if not owing:
            return
        tally.owed += 1
        self._unknown += State.OWED in owing.values()
        for pod in self._pods:
            name = pod.directory.name
            if name in owing:
                flag = "with its flag" if pod.flag else "without a flag"
                tally.met[f"{owing[name]} {flag}"] += 1

    async def _judge(self) -> None:
        world = self._world
        backup = await world.get()
        self._tally.phases[backup.status.phase.value] += 1
        assert backup.status.phase != "Cancelled" or "cancelled" in self.story
        if backup.status.phase not in ("Completed", "Cancelled"):
            # So often begun and never seen to end: such a pod is not read, and that is said.
            assert self._unknown >= ATTEMPTS, (backup.status.phase, backup.status.message)
            assert {f.reason for f in backup.status.failures} == {INTERRUPTED}

        async def quiet() -> bool:
            return not self._kubelet.processes

        # Nothing may be running that freezes a pod later.
        await eventually(quiet, what="no command runs any more", within=60)
        for pod in self._pods:
            check(pod, read=backup.status.phase == "Completed")
        assert await records(world) == []


def check(frozen: Frozen, *, read: bool = True) -> None:
    assert not frozen.flag, frozen.journal()
    assert frozen.seen or not read, "it was never read"
    assert all(frozen.seen), frozen.journal()
    journal = frozen.journal()
    # It may begin with a post hook: one that was owed before its pre hook was started.
    assert "pre" in journal or not read
    assert journal[-1:] != ["pre"], journal
    # Never frozen again before it was let go.
    assert ("pre", "pre") not in itertools.pairwise(journal), journal


async def _main(seed: int, kills: int) -> int:
    print(f"seed {seed}; the same again: make hook-kills SEED={seed} KILLS={kills}", flush=True)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    os.environ[VARIABLE] = str(toolchain.ensure())
    path = Path(tempfile.mkdtemp(prefix="ar", dir="/tmp"))  # short: sockets stand below it
    numbers = itertools.count()
    wrong: list[BaseException] = []
    began = time.monotonic()
    with serving_our_kinds() as plane:
        async with connect(str(plane.kubeconfig)) as api:
            runs = HookKills(seed=seed, plane=plane, api=api, path=path)

            async def on_and_on() -> None:
                while runs.tally.owed < kills:
                    await runs.run(next(numbers))
                    spent = time.monotonic() - began
                    print(f"-- {spent:.0f} s\n{runs.tally}", flush=True)

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(_AT_ONCE):
                        group.create_task(on_and_on())
            except* AssertionError as failed:
                wrong.extend(failed.exceptions)
    for exc in wrong:
        print(f"WRONG: {exc}", *getattr(exc, "__notes__", ()), sep="\n  ")
    if wrong:
        return 1
    shutil.rmtree(path)
    print(f"no pod was left frozen by {runs.tally.owed} kills while a post hook was owed")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="while a post hook is owed")
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    chosen = arguments.seed if arguments.seed is not None else int(time.time())
    sys.exit(asyncio.run(_main(chosen, arguments.kills)))
