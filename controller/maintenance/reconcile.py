"""Repositories, reconciled: surveyed, pruned and checked when due and nothing is in the way.

Everything is found again from objects: the Job carries the repository's UID, the status says when
what was done. A Job is begun only when no node job works on the repository; should one appear, the
Job gives way (prune goes on where it was), so that backups never wait for maintenance.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from pydantic import ValidationError

from ararat import reserve
from ararat.api import Repository
from ararat.api.base import ConditionStatus, with_condition
from ararat.api.names import DIRECTORY, OWNER_UID, REPOSITORY_UID
from ararat.api.nodejob import RepositoryReference
from ararat.api.repository import (
    Maintenance,
    MaintenanceAction,
    MaintenanceRun,
    RepositoryKind,
    RepositoryPhase,
)
from ararat.errors import Conflict, Damaged, NotFound
from ararat.kube.resources import JOBS, PODS, SECRETS
from ararat.kube.resources import of as resource_of
from ararat.kube.status import patch_status
from ararat.layout import repository_name
from ararat.maintenance import (
    PROMISED,
    PROMISED_LIMIT,
    TARGET_PASSWORD,
    CopyTarget,
    MaintenanceTask,
    pack_ids,
)
from ararat.restic.create import following_repository
from ararat.restic.locks import list_locks, remove_lock
from controller.context import Context
from controller.context import job_finished as finished
from controller.deletion.manifests import ManifestReader, Promises
from controller.deletion.snapshots import SnapshotsMissing
from controller.location.open import OpenLocation
from controller.maintenance.copying import Copying
from controller.maintenance.jobs import (
    build_job,
    ended_container,
    job_name,
    result_of,
)
from controller.maintenance.planner import Plan, Run, Situation, decide
from controller.maintenance.survey import survey
from controller.repository.ensure import password_of

_REPOSITORIES = resource_of(Repository)
_LOOK_SECONDS = 60.0
_SURVEY_EVERY = timedelta(hours=1)
#: What was copied by then stays copied, and the next job goes on.
_COPY_WINDOW = timedelta(days=7)
_ENDED = ("Completed", "Failed", "Cancelled")
log = structlog.get_logger("controller.maintenance")


class MaintenanceReconciler:
    def __init__(self, context: Context, reader: ManifestReader, plan: Plan) -> None:
        self._context = context
        self._reader = reader
        self._plan = plan
        #: Names of Jobs that were begun and taken by this process: caches lag behind.
        self._begun: dict[str, str] = {}
        self._taken: set[str] = set()

    async def reconcile(self, key: str) -> float | None:
        namespace, _, name = key.partition("/")
        raw = self._context.repositories_informer.get(name, namespace)
        if raw is None or raw["metadata"].get("deletionTimestamp"):
            return None
        try:
            repository = Repository.parse(raw)
        except ValidationError:
            return None
        directory = repository.status.directory
        if directory is None or not self._context.owns(repository.spec.location):
            return _LOOK_SECONDS
        location = await self._context.location(repository.spec.location)
        look = _Look(
            context=self._context,
            reader=self._reader,
            plan=self._plan,
            begun=self._begun,
            taken=self._taken,
            raw=raw,
            repository=repository,
            location=location,
            directory=directory,
            state=repository.status.maintenance or Maintenance(),
        )
        await look.run()
        return _LOOK_SECONDS


@dataclass(kw_only=True)
class _Look:
    context: Context
    reader: ManifestReader
    plan: Plan
    begun: dict[str, str]
    taken: set[str]
    raw: dict[str, Any]
    repository: Repository
    location: OpenLocation
    directory: str
    state: Maintenance

    async def run(self) -> None:
        holders = self._holders()
        blockers = [f"node job {holder}" for holder in holders]
        if self.repository.spec.kind is RepositoryKind.OBJECTS:  # backups write it themselves
            blockers += [f"backup {backup}" for backup in self._waiting()]
        jobs = await self._jobs()
        if not jobs:
            self.context.maintaining.discard(self.directory)
        for job in jobs:
            if finished(job):
                await self._take(job)
            elif self._action(job) is MaintenanceAction.REENCRYPT:
                continue  # beside node jobs, and beside the survey
            elif blockers:
                await self._give_way(job, blockers[0])
            else:
                self.context.maintaining.add(self.directory)
                return await self._save({"holders": holders})
        promises = await self._survey()
        if self.context.maintenance_template is None or jobs:
            return await self._save({"holders": holders})
        decision = decide(
            Situation(
                phase=self.repository.status.phase,
                maintenance=self.state,
                made=self.repository.metadata.creation_timestamp or self.context.now(),
                holders=holders,
                waiting=self._waiting(),
                deleting=self._deleting(),
                full=await self._full(),
                to_copy=0 if self.copying is None else len(self.copying.snapshots),
                others=sum(not finished(job) for job in self.context.maintenance_jobs.items()),
            ),
            self.plan,
            now=self.context.now(),
        )
        self.state = self.state.model_copy(update={"waits_for": decision.waits_for})
        if decision.run is not None:
            await self._start(decision.run, promises)
        await self._save({"holders": holders})
        return None

    async def _jobs(self) -> list[dict[str, Any]]:
        """The Jobs of this repository that are to be looked after, also those not in the cache."""
        cached = self.context.maintenance_jobs.by_index("repository-uid", self.repository.uid)
        found = {str(job["metadata"]["name"]): job for job in cached}
        running = self.state.running.job if self.state.running else ""
        for name in {running, self.begun.get(self.repository.uid, "")} - {"", *found}:
            with contextlib.suppress(NotFound):
                found[name] = await self.context.api.get(
                    JOBS, name, namespace=self.context.namespace
                )
        if running and running not in found:  # never made, or removed by somebody
            self.state = self.state.model_copy(update={"running": None})
        last = self.state.last.job if self.state.last else ""
        return [job for name, job in found.items() if name not in self.taken and name != last]

    @property
    def copying(self) -> Copying | None:
        return self.context.to_copy.get(self._slot)

    @property
    def _slot(self) -> tuple[str, str]:
        return (self.location.location_id, self.directory.rpartition("/")[0])

    # --- what is in the way ---

    def _holders(self) -> list[str]:
        found = []
        for informer in (self.context.pod_volume_backups, self.context.pod_volume_restores):
            for raw in informer.items():
                phase = (raw.get("status") or {}).get("phase")
                same = (raw["spec"].get("repository") or {}).get("directory") == self.directory
                if same and phase not in _ENDED:
                    found.append(str(raw["metadata"]["name"]))
        if self.repository.spec.kind is RepositoryKind.OBJECTS:  # the controller reads it itself
            for raw in self.context.verifications.items():
                status = raw.get("status") or {}
                if status.get("phase") == "InProgress" and status.get("objects") is None:
                    found.append(str(raw["metadata"]["name"]))
        return sorted(found)[:20]

    def _waiting(self) -> list[str]:
        """Backups that have begun, or are about to, and may be going to use this repository."""
        spec = self.repository.spec
        found = []
        for raw in self.context.backups.items():
            status = raw.get("status") or {}
            if status.get("phase", "New") not in ("New", "Queued", "InProgress", "Finalizing"):
                continue
            named = status.get("namespaces") or []
            sure = status.get("namespaceCount", 0) == len(named) and named
            if spec.kind is RepositoryKind.OBJECTS or not sure or (spec.namespace in named):
                found.append(str(raw["metadata"]["name"]))
        return sorted(found)

    async def _full(self) -> bool:
        free = await asyncio.to_thread(reserve.free_bytes, self.location.resource.spec)
        return free is not None and free < reserve.FULL

    def _deleting(self) -> bool:
        phases = [(raw.get("status") or {}).get("phase") for raw in self.context.deletions.items()]
        return "InProgress" in phases

    # --- the survey ---

    async def _survey(self) -> Promises | None:
        now = self.context.now()
        last = self.state.survey_time
        if last is not None and now - last < _SURVEY_EVERY:
            return None
        promises = await self.reader.promises(self.location)
        found = await survey(
            self.context,
            self.location,
            directory=self.directory,
            repository_name=repository_name(self.directory),
            key_id=self.repository.status.key_id or "",
            promises=promises,
            known=self.state.orphans,
        )
        self.state = self.state.model_copy(
            update={
                "snapshots": found.snapshots,
                "orphans": found.orphans,
                "foreign_snapshots": found.foreign,
                "survey_time": now,
            }
        )
        if found.missing:
            await self._damaged(SnapshotsMissing(self.directory, found.missing))
        else:
            await self._whole("SnapshotsMissing")
        if found.forgotten:
            log.info("orphans forgotten", directory=self.directory, count=found.forgotten)
        return promises

    async def _damaged(self, exc: Damaged) -> None:
        if self.repository.status.phase is not RepositoryPhase.DAMAGED:
            await self.context.events.event(
                self.raw, reason=exc.reason, message=exc.message, type="Warning"
            )
        await self._phase(RepositoryPhase.DAMAGED, exc.reason, exc.message)

    async def _whole(self, reason: str) -> None:
        """What was damaged for this reason is so no more."""
        condition = next(
            (c for c in self.repository.status.conditions if c.type == "Damaged"), None
        )
        if condition is not None and condition.reason == reason:
            await self._phase(RepositoryPhase.READY, "NoneFound", None)

    async def _phase(self, phase: RepositoryPhase, reason: str, message: str | None) -> None:
        damaged = phase is RepositoryPhase.DAMAGED
        conditions = with_condition(
            self.repository.status.conditions,
            type="Damaged",
            status=ConditionStatus.TRUE if damaged else ConditionStatus.FALSE,
            reason=reason,
            message=message or "",
        )
        await self._save(
            {
                "phase": phase.value,
                "message": message,
                "conditions": [c.to_dict() for c in conditions],
            }
        )

    # --- jobs ---

    async def _start(self, run: Run, promises: Promises | None) -> None:
        context, now = self.context, self.context.now()
        copying = self.copying if run.action is MaintenanceAction.REENCRYPT else None
        name = job_name(self.repository, run.action.value)
        assert context.maintenance_template is not None
        if copying is None:
            promises = promises or await self.reader.promises(self.location)
            named = sorted(promises.snapshots(self.directory))
            secret = await self._secret(name, named if len(named) <= PROMISED_LIMIT else [])
        else:
            secret = await self._secret(name, list(copying.snapshots[:PROMISED_LIMIT]), copying)
        task = MaintenanceTask(
            action=run.action,
            repository=RepositoryReference(
                location=self.location.name,
                location_id=self.location.location_id,
                directory=self.directory if copying is None else copying.source,
                key_id=(self.repository.status.key_id or "") if copying is None else "",
                password_secret=secret,
            ),
            target=copying
            and CopyTarget(directory=copying.target.directory, key_id=copying.target.key_id),
            data_subset=run.data_subset,
            max_repack_size=run.max_repack_size,
            at_once=run.at_once,
            window_seconds=int(
                (self.plan.window if copying is None else _COPY_WINDOW).total_seconds()
            ),
            keep_reserve=self.location.resource.spec.filesystem is not None,
        )
        body = build_job(
            context.maintenance_template,
            self.repository,
            task,
            name=name,
            namespace=context.namespace,
        )
        running = MaintenanceRun(action=run.action, job=name, start_time=now)
        self.state = self.state.model_copy(
            update={
                "running": running,
                "data_subset": run.data_subset or self.state.data_subset,
            }
        )
        await self._save({})  # a conflict: what was decided was decided on old news
        if copying is None:
            context.maintaining.add(self.directory)
        self.begun[self.repository.uid] = name
        await context.api.create(JOBS, body, namespace=context.namespace)
        log.info("maintenance begins", directory=self.directory, action=run.action.value, job=name)

    async def _secret(self, name: str, named: list[str], copying: Copying | None = None) -> str:
        of = repository_name(self.directory) if copying is None else copying.source_name
        data = {
            "password": password_of(self.location, of).encode(),
            PROMISED: pack_ids(named),
        }
        if copying is not None:
            target = password_of(self.location, copying.target.repository_name)
            data[TARGET_PASSWORD] = target.encode()
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "labels": {OWNER_UID: self.repository.uid},
                "ownerReferences": [self.repository.owner_reference()],
            },
            "type": "Opaque",
            "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
        }
        with contextlib.suppress(Conflict):
            await self.context.api.create(SECRETS, body, namespace=self.context.namespace)
        return name

    async def _give_way(self, job: dict[str, Any], to: str) -> None:
        """Backups and restores go first: the pod ends cleanly and takes its lock with it."""
        name = str(job["metadata"]["name"])
        log.info("maintenance gives way", directory=self.directory, job=name, to=to)
        await self._drop(name)
        self.state = self.state.model_copy(update={"running": None, "waits_for": to})

    async def _take(self, job: dict[str, Any]) -> None:
        """The result of a finished Job into status; then the Job goes."""
        name = str(job["metadata"]["name"])
        pod = await self._pod(name)
        result = result_of(job, pod)
        action = self._action(job)
        now = self.context.now()
        began = self.state.running.start_time if self.state.running else None
        last = MaintenanceRun(
            action=action,
            job=name,
            start_time=began,
            completion_time=now,
            good=result.good,
            reason=result.reason,
            message=result.message[:500],
        )
        update: dict[str, Any] = {"running": None, "last": last}
        if action is MaintenanceAction.REENCRYPT:
            self.context.to_copy.pop(self._slot, None)  # whoever asked looks at what is there
            update["failures"] = 0 if result.good else self.state.failures + 1
        elif result.good:
            update["failures"] = 0
            update["size_bytes"] = result.size_bytes
            if result.used_bytes is not None:
                update["used_bytes"] = result.used_bytes
            update["dropped_bytes"] = result.dropped_bytes
            since = result.dropped_since
            update["dropped_since"] = datetime.fromisoformat(since) if since else None
            update["reclaimed_bytes"] = self.state.reclaimed_bytes + result.reclaimed_bytes
            which = "last_prune_time" if action is MaintenanceAction.PRUNE else "last_check_time"
            update[which] = now
        else:
            update["failures"] = self.state.failures + 1
            if action is MaintenanceAction.CHECK:  # the same part again
                update["data_subset"] = max(self.state.data_subset - 1, 0)
        self.state = self.state.model_copy(update=update)
        if pod is not None and ended_container(pod) is not None:
            await self._remove_locks(str(pod["metadata"]["uid"]))
        if result.good:
            if action is MaintenanceAction.CHECK:
                await self._whole("CheckFailed")
        elif result.reason in ("CheckFailed", "SnapshotsMissing"):
            await self._damaged(Damaged(result.message, reason=result.reason))
        log.info(
            "maintenance ended",
            directory=self.directory,
            action=action.value,
            good=result.good,
            reason=result.reason,
            message=result.message,
        )
        await self._save({})  # before the Job goes: it is the only one who knows
        await self.context.events.event(
            self.raw,
            reason=f"{action.value}{'Completed' if result.good else 'Failed'}",
            message=result.message or result.reason,
            type="Normal" if result.good else "Warning",
        )
        await self._drop(name)

    async def _pod(self, job: str) -> dict[str, Any] | None:
        found = [
            pod
            async for pod in self.context.api.list(
                PODS, namespace=self.context.namespace, labels=f"job-name={job}"
            )
        ]
        return found[0] if found else None

    def _action(self, job: dict[str, Any]) -> MaintenanceAction:
        container = job["spec"]["template"]["spec"]["containers"][0]
        for variable in container.get("env") or []:
            with contextlib.suppress(ValueError):
                return MaintenanceTask.model_validate_json(variable.get("value") or "").action
        return MaintenanceAction.CHECK

    async def _remove_locks(self, pod_uid: str) -> None:
        """The kubelet says that the container has ended, so nobody holds its locks any more."""
        store = self.location.store
        following = await following_repository(store, self._slot[1])
        copied_into = following.successor.directory if following else self.directory
        for directory in {self.directory, copied_into}:
            for lock in await list_locks(store, directory):
                owner = lock.owner
                if owner is None or owner.pod_uid != pod_uid:
                    continue
                if owner.cluster == self.context.cluster_uid:
                    await remove_lock(store, directory, lock.id)
                    log.warning("lock of ended pod removed", directory=directory, pod=pod_uid)

    async def _drop(self, name: str) -> None:
        self.taken.add(name)
        self.context.maintaining.discard(self.directory)
        namespace = self.context.namespace
        await self.context.api.delete(JOBS, name, namespace=namespace)
        await self.context.api.delete(SECRETS, name, namespace=namespace)

    async def _save(self, status: dict[str, Any]) -> None:
        absent = dict.fromkeys(_field_names(Maintenance))
        shown = {**status, "maintenance": {**absent, **self.state.to_dict()}}
        with contextlib.suppress(NotFound):
            self.raw = await patch_status(
                self.context.api,
                _REPOSITORIES,
                self.raw,
                shown,
                resource_version=self.raw["metadata"]["resourceVersion"],
            )
            self.repository = Repository.parse(self.raw)


def _field_names(model: type[Maintenance]) -> list[str]:
    return [str(field.alias) for field in model.model_fields.values()]


def directory_index(job: dict[str, Any]) -> tuple[str, ...]:
    """Index Jobs by the repository directory they work on."""
    value = (job["metadata"].get("annotations") or {}).get(DIRECTORY)
    return (str(value),) if value else ()


def uid_index(job: dict[str, Any]) -> tuple[str, ...]:
    value = (job["metadata"].get("labels") or {}).get(REPOSITORY_UID)
    return (str(value),) if value else ()
