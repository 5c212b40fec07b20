"""One node's world: namespaces, a location, a kubelet's directory, pods and claims, an agent."""

from __future__ import annotations

import asyncio
import base64
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from agent.app import Agent
from agent.config import AgentConfig
from agent.context import OpenRepository
from ararat import gate
from ararat.api import BackupLocation, PodVolumeBackup, PodVolumeRestore
from ararat.kube import KubeApi, of
from ararat.kube.errors import ApiNotFound
from ararat.kube.resources import EVENTS, NAMESPACES, PODS, PVCS, PVS, SECRETS
from ararat.layout import LOCATION, LocationFile
from tests.component.agent.kubelet import FakeKubelet

LOCATION_ID = "loc-0001"
CLUSTER = "cluster-0001"
DIRECTORY = "repositories/volumes/web/0001"
PASSWORD = "0" * 64

_numbers = itertools.count(1)


class World:
    """Names are unique, so that tests share one API server."""

    def __init__(self, api: KubeApi, path: Path) -> None:
        number = next(_numbers)
        self.api = api
        self.path = path.resolve()
        self.kubelet = FakeKubelet(self.path)
        self.node = f"node-{number}"
        self.namespace = f"ararat-{number}"
        self.workloads = f"web-{number}"
        self.location_path = self.path / "location"
        self.config = AgentConfig(
            node=self.node,
            namespace=self.namespace,
            pod_name=f"agent-{number}",
            pod_uid=f"agent-uid-{number}",
            kubelet_dir=self.kubelet.root,
            cache_dir=self.path / "cache",
            scratch_dir=self.path / "scratch",
            port=0,
            mount_wait_seconds=1.0,
            retry_seconds=0.5,
            progress_seconds=0.5,
            shutdown_seconds=15.0,
            minimum_free_bytes=0,
        )
        self.config.scratch_dir.mkdir()

    async def prepare(
        self,
        *,
        directory: str = DIRECTORY,
        password: str = PASSWORD,
        location: dict[str, Any] | None = None,
    ) -> None:
        for name in (self.namespace, self.workloads):
            await self.api.create(NAMESPACES, {"metadata": {"name": name}})
        if location is None:
            self.location_path.mkdir()
            file = LocationFile(location_id=LOCATION_ID, owner=CLUSTER)
            (self.location_path / LOCATION).write_bytes(file.encode())
            location = {"filesystem": {"path": str(self.location_path)}}
        await self.create(BackupLocation, "default", location)
        await self.secret("password", password)
        self.repository: dict[str, Any] = {
            "location": "default",
            "locationID": LOCATION_ID,
            "directory": directory,
            "passwordSecret": "password",
        }

    async def secret(self, name: str, password: str) -> None:
        data = {"password": base64.b64encode(password.encode()).decode()}
        meta = {"name": name, "namespace": self.namespace}
        await self.api.create(SECRETS, {"metadata": meta, "data": data})

    async def create(self, kind: Any, name: str, spec: dict[str, Any], **meta: Any) -> Any:
        return await self.api.create(
            of(kind),
            {
                "apiVersion": "ararat.dev/v1alpha1",
                "kind": kind.KIND,
                "metadata": {"name": name, "namespace": self.namespace, **meta},
                "spec": spec,
            },
        )

    # --- workloads ------------------------------------------------------------------------------

    async def pod(
        self,
        name: str,
        *,
        volume: dict[str, Any] | None = None,
        gated: bool = False,
        uses: dict[str, Any] | None = None,
    ) -> str:
        """A pod with one volume, ``data``; gated pods stand at their gate. Returns its UID.

        ``uses``: how its container has the volume, if not simply mounted.
        """
        use = uses or {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
        spec: dict[str, Any] = {
            "nodeName": self.node,
            "volumes": [{"name": "data", **(volume or {"emptyDir": {}})}],
            "containers": [{"name": "app", "image": "app:1", **use}],
        }
        if gated:
            spec["volumes"].append({"name": gate.VOLUME, "emptyDir": {}})
            spec["initContainers"] = [{"name": gate.CONTAINER, "image": "agent:1"}]
        raw = await self.api.create(
            PODS, {"metadata": {"name": name, "namespace": self.workloads}, "spec": spec}
        )
        uid = str(raw["metadata"]["uid"])
        (self.kubelet.root / "pods" / uid).mkdir()
        if gated:
            self.kubelet.gate(uid)
            await self.gate_state(name, {"running": {"startedAt": "2026-01-01T00:00:00Z"}})
        else:
            await self.pod_status(name, {"phase": "Running"})
        return uid

    async def pod_status(self, name: str, status: dict[str, Any]) -> None:
        await self.api.patch(
            PODS, name, {"status": status}, namespace=self.workloads, subresource="status"
        )

    async def gate_state(self, name: str, state: dict[str, Any]) -> None:
        container = {
            "name": gate.CONTAINER, "state": state, "ready": False, "restartCount": 0,
            "image": "", "imageID": "",
        }  # fmt: skip
        await self.pod_status(name, {"phase": "Pending", "initContainerStatuses": [container]})

    async def claim(
        self, name: str, *, source: dict[str, Any] | None = None, mode: str = "Filesystem"
    ) -> dict[str, Any]:
        """A bound claim; the volume of it for a pod's spec."""
        pv = f"pv-{self.workloads}-{name}"
        await self.api.create(
            PVS,
            {
                "metadata": {"name": pv},
                "spec": {
                    "capacity": {"storage": "1Gi"},
                    "accessModes": ["ReadWriteOnce"],
                    "volumeMode": mode,
                    **(source or {"csi": {"driver": "test", "volumeHandle": pv}}),
                },
            },
        )
        await self.api.create(
            PVCS,
            {
                "metadata": {"name": name, "namespace": self.workloads},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "volumeMode": mode,
                    "resources": {"requests": {"storage": "1Gi"}},
                    "volumeName": pv,
                },
            },
        )
        return {"persistentVolumeClaim": {"claimName": name}}

    def pv(self, claim: str) -> str:
        return f"pv-{self.workloads}-{claim}"

    # --- jobs -----------------------------------------------------------------------------------

    async def backup(self, name: str, pod: str, uid: str, **spec: Any) -> None:
        await self.create(
            PodVolumeBackup,
            name,
            {
                "backup": "nightly",
                "backupUID": "backup-1",
                "node": self.node,
                "pod": {"namespace": self.workloads, "name": pod, "uid": uid},
                "volume": "data",
                "repository": self.repository,
                "host": f"{CLUSTER}/{self.workloads}/pvc/data",
                **spec,
            },
            labels={"ararat.dev/node": self.node},
        )

    async def restore(
        self,
        name: str,
        pod: str,
        uid: str,
        *,
        node: str | None = None,
        empty: bool = False,
        namespace: str | None = None,
        **spec: Any,
    ) -> None:
        await self.create(
            PodVolumeRestore,
            name,
            {
                "restore": "back",
                "restoreUID": "restore-1",
                "node": node or self.node,
                "pod": {"namespace": namespace or self.workloads, "name": pod, "uid": uid},
                "volume": "data",
                "repository": self.repository,
                **({} if empty else {"snapshotID": "5" * 64}),
                **spec,
            },
            labels={"ararat.dev/node": node or self.node},
        )

    async def raw(self, kind: Any, name: str) -> dict[str, Any]:
        found: dict[str, Any] = await self.api.get(of(kind), name, namespace=self.namespace)
        return found

    async def status(self, kind: Any, name: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.raw(kind, name)).get("status") or {}
        return found

    async def set_status(self, kind: Any, name: str, status: dict[str, Any]) -> None:
        await self.api.patch(
            of(kind), name, {"status": status}, namespace=self.namespace, subresource="status"
        )

    async def set_spec(self, kind: Any, name: str, spec: dict[str, Any]) -> None:
        await self.api.patch(of(kind), name, {"spec": spec}, namespace=self.namespace)

    async def until(
        self,
        kind: Any,
        name: str,
        wanted: Callable[[dict[str, Any]], bool] | str,
        *,
        seconds: float = 20,
    ) -> dict[str, Any]:
        """The status, as soon as it is as wanted (a function, or a phase)."""
        end = time.monotonic() + seconds
        status: dict[str, Any] = {}
        while time.monotonic() < end:
            status = await self.status(kind, name)
            if status.get("phase") == wanted if isinstance(wanted, str) else wanted(status):
                return status
            await asyncio.sleep(0.05)
        raise AssertionError(f"{name} did not get there within {seconds} s: {status}")

    async def gone(self, kind: Any, name: str) -> bool:
        try:
            await self.raw(kind, name)
        except ApiNotFound:
            return True
        return False

    async def told(self, kind: str, *reasons: str) -> None:
        """Waits for Events of these reasons, and no others, on objects of that kind."""
        namespace = self.workloads if kind == "Pod" else self.namespace
        end = time.monotonic() + 20
        while True:
            found = {
                event["reason"]
                async for event in self.api.list(EVENTS, namespace=namespace)
                if event["involvedObject"]["kind"] == kind
            }
            if found == set(reasons):
                return
            assert time.monotonic() < end, f"Events on the {kind}: {sorted(found)}"
            await asyncio.sleep(0.05)

    # --- agent ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def agent(
        self, engine: OpenRepository | None = None, **changes: Any
    ) -> AsyncIterator[RunningAgent]:
        running = RunningAgent(self, engine, **changes)
        try:
            yield running
        finally:
            await running.stop()


class RunningAgent:
    """An agent in this process; it may be stopped in good order, or killed."""

    def __init__(self, world: World, engine: OpenRepository | None, **changes: Any) -> None:
        from dataclasses import replace

        more: dict[str, Any] = {} if engine is None else {"engine": engine}
        self.registry = CollectorRegistry()
        self.agent = Agent(
            replace(world.config, **changes), world.api, registry=self.registry, **more
        )
        self._task = asyncio.create_task(self.agent.run(serve=False))

    async def stop(self) -> None:
        """As SIGTERM does."""
        self.agent.stop()
        await asyncio.gather(self._task, return_exceptions=True)
        if not self._task.cancelled() and self._task.exception() is not None:
            raise AssertionError("the agent ended badly") from self._task.exception()

    async def kill(self) -> None:
        """As SIGKILL does: nothing more is written."""
        for task in list(self.agent.scheduler._tasks):
            task.cancel()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0

    async def counts(self, name: str, wanted: float, **labels: str) -> None:
        """Wait until a metric is so: it is counted after the status that a test has waited for."""
        try:
            async with asyncio.timeout(20):
                while self.metric(name, **labels) != wanted:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            found = self.metric(name, **labels)
            raise AssertionError(f"{name} {labels} is {found}, not {wanted}") from None
