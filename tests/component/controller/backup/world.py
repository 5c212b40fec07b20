"""A cluster's objects without a cluster, a location in a directory, and agents that answer.

Problem: the controller must be seen to end every backup, against a real API server and with real
snapshots, without nodes, mounts and minutes of waiting.
Decision: pods, claims and volumes are objects whose status is written by hand. ``Agents`` does what
the agents of all nodes would: each job's volume is a directory of the test's, stored by the real
engine with the password of the job's own Secret. The leader runs in this process, on the real API.
Limits: nothing collects garbage: no controller-manager runs.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from ararat.api import Backup, BackupLocation, PodVolumeBackup, Repository
from ararat.api.manifest import Manifest, decode_manifest
from ararat.api.nodejob import JobPhase
from ararat.blob.filesystem import FilesystemStore
from ararat.blob.open import open_store
from ararat.blob.store import BlobStore
from ararat.keys import manifest_mac_key, repository_password
from ararat.kube import Informer, KubeApi, KubeObject, of, patch_status
from ararat.kube.errors import ApiConflict, ApiNotFound
from ararat.kube.resources import CONFIG_MAPS, EVENTS, NAMESPACES, PODS, PVCS, PVS, SECRETS
from ararat.restic.commands import Restic
from ararat.restic.models import Access, BackupRequest, LockOwner
from ararat.restic.session import open_repository
from controller.app import lead, make_context
from controller.config import Config
from controller.context import Context

BACKUPS, JOBS, LOCATIONS = of(Backup), of(PodVolumeBackup), of(BackupLocation)
DEADLINE = 180.0
_numbers = itertools.count(1)
T = TypeVar("T")


async def eventually(
    look: Callable[[], Awaitable[T | None]], *, what: str, within: float = DEADLINE
) -> T:
    """What ``look`` returns as soon as it is not None or False."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within
    while True:
        found = await look()
        if found:
            return found
        if loop.time() > end:
            raise AssertionError(f"not within {within:.0f} s: {what}")
        await asyncio.sleep(0.1)


@dataclass
class Volume:
    """What a job finds in a volume, and what becomes of it."""

    files: dict[str, bytes] = field(default_factory=dict)
    #: Ends the job as Failed, with this reason.
    fail: str = ""
    #: The job is taken and goes on until this is set.
    hold: asyncio.Event | None = None
    #: Called when the job begins to read the volume, and when it has read it.
    look: Callable[[], None] = lambda: None


class World:
    """One installation: its namespaces, its location, its workload. Names are unique."""

    def __init__(self, api: KubeApi, path: Path, *, store: Path | None = None) -> None:
        number = next(_numbers)
        self.api = api
        self.path = path / f"world-{number}"
        self.store_path = store or self.path / "store"
        self.cluster = f"cluster-{number}-{secrets.token_hex(4)}"
        self.namespace = f"ararat-{number}-{secrets.token_hex(3)}"
        self.workload = f"wp-{number}-{secrets.token_hex(3)}"
        self.node = f"node-{number}"
        self.volumes: dict[str, Volume] = {}
        #: The controller's clock, where the test moves it.
        self.clock: Callable[[], datetime] | None = None
        for name in ("spool", "cache", "scratch", "volumes"):
            (self.path / name).mkdir(parents=True)
        self.config = Config.from_env(
            {
                "ARARAT_NAMESPACE": self.namespace,
                "ARARAT_GATE_IMAGE": "agent:test",
                "ARARAT_SPOOL_DIR": str(self.path / "spool"),
                "ARARAT_CACHE_DIR": str(self.path / "cache"),
                "ARARAT_SCRATCH_DIR": str(self.path / "scratch"),
            }
        )

    async def prepare(self, *, read_only: bool = False) -> None:
        for name in (self.namespace, self.config.keys_namespace, self.workload):
            await self.api.create(NAMESPACES, {"metadata": {"name": name}})
        self.store_path.mkdir(exist_ok=True)
        await self.location(access="ReadOnly" if read_only else "ReadWrite")
        await self.agent_pod(self.node)

    # --- objects ---

    async def location(self, name: str = "main", *, access: str = "ReadWrite") -> None:
        spec = {
            "filesystem": {"path": str(self.store_path)},
            "accessMode": access,
            "default": name == "main",
            "syncPeriodSeconds": 5,
        }
        await self.create(LOCATIONS, name, self.namespace, spec=spec)

    async def agent_pod(self, node: str, *, ready: bool = True) -> None:
        name = f"agent-{node}"
        body = _pod(name, node=node, volumes={})
        body["metadata"]["labels"] = {"app.kubernetes.io/component": "agent"}
        made = await self.api.create(PODS, body, namespace=self.namespace)
        await self._run(made, ready=ready)

    async def pod(
        self,
        name: str,
        *,
        claims: dict[str, str] | None = None,
        scratch: tuple[str, ...] = (),
        asked: str = "",
        node: str = "",
        namespace: str = "",
        running: bool = True,
        annotations: dict[str, str] | None = None,
        containers: tuple[str, ...] = ("main",),
        owner: KubeObject | None = None,
    ) -> KubeObject:
        volumes: dict[str, Any] = {
            volume: {"persistentVolumeClaim": {"claimName": claim}}
            for volume, claim in (claims or {}).items()
        }
        volumes |= {volume: {"emptyDir": {}} for volume in scratch}
        body = _pod(name, node=node or self.node, volumes=volumes, containers=containers)
        body["metadata"]["annotations"] = dict(annotations or {})
        if asked:
            body["metadata"]["annotations"]["ararat.dev/backup-volumes"] = asked
        if owner is not None:
            reference = {key: owner["metadata"][key] for key in ("name", "uid")}
            reference |= {"apiVersion": owner["apiVersion"], "kind": owner["kind"]}
            body["metadata"]["ownerReferences"] = [{**reference, "controller": True}]
        made = await self.api.create(PODS, body, namespace=namespace or self.workload)
        return await self._run(made) if running else made

    async def _run(self, pod: KubeObject, *, ready: bool = True) -> KubeObject:
        condition = {"type": "Ready", "status": "True" if ready else "False"}
        return await patch_status(
            self.api, PODS, pod, {"phase": "Running", "conditions": [condition]}
        )

    async def claim(self, name: str, *, namespace: str = "") -> None:
        """A claim that is bound to a volume of its own."""
        place = namespace or self.workload
        size, modes = {"storage": "1Gi"}, ["ReadWriteOnce"]
        volume = f"pv-{place}-{name}"
        spec = {"accessModes": modes, "capacity": size, "csi": {"driver": "d", "volumeHandle": "h"}}
        await self.create(PVS, volume, None, spec=spec)
        claim = await self.create(
            PVCS,
            name,
            place,
            spec={"accessModes": modes, "resources": {"requests": size}, "volumeName": volume},
        )
        await patch_status(self.api, PVCS, claim, {"phase": "Bound", "capacity": size})

    async def workload_of(self, *volumes: str, **contents: Volume) -> None:
        """A pod for each volume, which asks for it, and something to be found in it."""
        for name in volumes:
            await self.claim(name)
            await self.pod(f"pod-{name}", claims={"data": name}, asked="data")
            self.volumes[f"pod-{name}"] = contents.get(name) or Volume(
                {"file": name.encode() * 100, "dir/other": secrets.token_bytes(2000)}
            )
        data = {"password": base64.b64encode(b"hunter2").decode()}
        await self.create(SECRETS, "credentials", self.workload, data=data)
        await self.create(CONFIG_MAPS, "settings", self.workload, data={"a": "ä"})

    async def create(self, rt: Any, name: str, namespace: str | None, **content: Any) -> KubeObject:
        body = {"apiVersion": rt.api_version, "kind": rt.kind, "metadata": {"name": name}}
        return await self.api.create(rt, {**body, **content}, namespace=namespace)

    async def backup(self, name: str = "nightly", **spec: Any) -> KubeObject:
        spec = {"includedNamespaces": [self.workload], **spec}
        return await self.create(BACKUPS, name, self.namespace, spec=spec)

    async def patch(self, rt: Any, name: str, patch: dict[str, Any]) -> None:
        await self.api.patch(rt, name, patch, namespace=self.namespace)

    # --- looking ---

    async def get(self, name: str = "nightly") -> Backup:
        return Backup.parse(await self.api.get(BACKUPS, name, namespace=self.namespace))

    async def jobs(self) -> list[PodVolumeBackup]:
        found = [
            PodVolumeBackup.parse(raw)
            async for raw in self.api.list(JOBS, namespace=self.namespace)
        ]
        return sorted(found, key=lambda job: job.spec.pod.name)

    async def phase(self, *phases: str, name: str = "nightly", within: float = DEADLINE) -> Backup:
        """The backup, once it is in one of these phases; in another that ends it: a failure."""

        async def look() -> Backup | None:
            backup = await self.get(name)
            if backup.status.phase.value in phases:
                return backup
            assert not backup.status.phase.terminal, (backup.status.phase, backup.status.message)
            return None

        return await eventually(look, what=f"{name} is {' or '.join(phases)}", within=within)

    async def settled(self, name: str = "nightly") -> Backup:
        """The backup, once it has ended and was let go of."""

        async def look() -> Backup | None:
            backup = await self.get(name)
            done = backup.status.phase.terminal and not backup.metadata.finalizers
            return backup if done else None

        return await eventually(look, what=f"{name} has ended")

    async def gone(self, rt: Any, name: str) -> None:
        async def look() -> bool:
            try:
                await self.api.get(rt, name, namespace=self.namespace)
            except ApiNotFound:
                return True
            return False

        await eventually(look, what=f"{rt} {name} is gone")

    async def location_phase(self, phase: str, *, message: str = "") -> BackupLocation:
        async def look() -> BackupLocation | None:
            raw = await self.api.get(LOCATIONS, "main", namespace=self.namespace)
            found = BackupLocation.parse(raw)
            fits = found.status.phase == phase and message in (found.status.message or "")
            return found if fits else None

        return await eventually(look, what=f"location is {phase} {message}")

    async def events(self, reason: str) -> list[KubeObject]:
        return [
            event
            async for event in self.api.list(EVENTS, namespace=self.namespace)
            if event["reason"] == reason
        ]

    async def repositories(self) -> list[Repository]:
        return [
            Repository.parse(raw)
            async for raw in self.api.list(of(Repository), namespace=self.namespace)
        ]

    async def secrets(self) -> list[str]:
        """Names of the Secrets beside the backups: passwords of jobs."""
        found = self.api.list(SECRETS, namespace=self.namespace)
        return sorted([secret["metadata"]["name"] async for secret in found])

    # --- what is stored ---

    @property
    def store(self) -> BlobStore:
        return FilesystemStore(self.store_path)

    def names(self, prefix: str = "") -> list[str]:
        """Of everything in the location that begins so, in order."""
        root = self.store_path
        found = (str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
        return sorted(name for name in found if name.startswith(prefix))

    def stored(self, name: str) -> bytes:
        return (self.store_path / name).read_bytes()

    def files(self) -> set[str]:
        """Everything in the location, repositories aside."""
        return {name for name in self.names() if not name.startswith((".", "repositories/"))}

    async def master(self) -> bytes:
        secret = await self.api.get(SECRETS, "master-key", namespace=self.config.keys_namespace)
        return bytes.fromhex(base64.b64decode(secret["data"]["key"]).decode())

    def location_file(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.stored("location.json"))
        return content

    async def manifest(self, name: str = "nightly") -> Manifest:
        data = self.stored(f"backups/{name}/manifest.json")
        key = manifest_mac_key(await self.master(), self.location_file()["locationID"])
        return decode_manifest(data, key)

    async def password(self, repository: str) -> str:
        location_id = self.location_file()["locationID"]
        return repository_password(await self.master(), location_id, repository)

    # --- running ---

    @asynccontextmanager
    async def leader(self, api: KubeApi | None = None) -> AsyncIterator[Leader]:
        context = make_context(
            self.config, api or self.api, cluster_uid=self.cluster, version="v1.20.2"
        )
        if self.clock is not None:
            context.now = self.clock
            context.clock_is_moved = True
        task = asyncio.create_task(lead(context))
        try:
            yield Leader(context, task)
        finally:
            crashed = task.done() and not task.cancelled()
            task.cancel()
            await asyncio.wait([task])
            await context.locations.close()
            if crashed:
                task.result()

    @asynccontextmanager
    async def agents(self) -> AsyncIterator[Agents]:
        agents = Agents(self)
        task = asyncio.create_task(agents.run())
        try:
            yield agents
        finally:
            crashed = task.done() and not task.cancelled()
            task.cancel()
            await asyncio.wait([task])
            if crashed:
                task.result()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Agents]:
        async with self.agents() as agents, self.leader():
            yield agents


@dataclass
class Leader:
    context: Context
    task: asyncio.Task[None]


class Agents:
    """The agents of all nodes: they take every job once, and answer by its status."""

    def __init__(self, world: World) -> None:
        self._world = world
        #: UIDs of the jobs that were taken, in that order: each at most once.
        self.taken: list[str] = []
        #: Slots are free for jobs that are held.
        self.reserve = True
        self._informer = Informer(world.api, JOBS, namespace=world.namespace)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:

            def on_change(_: str, raw: KubeObject, __: KubeObject | None) -> None:
                job = PodVolumeBackup.parse(raw)
                if job.status.phase.terminal or not job.spec.node:
                    return  # without a node it is nobody's: it is there to say why it failed
                if job.spec.cancel:
                    if (task := self._tasks.pop(job.uid, None)) is not None:
                        task.cancel()
                    group.create_task(self._say(raw, phase="Cancelled", message="cancelled"))
                elif job.spec.hold:
                    if job.status.phase is JobPhase.NEW and self.reserve:
                        group.create_task(self._say(raw, phase="Reserved"))
                elif job.uid not in self.taken:
                    self.taken.append(job.uid)
                    self._tasks[job.uid] = group.create_task(self._do(raw, job))

            self._informer.on_change(on_change)
            await self._informer.run()

    async def _say(self, raw: KubeObject, **status: Any) -> None:
        if status["phase"] not in ("InProgress", "Reserved"):
            status["completionTime"] = _now()
        with contextlib.suppress(ApiNotFound, ApiConflict):  # gone, or replaced
            await patch_status(self._world.api, JOBS, raw, status)

    async def _do(self, raw: KubeObject, job: PodVolumeBackup) -> None:
        known, claim = self._world.volumes, job.spec.claim
        volume = known.get(job.spec.pod.name) or known.get(claim.name if claim else "") or Volume()
        progress = {"totalBytes": 10, "bytesDone": 4}
        await self._say(raw, phase="InProgress", startTime=_now(), progress=progress)
        volume.look()
        if volume.hold is not None:
            await volume.hold.wait()
        if volume.fail:
            text = f"{volume.fail} on purpose"
            await self._say(raw, phase="Failed", reason=volume.fail, message=text)
            return
        source = self._world.path / "volumes" / job.name
        for name, content in volume.files.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(content)
        source.mkdir(exist_ok=True)
        request = BackupRequest(
            source=source,
            host=job.spec.host,
            tags=("ararat", f"backup={job.spec.backup_uid}", f"job={job.uid}"),
        )
        async with self._repository(job) as restic:
            result = await restic.backup(request)
        volume.look()
        await self._say(
            raw,
            phase="Completed",
            snapshotID=result.snapshot_id,
            empty=result.empty,
            summary={
                "filesTotal": result.files_total,
                "bytesProcessed": result.bytes_processed,
                "bytesStored": result.bytes_stored,
            },
            root={"mode": 0o755, "uid": 0, "gid": 0, "mtimeNs": 1},
        )

    @asynccontextmanager
    async def _repository(self, job: PodVolumeBackup) -> AsyncIterator[Restic]:
        """As an agent opens it: with nothing but what the job says."""
        world, reference = self._world, job.spec.repository
        raw = await world.api.get(LOCATIONS, reference.location, namespace=world.namespace)
        secret = await world.api.get(SECRETS, reference.password_secret, namespace=world.namespace)
        location = BackupLocation.parse(raw)
        azure = location.spec.azure
        credentials: dict[str, bytes] = {}
        if azure is not None and azure.credentials_secret:
            data = await world.api.get(SECRETS, azure.credentials_secret, namespace=world.namespace)
            credentials = {k: base64.b64decode(v) for k, v in data["data"].items()}
        store = await open_store(location.spec, credentials)
        try:
            file = json.loads(await store.get("location.json"))
            assert file["locationID"] == reference.location_id
            async with open_repository(
                store=store,
                directory=reference.directory,
                password=base64.b64decode(secret["data"]["password"]).decode(),
                key_id=reference.key_id,
                access=Access.APPEND_ONLY,
                owner=LockOwner(world.cluster, "pod", "start", job.uid),
                cache_dir=world.path / "cache-agent",
                scratch_dir=world.path / "scratch",
            ) as restic:
                yield restic
        finally:
            await store.close()


def _now() -> str:
    return datetime.now(UTC).replace(microsecond=0).isoformat()


def _pod(
    name: str, *, node: str, volumes: dict[str, Any], containers: tuple[str, ...] = ("main",)
) -> dict[str, Any]:
    mounts = [{"name": volume, "mountPath": f"/{volume}"} for volume in volumes]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "nodeName": node,
            "containers": [
                {"name": container, "image": "none", "volumeMounts": mounts}
                for container in containers
            ],
            "volumes": [{"name": volume, **source} for volume, source in volumes.items()],
        },
    }
