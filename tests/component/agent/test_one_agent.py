"""Two agents on one node, as after a pod was deleted by force: one of them works."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ararat.api import PodVolumeRestore
from ararat.restic.models import RestoreRequest, RestoreResult
from tests.component.agent.engine import FakeEngine, files, for_ever
from tests.component.agent.test_restore_jobs import gated
from tests.component.agent.world import World

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("restic")]


async def test_no_second_writer_before_the_first_agent_is_gone(world: World, engine: FakeEngine):
    """The first one stands still, as one whose disk hangs; nobody can know that it is dead."""
    uid, path = await gated(world)
    writing = asyncio.Event()

    async def hang(request: RestoreRequest) -> RestoreResult:
        (path / "half").write_text("x")
        writing.set()
        result: RestoreResult = await for_ever(request)
        return result

    engine.on_restore = hang
    second = FakeEngine()
    async with world.agent(engine, pod_name="first", pod_uid="uid-of-the-first") as old:
        await world.restore("r1", "db-0", uid)
        await writing.wait()
        async with world.agent(second, pod_name="second", pod_uid="uid-of-the-second") as new:
            said: Any = None
            async with asyncio.timeout(60):
                while "Another agent" not in (said := new.agent.ready() or ""):
                    await asyncio.sleep(0.05)
            assert f"on node {world.node} (pod first)" in said
            assert second.sessions == []
            status = await world.status(PodVolumeRestore, "r1")
            assert (status["phase"], status["attempts"]) == ("InProgress", 0)
            await old.kill()
            status = await world.until(PodVolumeRestore, "r1", "Completed", seconds=60)
            assert new.agent.ready() is None
    assert status["attempts"] == 1
    assert [request.replace for request in second.restores] == [True]
    assert files(path) == ["restored"]
