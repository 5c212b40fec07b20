"""Backups and restores while everything around them is killed: ``python -m ... --minutes 30``.

Problem: each failure by itself is tested elsewhere; what loses data is two of them at the wrong
moment, which nobody thinks of.
Decision: a real agent as a child process, a real API server, the real restic, Azurite behind a
proxy with faults, volumes that are mounts. A few workloads write files, back up, restore, cancel,
over and over; each pod that is restored waits behind the gate's real program. Beside them sources
of trouble kill restic, the agent and gates, stop the agent in good order, restart the API server,
and let the store answer 503, lose answers and cut connections. At the end everything must be as
promised; see ``Torture.judge``. All that is random comes from one seed, which is printed.
Limits: a seed repeats files, orders and, on a calm machine, pauses; not the scheduler's
interleaving. Containers are stood in for by processes; a container's restart is a new process with
the same pod UID, a pod's replacement one with another.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from ararat.api import PodVolumeBackup, PodVolumeRestore
from ararat.api.nodejob import JobPhase
from ararat.kube import connect
from ararat.kube.resources import PODS
from ararat.restic.locks import list_locks
from ararat.restic.models import Access, LockOwner, RestoreRequest
from ararat.restic.session import open_repository
from ararat.restic.version import VARIABLE
from tests.cluster.apiserver import ControlPlane
from tests.cluster.azurite import Azurite
from tests.cluster.toolchain import restic as toolchain
from tests.component.agent.gate_container import GateContainer
from tests.component.agent.patient import patient
from tests.component.agent.program import Program, processes
from tests.component.agent.real import as_restore, prepare_azure
from tests.component.agent.walker import Tree, differences, walk
from tests.component.agent.world import CLUSTER, World
from tests.component.blob.proxy import Fault, FaultProxy
from tests.component.our_kinds import serving_our_kinds

WORKLOADS = 4
#: Ends that a job may come to under torture. Anything else is a defect: nothing was damaged, no
#: key was wrong, no volume was in the way.
ALLOWED = frozenset(
    (
        "AgentRestarted",
        "Cancelled",
        "Killed",
        "PodTerminating",
        "PodEnded",
        "RepositoryLocked",
        "StoreThrottled",
        "StoreUnreachable",
    )
)
#: Name, kinds with their weights, longest pause between two.
_TROUBLE: tuple[tuple[str, dict[str, int], float], ...] = (
    (
        "processes",
        {"kill restic": 3, "kill agent": 2, "replace agent": 1, "stop agent": 1},
        12.0,
    ),
    ("store", {"store 503": 1, "store resets": 1, "answers lost": 1}, 10.0),
    ("api", {"API server restarts": 1}, 40.0),
    ("gates", {"kill gate": 1}, 6.0),
)
_SETTLE_SECONDS = 300.0
_PATIENCE_SECONDS = 120.0
_FILES = 40


@dataclass
class Snapshot:
    """A backup that said Completed, and what the volume held."""

    job: str
    status: dict[str, Any]
    tree: Tree


@dataclass
class Report:
    phases: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    trouble: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    entries: int = 0
    opened: int = 0
    shut: int = 0
    wrong: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        def listed(counter: Counter[str]) -> str:
            return ", ".join(f"{name} {count}" for name, count in sorted(counter.items())) or "none"

        return [
            f"trouble: {listed(self.trouble)}",
            f"jobs: {listed(self.phases)}",
            f"reasons of those that failed: {listed(self.reasons)}",
            f"causes of repeated attempts: {listed(self.attempts)}",
            f"compared: {self.compared} volumes with {self.entries} entries",
            f"gates that opened: {self.opened}; that stayed shut after a failure: {self.shut}",
            *(f"WRONG: {line}" for line in self.wrong),
        ]


class Torture:
    def __init__(
        self, *, seed: int, seconds: float, plane: ControlPlane, azurite: Azurite, path: Path
    ) -> None:
        self.seed = seed
        self.seconds = seconds
        self.path = path
        self.report = Report()
        self._plane = plane
        self._azurite = azurite
        self._snapshots: list[Snapshot] = []
        self._jobs: list[tuple[Any, str]] = []
        self._gates: list[GateContainer] = []
        self._over = asyncio.Event()

    def _random(self, name: str) -> random.Random:
        return random.Random(f"{self.seed}/{name}")

    async def run(self) -> Report:
        proxy = FaultProxy(self._azurite)
        async with proxy.running(), connect(str(self._plane.kubeconfig)) as api:
            self.world = World(patient(api), self.path)
            try:
                await self._prepare(proxy)
                await self._torture(proxy)
                proxy.faults = _calm
                await self.judge()
            finally:
                self.world.kubelet.close()
        return self.report

    async def _prepare(self, proxy: FaultProxy) -> None:
        made = await prepare_azure(
            self.world, self._azurite, endpoint=proxy.endpoint, ca_bundle=proxy.ca_pem
        )
        self.store, self.master = made.store, made.master
        self.current, self.password = made.current, made.password

    async def _torture(self, proxy: FaultProxy) -> None:
        self.agent = Program(
            self.world.config, kubeconfig=self._plane.kubeconfig, log=self.path / "agent.log"
        )
        await self.agent.start()
        attendant = asyncio.create_task(self.agent.attend())
        trouble = asyncio.create_task(self._make_trouble(proxy))
        workloads = [asyncio.create_task(self._work(number)) for number in range(WORKLOADS)]
        try:
            end = time.monotonic() + self.seconds
            # A busy machine gets more time: without a backup there is nothing to lose.
            while time.monotonic() < end or (
                not self._snapshots and time.monotonic() < end + _PATIENCE_SECONDS
            ):
                await asyncio.wait(
                    [trouble, attendant, *workloads],
                    timeout=1.0,
                    return_when=asyncio.FIRST_EXCEPTION,
                )
                for task in (trouble, attendant, *workloads):
                    if task.done():
                        task.result()
            self._over.set()
            await trouble
            proxy.faults = _calm
            async with asyncio.timeout(_SETTLE_SECONDS):
                await asyncio.gather(*workloads)
            # Its last act: orderly, so that nothing of it is left.
            attendant.cancel()
            self.resident = _resident(self.agent.pid)
            await self.agent.end(signal.SIGTERM)
        finally:
            for task in (trouble, attendant, *workloads):
                task.cancel()
            await asyncio.gather(trouble, attendant, *workloads, return_exceptions=True)
            with contextlib.suppress(TimeoutError, ProcessLookupError):
                await self.agent.end(signal.SIGKILL)

    # --- trouble --------------------------------------------------------------------------------

    async def _make_trouble(self, proxy: FaultProxy) -> None:
        """Three sources of their own, so that each kind meets every other."""
        await asyncio.gather(
            *(self._source(name, kinds, pause, proxy) for name, kinds, pause in _TROUBLE)
        )

    async def _source(
        self, name: str, kinds: dict[str, int], longest: float, proxy: FaultProxy
    ) -> None:
        chance = self._random(name)
        while not self._over.is_set():
            pause, length = chance.uniform(0.2, longest) * _slowness(), chance.uniform(0.5, 4.0)
            kind = chance.choices(list(kinds), list(kinds.values()))[0]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._over.wait()
            if not self._over.is_set() and await self._trouble(kind, length, proxy, chance):
                self.report.trouble[kind] += 1

    async def _trouble(
        self, kind: str, length: float, proxy: FaultProxy, chance: random.Random
    ) -> bool:
        if kind == "kill restic":
            await self._under_way()
            for pid in (victims := self.agent.children()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return bool(victims)
        if kind in ("kill agent", "replace agent", "stop agent"):
            if chance.random() < 0.75:
                await self._under_way()
            number = signal.SIGTERM if kind == "stop agent" else signal.SIGKILL
            await self.agent.end(number)
            if kind == "replace agent":
                self.agent.new_pod()
            await self.agent.start()
            return True
        if kind == "kill gate":
            killed = [each.kill() for each in self._gates]
            return any(killed)
        if kind == "API server restarts":
            await asyncio.to_thread(self._plane.stop_apiserver)
            await asyncio.sleep(length / 2)
            await asyncio.to_thread(self._plane.start_apiserver)
            return True
        fault = {
            "store 503": Fault(status=503, code="ServerBusy", headers={"Retry-After": "1"}),
            "store resets": Fault(reset=True),
            "answers lost": Fault(lose_answer=True),
        }[kind]
        share = chance.uniform(0.2, 1.0)
        random_of = random.Random(chance.random())

        def faults(method: str, path: str) -> Fault | None:
            return fault if random_of.random() < share else _calm(method, path)

        proxy.faults = faults
        await asyncio.sleep(length)
        proxy.faults = _calm
        return True

    async def _under_way(self) -> None:
        """Until something can be interrupted, but not for ever."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                while not self.agent.children():
                    await asyncio.sleep(0.05)

    # --- work -----------------------------------------------------------------------------------

    async def _work(self, number: int) -> None:
        """One application: writes, is backed up, is restored; until the end."""
        chance = self._random(f"workload {number}")
        name = f"app-{number}"
        claim = await self.world.claim(name)
        uid = await self.world.pod(name, volume=claim)
        source = self.world.kubelet.csi(uid, self.world.pv(name), mount=False)
        self.world.kubelet.tmpfs(source, options="size=256m")
        mine: list[Snapshot] = []
        turn, restored = 0, False
        while not self._over.is_set():
            turn += 1
            await asyncio.to_thread(_change, source, chance)
            # On a slow machine there are few turns: one of the first is a restore.
            if mine and (chance.random() < 0.4 or not restored):
                restored = True
                await self._restore(f"{name}-r{turn}", chance.choice(mine), chance)
            else:
                made = await self._back_up(f"{name}-b{turn}", name, uid, source, chance)
                if made is not None:
                    mine.append(made)
                    self._snapshots.append(made)

    async def _back_up(
        self, job: str, pod: str, uid: str, source: Path, chance: random.Random
    ) -> Snapshot | None:
        tree = await asyncio.to_thread(walk, source)
        self._jobs.append((PodVolumeBackup, job))
        await self.world.backup(job, pod, uid, host=f"{CLUSTER}/{pod}")
        await self._perhaps_cancel(PodVolumeBackup, job, chance)
        status = await self._terminal(PodVolumeBackup, job)
        if status["phase"] != JobPhase.COMPLETED:
            return None
        if status.get("incomplete"):
            self.report.wrong.append(f"{job} is incomplete: {status.get('unreadablePaths')}")
        return Snapshot(job, status, tree)

    async def _restore(self, job: str, snapshot: Snapshot, chance: random.Random) -> None:
        """Into a new volume behind a gate; Completed means that it is what the snapshot was."""
        world = self.world
        pod = f"pod-{job}"
        uid = await world.pod(pod, volume=await world.claim(pod), gated=True)
        target = world.kubelet.csi(uid, world.pv(pod), mount=False)
        world.kubelet.tmpfs(target, options="size=256m")
        gate = GateContainer(world, pod, uid, restore_uid="restore-1")
        waiting = asyncio.create_task(gate.run())
        self._gates.append(gate)
        try:
            self._jobs.append((PodVolumeRestore, job))
            await world.restore(job, pod, uid, **as_restore(snapshot.status))
            await self._perhaps_cancel(PodVolumeRestore, job, chance)
            status = await self._terminal(PodVolumeRestore, job)
            if status["phase"] == JobPhase.COMPLETED:
                self._compare(job, snapshot, await asyncio.to_thread(walk, target))
                await self._opened(job, waiting)
            else:
                await self._stays_shut(f"{job} is {status['phase']}", gate, waiting)
        finally:
            self._gates.remove(gate)
            waiting.cancel()
            await asyncio.wait([waiting])
            await world.api.delete(PODS, pod, namespace=world.workloads, grace_seconds=0)
            world.kubelet.unmount(target)

    async def _opened(self, job: str, waiting: asyncio.Task[int]) -> None:
        """Its pod goes on, and not before."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                code = await waiting
        except TimeoutError:
            self.report.wrong.append(f"{job} is Completed, and its gate stays shut")
        else:
            self.report.opened += 1
            if code != 0:
                self.report.wrong.append(f"{job} is Completed, and its gate ended with {code}")

    async def _stays_shut(self, what: str, gate: GateContainer, waiting: asyncio.Task[int]) -> None:
        """Its pod is told so, and waits on: also a gate that is killed then, and looks anew.

        A job's status is written before its gate is answered, so only the gate's own word is proof.
        """
        self.report.shut += 1
        for again in (False, True):
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    while not waiting.done() and "data: FAILED: " not in gate.said():
                        await asyncio.sleep(0.1)
            except TimeoutError:
                self.report.wrong.append(f"{what}, and its gate is not told: {gate.said()[-500:]}")
                return
            # Five of its looks.
            await asyncio.wait([waiting], timeout=0.5)
            if waiting.done():
                self.report.wrong.append(f"{what}, and its gate ended with {waiting.result()}")
                return
            if not again:
                gate.kill()

    def _compare(self, job: str, snapshot: Snapshot, found: Tree) -> None:
        self.report.compared += 1
        self.report.entries += len(snapshot.tree)
        unlike = differences(snapshot.tree, found)
        self.report.wrong += [f"{job} of {snapshot.job}: {line}" for line in unlike[:10]]

    async def _perhaps_cancel(self, kind: Any, job: str, chance: random.Random) -> None:
        cancel, pause = chance.random() < 0.1, chance.uniform(0.0, 2.0)
        if cancel:
            await asyncio.sleep(pause)
            await self.world.set_spec(kind, job, {"cancel": True})

    async def _terminal(self, kind: Any, job: str) -> dict[str, Any]:
        while True:
            status = await self.world.status(kind, job)
            if status.get("phase") and JobPhase(status["phase"]).terminal:
                return status
            await asyncio.sleep(0.3)

    # --- the end --------------------------------------------------------------------------------

    async def judge(self) -> None:
        """What must hold, whatever has happened."""
        wrong = self.report.wrong
        for kind, job in self._jobs:
            status = await self.world.status(kind, job)
            phase = status.get("phase", "New")
            self.report.phases[f"{kind.KIND} {phase}"] += 1
            for condition in status.get("conditions") or []:
                self.report.attempts[condition["reason"]] += 1
            if not JobPhase(phase).terminal:
                wrong.append(f"{job} is {phase}: {status.get('message')}")
            elif phase != JobPhase.COMPLETED:
                self.report.reasons[status.get("reason", "?")] += 1
                if status.get("reason") not in ALLOWED:
                    wrong.append(f"{job} {phase}: {status.get('reason')}: {status.get('message')}")
        if self.agent.unasked:
            wrong.append(f"the agent ended by itself with {self.agent.unasked}")
        left = [line for line in _command_lines() if str(self.path) in line]
        wrong += [f"still running: {line[:200]}" for line in left]
        wrong += [f"left in scratch: {name}" for name in os.listdir(self.world.config.scratch_dir)]
        for lock in await list_locks(self.store, self.current.directory):
            wrong.append(f"lock left behind: {lock.id[:8]} of {lock.owner}")
        log = (self.path / "agent.log").read_text(errors="replace")
        for word in ("Traceback", "job.crashed", "job.task_failed", "look_failed"):
            if word in log:
                wrong.append(f"the agent's log holds {log.count(word)} times {word!r}")
        await self._check_snapshots()
        await self.store.close()

    async def _check_snapshots(self) -> None:
        """Every snapshot that a Completed job names, read without the agent and its proxy."""
        async with open_repository(
            store=self.store,
            directory=self.current.directory,
            password=self.password,
            key_id=self.current.key_id,
            access=Access.READ_ONLY,
            owner=LockOwner(CLUSTER, "test", "now", "judge"),
            cache_dir=self.path / "judge",
            scratch_dir=self.path / "scratch",
        ) as restic:
            check = await restic.check(read_data_subset="100%")
            self.report.wrong += [f"restic check: {line}" for line in check.messages]
            if not check.ok:
                self.report.wrong.append("restic check is not clean")
            for snapshot in self._snapshots:
                target = Path(tempfile.mkdtemp(dir=self.path))
                await restic.restore(
                    RestoreRequest(snapshot_id=snapshot.status["snapshotID"], target=target)
                )
                found = await asyncio.to_thread(walk, target)
                # The root's own metadata is kept beside the snapshot, and checked by the restores.
                found[b"."] = snapshot.tree[b"."]
                self._compare("plain restic", snapshot, found)
                shutil.rmtree(target)


def _slowness() -> float:
    """Where others work as well everything takes longer, and more of it would only be killed."""
    return max(1.0, os.getloadavg()[0] / (2 * (os.cpu_count() or 1)))


def _calm(_method: str, _path: str) -> Fault | None:
    """No fault, and a little of what a real network takes: else nothing is ever under way."""
    return Fault(delay=0.03)


def _change(volume: Path, chance: random.Random) -> None:
    """Some files come, some change, some go."""
    for _ in range(chance.randrange(2, _FILES)):
        path = volume / f"d{chance.randrange(5)}" / f"file-{chance.randrange(_FILES)}"
        path.parent.mkdir(exist_ok=True)
        choice = chance.random()
        if choice < 0.2:
            path.unlink(missing_ok=True)
        elif choice < 0.3 and not path.exists() and not path.is_symlink():
            path.symlink_to(f"../nowhere-{chance.randrange(9)}")
        else:
            if path.is_symlink():
                path.unlink()
            path.write_bytes(chance.randbytes(int(10 ** chance.uniform(0, 6))))
            path.chmod(chance.choice((0o600, 0o644, 0o4755)))
            os.chown(path, chance.randrange(3000), chance.randrange(3000))
    if chance.random() < 0.5:
        (volume / "large").write_bytes(chance.randbytes(chance.randrange(4, 24) << 20))
    os.chown(volume, 1000, chance.randrange(3000))


def _command_lines() -> list[str]:
    """Of every process that an agent could have left."""
    found = []
    for pid in processes():
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("latin-1")
            if ("restic" in line or "wait.py" in line) and pid != os.getpid():
                found.append(line)
    return found


def _resident(pid: int | None) -> int:
    """Resident KiB of a process."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return 0


@contextlib.asynccontextmanager
async def _bench() -> AsyncIterator[tuple[ControlPlane, Azurite, Path]]:
    os.environ[VARIABLE] = str(toolchain.ensure())
    path = Path(tempfile.mkdtemp(prefix="ararat-torture-"))
    # On disk: what half an hour stores is more than the server keeps in memory.
    with serving_our_kinds() as plane, Azurite() as azurite:
        yield plane, azurite, path


async def _main(seed: int, minutes: float) -> int:
    print(f"seed {seed}; the same again: make torture SEED={seed} MINUTES={minutes:g}", flush=True)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    async with _bench() as (plane, azurite, path):
        torture = Torture(seed=seed, seconds=minutes * 60, plane=plane, azurite=azurite, path=path)
        report = await torture.run()
    print("\n".join(report.lines()))
    if report.wrong:
        print(f"seed {seed} failed; the agent's log is {path / 'agent.log'}")
        return 1
    shutil.rmtree(path)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    started = int(time.time())
    sys.exit(
        asyncio.run(_main(started if arguments.seed is None else arguments.seed, arguments.minutes))
    )
