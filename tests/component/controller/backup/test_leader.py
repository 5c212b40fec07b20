"""Two real controller processes: when the one that leads is killed, the other one goes on."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from ararat.api.names import CONTROLLER_LEASE
from ararat.kube.errors import ApiNotFound
from ararat.kube.resources import LEASES
from tests.cluster.apiserver import ControlPlane
from tests.cluster.process import free_port

from .test_ends import log_of
from .world import Volume, World, eventually

_ROOT = Path(__file__).parents[4]


@asynccontextmanager
async def controller(
    world: World, control_plane: ControlPlane, name: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A replica, as its pod would run it."""
    folders = {kind: world.path / name / kind.lower() for kind in ("SPOOL", "CACHE", "SCRATCH")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    environment = {
        **os.environ,
        **{f"ARARAT_{kind}_DIR": str(folder) for kind, folder in folders.items()},
        "KUBECONFIG": str(control_plane.kubeconfig),
        "ARARAT_NAMESPACE": world.namespace,
        "ARARAT_GATE_IMAGE": "agent:test",
        "ARARAT_PORT": str(free_port()),
        "POD_NAME": name,
    }
    with (world.path / f"{name}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "controller"),
            env=environment,
            stdout=log,
            stderr=log,
            cwd=_ROOT,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def leader_is(world: World, name: str) -> None:
    async def look() -> bool:
        try:
            lease = await world.api.get(LEASES, CONTROLLER_LEASE, namespace=world.namespace)
        except ApiNotFound:
            return False
        return bool(lease["spec"].get("holderIdentity") == name)

    await eventually(look, what=f"{name} leads")


async def test_the_work_of_a_leader_that_is_killed_goes_on(
    world: World, control_plane: ControlPlane
) -> None:
    held = Volume({"a": b"a"}, hold=asyncio.Event())
    assert held.hold is not None
    await world.workload_of("db", "web", db=held)
    async with world.agents() as agents, AsyncExitStack() as replicas:
        one = await replicas.enter_async_context(controller(world, control_plane, "one"))
        await leader_is(world, "one")
        await replicas.enter_async_context(controller(world, control_plane, "two"))

        async def up() -> bool:
            return b'"starting"' in (world.path / "two.log").read_bytes()

        await eventually(up, what="two is up")
        await world.backup()

        async def reading() -> bool:
            phases = sorted(job.status.phase.value for job in await world.jobs())
            return phases == ["Completed", "InProgress"]

        await eventually(reading, what="one volume is read and the other being read")
        one.kill()
        killed = time.monotonic()
        await leader_is(world, "two")
        print(f"another one led after {time.monotonic() - killed:.1f} s")
        held.hold.set()
        await world.phase("Completed")
    assert len(agents.taken) == 2  # nothing was read twice
    assert {v.pod for v in (await world.manifest()).volumes} == {"pod-db", "pod-web"}
    # What the one that was killed wrote is in the log as well.
    events = log_of(world)
    taken_over = next(n for n, event in enumerate(events) if event.startswith("taken over"))
    assert events.index("backup began") < taken_over
    assert events[:taken_over].count("node job created") == 2
    assert (events.count("backup began"), events[-1]) == (1, "backup ends")
