"""How the controller grows: ``python -m bench.controller --scale 0.1``.

A real API server, a real controller process, real repositories; nodes and agents are simulated by a
process that answers every node job as an agent would (taken, three times progress, done; the volume
was empty, so that no data is needed). Scale 1 is 1,000 nodes, 10,000 volumes in 50 namespaces and
100,000 API objects, a tenth of them Secrets; ``--objects`` asks for another number of these alone.

Measured: wall time from the Backup's creation to its end; CPU of the controller and of the restic
processes it starts; peak memory of both and of the spool, which is memory as well; requests to the
API server by the controller and by the agents, per volume and per object; idle memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import shutil
import signal
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ararat
from ararat.api import Backup, BackupLocation, PodVolumeBackup
from ararat.concurrency import for_each
from ararat.errors import Retryable
from ararat.kube import (
    AlreadyExists,
    Informer,
    KubeClient,
    KubeObject,
    connect,
    of,
    patch_status,
)
from ararat.kube.resources import CONFIG_MAPS, NAMESPACES, PODS, PVCS, PVS, SECRETS
from ararat.restic.version import VARIABLE
from tests.cluster.process import free_port
from tests.cluster.toolchain import restic as toolchain
from tests.component.our_kinds import serving_our_kinds

BACKUPS, JOBS, LOCATIONS = of(Backup), of(PodVolumeBackup), of(BackupLocation)
NAMESPACE = "ararat"
_AT_ONCE = 32
RESULTS = Path(__file__).parent / "results" / "controller.json"


@dataclass
class Result:
    scale: float
    nodes: int
    volumes: int
    objects: int
    namespaces: int
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    restic_cpu_seconds: float = 0.0
    idle_rss_mib: float = 0.0
    peak_rss_mib: float = 0.0
    #: Controller, its restic processes and the spool together, at the worst moment.
    peak_total_mib: float = 0.0
    peak_spool_mib: float = 0.0
    after_rss_mib: float = 0.0
    requests: dict[str, int] = field(default_factory=dict)
    requests_per_volume: float = 0.0
    agent_requests_per_volume: float = 0.0
    requests_per_object: float = 0.0
    phase: str = ""
    coverage: str = ""
    parts: int = 0
    machine: str = ""
    version: str = ""


async def seed(api: KubeClient, result: Result, store: Path) -> None:
    """Everything a cluster of that size has."""
    names = [f"app-{n:04d}" for n in range(result.namespaces)]

    async def create(rt: Any, name: str, namespace: str | None, **content: Any) -> KubeObject:
        metadata = {"name": name, **content.pop("meta", {})}
        body = {"apiVersion": rt.api_version, "kind": rt.kind, "metadata": metadata, **content}
        try:
            return await patiently(lambda: api.create(rt, body, namespace=namespace))
        except AlreadyExists:  # the answer to it was late
            return await patiently(lambda: api.get(rt, name, namespace=namespace))

    async def say(rt: Any, obj: KubeObject, status: dict[str, Any]) -> None:
        await patiently(lambda: patch_status(api, rt, obj, status))

    for name in (NAMESPACE, f"{NAMESPACE}-keys", *names):
        await create(NAMESPACES, name, None)

    async def node(number: int) -> None:
        meta = {"labels": {"app.kubernetes.io/component": "agent"}}
        spec = _pod_spec(f"node-{number}", "")
        pod = await create(PODS, f"agent-{number}", NAMESPACE, meta=meta, spec=spec)
        ready = [{"type": "Ready", "status": "True"}]
        await say(PODS, pod, {"phase": "Running", "conditions": ready})

    async def volume(number: int) -> None:
        name, namespace = f"data-{number}", names[number % len(names)]
        size, modes = {"storage": "1Gi"}, ["ReadWriteOnce"]
        csi = {"driver": "disk.example.com", "volumeHandle": name}
        spec = {"accessModes": modes, "capacity": size, "csi": csi}
        await create(PVS, name, None, spec=spec)
        spec = {"accessModes": modes, "resources": {"requests": size}, "volumeName": name}
        claim = await create(PVCS, name, namespace, spec=spec)
        await say(PVCS, claim, {"phase": "Bound", "capacity": size})
        meta = {"annotations": {"ararat.dev/backup-volumes": "data"}}
        spec = _pod_spec(f"node-{number % result.nodes}", name)
        pod = await create(PODS, f"pod-{number}", namespace, meta=meta, spec=spec)
        await say(PODS, pod, {"phase": "Running"})

    async def thing(number: int) -> None:
        namespace = names[number % len(names)]
        text = f"{number} " * 200
        if number % 10:
            await create(CONFIG_MAPS, f"config-{number}", namespace, data={"settings": text})
        else:
            await create(SECRETS, f"secret-{number}", namespace, stringData={"token": text})

    await for_each(range(result.nodes), node, at_once=_AT_ONCE)
    await for_each(range(result.volumes), volume, at_once=_AT_ONCE)
    others = result.objects - 3 * result.volumes
    await for_each(range(max(0, others)), thing, at_once=_AT_ONCE)
    spec = {"filesystem": {"path": str(store)}, "default": True, "syncPeriodSeconds": 60}
    await create(LOCATIONS, "main", NAMESPACE, spec=spec)


async def patiently(call: Callable[[], Awaitable[KubeObject]]) -> KubeObject:
    """Until the server has found the time: one late answer must not cost an hour's work."""
    while True:
        try:
            return await call()
        except Retryable as exc:
            print(f"again: {exc.message}", file=sys.stderr)
            await asyncio.sleep(2)


def _pod_spec(node: str, claim: str) -> dict[str, Any]:
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}] if claim else []
    mounts = [{"name": "data", "mountPath": "/data"}] if claim else []
    container = {"name": "main", "image": "none", "volumeMounts": mounts}
    return {"nodeName": node, "containers": [container], "volumes": volumes}


async def agents(kubeconfig: str) -> None:
    """What the agents of all nodes would say; prints its requests when it is told to end."""
    writes: Counter[str] = Counter()
    gate = asyncio.Semaphore(64)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with connect(kubeconfig) as api, asyncio.TaskGroup() as group:

        async def say(raw: KubeObject, **status: Any) -> KubeObject:
            while True:
                writes[status["phase"]] += 1
                try:
                    return await patch_status(api, JOBS, raw, status)
                except Retryable:
                    await asyncio.sleep(1)  # as an agent would

        async def work(raw: KubeObject) -> None:
            async with gate:
                raw = await say(raw, phase="InProgress", startTime=_now())
                for done in (10, 50, 90):
                    progress = {"totalBytes": 100, "bytesDone": done, "bytesPerSecond": 10}
                    raw = await say(raw, phase="InProgress", progress=progress)
                root = {"mode": 493, "uid": 0, "gid": 0, "mtimeNs": 1}
                end = {"empty": True, "root": root, "completionTime": _now()}
                await say(raw, phase="Completed", **end)

        def on_change(change: str, raw: KubeObject, _: KubeObject | None) -> None:
            if change == "added" and not (raw.get("status") or {}).get("phase"):
                group.create_task(work(raw))

        informer = Informer(api, JOBS, namespace=NAMESPACE)
        informer.on_change(on_change)
        following = group.create_task(informer.run())
        await stop.wait()
        following.cancel()
    print(json.dumps(dict(writes)))


class Watch:
    """Memory of a process, of its children, and of a directory in memory."""

    def __init__(self, pid: int, spool: Path, result: Result) -> None:
        self._pid, self._spool, self._result = pid, spool, result

    async def run(self) -> None:
        while True:
            own = _rss(self._pid)
            total = sum(_pss(pid) for pid in (self._pid, *_children(self._pid)))
            spool = await asyncio.to_thread(_used, self._spool)
            found = self._result
            found.peak_rss_mib = max(found.peak_rss_mib, own)
            found.peak_spool_mib = max(found.peak_spool_mib, spool)
            found.peak_total_mib = max(found.peak_total_mib, total + spool)
            await asyncio.sleep(0.5)


def _rss(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def _pss(pid: int) -> float:
    """As ``_rss``, but of what several processes map, as the program of restic, each its share."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(entry.name))
            found += _children(int(entry.name))
    return found


def _used(directory: Path) -> float:
    """As tmpfs counts: pages. Inodes come on top, about a kilobyte each."""
    total = 0
    for folder, _, files in os.walk(directory):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512 + 1024
            except OSError:
                continue
    return total / 2**20


def _cpu(pid: int) -> tuple[float, float]:
    """Seconds of the process, and of the children that it waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    tick = os.sysconf("SC_CLK_TCK")
    return (int(fields[11]) + int(fields[12])) / tick, (int(fields[13]) + int(fields[14])) / tick


def _requests(port: int) -> Counter[str]:
    """What the controller's own metrics say, by verb."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    found: Counter[str] = Counter()
    for line in lines:
        if line.startswith("ararat_kube_requests_total{"):
            labels, _, value = line.partition("} ")
            verb = labels.partition('verb="')[2].partition('"')[0]
            found[verb] += int(float(value))
    return found


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


async def until(look: Callable[[], Awaitable[Any]], *, seconds: float, what: str) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            found = await look()
        except Retryable as exc:
            print(f"again: {exc.message}", file=sys.stderr)
            found = None
        if found:
            return found
        await asyncio.sleep(0.5)
    raise SystemExit(f"not within {seconds:.0f} s: {what}")


async def measure(kubeconfig: str, work: Path, spool: Path, result: Result) -> None:
    store = work / "store"
    for folder in (store, work / "cache", work / "scratch"):
        folder.mkdir()
    async with connect(kubeconfig, parallel=_AT_ONCE) as api:
        started = time.monotonic()
        await seed(api, result, store)
        print(f"seeded in {time.monotonic() - started:.0f} s", file=sys.stderr)
        port = free_port()
        environment = {
            **os.environ,
            "KUBECONFIG": kubeconfig,
            "ARARAT_NAMESPACE": NAMESPACE,
            "ARARAT_GATE_IMAGE": "agent:bench",
            "ARARAT_SPOOL_DIR": str(spool),
            "ARARAT_CACHE_DIR": str(work / "cache"),
            "ARARAT_SCRATCH_DIR": str(work / "scratch"),
            "ARARAT_PORT": str(port),
            "POD_NAME": "controller-bench",
        }
        log = (work / "controller.log").open("wb")
        controller = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "controller", env=environment, stdout=log, stderr=log
        )
        helper = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.controller", "--agents", kubeconfig),
            stdout=asyncio.subprocess.PIPE,
        )
        watching: asyncio.Task[None] | None = None
        try:
            watching = await _backup(api, controller.pid, port, spool, result)
        except SystemExit:
            print((work / "controller.log").read_text()[-4000:], file=sys.stderr)
            raise
        finally:
            if watching is not None:
                watching.cancel()
            for process in (controller, helper):
                if process.returncode is None:
                    process.terminate()
            out, _ = await helper.communicate()
            await controller.wait()
            log.close()
    writes: dict[str, int] = json.loads(out.splitlines()[-1])
    result.agent_requests_per_volume = round(sum(writes.values()) / result.volumes, 2)


async def _backup(
    api: KubeClient, pid: int, port: int, spool: Path, result: Result
) -> asyncio.Task[None]:
    async def available() -> bool:
        raw = await api.get(LOCATIONS, "main", namespace=NAMESPACE)
        return bool((raw.get("status") or {}).get("phase") == "Available")

    await until(available, seconds=180, what="the location is available")
    await asyncio.sleep(5)
    result.idle_rss_mib = round(_rss(pid), 1)
    watching = asyncio.create_task(Watch(pid, spool, result).run())
    before, cpu = _requests(port), _cpu(pid)
    started = time.monotonic()
    spec = {"includedNamespaces": ["app-*"]}
    body = {"apiVersion": BACKUPS.api_version, "kind": BACKUPS.kind, "spec": spec}
    await api.create(BACKUPS, {**body, "metadata": {"name": "bench"}}, namespace=NAMESPACE)

    async def ended() -> KubeObject | None:
        raw = await api.get(BACKUPS, "bench", namespace=NAMESPACE)
        return raw if "completionTime" in (raw.get("status") or {}) else None

    raw = await until(ended, seconds=7200, what="the backup has ended")
    result.wall_seconds = round(time.monotonic() - started, 1)
    after = _cpu(pid)
    result.cpu_seconds = round(after[0] - cpu[0], 1)
    result.restic_cpu_seconds = round(after[1] - cpu[1], 1)
    requests = _requests(port) - before
    result.requests = dict(requests)
    status = Backup.parse(raw).status
    result.phase = status.phase.value
    result.coverage = status.coverage.text if status.coverage else ""
    if status.objects is not None:
        result.parts = len(status.objects.snapshots)
        result.objects = status.objects.count
    result.requests_per_volume = round(
        sum(n for verb, n in requests.items() if verb != "list") / result.volumes, 2
    )
    result.requests_per_object = round(requests["list"] / max(1, result.objects), 4)
    await asyncio.sleep(5)
    result.after_rss_mib = round(_rss(pid), 1)
    for name in ("peak_rss_mib", "peak_spool_mib", "peak_total_mib"):
        setattr(result, name, round(getattr(result, name), 1))
    return watching


def run(scale: float, objects: int | None = None) -> Result:
    result = Result(
        scale=scale,
        nodes=max(1, int(1000 * scale)),
        volumes=max(1, int(10000 * scale)),
        objects=objects or int(100000 * scale),
        namespaces=max(1, int(50 * scale)),
        machine=f"{os.cpu_count()} cores, {platform.machine()}",
        version=ararat.__version__,
    )
    os.environ.setdefault(VARIABLE, str(toolchain.ensure()))
    work = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))
    memory = Path("/dev/shm")
    spool = Path(tempfile.mkdtemp(prefix="ab", dir=memory if memory.is_dir() else work))
    try:
        with serving_our_kinds() as plane:
            asyncio.run(measure(str(plane.kubeconfig), work, spool, result))
    finally:
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(spool, ignore_errors=True)
    return result


def keep(result: Result, file: Path) -> None:
    """One line for each scale; a new run takes the place of the old."""
    known: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    same = (result.volumes, result.namespaces, round(result.objects, -3))
    known = [
        one
        for one in known
        if (one["volumes"], one["namespaces"], round(one["objects"], -3)) != same
    ] + [asdict(result)]
    known.sort(key=lambda one: (one["volumes"], one["objects"]))
    file.write_text(json.dumps(known, indent=1) + "\n")


def table(results: Iterable[dict[str, Any]]) -> str:
    """Markdown, for docs/."""
    heads = {
        "volumes": "volumes",
        "objects": "objects",
        "wall_seconds": "wall, s",
        "cpu_seconds": "CPU, s",
        "restic_cpu_seconds": "restic CPU, s",
        "idle_rss_mib": "idle, MiB",
        "peak_rss_mib": "peak RSS, MiB",
        "peak_total_mib": "with restic and spool, MiB",
        "requests_per_volume": "requests per volume",
        "agent_requests_per_volume": "agent's per volume",
        "requests_per_object": "lists per object",
    }
    rows = [list(heads.values()), ["---"] * len(heads)]
    rows += [[f"{one[key]:,}" for key in heads] for one in results]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=0.01)
    parser.add_argument("--objects", type=int, help="so many API objects, whatever the scale")
    parser.add_argument("--keep", action="store_true", help=f"write the result to {RESULTS}")
    parser.add_argument("--table", action="store_true", help="print the kept results and end")
    parser.add_argument("--agents", metavar="KUBECONFIG", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.agents:
        asyncio.run(agents(arguments.agents))
        return
    if arguments.table:
        print(table(json.loads(RESULTS.read_text())))
        return
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    result = run(arguments.scale, arguments.objects)
    print(json.dumps(asdict(result), indent=1))
    if arguments.keep:
        keep(result, RESULTS)


if __name__ == "__main__":
    main()
