"""What an agent tells of itself: metrics, log lines, health; as a process, with everything real."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

import ararat
from ararat.api import PodVolumeBackup, PodVolumeRestore
from tests.cluster.apiserver import ControlPlane
from tests.cluster.process import free_port
from tests.component.agent.real import as_restore, claimed
from tests.component.agent.world import World

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("restic")]

_SILENCE = 5
#: Every label of the agent's own metrics, and what its values come from.
_BOUNDED = {
    "kind": {"backup", "restore"},
    "phase": {"New", "Completed", "Failed", "Cancelled", "Released"},
    "reason": {""},
    "what": {"read", "added", "stored", "restored"},
    "command": {"snapshots", "backup", "restore", "ls"},
    "code": {"0"},
}


@pytest.fixture
def world(real_world: World) -> World:
    return real_world


@dataclass
class Observed:
    process: asyncio.subprocess.Process
    port: int
    log: Path

    async def ask(self, path: str, *, seconds: float = 10) -> tuple[int, str]:
        """Code and text; code 0 where no answer comes."""
        url = f"http://127.0.0.1:{self.port}{path}"
        limit = aiohttp.ClientTimeout(total=seconds)
        try:
            async with aiohttp.ClientSession(timeout=limit) as session, session.get(url) as answer:
                return answer.status, await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return 0, ""

    async def until(self, path: str, code: int, *, seconds: float = 60) -> str:
        end = time.monotonic() + seconds
        while (found := await self.ask(path))[0] != code:
            assert time.monotonic() < end, f"{path} answers {found}"
            await asyncio.sleep(0.1)
        return found[1]

    async def samples(self) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
        _, text = await self.ask("/metrics")
        found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = tuple(sorted(sample.labels.items()))
                found.setdefault(sample.name, {})[labels] = sample.value
        return found

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@asynccontextmanager
async def observed(world: World, plane: ControlPlane) -> AsyncIterator[Observed]:
    port, log = free_port("127.0.0.1"), world.path / "agent.log"
    environment = {
        **os.environ,
        "KUBECONFIG": str(plane.kubeconfig),
        "NODE_NAME": world.node,
        "POD_NAME": world.config.pod_name,
        "POD_UID": world.config.pod_uid,
        "ARARAT_NAMESPACE": world.namespace,
        "ARARAT_KUBELET_DIR": str(world.kubelet.root),
        "ARARAT_CACHE_DIR": str(world.config.cache_dir),
        "ARARAT_SCRATCH_DIR": str(world.config.scratch_dir),
        "ARARAT_PORT": str(port),
        "ARARAT_MINIMUM_FREE_MIB": "0",
        "ARARAT_SILENCE_SECONDS": str(_SILENCE),
    }
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agent", env=environment, stdout=out, stderr=out,
            cwd=Path(__file__).parents[3],
        )  # fmt: skip
    try:
        yield Observed(process, port, log)
    finally:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 60)


async def test_metrics_logs_and_health(world: World, control_plane: ControlPlane) -> None:
    uid, source = await claimed(world, "db-0")
    (source / "file").write_bytes(os.urandom(5000))
    async with observed(world, control_plane) as agent:
        await agent.until("/readyz", 200)
        await world.backup("b1", "db-0", uid)
        backup = await world.until(PodVolumeBackup, "b1", "Completed", seconds=60)
        new, _ = await claimed(world, "db-1", gated=True)
        await world.restore("r1", "db-1", new, **as_restore(backup))
        await world.until(PodVolumeRestore, "r1", "Completed", seconds=60)
        await told(world, new)
        await agent.until("/healthz", 200)
        check_metrics(await agent.samples(), world)
        check_lines(agent.lines())
        await check_health(agent, control_plane)


async def told(world: World, uid: str) -> None:
    async with asyncio.timeout(30):
        while world.kubelet.answer(uid).get("phase") != "Completed":
            await asyncio.sleep(0.05)


def check_metrics(found: dict[str, Any], world: World) -> None:
    own = {name: samples for name, samples in found.items() if name.startswith("ararat_agent_")}
    for name in (
        "jobs_total",
        "job_seconds_count",
        "bytes_total",
        "queued_jobs",
        "oldest_queued_seconds",
        "restic_exits_total",
        "unreadable_files_total",
        "cache_bytes",
        "gate_wait_seconds_count",
        "last_success_timestamp_seconds",
        "info",
        "restic_info",
    ):
        assert f"ararat_agent_{name}" in own, sorted(own)
    backup = (("kind", "backup"), ("phase", "Completed"), ("reason", ""))
    assert own["ararat_agent_jobs_total"][backup] == 1
    assert own["ararat_agent_bytes_total"][(("what", "read"),)] == 5000
    assert own["ararat_agent_bytes_total"][(("what", "restored"),)] == 5000
    assert own["ararat_agent_restic_exits_total"][(("code", "0"), ("command", "backup"))] == 1
    # Once more for what is read back.
    assert own["ararat_agent_restic_exits_total"][(("code", "0"), ("command", "restore"))] >= 1
    assert own["ararat_agent_gate_wait_seconds_count"][(("phase", "Completed"),)] == 1
    assert own["ararat_agent_info"] == {(("version", ararat.__version__),): 1}
    for kind in ("backup", "restore"):
        at = own["ararat_agent_last_success_timestamp_seconds"][(("kind", kind),)]
        assert abs(time.time() - at) < 120
    for samples in own.values():
        for labels in samples:
            for name, value in labels:
                if name not in ("le", "version"):
                    assert value in _BOUNDED[name], (name, value)


def check_lines(lines: list[dict[str, Any]]) -> None:
    """Each line that a job is the cause of says which."""
    seen = set()
    for line in lines:
        if line["event"].startswith(("agent.", "informer", "watch")):
            continue
        owner = "restore" if line.get("job") == "r1" else "backup"
        missing = {owner, "job", "namespace", "pod", "volume"} - line.keys()
        assert not missing, line
        seen.add((line["event"], line["job"]))
    for event in (("job.started", "b1"), ("job.completed", "b1"), ("gate.answered", "r1")):
        assert event in seen


async def check_health(agent: Observed, plane: ControlPlane) -> None:
    """A loop that hangs answers nothing; one without API server says so; both recover."""
    agent.process.send_signal(signal.SIGSTOP)
    assert await agent.ask("/healthz", seconds=1) == (0, "")
    agent.process.send_signal(signal.SIGCONT)
    assert await agent.until("/readyz", 200) == "ok\n"
    await asyncio.to_thread(plane.stop_apiserver)
    try:
        assert "no word from the API server for" in await agent.until("/healthz", 503)
    finally:
        await asyncio.to_thread(plane.start_apiserver)
    assert await agent.until("/healthz", 200) == "ok\n"
