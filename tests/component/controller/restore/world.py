"""A cluster that is restored into: a location with a backup, our controller's parts, and the parts
of a node played by the test (scheduler, kubelet, agent)."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ararat import keys, layout
from ararat.api import Backup, BackupLocation, PodVolumeRestore, Restore
from ararat.api.backup import BackupPhase, BackupSpec, ObjectsResult
from ararat.api.base import utcnow
from ararat.api.manifest import Manifest, ManifestRepository, ManifestVolume
from ararat.blob.filesystem import FilesystemStore
from ararat.kube import KubeApi, WorkQueue, of, run_workers
from ararat.kube.errors import ApiNotFound
from ararat.kube.resources import NAMESPACES, PODS, PVCS, SECRETS
from ararat.kube.status import patch_status
from controller.app import make_context
from controller.config import Config
from controller.context import Context
from controller.location.open import OpenLocation
from controller.restore.reconcile import RestoreReconciler, keys_of_pod
from controller.restore.stored import StoredObject
from controller.runlog import RunLogs
from tests.cluster.apiserver import ControlPlane
from tests.containers import ended_state

LOCATION_ID = "loc-restore"
OWNER = "cluster-a"
MASTER = bytes(range(32))

_numbers = itertools.count(1)


class World:
    """Names are unique, so that tests share one API server."""

    def __init__(self, api: KubeApi, plane: ControlPlane, path: Path) -> None:
        number = next(_numbers)
        self.api = api
        self.plane = plane
        self.path = path
        self.namespace = f"ararat-{number}"
        self.wp = f"wp-{number}"
        self.other = f"other-{number}"
        self.node = f"node-{number}"
        self.objects: list[StoredObject] = []
        self.volumes: list[ManifestVolume] = []
        self.directory = f"repositories/volumes/{self.wp}/0001"
        self.key_id = "k"
        self.store_path = path / "location"
        self.cluster = "cluster-b"
        self.context = self._context()
        self.queue = _queue()
        self.reads = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self._workers: asyncio.Task[Any] | None = None

    def _context(self) -> Context:
        config = Config.from_env(
            {
                "ARARAT_NAMESPACE": self.namespace,
                "ARARAT_GATE_IMAGE": "ararat-agent:test",
                "ARARAT_SPOOL_DIR": str(self.path / "spool"),
                "ARARAT_CACHE_DIR": str(self.path / "cache"),
                "ARARAT_SCRATCH_DIR": str(self.path),
            }
        )
        return make_context(config, self.api, cluster_uid=self.cluster, version="v1.20.2")

    async def own_location(self) -> None:
        """From here on this cluster may write to it."""
        file = layout.LocationFile(
            location_id=LOCATION_ID,
            owner=self.cluster,
            key_fingerprints=[keys.fingerprint(MASTER)],
        )
        (self.store_path / layout.LOCATION).write_bytes(file.encode())
        patch = {"spec": {"accessMode": "ReadWrite"}}
        await self.api.patch(of(BackupLocation), "default", patch, namespace=self.namespace)

        async def seen() -> bool:
            raw = self.context.locations_informer.get("default", self.namespace)
            return raw is not None and raw["spec"]["accessMode"] == "ReadWrite"

        await until(seen, what="the location is known as ours")
        self.context.locations.changed("default")

    # --- life -----------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncIterator[World]:
        for name in (self.namespace, f"{self.namespace}-keys"):
            await self.api.create(NAMESPACES, {"metadata": {"name": name}})
        await self.api.create(
            SECRETS,
            {
                "metadata": {"name": "master-key", "namespace": f"{self.namespace}-keys"},
                "stringData": {"key": MASTER.hex()},
            },
        )
        self.store_path.mkdir()
        file = layout.LocationFile(
            location_id=LOCATION_ID, owner=OWNER, key_fingerprints=[keys.fingerprint(MASTER)]
        )
        (self.store_path / layout.LOCATION).write_bytes(file.encode())
        await self.create(
            BackupLocation,
            "default",
            {
                "filesystem": {"path": str(self.store_path)},
                "default": True,
                "accessMode": "ReadOnly",
            },
            {"phase": "Available"},
        )
        await self.add_agent(self.node)
        context = self.context
        informers = (
            context.locations_informer,
            context.backups,
            context.restores,
            context.pod_volume_restores,
            context.agents,
            context.gated_pods,
        )
        self._tasks = [asyncio.create_task(informer.run()) for informer in informers]
        for informer in informers:
            await informer.synced()
        context.restores.on_change(lambda _c, obj, _o: self._wake(obj["metadata"]["name"]))
        context.pod_volume_restores.on_change(
            lambda _c, obj, _o: self._wake(obj["spec"]["restore"])
        )
        context.gated_pods.on_change(self._wake_by_pod)
        self.start_controller()
        try:
            yield self
        finally:
            await self.kill_controller()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _wake(self, name: str) -> None:
        self.queue.add(f"{self.namespace}/{name}")

    def _wake_by_pod(self, change: str, pod: dict[str, Any], old: dict[str, Any] | None) -> None:
        del change, old
        for key in keys_of_pod(pod, namespace=self.namespace):
            self.queue.add(key)

    def start_controller(self) -> None:
        """A fresh one: it remembers nothing, and looks at everything first."""
        self.queue = _queue()
        for raw in self.context.restores.items():
            self._wake(raw["metadata"]["name"])
        self._workers = asyncio.create_task(self._lead())

    async def _lead(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            reconciler = RestoreReconciler(
                self.context,
                tasks=tasks,
                enqueue=self.queue.add,
                read_objects=self._read_objects,
            )
            await run_workers(self.queue, reconciler, workers=2)

    async def kill_controller(self) -> None:
        if self._workers is not None:
            self._workers.cancel()
            await asyncio.gather(self._workers, return_exceptions=True)
            self._workers = None
            self.context.logs = RunLogs()

    async def _read_objects(
        self, context: Context, location: OpenLocation, manifest: Manifest, *, job: str
    ) -> list[StoredObject]:
        del context, location, manifest, job
        self.reads += 1
        return list(self.objects)

    # --- what is there --------------------------------------------------------------------------

    async def create(
        self,
        kind: Any,
        name: str,
        spec: dict[str, Any],
        status: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        raw = await self.api.create(
            of(kind),
            {
                "apiVersion": "ararat.dev/v1alpha1",
                "kind": kind.KIND,
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": spec,
            },
        )
        return await patch_status(self.api, of(kind), raw, status) if status else raw

    async def backup(
        self, *objects: StoredObject, volumes: Sequence[ManifestVolume] = (), name: str = "b1"
    ) -> None:
        """A finished backup in the location, and its Backup object as sync makes it."""
        self.objects = list(objects)
        namespaces = sorted({obj.namespace for obj in objects if obj.namespace})
        manifest = Manifest(
            backup=name,
            backup_uid="backup-uid",
            cluster_uid=OWNER,
            location_id=LOCATION_ID,
            spec=BackupSpec(),
            phase=BackupPhase.COMPLETED,
            start_time=utcnow(),
            completion_time=utcnow(),
            namespaces=namespaces,
            objects=ObjectsResult(
                directory="repositories/objects/0001", snapshot_id="6" * 64, count=len(objects)
            ),
            repositories=[ManifestRepository(directory=self.directory, key_id=self.key_id)],
            volumes=list(volumes),
        )
        store = FilesystemStore(self.store_path)
        mac = keys.manifest_mac_key(MASTER, LOCATION_ID)
        await store.put(layout.backup_manifest(name), manifest.encode(mac))
        await self.create(
            Backup, name, {"location": "default"}, {"phase": "Completed", "location": "default"}
        )

    async def restore(self, name: str = "r1", **spec: Any) -> dict[str, Any]:
        return await self.create(Restore, name, {"backup": "b1", **spec})

    async def raw_restore(self, name: str = "r1") -> dict[str, Any]:
        return await self.api.get(of(Restore), name, namespace=self.namespace)

    async def restore_uid(self, name: str = "r1") -> str:
        return str((await self.raw_restore(name))["metadata"]["uid"])

    async def status(self, name: str = "r1") -> dict[str, Any]:
        return (await self.raw_restore(name)).get("status") or {}

    async def add_agent(self, node: str) -> None:
        name = f"agent-{node}"
        raw = await self.api.create(
            PODS,
            {
                "metadata": {
                    "name": name,
                    "namespace": self.namespace,
                    "labels": {"app.kubernetes.io/component": "agent"},
                },
                "spec": {"nodeName": node, "containers": [{"name": "agent", "image": "x"}]},
            },
        )
        ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        await patch_status(self.api, PODS, raw, ready)

    # --- the parts of a node --------------------------------------------------------------------

    async def pod(self, name: str, namespace: str | None = None) -> dict[str, Any]:
        return await self.api.get(PODS, name, namespace=namespace or self.wp)

    async def claim(self, name: str, namespace: str | None = None) -> dict[str, Any]:
        return await self.api.get(PVCS, name, namespace=namespace or self.wp)

    async def schedule(
        self, name: str, *, node: str | None = None, namespace: str | None = None
    ) -> None:
        """Bind a pod and have its gate run."""
        namespace = namespace or self.wp
        await asyncio.to_thread(
            self.plane.api.create,
            f"/api/v1/namespaces/{namespace}/pods/{name}/binding",
            {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": name},
                "target": {"kind": "Node", "name": node or self.node},
            },
        )
        raw = await self.pod(name, namespace)
        gate = {
            "name": "restore-wait",
            "ready": False,
            "restartCount": 0,
            "image": "",
            "imageID": "",
        }
        running = {"running": {"startedAt": utcnow().isoformat()}}
        status = {"phase": "Pending", "initContainerStatuses": [{**gate, "state": running}]}
        await patch_status(self.api, PODS, raw, status)

    async def pass_gate(self, name: str, *, ready: bool = False) -> None:
        """The gate ends well, and the pod goes on."""
        await self.set_gate(name, ended_state(), ready=ready)

    async def set_gate(self, name: str, state: dict[str, Any], *, ready: bool = False) -> None:
        raw = await self.pod(name)
        gate = {"name": "restore-wait", "ready": ready, "restartCount": 0, "image": "x"}
        conditions = [c for c in raw["status"].get("conditions") or [] if c["type"] != "Ready"] + [
            {"type": "Ready", "status": "True" if ready else "False"}
        ]
        status = {
            "phase": "Running" if ready else "Pending",
            "initContainerStatuses": [{**gate, "imageID": "", "state": state}],
            "conditions": conditions,
        }
        await patch_status(self.api, PODS, raw, status)

    async def jobs(self) -> list[PodVolumeRestore]:
        found = self.api.list(of(PodVolumeRestore), namespace=self.namespace)
        parsed = [PodVolumeRestore.parse(raw) async for raw in found]
        return sorted(parsed, key=lambda j: (j.spec.attempt, str(j.metadata.creation_timestamp)))

    async def set_job(self, job: PodVolumeRestore, **status: Any) -> None:
        raw = await self.api.get(of(PodVolumeRestore), job.name, namespace=self.namespace)
        await patch_status(self.api, of(PodVolumeRestore), raw, status)

    async def remove_pod(self, name: str) -> None:
        await self.api.delete(PODS, name, namespace=self.wp, grace_seconds=0)


def _queue() -> WorkQueue:
    return WorkQueue("restores", first=0.2, cap=2)


async def until(check: Callable[[], Awaitable[Any]], *, seconds: float = 60, what: str = "") -> Any:
    """Ask until the answer is true; returns it."""
    deadline = time.monotonic() + seconds
    answer = None
    while time.monotonic() < deadline:
        try:
            answer = await check()
        except ApiNotFound:
            answer = None
        if answer:
            return answer
        await asyncio.sleep(0.1)
    raise AssertionError(f"{what or check} did not become true; last: {answer!r}")
