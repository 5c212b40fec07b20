"""A kubelet for maintenance Jobs: runs what their pods would run, and says how it ended.

Limits: prunes and checks of the repository of API objects end at once, good, and do nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from ararat.kube import Informer, KubeObject, patch_status
from ararat.kube.errors import ApiConflict, ApiNotFound
from ararat.kube.resources import JOBS, PODS
from ararat.maintenance import MaintenanceResult
from tests.cluster.process import children
from tests.component.controller.backup.world import World

#: ``python -m agent``, with the stores' clock moved.
_PROGRAM = "tests.component.controller.life.moved"


def template(world: World, kubeconfig: str) -> Path:
    """The chart's, with what a process on this machine needs."""
    environment = {
        "KUBECONFIG": kubeconfig,
        "NODE_NAME": world.node,
        "POD_NAME": "maintenance",
        "POD_UID": "filled-in",
        "ARARAT_NAMESPACE": world.namespace,
        "ARARAT_KUBELET_DIR": str(world.path),
        "ARARAT_CACHE_DIR": str(world.path / "cache"),
        "ARARAT_SCRATCH_DIR": str(world.path / "scratch"),
    }
    pod = {
        "spec": {
            "containers": [
                {
                    "name": "maintenance",
                    "image": "agent:test",
                    "args": ["maintain"],
                    "env": [{"name": k, "value": v} for k, v in environment.items()],
                }
            ]
        }
    }
    path = world.path / "template.json"
    path.write_text(json.dumps(pod))
    return path


@dataclass
class Node:
    world: World
    #: How the next pod ends, instead of running: ``OOMKilled``.
    ends: list[str] = field(default_factory=list)
    #: Pods start when this is set.
    start: asyncio.Event = field(default_factory=asyncio.Event)
    #: Tasks, in the order in which they ran.
    ran: list[dict[str, Any]] = field(default_factory=list)
    pods: list[str] = field(default_factory=list)
    #: How far the stores' clock is moved for what runs here.
    moved: Callable[[], timedelta] = timedelta
    #: The next program for a namespace's repository is killed with its children when this is true.
    kill_when: Callable[[], bool] | None = None
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def run(self) -> None:
        informer = Informer(self.world.api, JOBS, namespace=self.world.namespace)
        async with asyncio.TaskGroup() as group:

            def on_change(change: str, job: KubeObject, _: KubeObject | None) -> None:
                name = job["metadata"]["name"]
                if change == "deleted":
                    if (task := self._tasks.get(name)) is not None:
                        task.cancel()
                elif name not in self._tasks:
                    self._tasks[name] = group.create_task(self._pod(job))

            informer.on_change(on_change)
            await informer.run()

    async def _pod(self, job: KubeObject) -> None:
        name = job["metadata"]["name"]
        container = job["spec"]["template"]["spec"]["containers"][0]
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"job-name": name}},
            "spec": {"containers": [{"name": "maintenance", "image": "agent:test"}]},
        }
        pod = await self.world.api.create(PODS, body, namespace=self.world.namespace)
        self.pods.append(pod["metadata"]["uid"])
        await self.start.wait()
        message = self.world.path / f"{name}.result"
        message.touch()
        environment = {v["name"]: v["value"] for v in container["env"]}
        self.ran.append(json.loads(environment["ARARAT_MAINTENANCE_TASK"]))
        of_objects = self.ran[-1]["repository"]["directory"].startswith("repositories/objects/")
        if of_objects and self.ran[-1]["action"] != "Reencrypt":
            # The namespace's repository is what the tests look at: this one need not cost time.
            message.write_text(MaintenanceResult(good=True, message="not run").encode())
            ended = {"reason": "Completed", "exitCode": 0}
        elif self.ends:
            ended = {"reason": self.ends.pop(0), "exitCode": 137}
        else:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                _PROGRAM,
                *container["args"],
                env={
                    **os.environ,
                    **environment,
                    "ARARAT_TEST_MOVED": str(self.moved().total_seconds()),
                    "POD_UID": pod["metadata"]["uid"],
                    "ARARAT_TERMINATION_LOG": str(message),
                },
            )
            reason = "Error"
            try:
                if self.kill_when is not None and await self._killed(process):
                    reason = "OOMKilled"
                code = await process.wait()
            finally:
                if process.returncode is None:
                    process.send_signal(signal.SIGTERM)
                    await process.wait()
            ended = {"reason": "Completed" if code == 0 else reason, "exitCode": abs(code)}
        await self._say(job, pod, {**ended, "message": message.read_text()})

    async def _killed(self, process: asyncio.subprocess.Process) -> bool:
        """Kill it and what it has started, once, as the kernel does for a whole container."""
        assert self.kill_when is not None
        while process.returncode is None:
            if self.kill_when():
                self.kill_when = None
                for pid in (process.pid, *descendants(process.pid)):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                return True
            await asyncio.sleep(0.005)
        return False

    async def _say(self, job: KubeObject, pod: KubeObject, ended: dict[str, Any]) -> None:
        good = ended["exitCode"] == 0
        status = {
            "phase": "Succeeded" if good else "Failed",
            "containerStatuses": [
                {
                    "name": "maintenance",
                    "image": "agent:test",
                    "imageID": "",
                    "ready": False,
                    "restartCount": 0,
                    "state": {"terminated": ended},
                }
            ],
        }
        condition = {"type": "Complete" if good else "Failed", "status": "True"}
        with contextlib.suppress(ApiNotFound, ApiConflict):
            await patch_status(self.world.api, PODS, pod, status)
            await patch_status(self.world.api, JOBS, job, {"conditions": [condition]})


def descendants(pid: int) -> list[int]:
    below = children(pid)
    return [*below, *(further for child in below for further in descendants(child))]


@asynccontextmanager
async def node_of(
    world: World, *, moved: Callable[[], timedelta] = timedelta
) -> AsyncIterator[Node]:
    node = Node(world, moved=moved)
    node.start.set()
    task = asyncio.create_task(node.run())
    try:
        yield node
    finally:
        crashed = task.done() and not task.cancelled()
        task.cancel()
        await asyncio.wait([task])
        if crashed:
            task.result()
