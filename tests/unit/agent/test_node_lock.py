"""Whoever holds the node's lock, and that a dead process holds nothing."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from agent.config import AgentConfig
from agent.node_lock import NodeLock

_HOLDER = """
import sys, time, fcntl
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""


def config(path: Path, pod: str) -> AgentConfig:
    return AgentConfig(
        node="n1", namespace="ararat", pod_name=pod, pod_uid=pod, kubelet_dir=path,
        cache_dir=path, scratch_dir=path,
    )  # fmt: skip


async def waits(lock: NodeLock) -> asyncio.Task[None]:
    task = asyncio.create_task(lock.acquire())
    async with asyncio.timeout(30):
        while lock.trouble is None:
            await asyncio.sleep(0.01)
    assert not task.done()
    return task


async def test_the_second_says_whom_it_waits_for(tmp_path: Path):
    first, second = (NodeLock(config(tmp_path, pod)) for pod in ("one", "two"))
    await first.acquire()
    assert first.trouble is None
    waiting = await waits(second)
    assert "node n1 (pod one)" in (second.trouble or "")
    first.release()
    await asyncio.wait_for(waiting, 30)
    assert second.trouble is None
    second.release()


async def test_another_installation_is_no_hindrance(tmp_path: Path):
    here = config(tmp_path, "one")
    for namespace in ("ararat", "other"):
        await asyncio.wait_for(NodeLock(replace(here, namespace=namespace)).acquire(), 30)


async def test_a_killed_process_holds_nothing(tmp_path: Path):
    lock = NodeLock(config(tmp_path, "two"))
    path = tmp_path / "agent-ararat.lock"
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        waiting = await waits(lock)
        holder.send_signal(signal.SIGKILL)
        await asyncio.wait_for(waiting, 30)
    lock.release()


async def test_a_directory_that_cannot_be_used_is_named_and_waited_for(tmp_path: Path):
    missing = tmp_path / "missing"
    lock = NodeLock(config(missing, "one"))
    waiting = await waits(lock)
    assert str(missing) in (lock.trouble or "")
    missing.mkdir()
    await asyncio.wait_for(waiting, 30)
    lock.release()
