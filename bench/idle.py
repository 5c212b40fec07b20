"""What an agent costs that has nothing to do: ``python -m bench.idle [--pods 110] [--seconds 60]``.

Problem: an agent runs on every node, all day, and works for some minutes of it.
Decision: ``python -m agent`` as a process of its own against the real API server, with as many pods
on its node as a kubelet takes by default and the jobs of an hour in its cache. It finds the server
as in a pod, by the token of a service account, in a mount namespace of its own. When it is ready
and has been still for a while its memory is read from ``/proc``, and its CPU time over some time
more. Resident memory is what ``kubectl top`` and an eviction count, file pages aside, which are
shared with every other process of the image: both numbers are given.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ararat.api import PodVolumeBackup
from ararat.kube import connect
from ararat.restic.version import VARIABLE
from tests.cluster.apiserver import ControlPlane
from tests.cluster.toolchain import restic as toolchain
from tests.component.agent.program import agent_environment
from tests.component.agent.world import World
from tests.component.our_kinds import serving_our_kinds

_PORT = 18080
_STILL_SECONDS = 30.0
_JOBS = 50
#: As in Dockerfile.agent.
_IMAGE = {
    "PYTHONNODEBUGRANGES": "1",
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": "1048576",
    "MALLOC_TRIM_THRESHOLD_": "8388608",
}
_ACCOUNT = "/api/v1/namespaces/default/serviceaccounts"
#: A pod's file system, as far as the agent asks for it: $1 is what a kubelet would mount.
_AS_IN_A_POD = """
mount -t tmpfs tmpfs /run && mkdir -p /run/secrets/kubernetes.io && [ /var/run -ef /run ] &&
cp -r "$1" /run/secrets/kubernetes.io/serviceaccount && shift && exec "$@"
"""
_TICK = os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> dict[str, int]:
    """KiB: resident in all, and of it anonymous."""
    found = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "RssAnon", "RssFile", "VmHWM"):
            found[name] = int(value.split()[0])
    return found


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


async def ready() -> None:
    def look() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{_PORT}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    async with asyncio.timeout(120):
        while not await asyncio.to_thread(look):  # noqa: ASYNC110 - another process's
            await asyncio.sleep(0.2)


def service_account(plane: ControlPlane, path: Path) -> Path:
    """The files of one that may do everything."""
    plane.api.create(_ACCOUNT, {"metadata": {"name": "agent"}})
    rbac = "rbac.authorization.k8s.io"
    binding = {
        "metadata": {"name": "agent"},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "agent", "namespace": "default"}],
    }
    plane.api.create(f"/apis/{rbac}/v1/clusterrolebindings", binding)
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    made = plane.api.create(f"{_ACCOUNT}/agent/token", request)
    path.mkdir()
    (path / "token").write_text(made["status"]["token"])
    (path / "ca.crt").write_bytes(plane.ca.certificate.read_bytes())
    (path / "namespace").write_text("default")
    return path


@asynccontextmanager
async def agent_process(
    world: World, plane: ControlPlane, python: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """``python -m agent`` with its image's settings, ready."""
    host, port = plane.url.removeprefix("https://").split(":")
    environment = {
        **agent_environment(world.config, plane.kubeconfig),
        **_IMAGE,
        "ARARAT_PORT": str(_PORT),
        "KUBERNETES_SERVICE_HOST": host,
        "KUBERNETES_SERVICE_PORT": port,
    }
    del environment["KUBECONFIG"]
    account = service_account(plane, world.path / "account")
    agent = await asyncio.create_subprocess_exec(
        "unshare", "--mount", "sh", "-c", _AS_IN_A_POD, "sh", str(account), python, "-m", "agent",
        env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await ready()
        yield agent
    finally:
        agent.terminate()
        await agent.wait()


async def measure(pods: int, seconds: float, python: str) -> dict[str, Any]:
    os.environ[VARIABLE] = str(toolchain.ensure())
    path = Path(tempfile.mkdtemp(prefix="bench-idle-"))
    load = os.getloadavg()[0]
    with serving_our_kinds() as plane:
        async with connect(str(plane.kubeconfig)) as api:
            world = World(api, path)
            await world.prepare()
            for number in range(pods):
                uid = await world.pod(f"pod-{number}")
                if number < _JOBS:
                    await world.backup(f"job-{number}", f"pod-{number}", uid)
                    await world.set_status(
                        PodVolumeBackup, f"job-{number}", {"phase": "Completed", "snapshotID": "5"}
                    )
            async with agent_process(world, plane, python) as agent:
                await asyncio.sleep(_STILL_SECONDS)
                begun = cpu_seconds(agent.pid)
                await asyncio.sleep(seconds)
                used = cpu_seconds(agent.pid) - begun
                found = memory(agent.pid)
            world.kubelet.close()
    shutil.rmtree(path)
    return {
        "load": load,
        "pods": pods,
        "jobs": _JOBS,
        "python": sys.version.split()[0],
        "resident_mib": round(found["VmRSS"] / 1024, 1),
        "anonymous_mib": round(found["RssAnon"] / 1024, 1),
        "files_mib": round(found["RssFile"] / 1024, 1),
        "peak_mib": round(found["VmHWM"] / 1024, 1),
        "cpu_seconds_per_hour": round(used / seconds * 3600, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pods", type=int, default=110)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument(
        "--python",
        default=sys.executable,
        help="Interpreter for the agent: of an environment with requirements/agent.txt alone, "
        "which is what its image has.",
    )
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    result = asyncio.run(measure(arguments.pods, arguments.seconds, arguments.python))
    print(json.dumps(result, indent=1))
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "idle.json").write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
