"""Leader election on a real Lease, with short times and a network that fails.

The times are a fifth of the real ones. How soon things happen is for tests in virtual time: here it
is the order that counts.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ararat.errors import Damaged
from ararat.kube import ApiConflict, Elector, KubeClient, connect
from ararat.kube.resources import LEASES
from tests.cluster.apiserver import ControlPlane

from .candidate import Manner
from .proxy import Proxy, answer, drop

LEASE, RENEW, RETRY = 3.0, 2.0, 0.4
DEFAULT = Manner()


def clock() -> float:
    return asyncio.get_running_loop().time()


class Candidate:
    """An elector with its own network, and a body that notes when it runs."""

    def __init__(self, api: KubeClient, proxy: Proxy, namespace: str, identity: str) -> None:
        self.proxy = proxy
        self.runs: list[list[float]] = []
        self.crash = asyncio.Event()
        self.aborted = False
        self._settings: dict[str, Any] = {
            "namespace": namespace,
            "name": "controller",
            "identity": identity,
            "retry": RETRY,
            "abort": self._abort,
        }
        self._api = api
        self.elector = Elector(api, lease=LEASE, renew=RENEW, **self._settings)

    def be_patient(self) -> None:
        """Times that no machine is too slow for, where only the number of failures counts."""
        self.elector = Elector(self._api, lease=5 * LEASE, renew=5 * RENEW, **self._settings)

    def _abort(self) -> None:
        self.aborted = True

    @property
    def active(self) -> bool:
        return bool(self.runs) and len(self.runs[-1]) == 1

    async def body(self) -> None:
        self.runs.append([clock()])
        try:
            await self.crash.wait()
            raise Damaged("on purpose")
        finally:
            self.runs[-1].append(clock())

    async def run(self) -> None:
        await self.elector.run(self.body)


@pytest.fixture
async def candidates(
    plane: ControlPlane, namespace: str, tmp_path: Path
) -> AsyncIterator[list[Candidate]]:
    async with AsyncExitStack() as stack:
        made = []
        for identity in ("one", "two"):
            place = tmp_path / identity
            place.mkdir()
            proxy = await stack.enter_async_context(Proxy(plane.kubeconfig, place))
            api = await stack.enter_async_context(connect(proxy.kubeconfig, timeout=5))
            made.append(Candidate(api, proxy, namespace, identity))
        yield made


async def until_active(candidate: Candidate, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not candidate.active:
            await asyncio.sleep(0.01)


def never_both(one: Candidate, two: Candidate) -> bool:
    now = clock()
    spans = sorted([r[0], r[1] if len(r) > 1 else now] for c in (one, two) for r in c.runs)
    return all(a[1] <= b[0] for a, b in pairwise(spans))


async def test_a_partitioned_leader_stops_before_the_next_one_starts(
    candidates: list[Candidate],
):
    one, two = candidates
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one.run())]
        await until_active(one)
        tasks.append(group.create_task(two.run()))
        await asyncio.sleep(2 * LEASE)
        assert not two.active
        one.proxy.partition()
        await until_active(two)
        assert never_both(one, two)
        one.proxy.heal()
        await asyncio.sleep(2 * RETRY)
        assert not one.active  # it waits for its turn now
        # And back, by resets this time.
        two.proxy.on(".", drop)
        two.proxy.break_streams()
        await until_active(one)
        assert never_both(one, two)
        assert not one.aborted
        assert not two.aborted
        for task in tasks:
            task.cancel()


async def test_a_leader_that_dies_is_followed_when_its_lease_has_run_out(
    candidates: list[Candidate], api: KubeClient, namespace: str
):
    one, two = candidates
    await one.elector._acquire()  # and then nothing: as after SIGKILL
    start = clock()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(two.run())
        await until_active(two)
        assert clock() - start >= LEASE - 0.1
        lease = await api.get(LEASES, "controller", namespace=namespace)
        assert lease["spec"]["holderIdentity"] == "two"
        assert lease["spec"]["leaseTransitions"] == 2
        task.cancel()


async def test_a_crash_and_a_clean_end_hand_over_at_once(
    candidates: list[Candidate], api: KubeClient, namespace: str
):
    one, two = candidates
    one.be_patient()
    two.be_patient()

    async def crashing() -> None:
        with pytest.raises(Damaged):
            await one.run()

    async with asyncio.TaskGroup() as group:
        group.create_task(crashing())
        await until_active(one)
        second = group.create_task(two.run())
        await asyncio.sleep(RETRY)
        one.crash.set()
        crashed = clock()
        await until_active(two)
        assert clock() - crashed < 5 * LEASE  # when the Lease would have run out
        assert never_both(one, two)
        second.cancel()
    lease = await api.get(LEASES, "controller", namespace=namespace)
    assert lease["spec"]["holderIdentity"] == ""


async def test_a_stormy_server_does_not_cost_the_leadership(candidates: list[Candidate]):
    one, two = candidates
    one.be_patient()
    two.be_patient()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one.run())]
        await until_active(one)
        tasks.append(group.create_task(two.run()))
        for _ in range(6):
            one.proxy.on("PUT", answer(500, reason="InternalError"), times=1)
            one.proxy.on("PUT", drop, times=1)
            await asyncio.sleep(3 * RETRY)
        assert len(one.runs) == 1
        assert one.active
        assert not two.runs
        for task in tasks:
            task.cancel()


async def test_of_two_that_come_at_once_one_leads(candidates: list[Candidate]):
    one, two = candidates
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(candidate.run()) for candidate in candidates]
        await asyncio.sleep(LEASE)
        assert one.active != two.active
        assert len(one.runs) + len(two.runs) == 1
        for task in tasks:
            task.cancel()


async def test_a_lease_is_written_conditionally(
    candidates: list[Candidate], api: KubeClient, namespace: str
):
    """Two that saw the same Lease cannot both take it."""
    one, two = candidates
    await one.elector._acquire()
    seen = await api.get(LEASES, "controller", namespace=namespace)
    await api.replace(LEASES, "controller", two.elector._lease_object(seen), namespace=namespace)
    with pytest.raises(ApiConflict):
        await api.replace(
            LEASES, "controller", one.elector._lease_object(seen), namespace=namespace
        )


@asynccontextmanager
async def processes(
    plane: ControlPlane,
    namespace: str,
    file: Path,
    *,
    manner: Manner = DEFAULT,
    first: Path | None = None,
) -> AsyncIterator[dict[str, asyncio.subprocess.Process]]:
    """Candidates one, which leads, and two; ``first``: one's own way to the server."""
    running: dict[str, asyncio.subprocess.Process] = {}
    try:
        for identity in ("one", "two"):
            way = first if first is not None and identity == "one" else plane.kubeconfig
            running[identity] = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.component.kube.candidate",
                *(str(way), namespace, identity, str(file), json.dumps(asdict(manner))),
                cwd=Path(__file__).parents[3],
            )
            async with asyncio.timeout(60):
                while not file.with_suffix(f".{identity}").exists():
                    await asyncio.sleep(0.05)
            await until_written(file, "one")
        await asyncio.sleep(manner.lease)  # the second one takes a while to look
        yield running
    finally:
        for process in running.values():
            if process.returncode is None:
                process.kill()
            await process.wait()


def written(file: Path) -> list[tuple[str, float]]:
    if not file.exists():
        return []
    lines = file.read_text().splitlines(keepends=True)
    pairs = [line.split() for line in lines if line.endswith("\n")]
    return [(identity, float(moment)) for identity, moment in pairs]


async def until_written(file: Path, identity: str, after: float = 0) -> float:
    """When ``identity`` first wrote after that time."""
    async with asyncio.timeout(60):
        while True:
            for who, moment in written(file):
                if who == identity and moment > after:
                    return moment
            await asyncio.sleep(0.05)


async def test_a_killed_process_is_followed(plane: ControlPlane, namespace: str, tmp_path: Path):
    file = tmp_path / "written"
    async with processes(plane, namespace, file) as running:
        running["one"].kill()
        killed = time.monotonic()
        await until_written(file, "two")  # how soon: in virtual time, in the unit tests
    assert {who for who, moment in written(file) if moment > killed} == {"two"}


async def test_a_frozen_process_does_not_go_on_when_it_thaws(
    plane: ControlPlane, namespace: str, tmp_path: Path
):
    file = tmp_path / "written"
    async with processes(plane, namespace, file) as running:
        running["one"].send_signal(signal.SIGSTOP)
        taken = await until_written(file, "two")
        await asyncio.sleep(1)
        running["one"].send_signal(signal.SIGCONT)
        await asyncio.sleep(2)
        late = [moment for who, moment in written(file) if who == "one" and moment > taken]
        # Its loop may run for a moment before the thread sees how late it is.
        assert len(late) <= 10
        # Terminated politely, the leader hands over at once.
        running["two"].send_signal(signal.SIGINT)
        asked = time.monotonic()
        await until_written(file, "one", after=asked)
        assert await running["two"].wait() != 70


async def test_a_loop_that_stands_still_costs_a_plain_elector_its_lease(
    plane: ControlPlane, namespace: str, tmp_path: Path
):
    file = tmp_path / "written"
    async with processes(plane, namespace, file, manner=Manner("plain", still=60)) as running:
        running["one"].send_signal(signal.SIGUSR1)
        await until_written(file, "two")


async def test_a_loop_that_stands_still_costs_a_steady_one_nothing(
    plane: ControlPlane, namespace: str, tmp_path: Path
):
    file, manner = tmp_path / "written", Manner(lease=6, still=9)
    async with processes(plane, namespace, file, manner=manner) as running:
        running["one"].send_signal(signal.SIGUSR1)
        stood = time.monotonic()
        await until_written(file, "one", after=stood + manner.still - 0.5)
        moments = [moment for who, moment in written(file) if who == "one"]
        assert max(b - a for a, b in pairwise(moments)) > manner.lease  # it did stand still
        assert len(moments) == len(written(file))  # and nobody else took over


@pytest.mark.parametrize("cause", ["partition", "stall"])
async def test_a_loop_that_stands_still_and_must_not_go_on_is_ended(
    plane: ControlPlane, namespace: str, tmp_path: Path, cause: str
):
    """Its Lease runs out meanwhile, or it has been still for too long to be believed in."""
    file = tmp_path / "written"
    manner = Manner(stall=2 if cause == "stall" else 60, still=90)
    async with (
        Proxy(plane.kubeconfig, tmp_path) as proxy,
        processes(plane, namespace, file, manner=manner, first=proxy.kubeconfig) as running,
    ):
        running["one"].send_signal(signal.SIGUSR1)
        if cause == "partition":
            proxy.partition()
        async with asyncio.timeout(60):
            assert await running["one"].wait() == 70
        taken = await until_written(file, "two")
        assert max(moment for who, moment in written(file) if who == "one") < taken
