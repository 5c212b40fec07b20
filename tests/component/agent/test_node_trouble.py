"""Nodes that are not as they should be: what the agent says, and that no job fails for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.cache import free_bytes
from ararat.api import PodVolumeBackup
from tests.component.agent.engine import FakeEngine
from tests.component.agent.world import World

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("restic")]


async def pod(world: World) -> str:
    volume = await world.claim("db-0")
    uid = await world.pod("db-0", volume=volume)
    world.kubelet.csi(uid, world.pv("db-0"))
    return uid


async def test_a_node_low_on_disk_starts_no_job_and_says_why(world: World, engine: FakeEngine):
    uid = await pod(world)
    async with world.agent(engine, minimum_free_bytes=1 << 60) as agent:
        await world.backup("b1", "db-0", uid)
        status = await world.until(PodVolumeBackup, "b1", lambda s: bool(s.get("message")))
        assert "no new job starts there" in status["message"]
        assert world.node in status["message"]
        assert status.get("phase", "New") == "New"
        assert "no new job starts there" in (agent.agent.ready() or "")
        assert not engine.sessions
    # Room for the job, but none for a cache to grow.
    half = free_bytes(world.config.cache_dir) * 2 // 3
    async with world.agent(engine, minimum_free_bytes=half) as agent:
        status = await world.until(PodVolumeBackup, "b1", "Completed")
        assert agent.agent.ready() is None
    assert status["attempts"] == 0
    assert engine.sessions[-1]["cache_dir"] is None
    # There is room again.
    async with world.agent(engine):
        await world.backup("b2", "db-0", uid)
        await world.until(PodVolumeBackup, "b2", "Completed")
    assert engine.sessions[-1]["cache_dir"] == world.config.cache_dir


async def test_a_kubelet_whose_directory_is_elsewhere_is_said_at_once(
    world: World, engine: FakeEngine, tmp_path: Path
):
    await pod(world)
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "pods").mkdir(parents=True)
    async with world.agent(engine, kubelet_dir=elsewhere) as wrong:
        said = await unready(wrong.agent.ready)
        assert "None of the 1 pods running" in said
        assert "agent.kubeletDir" in said
        assert wrong.metric("ararat_agent_kubelet_directory_ok") == 0
    async with world.agent(engine) as right:
        async with asyncio.timeout(30):
            while right.agent.ready() is not None:
                await asyncio.sleep(0.05)
        await right.counts("ararat_agent_kubelet_directory_ok", 1)


async def unready(ready: Callable[[], str | None]) -> str:
    async with asyncio.timeout(30):
        while "pods running" not in (said := ready() or ""):
            await asyncio.sleep(0.05)
    return said
