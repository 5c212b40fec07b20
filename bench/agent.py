"""What an agent adds to restic: ``python -m bench.agent [--volumes 100] [--output DIRECTORY]``.

Problem: a node with many small volumes spends its time around restic, not in it.
Decision: a real agent (in this process), the real API server and restic, volumes that are mounts, a
directory as store. Times are taken where a user would feel them: a job's creation is the moment its
request is sent, its end is the moment a watch shows it. Children of the agent are seen where they
are started and reaped. Against it: bare ``restic backup .`` with restic's defaults, as many at
once, on the same files in a repository of its own; both in alternating rounds.
Limits: one machine that also runs the API server, whose CPU time is not counted; a gate is the
real program, but no kubelet runs it, so what that needs to start a container is not in the numbers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from ararat import gate, process
from ararat.api import PodVolumeBackup, PodVolumeRestore
from ararat.gate import GateAnswer, GatePhase
from ararat.kube import KubeApi, connect, of
from ararat.kube.informer import Informer
from ararat.restic.version import VARIABLE
from tests.cluster.toolchain import restic as toolchain
from tests.component.agent.real import as_restore, claimed, prepare_real
from tests.component.agent.world import World
from tests.component.our_kinds import serving_our_kinds

_FILES = 20
_BYTES = 4096
_AT_ONCE = 2
_WAIT = Path(__file__).parents[1] / "agent/wait.py"
_GATES = 20
#: More than restic stores in a second.
_LARGE_MIB = 512


class Clock:
    """When children of the agent began and ended, and when jobs were seen to be over."""

    def __init__(self) -> None:
        self.started: list[float] = []
        self.reaped: list[float] = []
        self.over: dict[str, float] = {}
        spawn, reap = process._spawn, process.Child._reap

        def spawned(command: process.Command) -> subprocess.Popen[bytes]:
            self.started.append(time.monotonic())
            return spawn(command)

        def ended(child: process.Child) -> None:
            reap(child)
            self.reaped.append(time.monotonic())

        process._spawn = spawned
        process.Child._reap = ended  # type: ignore[method-assign,assignment]

    def watch(self, api: KubeApi, kind: Any, namespace: str) -> Informer:
        informer = Informer(api, of(kind), namespace=namespace)

        def changed(_: str, raw: dict[str, Any], __: dict[str, Any] | None) -> None:
            phase = (raw.get("status") or {}).get("phase")
            if phase in ("Completed", "Failed", "Cancelled"):
                self.over.setdefault(raw["metadata"]["name"], time.monotonic())

        informer.on_change(changed)
        return informer

    async def until_over(self, names: list[str]) -> float:
        while any(name not in self.over for name in names):  # noqa: ASYNC110 - the clock is ours
            await asyncio.sleep(0.005)
        return max(self.over[name] for name in names)

    def first_start(self, after: float) -> float:
        return min(moment for moment in self.started if moment >= after)

    def last_end(self, before: float) -> float:
        return max(moment for moment in self.reaped if moment <= before)


async def latencies(world: World, clock: Clock, rounds: int) -> dict[str, list[float]]:
    """One job at a time: to restic's start, from its end, and to the end of the gate."""
    found: dict[str, list[float]] = {"start": [], "end": [], "gate": []}
    uid, source = await claimed(world, "one")
    for number in range(rounds):
        fill(source, number)
        backup, restore = f"one-b{number}", f"one-r{number}"
        began = time.monotonic()
        await world.backup(backup, "one", uid)
        over = await clock.until_over([backup])
        found["start"].append(clock.first_start(began) - began)
        found["end"].append(over - clock.last_end(over))
        status = await world.status(PodVolumeBackup, backup)
        new, _ = await claimed(world, restore, gated=True)
        waiting = gate_process(world.kubelet.gate(new), "restore-1")
        assert waiting.stdout is not None
        await asyncio.to_thread(waiting.stdout.readline)
        began = time.monotonic()
        await world.restore(restore, restore, new, **as_restore(status))
        over = await clock.until_over([restore])
        found["start"].append(clock.first_start(began) - began)
        found["end"].append(over - clock.last_end(over))
        await asyncio.to_thread(waiting.communicate)
        found["gate"].append(time.monotonic() - over)
        assert waiting.returncode == 0
    return found


async def cancels(world: World, clock: Clock, rounds: int) -> dict[str, list[float]]:
    """From ``spec.cancel`` to the end of the restic that was in the middle of a volume."""
    found: list[float] = []
    uid, source = await claimed(world, "large")
    for number in range(rounds):
        name = f"cancelled-{number}"
        with (source / "file").open("wb") as file:
            for _ in range(_LARGE_MIB):
                file.write(os.urandom(1 << 20))
        before = len(clock.started)
        await world.backup(name, "large", uid)
        while len(clock.started) == before:  # noqa: ASYNC110 - the clock is ours
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await world.set_spec(PodVolumeBackup, name, {"cancel": True})
        over = await clock.until_over([name])
        assert (await world.status(PodVolumeBackup, name))["phase"] == "Cancelled"
        found.append(clock.last_end(over) - began)
    return {"cancel": found}


def gate_process(directory: Path, restore_uid: str) -> subprocess.Popen[str]:
    arguments = gate.arguments(restore="back", restore_uid=restore_uid, volumes=["data"])
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(_WAIT), *arguments, "--directory", str(directory)],
        stdout=subprocess.PIPE,
        text=True,
    )


def gates(path: Path) -> dict[str, list[float]]:
    """The gate by itself: to its first line, and from an answer to its end."""
    found: dict[str, list[float]] = {"gate's first line": [], "gate's reaction": []}
    for _ in range(_GATES):
        directory = Path(tempfile.mkdtemp(dir=path))
        began = time.monotonic()
        child = gate_process(directory, "uid")
        assert child.stdout is not None
        child.stdout.readline()
        found["gate's first line"].append(time.monotonic() - began)
        time.sleep(random.uniform(0.1, 0.3))
        answer = GateAnswer(
            restore_uid="uid", volume="data", phase=GatePhase.COMPLETED, heartbeat=time.time()
        )
        new = directory / "new"
        new.write_bytes(answer.encode())
        began = time.monotonic()
        new.rename(directory / gate.answer_file("data"))
        child.communicate()
        found["gate's reaction"].append(time.monotonic() - began)
        assert child.returncode == 0
    return found


def fill(volume: Path, seed: int) -> None:
    source = random.Random(seed)
    for number in range(_FILES):
        (volume / f"file-{number}").write_bytes(source.randbytes(_BYTES))


async def ours(world: World, clock: Clock, pods: list[tuple[str, str]], prefix: str) -> float:
    names = [f"{prefix}-{pod}" for pod, _ in pods]
    began = time.monotonic()
    for name, (pod, uid) in zip(names, pods, strict=True):
        host = f"bench/{prefix}/{pod}"
        await world.backup(name, pod, uid, host=host)
    over = await clock.until_over(names)
    for name in names:
        status = await world.status(PodVolumeBackup, name)
        assert status["phase"] == "Completed", status
    return over - began


async def bare(restic: Path, path: Path, volumes: list[Path]) -> float:
    """``restic backup .`` of each volume, as many at once as the agent runs."""
    environment = {
        "PATH": os.environ["PATH"],
        "RESTIC_REPOSITORY": str(path / "repository"),
        "RESTIC_PASSWORD": "0" * 64,
        "RESTIC_CACHE_DIR": str(path / "cache"),
    }
    free = asyncio.Semaphore(_AT_ONCE)

    async def one(volume: Path, *arguments: str) -> None:
        async with free:
            child = await asyncio.create_subprocess_exec(
                str(restic), *arguments, "--json", cwd=volume, env=environment,
                stdout=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            assert await child.wait() == 0

    await one(path, "init")
    began = time.monotonic()
    await asyncio.gather(
        *(one(volume, "backup", ".", "--host", volume.parent.name) for volume in volumes)
    )
    return time.monotonic() - began


def cpu_seconds() -> float:
    """Of this process, the agent in it, and of all children that have ended."""
    return sum(os.times()[:4])


async def measure(count: int, rounds: int) -> dict[str, Any]:
    restic = toolchain.ensure()
    os.environ[VARIABLE] = str(restic)
    path = Path(tempfile.mkdtemp(prefix="bench-agent-"))
    clock = Clock()
    load = os.getloadavg()[0]
    result: dict[str, Any] = {"volumes": count, "load": load, "seconds": {}, "ratios": []}
    with serving_our_kinds() as plane:
        async with connect(str(plane.kubeconfig)) as api:
            world = World(api, path)
            try:
                await prepare_real(world)
                async with world.agent(concurrency=_AT_ONCE):
                    informers = [
                        clock.watch(api, kind, world.namespace)
                        for kind in (PodVolumeBackup, PodVolumeRestore)
                    ]
                    watching = [asyncio.create_task(informer.run()) for informer in informers]
                    for informer in informers:
                        await informer.synced()
                    result["seconds"] |= await latencies(world, clock, rounds)
                    result["seconds"] |= await cancels(world, clock, rounds)
                    result["seconds"] |= await asyncio.to_thread(gates, path)
                    pods, volumes = [], []
                    for number in range(count):
                        uid, volume = await claimed(world, f"v{number}")
                        fill(volume, number)
                        pods.append((f"v{number}", uid))
                        volumes.append(volume)
                    for key in ("ours", "bare", "ours_cpu", "bare_cpu"):
                        result[key] = []
                    for number in range(rounds if rounds < 3 else 3):
                        place = path / f"bare{number}"
                        place.mkdir()
                        used = cpu_seconds()
                        mine = await ours(world, clock, pods, f"round{number}")
                        result["ours_cpu"].append(cpu_seconds() - used)
                        used = cpu_seconds()
                        theirs = await bare(restic, place, volumes)
                        result["bare_cpu"].append(cpu_seconds() - used)
                        result["ours"].append(mine)
                        result["bare"].append(theirs)
                        result["ratios"].append(mine / theirs)
                        print(
                            f"round {number}: {mine:.1f} s ({result['ours_cpu'][-1]:.1f} of CPU), "
                            f"bare restic {theirs:.1f} s ({result['bare_cpu'][-1]:.1f} of CPU)",
                            flush=True,
                        )
                    for task in watching:
                        task.cancel()
            finally:
                world.kubelet.close()
    shutil.rmtree(path)
    return result


def report(result: dict[str, Any]) -> str:
    names = {
        "start": "a job's creation to restic's start",
        "end": "restic's end to the job's end, as a watch sees it",
        "cancel": "a cancel to the end of its restic",
        "gate": "a restore's end, as a watch sees it, to the end of its gate",
    }
    lines = ["| from … to | median, s | largest, s |", "|---|---:|---:|"]
    for key, values in result["seconds"].items():
        name = names.get(key, key)
        lines.append(f"| {name} | {statistics.median(values):.3f} | {max(values):.3f} |")
    middle: Callable[[str], float] = lambda key: statistics.median(result[key])  # noqa: E731
    lines.append("")
    lines.append(
        f"{result['volumes']} volumes: {middle('ours'):.1f} s, bare restic {middle('bare'):.1f} s; "
        f"ratio {middle('ratios'):.2f}; CPU {middle('ours_cpu'):.1f} s and "
        f"{middle('bare_cpu'):.1f} s (load average at the start {result['load']:.1f})"
    )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--volumes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    result = asyncio.run(measure(arguments.volumes, arguments.rounds))
    print(report(result))
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "agent.json").write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
