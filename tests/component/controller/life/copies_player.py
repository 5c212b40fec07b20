"""The parts of a cluster that fill, start and remove the copies of a verification, by the test.

Decision: scheduler, provisioner, kubelet, agents' fills and the namespace controller are one loop
over what the API server has. A claim's volume is of a class that keeps its volumes; a pod is ready
once its gate's jobs are Completed, unless the test says what becomes of it; a namespace that goes
loses what is in it, and then itself; what a Restore owned goes with it.
Limits: nothing is filled for real; tests/e2e does that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from ararat.api import PodVolumeRestore, Restore
from ararat.api.names import COPY_OF, RESTORE_UID, RUN_OF
from ararat.api.nodejob import RestoreMode, Verified
from ararat.errors import AraratError
from ararat.gate import CONTAINER
from ararat.kube import KubeObject, of, patch_status
from ararat.kube.errors import ApiConflict, ApiNotFound
from ararat.kube.resources import DEPLOYMENTS, NAMESPACES, PODS, PVCS, PVS, SECRETS
from tests.cluster.apiserver import ControlPlane
from tests.component.controller.backup.world import World
from tests.containers import ended_state

FILLS, RESTORES = of(PodVolumeRestore), of(Restore)


@dataclass
class Copies:
    world: World
    plane: ControlPlane
    #: Status of pods by name, instead of ready.
    sick: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Claims are bound and volumes are filled while this is set.
    filling: asyncio.Event = field(default_factory=asyncio.Event)
    #: What was in a namespace when it went, by its name.
    buried: dict[str, dict[str, KubeObject]] = field(default_factory=dict)
    #: Names of volumes that stayed because their claim's volume is to be kept.
    volumes: set[str] = field(default_factory=set)

    @property
    def node(self) -> str:
        return f"copies-{self.world.node}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Copies]:
        with contextlib.suppress(ApiConflict):
            await self.world.agent_pod(self.node)
        self.filling.set()
        task = asyncio.create_task(self._run())
        try:
            yield self
        finally:
            crashed = task.done() and not task.cancelled()
            task.cancel()
            await asyncio.wait([task])
            if crashed:
                task.result()

    async def namespaces(self) -> list[KubeObject]:
        """Copies there are, of any verification of this world."""
        found = []
        async for raw in self.world.api.list(NAMESPACES, labels=RUN_OF):
            annotations = raw["metadata"].get("annotations") or {}
            if annotations.get(COPY_OF) == self.world.workload:
                found.append(raw)
        return found

    async def _run(self) -> None:
        while True:
            for raw in await self.namespaces():
                with contextlib.suppress(AraratError):  # somebody else wrote; next time
                    if raw["metadata"].get("deletionTimestamp"):
                        await self._bury(raw)
                    else:
                        await self._serve(str(raw["metadata"]["name"]))
            await self._acknowledge()
            await self._collect_garbage()
            await asyncio.sleep(0.1)

    async def _acknowledge(self) -> None:
        """What the agent of a node does with a job that is cancelled."""
        api, namespace = self.world.api, self.world.namespace
        for raw in [raw async for raw in api.list(FILLS, namespace=namespace)]:
            job = PodVolumeRestore.parse(raw)
            if job.spec.cancel and job.spec.node == self.node and not job.status.phase.terminal:
                with contextlib.suppress(AraratError):  # gone, or written by somebody else
                    await patch_status(api, FILLS, raw, {"phase": "Cancelled"})

    async def _collect_garbage(self) -> None:
        """What a Restore that is gone owned."""
        api, namespace = self.world.api, self.world.namespace
        there = {raw["metadata"]["uid"] async for raw in api.list(RESTORES, namespace=namespace)}
        for kind in (FILLS, SECRETS):
            for raw in [raw async for raw in api.list(kind, namespace=namespace)]:
                owners = raw["metadata"].get("ownerReferences") or []
                if any(o["kind"] == "Restore" and o["uid"] not in there for o in owners):
                    await api.delete(kind, raw["metadata"]["name"], namespace=namespace)

    async def _serve(self, namespace: str) -> None:
        api = self.world.api
        async for claim in api.list(PVCS, namespace=namespace):
            if self.filling.is_set() and not claim["spec"].get("volumeName"):
                await self._bind(claim)
        async for one in api.list(DEPLOYMENTS, namespace=namespace):
            if not (one.get("status") or {}).get("readyReplicas"):
                counts = {"replicas": 1, "readyReplicas": 1, "availableReplicas": 1}
                await patch_status(api, DEPLOYMENTS, one, counts)
        async for pod in api.list(PODS, namespace=namespace):
            if not pod["spec"].get("nodeName"):
                await self._schedule(pod)
            elif (pod.get("status") or {}).get("phase") == "Pending":
                await self._go_on(pod)

    async def _bind(self, claim: KubeObject) -> None:
        metadata, name = claim["metadata"], f"pv-{claim['metadata']['uid']}"
        reference = {"namespace": metadata["namespace"], "name": metadata["name"]}
        body = {
            "metadata": {
                "name": name,
                "annotations": {"pv.kubernetes.io/provisioned-by": "test"},
            },
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "capacity": {"storage": "1Gi"},
                "csi": {"driver": "test", "volumeHandle": name},
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {**reference, "uid": metadata["uid"]},
            },
        }
        with contextlib.suppress(ApiConflict):
            await self.world.api.create(PVS, body)
        self.volumes.add(name)
        patch = {"spec": {"volumeName": name}}
        made = await self.world.api.patch(
            PVCS, metadata["name"], patch, namespace=metadata["namespace"]
        )
        await patch_status(self.world.api, PVCS, made, {"phase": "Bound"})

    async def _schedule(self, pod: KubeObject) -> None:
        meta = pod["metadata"]
        target = {"kind": "Node", "name": self.node}
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": meta["name"]},
            "target": target,
        }
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/binding"
        await asyncio.to_thread(self.plane.api.create, path, body)
        raw = await self.world.api.get(PODS, meta["name"], namespace=meta["namespace"])
        gate = _container(CONTAINER, {"running": {}})
        has_gate = [c for c in pod["spec"].get("initContainers") or [] if c["name"] == CONTAINER]
        status = {"phase": "Pending", "initContainerStatuses": [gate] if has_gate else []}
        await patch_status(self.world.api, PODS, raw, status)

    async def _go_on(self, pod: KubeObject) -> None:
        """Its jobs are Completed, and then it runs."""
        meta, api = pod["metadata"], self.world.api
        uid = (meta.get("labels") or {}).get(RESTORE_UID)
        jobs = [
            (raw, job)
            async for raw in api.list(
                FILLS, namespace=self.world.namespace, labels=f"{RESTORE_UID}={uid}"
            )
            if (job := PodVolumeRestore.parse(raw)).spec.pod.uid == meta["uid"]
        ]
        if not self.filling.is_set():
            return
        for raw, job in jobs:
            assert job.spec.mode is not RestoreMode.SCRATCH
            if not job.status.phase.terminal:
                counted = Verified(files=job.spec.expected_files, bytes=job.spec.expected_bytes)
                status = {"phase": "Completed", "verified": counted.to_dict()}
                await patch_status(api, FILLS, raw, status)
        gates = [c for c in pod["spec"].get("initContainers") or [] if c["name"] == CONTAINER]
        if gates and not jobs:
            return
        ended = [_container(CONTAINER, ended_state())] if gates else []
        fate = self.sick.get(
            meta["name"],
            {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        )
        await patch_status(api, PODS, pod, {"initContainerStatuses": ended, **fate})

    async def _bury(self, namespace: KubeObject) -> None:
        """What the namespace controller does; claims are no longer in use."""
        name, api = str(namespace["metadata"]["name"]), self.world.api
        held = self.buried.setdefault(name, {})
        discovery = await api.discover()
        for kind in discovery.resources:
            if not kind.namespaced or "delete" not in kind.verbs or kind.plural == "events":
                continue
            async for one in api.list(kind, namespace=name):
                held.setdefault(f"{kind.plural}/{one['metadata']['name']}", one)
                if one["metadata"].get("finalizers"):
                    patch = {"metadata": {"finalizers": None}}
                    await api.patch(kind, one["metadata"]["name"], patch, namespace=name)
                with contextlib.suppress(ApiNotFound):
                    await api.delete(kind, one["metadata"]["name"], namespace=name, grace_seconds=0)
        body = {**namespace, "spec": {"finalizers": []}}
        await asyncio.to_thread(
            self.plane.api.request, "PUT", f"/api/v1/namespaces/{name}/finalize", body=body
        )


def _container(name: str, state: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "ready": "terminated" in state,
        "restartCount": 0,
        "image": "x",
        "imageID": "",
        "state": state,
    }
