"""What an agent holds in memory while it works: ``python -m bench.busy [--jobs 200] [--mib 1024]``.

Problem: an agent runs for months; what each job leaves behind, and what one large volume takes,
decide whether its memory limit is ever met; and so does whether a larger volume takes more.
Decision: ``python -m agent`` as a process of its own with its image's settings, a real API server,
Azurite over TLS. First many small backups, in rounds of ten, whose finished jobs are removed as the
controller removes them; then large volumes are backed up and restored, one by one. Resident memory
is read from ``/proc`` all the while: after every round with nothing under way, and the most while
it works.
restic's own memory is not in it (docs/performance.md has that), nor are file pages of its cache.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ararat.api import PodVolumeBackup, PodVolumeRestore
from ararat.kube import connect, of
from ararat.restic.version import VARIABLE
from bench.idle import agent_process, memory
from tests.cluster.azurite import Azurite
from tests.cluster.toolchain import restic as toolchain
from tests.component.agent.real import as_restore, claimed, prepare_azure
from tests.component.agent.world import World
from tests.component.our_kinds import serving_our_kinds

_ROUND = 10
_BLOCK = 1 << 20
#: Its UID, and the directory of its volume.
Pod = tuple[str, Path]


class Watch:
    """The most that a process held since it was last asked."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._most = 0

    def now(self) -> float:
        return round(memory(self._pid)["VmRSS"] / 1024, 1)

    def most(self) -> float:
        found, self._most = self._most, 0
        return round(found / 1024, 1)

    async def run(self) -> None:
        while True:
            self._most = max(self._most, memory(self._pid)["VmRSS"])
            await asyncio.sleep(0.05)


@asynccontextmanager
async def watched(pid: int) -> AsyncIterator[Watch]:
    watch = Watch(pid)
    task = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.wait([task])


async def small(world: World, watch: Watch, count: int, pods: list[Pod]) -> list[dict[str, float]]:
    """Resident after each round and the most during it."""
    found = []
    for begin in range(0, count, _ROUND):
        names = [f"b{begin + number}" for number in range(_ROUND)]
        for number, name in enumerate(names):
            uid, source = pods[number]
            for file in range(20):
                (source / f"file-{file}").write_bytes(os.urandom(4096))
            host = f"bench/{number}"
            await world.backup(name, f"small-{number}", uid, host=host)
        for name in names:
            await world.until(PodVolumeBackup, name, "Completed", seconds=300)
        for name in names:
            await world.api.delete(of(PodVolumeBackup), name, namespace=world.namespace)
        await asyncio.sleep(1)
        found.append({"jobs": begin + _ROUND, "resident": watch.now(), "most": watch.most()})
        print(found[-1], flush=True)
    return found


async def large(world: World, watch: Watch, mib: int, pod: Pod, new_pod: Pod) -> dict[str, float]:
    name = f"large-{mib}"
    uid, source = pod
    for number in range(max(1, mib // 256)):
        with (source / f"file-{number}").open("wb") as file:
            for _ in range(min(mib, 256)):
                file.write(os.urandom(_BLOCK))
    watch.most()
    await world.backup(name, name, uid, host=f"bench/{name}")
    status = await world.until(PodVolumeBackup, name, "Completed", seconds=1800)
    found = {"mib": mib, "backup_most": watch.most()}
    await asyncio.sleep(2)
    found["backup_after"] = watch.now()
    for path in source.iterdir():
        path.unlink()
    new, target = new_pod
    watch.most()
    await world.restore(name, f"{name}-back", new, **as_restore(status))
    await world.until(PodVolumeRestore, name, "Completed", seconds=1800)
    found["restore_most"] = watch.most()
    await asyncio.sleep(2)
    found["restore_after"] = watch.now()
    for path in target.iterdir():
        path.unlink()
    print(found, flush=True)
    return found


async def measure(jobs: int, sizes: list[int], python: str) -> dict[str, Any]:
    os.environ[VARIABLE] = str(toolchain.ensure())
    path = Path(tempfile.mkdtemp(prefix="bench-busy-"))
    load = os.getloadavg()[0]
    try:
        with serving_our_kinds() as plane, Azurite() as azurite:
            async with connect(str(plane.kubeconfig)) as api:
                world = World(api, path)
                made = await prepare_azure(world, azurite)
                await made.store.close()
                # The agent sees no mount that is made after it has begun: see bench.idle.
                pods = [await claimed(world, f"small-{number}") for number in range(_ROUND)]
                larger = [
                    (
                        mib,
                        await claimed(world, f"large-{mib}"),
                        await claimed(world, f"large-{mib}-back", gated=True),
                    )
                    for mib in sizes
                ]
                try:
                    async with (
                        agent_process(world, plane, python) as process,
                        watched(process.pid) as watch,
                    ):
                        await asyncio.sleep(5)
                        idle = watch.now()
                        print(f"idle {idle}", flush=True)
                        rounds = await small(world, watch, jobs, pods)
                        result = {"load": load, "idle": idle, "small": rounds}
                        result["large"] = [await large(world, watch, *one) for one in larger]
                        return result
                finally:
                    world.kubelet.close()
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--mib", type=int, nargs="*", default=[256, 1024, 4096])
    parser.add_argument("--python", default=sys.executable, help="As for bench.idle.")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    result = asyncio.run(measure(arguments.jobs, arguments.mib, arguments.python))
    print(json.dumps(result, indent=1))
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "busy.json").write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
