"""A whole backup without I/O: the real reconciler, and everything outside of it as plain data.

Problem: "the controller may be killed at every line" has too many lines to start an API server and
restic for each.
Decision: cluster, location and repositories are dictionaries that outlive the controllers. Each
``Life`` is a reconciler of its own, which knows nothing of the one before; it is looked into until
the backup has ended, and agents and kubelet move on between two looks. Whatever changes something
outside is a step; a life can be ended right after any of them: from then on none of its calls
returns. Caches are always up to date here.
Limits: what API server, store and restic really do is the component tests' business
(tests/component/controller/backup/test_kills.py), hooks are tests/…/hooks/test_decide.py's.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ararat import layout
from ararat.api import Backup, BackupLocation, PodVolumeBackup
from ararat.api.manifest import Manifest, decode_manifest
from ararat.api.names import BACKUP_VOLUMES, HELPER, OWNER_UID
from ararat.api.nodejob import JobPhase
from ararat.blob.store import BlobInfo
from ararat.errors import Conflict, NotFound
from ararat.kube import (
    ApiConflict,
    Discovery,
    Forbidden,
    KubeObject,
    Page,
    ResourceType,
    WatchEventType,
    of,
)
from ararat.kube.resources import CONFIG_MAPS, NAMESPACES, PODS, PVCS, PVS, SECRETS
from ararat.restic.models import BackupRequest, BackupResult, Snapshot
from controller.app import make_context
from controller.backup.reconcile import BackupReconciler
from controller.config import Config
from controller.context import Context
from controller.helper_pods import HelperReaper
from controller.location.open import OpenLocation
from controller.spool import clear
from tests.unit.ararat.kube.fake import FakeApi

BACKUPS, JOBS, LOCATIONS = of(Backup), of(PodVolumeBackup), of(BackupLocation)
#: A kind that nobody may list: a failure that is known before the volumes are.
WIDGETS = ResourceType("example.com", "v1", "widgets", "Widget", True, ("list",))
OWN, NAMESPACE, NODE, NAME, CLUSTER = "ararat", "wp", "n1", "nightly", "cluster"
_SERVED = [
    ResourceType(t.group, t.version, t.plural, t.kind, t.namespaced, ("list",))
    for t in (PODS, CONFIG_MAPS, SECRETS, PVCS, PVS, NAMESPACES)
]
#: A life takes milliseconds; a busy machine is given time for its threads.
PATIENCE = 60.0
_MASTER = b"m" * 32


@dataclass
class Killer:
    """Ends a life right after its ``at``-th step; None: it is let live."""

    at: int | None = None
    steps: list[str] = field(default_factory=list)
    fired: asyncio.Event = field(default_factory=asyncio.Event)
    #: What was under way has been cancelled, and may not wait for anything any more.
    buried: bool = False

    async def begin(self) -> None:
        """A call is about to be made; of a life that has ended, none is."""
        if self.buried:
            raise asyncio.CancelledError
        if self.fired.is_set():
            await asyncio.Event().wait()

    async def done(self, step: str) -> None:
        self.steps.append(step)
        if len(self.steps) == self.at:
            self.fired.set()
            await self.begin()


class Cluster(FakeApi):
    """Finalizers, label selectors, and no watches."""

    def __init__(self) -> None:
        super().__init__()
        self.killer = Killer()
        #: How often each object was made, by (plural, name).
        self.made: Counter[tuple[str, str]] = Counter()

    def of_kind(self, rt: ResourceType) -> list[KubeObject]:
        return [obj for (plural, _, _), obj in sorted(self.store.items()) if plural == rt.plural]

    def _notify(self, kind: WatchEventType, obj: KubeObject) -> None:
        """Nobody watches."""

    async def _enter(self, verb: str, name: str) -> None:
        await asyncio.sleep(0)
        await self.killer.begin()

    async def _leave(self, verb: str, name: str) -> None:
        """Steps are counted where it is known what they were."""

    async def pages(
        self,
        rt: ResourceType,
        *,
        namespace: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
        page: int = 500,
        resource_version: str | None = None,
    ) -> AsyncIterator[Page]:
        await self._enter("list", rt.plural)
        if rt == WIDGETS:
            raise Forbidden("widgets: no")
        found = [
            obj
            for obj in self.of_kind(rt)
            if namespace in (None, obj["metadata"].get("namespace"))
            and _fits(obj["metadata"].get("labels") or {}, labels)
        ]
        yield Page([copy.deepcopy(obj) for obj in found], str(self.version))

    async def create(
        self,
        rt: ResourceType,
        body: Mapping[str, Any],
        *,
        namespace: str | None = None,
        dry_run: bool = False,
    ) -> KubeObject:
        body = {**body, "metadata": {"creationTimestamp": _now(), **body["metadata"]}}
        made = await super().create(rt, body, namespace=namespace)
        self.made[rt.plural, made["metadata"]["name"]] += 1
        await self.killer.done(f"create {rt.plural} {made['metadata']['name']}")
        return made

    async def patch(self, rt: ResourceType, name: str, patch: Any, **options: Any) -> KubeObject:
        result = await super().patch(rt, name, patch, **options)
        meta = result["metadata"]
        if meta.get("deletionTimestamp") and not meta.get("finalizers"):
            self.remove(rt, name, meta.get("namespace") or "")
        await self.killer.done(f"patch {rt.plural} {name}")
        return result

    async def delete(
        self, rt: ResourceType, name: str, *, namespace: str | None = None, **options: Any
    ) -> None:
        await self._enter("delete", name)
        self.drop(rt, name, namespace or "")
        await self.killer.done(f"delete {rt.plural} {name}")

    def drop(self, rt: ResourceType, name: str, namespace: str) -> None:
        """As a user's delete: what has a finalizer stays until that is gone."""
        obj = self.store.get((rt.plural, namespace, name))
        if obj is None:
            return
        if obj["metadata"].get("finalizers"):
            stamp = {"metadata": {**obj["metadata"], "deletionTimestamp": _now()}}
            self.put(rt, {**obj, **stamp})
        else:
            self.remove(rt, name, namespace)

    async def discover(self) -> Discovery:
        return Discovery(resources=[*_SERVED, WIDGETS], failed_groups=[])


class Blobs:
    """A location's blobs."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.held: dict[str, bytes] = {}
        self.puts: Counter[str] = Counter()

    async def get(self, name: str) -> bytes:
        await asyncio.sleep(0)
        await self._world.killer.begin()
        if name not in self.held:
            raise NotFound(name)
        return self.held[name]

    async def head(self, name: str) -> BlobInfo:
        data = await self.get(name)
        tag = hashlib.sha256(data).hexdigest()
        return BlobInfo(name, len(data), tag, datetime.now(UTC))

    async def put(
        self, name: str, data: bytes, *, create_only: bool = False, if_match: str | None = None
    ) -> BlobInfo:
        await asyncio.sleep(0)
        await self._world.killer.begin()
        if create_only and name in self.held:
            raise Conflict(name)
        if if_match is not None and if_match != (await self.head(name)).etag:
            raise Conflict(name)
        self.held[name] = data
        self.puts[name] += 1
        await self._world.killer.done(f"put {name}")
        return await self.head(name)


class World:
    """What outlives the controllers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cluster = Cluster()
        self.blobs = Blobs(self)
        #: By directory: snapshot → its tags.
        self.repositories: dict[str, dict[str, tuple[str, ...]]] = {}
        #: UIDs of the jobs that agents began.
        self.taken: Counter[str] = Counter()
        self.config = Config.from_env(
            {
                "ARARAT_GATE_IMAGE": "agent",
                **{
                    f"ARARAT_{kind}_DIR": str(path / kind) for kind in ("SPOOL", "CACHE", "SCRATCH")
                },
            }
        )
        self._seed()

    @property
    def killer(self) -> Killer:
        return self.cluster.killer

    def _seed(self) -> None:
        put = self.cluster.put
        for name in (NAMESPACE, OWN, f"{OWN}-keys"):
            put(NAMESPACES, {"metadata": {"name": name}})
        for name in ("db", "bad", "spare"):
            claim = {"volumeName": f"pv-{name}", "accessModes": ["ReadWriteOnce"]}
            put(PVCS, _obj(name, NAMESPACE, spec=claim, status={"phase": "Bound"}))
            put(PVS, _obj(f"pv-{name}", spec={"csi": {"driver": "d", "volumeHandle": name}}))
        for name, phase in (("db", "Running"), ("bad", "Running"), ("late", "Pending")):
            source: dict[str, Any] = {"persistentVolumeClaim": {"claimName": name}}
            source = {"emptyDir": {}} if name == "late" else source
            put(PODS, _pod(name, NAMESPACE, source, phase))
        ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        labels = {"app.kubernetes.io/component": "agent"}
        put(PODS, _obj("agent", OWN, labels=labels, spec={"nodeName": NODE}, status=ready))
        put(SECRETS, _obj("password", NAMESPACE, data={"a": "aHVudGVyMg=="}))
        spec = {"filesystem": {"path": "/none"}, "default": True}
        put(LOCATIONS, _obj("main", OWN, spec=spec))
        volumes = {"unmounted": "Backup"}
        spec = {"includedNamespaces": [NAMESPACE], "volumes": volumes}
        put(BACKUPS, _obj(NAME, OWN, spec=spec, creationTimestamp=_now()))

    # --- looking ---

    def backup(self) -> Backup | None:
        raw = self.cluster.store.get((BACKUPS.plural, OWN, NAME))
        return Backup.parse(raw) if raw else None

    def jobs(self) -> list[PodVolumeBackup]:
        return [PodVolumeBackup.parse(raw) for raw in self.cluster.of_kind(JOBS)]

    def manifest(self) -> Manifest | None:
        data = self.blobs.held.get(layout.backup_manifest(NAME))
        return decode_manifest(data, *self.location().manifest_keys) if data else None

    def left(self) -> list[str]:
        """What must be gone in the end."""
        of_ours = (HELPER, OWNER_UID)
        found = [
            f"{plural} {name}"
            for (plural, _, name), obj in self.cluster.store.items()
            if any(label in (obj["metadata"].get("labels") or {}) for label in of_ours)
        ]
        spool = self.config.spool_dir
        return found + [str(path) for path in (spool.iterdir() if spool.exists() else ())]

    # --- what others do ---

    def cancel(self) -> None:
        raw = self.cluster.store[BACKUPS.plural, OWN, NAME]
        self.cluster.put(BACKUPS, {**raw, "spec": {**raw["spec"], "cancel": True}})

    def delete(self) -> None:
        self.cluster.drop(BACKUPS, NAME, OWN)

    def others(self) -> None:
        """The agents, the scheduler and the kubelets take one step each."""
        for job in self.jobs():
            if job.status.phase.terminal or not job.spec.node:
                continue
            if job.spec.cancel:
                self._say(job, phase="Cancelled", message="cancelled")
            elif job.status.phase is JobPhase.NEW:
                self.taken[job.uid] += 1
                self._say(job, phase="InProgress")
            elif job.spec.pod.name == "bad":
                self._say(job, phase="Failed", reason="NotMounted", message="not mounted")
            else:
                tags = ("ararat", f"backup={job.spec.backup_uid}", f"job={job.uid}")
                snapshot = self.store_snapshot(job.spec.repository.directory, tags)
                self._say(job, phase="Completed", snapshotID=snapshot)
        for pod in self.cluster.of_kind(PODS):
            if HELPER in (pod["metadata"].get("labels") or {}) and "status" not in pod:
                spec = {**pod["spec"], "nodeName": NODE}
                self.cluster.put(PODS, {**pod, "spec": spec, "status": {"phase": "Running"}})

    def _say(self, job: PodVolumeBackup, **status: Any) -> None:
        raw = self.cluster.store[JOBS.plural, OWN, job.name]
        if status["phase"] != "InProgress":
            status["completionTime"] = _now()
        self.cluster.put(JOBS, {**raw, "status": {**(raw.get("status") or {}), **status}})

    # --- the location ---

    def store_snapshot(self, directory: str, tags: tuple[str, ...]) -> str:
        held = self.repositories.setdefault(directory, {})
        number = sum(len(one) for one in self.repositories.values())
        snapshot = f"{number:064x}"
        held[snapshot] = tags
        return snapshot

    def location(self) -> OpenLocation:
        raw = self.cluster.store[LOCATIONS.plural, OWN, "main"]
        store: Any = self.blobs
        return OpenLocation(
            resource=BackupLocation.parse(raw),
            store=store,
            location_id="l1",
            owner=CLUSTER,
            master=_MASTER,
            writable=True,
        )

    async def live(self, at: int | None = None) -> bool:
        """One life, ended after its ``at``-th step. True: the backup has ended before that."""
        self.cluster.killer = killer = Killer(at)
        clear(self.config.spool_dir)  # as each process begins
        context = make_context(self.config, self.cluster, cluster_uid=CLUSTER, version="v1")
        context.locations = _Locations(self)  # type: ignore[assignment]
        context.repositories = _Repositories(self)  # type: ignore[assignment]
        reaper = HelperReaper(self.cluster, helpers=context.helpers, needed=self._under_way)
        looks = asyncio.create_task(self._looks(context, reaper))
        ended = asyncio.create_task(killer.fired.wait())
        await asyncio.wait({looks, ended}, return_when=asyncio.FIRST_COMPLETED)
        killer.buried = killer.fired.is_set()
        for task in (looks, ended):
            task.cancel()
        await asyncio.wait({looks, ended})
        if not killer.buried:
            looks.result()
        return not killer.buried

    async def _looks(self, context: Context, reaper: HelperReaper) -> None:
        """Until the backup has ended."""
        caches = (
            *(context.locations_informer, context.backups, context.pod_volume_backups),
            *(context.agents, context.helpers),
        )
        async with _Tasks() as tasks:
            reconciler = BackupReconciler(context, tasks=tasks, enqueue=lambda _: None)
            clock = asyncio.get_running_loop().time
            end = clock() + PATIENCE
            while clock() < end:
                for cache in caches:
                    await cache._relist()
                try:
                    await reconciler.reconcile(f"{OWN}/{NAME}")
                    for key in context.helpers:
                        await reaper.reconcile(key)
                except ApiConflict:
                    pass  # what was patched a moment ago was patched again
                if self._over():
                    return tasks.end()
                self.others()
                await asyncio.sleep(0.001)
            raise AssertionError(f"it never ends; left: {self.left()}: {self.backup()}")

    def _under_way(self, uid: str) -> bool:
        backup = self.backup()
        return backup is not None and backup.uid == uid and not backup.status.phase.terminal

    def _over(self) -> bool:
        backup = self.backup()
        if backup is None:
            return not self.left()
        ended = backup.status.phase.terminal and not backup.metadata.finalizers
        return ended and not self.left()


class _Tasks(asyncio.TaskGroup):
    """Those that go on for ever end with the life."""

    def __init__(self) -> None:
        super().__init__()
        self._all: list[asyncio.Task[Any]] = []

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        self._all.append(super().create_task(coro, **options))
        return self._all[-1]

    def end(self) -> None:
        for task in self._all:
            task.cancel()


class _Locations:
    def __init__(self, world: World) -> None:
        self._world = world

    async def open(self, _: str) -> OpenLocation:
        return self._world.location()


class _Repositories:
    """Each is made by the first who asks for it."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def volumes(self, _: OpenLocation, namespace: str) -> layout.CurrentFile:
        return await self._one(layout.volumes_repository(namespace))

    async def objects(self, _: OpenLocation) -> layout.CurrentFile:
        return await self._one(layout.objects_repository())

    async def _one(self, folder: str) -> layout.CurrentFile:
        await asyncio.sleep(0)
        await self._world.killer.begin()
        if f"{folder}/r" not in self._world.repositories:
            self._world.repositories[f"{folder}/r"] = {}
            await self._world.killer.done(f"make {folder}")
        name = layout.repository_name(f"{folder}/r")
        return layout.CurrentFile(directory=f"{folder}/r", repository_name=name)


class _Restic:
    def __init__(self, world: World, directory: str) -> None:
        self._world, self._directory = world, directory

    async def backup(self, request: BackupRequest) -> BackupResult:
        await asyncio.sleep(0)
        await self._world.killer.begin()
        snapshot = self._world.store_snapshot(self._directory, tuple(request.tags))
        await self._world.killer.done(f"store {self._directory}")
        return BackupResult(snapshot_id=snapshot)

    async def snapshots(self, *, tags: tuple[str, ...]) -> list[Snapshot]:
        await asyncio.sleep(0)
        await self._world.killer.begin()
        held = self._world.repositories[self._directory]
        return [
            Snapshot(id=one, time=datetime.now(UTC), tags=has)
            for one, has in held.items()
            if set(tags) <= set(has)
        ]


def engine_of(world: Callable[[], World], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens a repository gets one of the world's."""

    @asynccontextmanager
    async def open_repository(*, directory: str, **_: Any) -> AsyncIterator[_Restic]:
        yield _Restic(world(), directory)

    for module in ("objects", "finalize"):
        monkeypatch.setattr(f"controller.backup.{module}.open_repository", open_repository)


def _fits(labels: Mapping[str, str], selector: str | None) -> bool:
    for part in (selector or "").split(","):
        name, equal, value = part.partition("=")
        if name and (name not in labels or (equal and labels[name] != value)):
            return False
    return True


def _obj(
    name: str, namespace: str | None = None, *, labels: Any = None, **content: Any
) -> KubeObject:
    metadata: dict[str, Any] = {"name": name, "labels": labels or {}}
    if namespace:
        metadata["namespace"] = namespace
    if stamp := content.pop("creationTimestamp", None):
        metadata["creationTimestamp"] = stamp
    return {"metadata": metadata, **content}


def _pod(name: str, namespace: str, source: dict[str, Any], phase: str) -> KubeObject:
    mounts = [{"name": "data", "mountPath": "/data"}]
    spec = {
        "nodeName": NODE,
        "volumes": [{"name": "data", **source}],
        "containers": [{"name": "main", "volumeMounts": mounts}],
    }
    pod = _obj(name, namespace, spec=spec, status={"phase": phase})
    pod["metadata"]["annotations"] = {BACKUP_VOLUMES[0]: "data"}
    return pod


def _now() -> str:
    return datetime.now(UTC).replace(microsecond=0).isoformat()
