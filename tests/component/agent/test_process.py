"""The agent as its container runs it: a process of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ararat.api import PodVolumeBackup
from tests.cluster.apiserver import ControlPlane
from tests.component.agent.real import claimed
from tests.component.agent.world import World

pytestmark = pytest.mark.timeout(180)
MIB = 1024

#: The images have no rich, which structlog would import for the terminal's sake.
PROGRAM = (
    "import sys; sys.modules['rich'] = None; from agent.__main__ import main; sys.exit(main())"
)


@asynccontextmanager
async def process(world: World, plane: ControlPlane) -> AsyncIterator[asyncio.subprocess.Process]:
    config = world.config
    log = world.path / "agent.log"
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        stderr=log.open("wb"),
        env={
            **os.environ,
            "KUBECONFIG": str(plane.kubeconfig),
            "NODE_NAME": config.node,
            "POD_NAME": config.pod_name,
            "POD_UID": config.pod_uid,
            "ARARAT_NAMESPACE": config.namespace,
            "ARARAT_KUBELET_DIR": str(config.kubelet_dir),
            "ARARAT_CACHE_DIR": str(config.cache_dir),
            "ARARAT_SCRATCH_DIR": str(config.scratch_dir),
            "ARARAT_PORT": "0",
            "ARARAT_MINIMUM_FREE_MIB": "0",
            "PYTHONUNBUFFERED": "1",
            "MALLOC_ARENA_MAX": "2",
            "MALLOC_MMAP_THRESHOLD_": "1048576",
        },
    )
    try:
        async with asyncio.timeout(90):
            while "agent.started" not in log.read_text():
                await asyncio.sleep(0.1)
        yield started
    finally:
        started.terminate()
        assert await asyncio.wait_for(started.wait(), 60) == 0


def figures(pid: int) -> tuple[int, float]:
    """Resident KiB, and seconds of CPU so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    return int(resident.split()[1]), (int(stat[11]) + int(stat[12])) / ticks


async def test_an_idle_agent_costs_little(real_world: World, control_plane: ControlPlane):
    """About 59 MiB and next to no CPU, before its first job and after it."""
    world = real_world
    async with process(world, control_plane) as agent:
        uid, source = await claimed(world, "db-0")
        (source / "file").write_bytes(b"x")
        await asyncio.sleep(2)
        before, _ = figures(agent.pid)
        await world.backup("b1", "db-0", uid)
        await world.until(PodVolumeBackup, "b1", "Completed", seconds=90)
        await asyncio.sleep(1)
        after, used = figures(agent.pid)
        await asyncio.sleep(10)
        _, later = figures(agent.pid)
    print(f"resident: {before / MIB:.1f} MiB idle, {after / MIB:.1f} MiB after a job")
    print(f"CPU: {(later - used) * 100:.1f} ms per second")
    # 59 were measured. What is refused is a library that somebody imports for all.
    assert before < 70 * MIB
    assert after < 76 * MIB
    assert later - used < 0.5
