"""The agent as its own process, with the chart's capabilities and each of them missing once.

Every capability that the chart names must be needed: without it a restore is not what it was, or
says that it failed.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from ararat.api import PodVolumeBackup, PodVolumeRestore
from tests.cluster.apiserver import ControlPlane
from tests.component.agent.real import as_restore, claimed, locks
from tests.component.agent.walker import differences, every_kind_of_file, walk
from tests.component.agent.world import World

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("restic")]

CHART = Path(__file__).parents[3] / "charts/ararat/templates/agent-daemonset.yaml"


@pytest.fixture
def world(real_world: World) -> World:
    return real_world


def chart_capabilities() -> list[str]:
    found = re.search(r"add: (\[.*\])", CHART.read_text())
    assert found is not None
    return [str(name) for name in yaml.safe_load(found[1])]


@asynccontextmanager
async def confined_agent(
    world: World, control_plane: ControlPlane, capabilities: list[str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """``python -m agent`` as root with these capabilities only, as a container would have it."""
    bounded = "-all" + "".join(f",+{name.lower()}" for name in capabilities)
    environment = {
        "PATH": os.environ["PATH"],
        "KUBECONFIG": str(control_plane.kubeconfig),
        "ARARAT_RESTIC": os.environ["ARARAT_RESTIC"],
        "NODE_NAME": world.node,
        "POD_NAME": world.config.pod_name,
        "POD_UID": world.config.pod_uid,
        "ARARAT_NAMESPACE": world.namespace,
        "ARARAT_KUBELET_DIR": str(world.kubelet.root),
        "ARARAT_CACHE_DIR": str(world.config.cache_dir),
        "ARARAT_SCRATCH_DIR": str(world.config.scratch_dir),
        "ARARAT_PORT": "0",
        "ARARAT_RETRY_SECONDS": "1",
        "ARARAT_MINIMUM_FREE_MIB": "0",
    }
    log = (world.path / "agent.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        "setpriv", f"--bounding-set={bounded}", "--inh-caps=-all", "--no-new-privs",
        sys.executable, "-m", "agent",
        env=environment, cwd=Path(__file__).parents[3], stdout=log, stderr=log,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 60)
        log.close()


async def round_trip(world: World, control_plane: ControlPlane, names: list[str]) -> list[str]:
    """What a backup and a restore by such an agent do not bring back."""
    uid, source = await claimed(world, "db-0")
    every_kind_of_file(source)
    closed = source / "closed"
    closed.mkdir()
    (closed / "file").write_text("in a directory that only its owner may enter")
    os.chown(closed / "file", 1000, 1000)
    os.chown(closed, 1000, 1000)
    closed.chmod(0o700)
    os.utime(source, ns=(1, 1_300_000_000_000_000_009))
    before = walk(source)
    async with confined_agent(world, control_plane, names):
        await world.backup("b1", "db-0", uid)
        backup = await world.until(PodVolumeBackup, "b1", _ended, seconds=60)
        if backup["phase"] != "Completed" or backup.get("incomplete"):
            return [f"backup: {backup.get('message')}"]
        target_uid, target = await claimed(world, "db-1", gated=True)
        await world.restore("r1", "db-1", target_uid, **as_restore(backup))
        restore = await world.until(PodVolumeRestore, "r1", _ended, seconds=60)
    found = differences(before, walk(target))
    if restore["phase"] != "Completed":
        found.append(f"restore: {restore.get('message')}")
    return found


def _ended(status: dict[str, object]) -> bool:
    return status.get("phase") in ("Completed", "Failed")


async def test_the_charts_capabilities_are_enough(world: World, control_plane: ControlPlane):
    log = world.path / "agent.log"
    assert await round_trip(world, control_plane, chart_capabilities()) == [], log.read_text()
    assert locks(world) == []


@pytest.mark.parametrize("missing", chart_capabilities())
async def test_each_of_them_is_needed(world: World, control_plane: ControlPlane, missing: str):
    names = [name for name in chart_capabilities() if name != missing]
    found = await round_trip(world, control_plane, names)
    print(missing, *found[:5], sep="\n  ")
    assert found, f"nothing is lost without {missing}: the chart need not add it"


async def test_sigterm_ends_it_with_nothing_left(world: World, control_plane: ControlPlane):
    async with confined_agent(world, control_plane, chart_capabilities()) as process:
        log = world.path / "agent.log"
        while b"agent.started" not in log.read_bytes():
            await asyncio.sleep(0.1)
        print(re.findall(r"VmRSS:.*", Path(f"/proc/{process.pid}/status").read_text()))
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0
    assert b'"event": "agent.stopped"' in log.read_bytes()
