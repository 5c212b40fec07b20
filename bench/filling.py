"""A volume filled by an agent beside bare ``restic restore``: ``python -m bench.filling --help``.

Problem: what a restore costs beyond restic itself: the proof of the mount, the REST server, the
check of what came back, the flush to disk, the gate.
Decision: a real agent (in this process), the real API server and restic, a volume that is a mount,
a directory as store. Ours is timed from the creation of the node job to the end of the gate's own
process. The other is ``restic restore`` of the same snapshot with restic's defaults, once as it is
and once with ``sync -f`` after it: ours answers the gate only when the data is on disk. Rounds
alternate, and what is reported is their median. Processor time is told beside it (the agent's, the
gate's and restic's together): on a busy machine that is the number to believe.
Limits: no kubelet is there, so what a kubelet needs to start the next container is not in the
numbers (``history.timeline`` of the tests on a cluster shows it); the page cache is not dropped.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from ararat.api import PodVolumeBackup, PodVolumeRestore
from ararat.kube import connect
from ararat.kube.resources import SECRETS
from ararat.restic.version import VARIABLE
from bench.agent import gate_process
from bench.volumes import Cell, fill, shape
from tests.cluster.toolchain import restic as toolchain
from tests.component.agent.real import as_restore, claimed, prepare_real
from tests.component.agent.world import World
from tests.component.our_kinds import serving_our_kinds

_PATIENCE = 3600.0
#: Seconds that ours may take beside the ratio.
_GRACE = 1.0


@dataclass(frozen=True)
class Taken:
    seconds: float
    cpu: float


class Clock:
    """Seconds, and those of all processors in this process and the children it has waited for."""

    def __init__(self) -> None:
        self._began, self._cpu = time.monotonic(), sum(os.times()[:4])

    def taken(self) -> Taken:
        return Taken(time.monotonic() - self._began, sum(os.times()[:4]) - self._cpu)


async def ours(world: World, name: str, status: dict[str, Any]) -> Taken:
    """From a job's creation to the end of the gate."""
    uid, volume = await claimed(world, name, gated=True)
    waiting = gate_process(world.kubelet.gate(uid), "restore-1")
    assert waiting.stdout is not None
    await asyncio.to_thread(waiting.stdout.readline)
    clock = Clock()
    await world.restore(name, name, uid, **as_restore(status))
    await asyncio.to_thread(waiting.communicate)
    taken = clock.taken()
    assert waiting.returncode == 0
    await world.until(PodVolumeRestore, name, "Completed", seconds=_PATIENCE)
    shutil.rmtree(volume / "files")
    return taken


async def bare(restic: Path, world: World, snapshot: str, *, flush: bool) -> Taken:
    secret = await world.api.get(SECRETS, "password", namespace=world.namespace)
    target = Path(tempfile.mkdtemp(dir=world.path))
    environment = {
        "PATH": os.environ["PATH"],
        "RESTIC_REPOSITORY": str(world.location_path / world.repository["directory"]),
        "RESTIC_PASSWORD": base64.b64decode(secret["data"]["password"]).decode(),
        "RESTIC_CACHE_DIR": str(world.path / "bare-cache"),
    }
    words: list[list[str]] = [[str(restic), "restore", snapshot, "--target", str(target)]]
    words += [["sync", "-f", str(target)]] if flush else []
    clock = Clock()
    for command in words:
        child = await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=asyncio.subprocess.DEVNULL
        )
        assert await child.wait() == 0
    taken = clock.taken()
    shutil.rmtree(target)
    return taken


async def measure(world: World, cell: Cell, scale: float, rounds: int) -> dict[str, Any]:
    restic = toolchain.ensure()
    uid, volume = await claimed(world, f"source-{cell}")
    await asyncio.to_thread(fill, volume / "files", cell, scale)
    await world.backup(f"kept-{cell}", f"source-{cell}", uid, host=f"bench/{cell}")
    status = await world.until(PodVolumeBackup, f"kept-{cell}", "Completed", seconds=_PATIENCE)
    shutil.rmtree(volume / "files")
    found: dict[str, list[Taken]] = {"ours": [], "bare": [], "bare, flushed": []}
    for number in range(rounds):
        turns = list(found)
        for turn in turns if number % 2 == 0 else reversed(turns):
            if turn == "ours":
                taken = await ours(world, f"r-{cell}-{number}", status)
            else:
                taken = await bare(restic, world, status["snapshotID"], flush="flushed" in turn)
            found[turn].append(taken)
            told = f"{turn} {taken.seconds:.2f} s, processors {taken.cpu:.2f} s"
            print(f"{shape(cell, scale).text}: round {number}: {told}", flush=True)
    seconds = {turn: [one.seconds for one in values] for turn, values in found.items()}
    cpu = {turn: [one.cpu for one in values] for turn, values in found.items()}
    middle = {turn: statistics.median(values) for turn, values in seconds.items()}
    result: dict[str, Any] = {
        "volume": shape(cell, scale).text,
        "seconds": seconds,
        "processor seconds": cpu,
        "ratio of processor time to bare": round(
            statistics.median(cpu["ours"]) / statistics.median(cpu["bare"]), 2
        ),
    }
    for turn in ("bare", "bare, flushed"):
        result[f"ratio to {turn}"] = round((middle["ours"] - _GRACE) / middle[turn], 2)
    return result


async def run(cells: list[Cell], *, scale: float, rounds: int) -> dict[str, Any]:
    os.environ[VARIABLE] = str(toolchain.ensure())
    path = Path(tempfile.mkdtemp(prefix="bench-filling-"))
    result: dict[str, Any] = {"load": round(os.getloadavg()[0], 1), "scale": scale, "volumes": []}
    with serving_our_kinds() as plane:
        async with connect(str(plane.kubeconfig)) as api:
            world = World(api, path)
            try:
                await prepare_real(world)
                async with world.agent():
                    for cell in cells:
                        result["volumes"].append(await measure(world, cell, scale, rounds))
            finally:
                world.kubelet.close()
    shutil.rmtree(path)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="1: 20,000 files, and 2 GiB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--at-most", type=float, default=1.05, help="fail above this to bare, less 1 s"
    )
    parser.add_argument("--write", type=Path, help="where to put the result as JSON")
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    cells = [Cell.SMALL_FILES, Cell.LARGE_FILES]
    result = asyncio.run(run(cells, scale=options.scale, rounds=options.rounds))
    for volume in result["volumes"]:
        for key in ("ratio to bare", "ratio to bare, flushed"):
            print(f"{volume['volume']}: {key}, less {_GRACE:g} s: {volume[key]}")
        key = "ratio of processor time to bare"
        print(f"{volume['volume']}: {key}: {volume[key]}")
    if options.write:
        options.write.write_text(json.dumps(result, indent=1) + "\n")
    worst = max(volume["ratio to bare"] for volume in result["volumes"])
    return 0 if worst <= options.at_most else 1


if __name__ == "__main__":
    sys.exit(main())
