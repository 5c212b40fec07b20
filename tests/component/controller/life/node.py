"""A kubelet for maintenance Jobs: runs what their pods would run, and says how it ended.

Limits: prunes and checks of the repository of API objects end at once, good, and do nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
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
from tests.cluster.cgroups import killed_for_memory, memory_group
from tests.component.controller.backup.world import World
from tests.containers import ended_state

CGROUP, HARM = "ARARAT_TEST_CGROUP", "ARARAT_TEST_HARM"
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
    #: Pods that were told to end are gone when this is set.
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    #: Tasks, in the order in which they ran.
    ran: list[dict[str, Any]] = field(default_factory=list)
    pods: list[str] = field(default_factory=list)
    #: How far the stores' clock is moved for what runs here.
    moved: Callable[[], timedelta] = timedelta
    #: What comes to the next program as soon as restic's lock is stored: ``starve`` (the kernel
    #: kills in its cgroup) or ``kill`` (all of it dies at once).
    harm: str = ""
    #: How many processes the kernel has killed for want of memory, for each program that came to
    #: harm. It may take the program after restic, while restic's memory is still coming back.
    starved: list[int] = field(default_factory=list)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _ending: set[str] = field(default_factory=set)

    async def run(self) -> None:
        informer = Informer(self.world.api, JOBS, namespace=self.world.namespace)
        async with asyncio.TaskGroup() as group:

            def on_change(change: str, job: KubeObject, _: KubeObject | None) -> None:
                name = job["metadata"]["name"]
                if change != "deleted" and job["metadata"].get("deletionTimestamp"):
                    if name not in self._ending:
                        self._ending.add(name)
                        group.create_task(self._end(job))
                elif change == "deleted":
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
            "spec": {
                "nodeName": self.world.node,
                "containers": [{"name": "maintenance", "image": "agent:test"}],
            },
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
            ended = ended_state(reason="Completed")
        elif self.ends:
            ended = ended_state(137, reason=self.ends.pop(0))
        else:
            environment |= {
                "ARARAT_TEST_MOVED": str(self.moved().total_seconds()),
                "POD_UID": pod["metadata"]["uid"],
                "ARARAT_TERMINATION_LOG": str(message),
            }
            code, killed = await self._container(container["args"], {**os.environ, **environment})
            # A program that outlives its child's death tells of it itself.
            reason = "Completed" if code == 0 else "OOMKilled" if killed else "Error"
            ended = ended_state(abs(code), reason=reason)
        ended["terminated"]["message"] = message.read_text()
        await self._say(job, pod, ended)

    async def _end(self, job: KubeObject) -> None:
        """As kubelet and garbage collector do it: the pod ends, then its Job goes."""
        name = job["metadata"]["name"]
        if (task := self._tasks.get(name)) is not None:
            task.cancel()
            await asyncio.wait([task])
        await self.stop.wait()
        with contextlib.suppress(ApiNotFound):
            namespace = self.world.namespace
            await self.world.api.delete(PODS, name, namespace=namespace, grace_seconds=0)
            patch = {"metadata": {"finalizers": None}}
            await self.world.api.patch(JOBS, name, patch, namespace=namespace)

    async def _container(
        self, arguments: list[str], environment: dict[str, str]
    ) -> tuple[int, bool]:
        """Its exit code, and whether all of it was killed for want of memory."""
        command = [sys.executable, "-m", _PROGRAM, *arguments]
        with contextlib.ExitStack() as stack:
            group, harm, self.harm = None, self.harm, ""
            if harm:
                group = stack.enter_context(memory_group(secrets.token_hex(4)))
                join = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
                command = ["sh", "-c", join, str(group), *command]
                environment = {**environment, CGROUP: str(group), HARM: harm}
            process = await asyncio.create_subprocess_exec(*command, env=environment)
            try:
                code = await process.wait()
            finally:
                if process.returncode is None:
                    process.send_signal(signal.SIGTERM)
                    await process.wait()
            if group is not None:
                self.starved.append(killed_for_memory(group))
        return code, code == -signal.SIGKILL

    async def _say(self, job: KubeObject, pod: KubeObject, ended: dict[str, Any]) -> None:
        good = ended["terminated"]["exitCode"] == 0
        status = {
            "phase": "Succeeded" if good else "Failed",
            "containerStatuses": [
                {
                    "name": "maintenance",
                    "image": "agent:test",
                    "imageID": "",
                    "ready": False,
                    "restartCount": 0,
                    "state": ended,
                }
            ],
        }
        condition = {"type": "Complete" if good else "Failed", "status": "True"}
        with contextlib.suppress(ApiNotFound, ApiConflict):
            await patch_status(self.world.api, PODS, pod, status)
            await patch_status(self.world.api, JOBS, job, {"conditions": [condition]})


@asynccontextmanager
async def node_of(
    world: World, *, moved: Callable[[], timedelta] = timedelta
) -> AsyncIterator[Node]:
    node = Node(world, moved=moved)
    node.start.set()
    node.stop.set()
    task = asyncio.create_task(node.run())
    try:
        yield node
    finally:
        crashed = task.done() and not task.cancelled()
        task.cancel()
        await asyncio.wait([task])
        if crashed:
            task.result()
