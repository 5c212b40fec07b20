"""What restic takes of its node: the agent's program, the real restic, and a small disk.

Decision: the cache directory is a tmpfs. Volumes hold links to nowhere with long random targets:
restic keeps those in its trees, and its trees in its cache.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from agent.cache import free_bytes
from ararat.api import PodVolumeBackup
from ararat.restic.launch import IO_PRIORITIES
from tests.cluster.apiserver import ControlPlane
from tests.cluster.process import free_port
from tests.component.agent.program import Program
from tests.component.agent.real import another_repository, claimed
from tests.component.agent.world import CLUSTER, World
from tests.component.restic.test_priorities import io_priority

pytestmark = pytest.mark.timeout(240)
MIB = 1 << 20
_DISK, _RESERVE, _LIMIT = 64 * MIB, 16 * MIB, MIB
#: Caches of which one fits below the limit, and two do not.
_LINKS, _TARGET = 400, 4000
_NICENESS = 2


@dataclass(frozen=True)
class Volume:
    name: str
    pod_uid: str
    path: Path
    repository: dict[str, Any]
    #: The repository's id, which is the name of its cache.
    cache: str


class Node:
    """Volumes that each have a repository of their own, and agents on one disk."""

    def __init__(self, world: World, plane: ControlPlane) -> None:
        self.world = world
        self.log = world.path / "agent.log"
        self.cache = world.config.cache_dir
        self._plane = plane
        self._agents = 0
        self._port = 0

    @asynccontextmanager
    async def agent(self, *, reserve: int = 0) -> AsyncIterator[Program]:
        """The agent of a new pod."""
        self._agents += 1
        config = replace(self.world.config, pod_uid=f"pod-{self._agents}-of-{self.world.node}")
        self._port = free_port("127.0.0.1")
        settings = {
            "ARARAT_PORT": str(self._port),
            "ARARAT_CACHE_LIMIT_MIB": str(_LIMIT // MIB),
            "ARARAT_MINIMUM_FREE_MIB": str(reserve // MIB),
            "ARARAT_NICENESS": str(_NICENESS),
            "ARARAT_IO_PRIORITY": "low",
        }
        kubeconfig = self._plane.kubeconfig
        program = Program(config, kubeconfig=kubeconfig, log=self.log, settings=settings)
        await program.start()
        try:
            yield program
        finally:
            await program.end(signal.SIGTERM)

    async def volume(self, name: str) -> Volume:
        uid, path = await claimed(self.world, name)
        for number in range(_LINKS):
            (path / f"link-{number}").symlink_to(secrets.token_hex(_TARGET // 2))
        return Volume(name, uid, path, *await another_repository(self.world, name))

    async def job(self, job: str, volume: Volume) -> None:
        host = f"{CLUSTER}/{volume.name}"
        await self.world.backup(
            job, volume.name, volume.pod_uid, repository=volume.repository, host=host
        )

    async def ended(self, job: str) -> dict[str, Any]:
        return await self.world.until(PodVolumeBackup, job, "Completed", seconds=90)

    async def back_up(self, job: str, volume: Volume) -> dict[str, Any]:
        await self.job(job, volume)
        return await self.ended(job)

    def kept(self) -> dict[str, int]:
        """Bytes of each repository's cache."""
        found = {}
        for entry in self.cache.iterdir():
            if len(entry.name) == 64:
                with contextlib.suppress(FileNotFoundError):  # it goes at this moment
                    files = [path for path in entry.rglob("*") if path.is_file()]
                    found[entry.name] = sum(path.stat().st_blocks * 512 for path in files)
        return found

    def used_at(self, volume: Volume) -> float:
        return (self.cache / volume.cache).stat().st_mtime

    def files(self, volume: Volume) -> dict[Path, int]:
        """What there is in its cache: the very files."""
        return {
            path: path.stat().st_ino
            for path in (self.cache / volume.cache).rglob("*")
            if path.is_file()
        }

    async def measured(self) -> float:
        """Bytes of all caches, as the agent has last measured them."""
        text = (await self.says("metrics"))[1]
        lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
        return float(lines["ararat_agent_cache_bytes"])

    async def says(self, path: str) -> tuple[int, str]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self._port}/{path}") as response,
        ):
            return response.status, await response.text()

    def fill(self, free: int) -> None:
        """Something else on the disk, which leaves so much room."""
        other = self.cache / "other"
        other.unlink(missing_ok=True)
        with other.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free_bytes(self.cache) - free)


async def eventually(look: Callable[[], bool], *, what: Callable[[], object]) -> None:
    try:
        async with asyncio.timeout(60):
            while not look():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within 60 s: {what()}") from None


@pytest.fixture
async def node(real_world: World, control_plane: ControlPlane) -> Node:
    cache = real_world.config.cache_dir
    cache.mkdir()
    real_world.kubelet.tmpfs(cache, options=f"size={_DISK}")
    return Node(real_world, control_plane)


async def test_caches_are_bounded_and_outlive_the_pod(node: Node) -> None:
    first, second, third = [await node.volume(name) for name in ("one", "two", "three")]
    async with node.agent() as agent:
        await node.back_up("first", first)
        size = node.kept()[first.cache]
        assert _LIMIT / 2 < size < _LIMIT, "this test is about caches of another size"
        await node.back_up("second", second)
        # The one that nobody has used for longer.
        await eventually(lambda: node.kept().keys() == {second.cache}, what=node.kept)
        # Long to read for restic; nothing of it is kept.
        with (second.path / "long").open("wb") as file:
            file.truncate(512 * MIB)
        unused = node.used_at(second)
        await node.job("reads", second)
        restic = await _reading(agent, lambda: node.used_at(second) != unused)
        os.kill(restic, signal.SIGSTOP)
        try:
            assert agent.pid is not None
            own = os.getpriority(os.PRIO_PROCESS, agent.pid)
            assert os.getpriority(os.PRIO_PROCESS, restic) == min(19, own + _NICENESS)
            assert io_priority(restic) == IO_PRIORITIES["low"]
            await node.back_up("third", third)
            async with asyncio.timeout(60):  # until the agent has measured both
                while await node.measured() <= _LIMIT:
                    await asyncio.sleep(0.2)
            assert node.kept().keys() == {second.cache, third.cache}, "one was in use"
        finally:
            os.kill(restic, signal.SIGCONT)
        await node.ended("reads")
        # Nothing is lost with a cache.
        status = await node.back_up("again", first)
        assert status["summary"]["filesTotal"] == 0
        assert status["summary"]["bytesStored"] < size / 10, "what was stored was stored again"
        await eventually(lambda: node.kept().keys() == {first.cache}, what=node.kept)
    before = node.files(first)
    async with node.agent():
        await node.back_up("anew", first)
    assert before.items() <= node.files(first).items()


async def _reading(agent: Program, opened: Callable[[], bool]) -> int:
    """The restic that backs up, once it has opened its repository's cache."""
    found: list[int] = []

    def look() -> bool:
        for pid in agent.children():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if b"backup" in words:
                    found.append(pid)
        return bool(found) and opened()

    await eventually(look, what=agent.children)
    return found[-1]


async def test_a_disk_that_runs_full(node: Node) -> None:
    """First without caches, then without jobs; and what caches take is given back before that."""
    one = await node.volume("one")
    async with node.agent(reserve=_RESERVE):
        await node.back_up("roomy", one)
        assert one.cache in node.kept()
        node.fill(2 * _RESERVE - MIB)
        await eventually(lambda: not node.kept(), what=node.kept)
        await node.back_up("tight", one)
        assert not node.kept()
        node.fill(_RESERVE - MIB)
        await node.job("waits", one)
        status = await node.world.until(
            PodVolumeBackup, "waits", lambda s: bool(s.get("message")), seconds=60
        )
        assert status.get("phase", "New") == "New"
        assert "keeps 16.0 MiB free: no new job starts there" in status["message"]
        assert await node.says("readyz") == (503, f"{status['message']}\n")
        node.fill(2 * _RESERVE + MIB)
        await node.ended("waits")
        # The room that is missing is what the agent itself has taken: it does not wait for others.
        assert one.cache in node.kept()
        node.fill(_RESERVE - MIB // 4)
        await node.back_up("last", one)
        assert not node.kept()
