"""The Kubernetes Jobs of one repository: begun, told to end, and taken when they have ended."""

from __future__ import annotations

import base64
import contextlib
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog

from ararat.api.base import utcnow
from ararat.api.names import OWNER_UID
from ararat.api.nodejob import RepositoryReference
from ararat.api.repository import MaintenanceAction, MaintenanceRun
from ararat.errors import Conflict, Damaged, NotFound
from ararat.kube import Propagation
from ararat.kube.resources import JOBS, PODS, SECRETS
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
from controller.context import Context, is_ending
from controller.context import job_finished as finished
from controller.deletion.manifests import ManifestReader, Promises
from controller.deletion.snapshots import SnapshotsMissing, check_promised, listed
from controller.maintenance.copying import Copying
from controller.maintenance.jobs import (
    action_of,
    build_job,
    ended_container,
    given_up_at,
    is_given_up,
    is_late,
    job_name,
    result_of,
)
from controller.maintenance.planner import Ending, Plan, Run
from controller.maintenance.record import Record, after
from controller.repository.ensure import password_of

#: What was copied by then stays copied, and the next job goes on.
_COPY_WINDOW = timedelta(days=7)
log = structlog.get_logger("controller.maintenance")


@dataclass
class Memory:
    """Names of Jobs that this process has begun, by repository, and taken: caches lag behind."""

    begun: dict[str, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)


@dataclass
class Runs:
    record: Record
    reader: ManifestReader
    plan: Plan
    memory: Memory

    @property
    def context(self) -> Context:
        return self.record.context

    async def jobs(self) -> list[dict[str, Any]]:
        """The Jobs of this repository, also those not in the cache."""
        context, uid = self.context, self.record.repository.uid
        cached = context.maintenance_jobs.by_index("repository-uid", uid)
        found = {str(job["metadata"]["name"]): job for job in cached}
        running = self.record.state.running.job if self.record.state.running else ""
        for name in {running, self.memory.begun.get(uid, "")} - {"", *found}:
            with contextlib.suppress(NotFound):
                found[name] = await context.api.get(JOBS, name, namespace=context.namespace)
        if running and running not in found:  # never made, or removed by somebody
            self.record.update(running=None)
        return list(found.values())

    async def ending(self, jobs: list[dict[str, Any]]) -> Ending | None:
        """Of those that gave way, one whose pod is still there."""
        # As the API server notes it: the clock that maintenance goes by may be another.
        now = utcnow()
        for job in jobs:
            if not self._ends(job) or is_given_up(job, now=now):
                continue
            name, node = str(job["metadata"]["name"]), ""
            if is_late(job, now=now):
                pods = await self._pods(name)
                node = next((str(pod["spec"].get("nodeName") or "") for pod in pods), "")
            return Ending(job=name, node=node, until=given_up_at(job))
        return None

    def _ends(self, job: dict[str, Any]) -> bool:
        """Whether it was told to end; the cache may not have heard of it."""
        return is_ending(job) or not (finished(job) or self.untaken(job))

    def untaken(self, job: dict[str, Any]) -> bool:
        """Whether it is to be looked after: its result is not known, and it was not told to end."""
        name, last = job["metadata"]["name"], self.record.state.last
        return name not in self.memory.taken and (last is None or name != last.job)

    async def start(self, run: Run, promises: Promises | None) -> None:
        record, context = self.record, self.context
        copying = record.copying if run.action is MaintenanceAction.REENCRYPT else None
        name = job_name(record.repository, run.action.value)
        assert context.maintenance_template is not None
        if copying is None:
            promises = promises or await self.reader.promises(record.location)
            named = sorted(promises.snapshots(record.directory))
            if len(named) > PROMISED_LIMIT:
                # More than a Secret holds: looked at here, since the program cannot.
                if run.action is MaintenanceAction.PRUNE and await self._lost(promises):
                    return
                named = []
            secret = await self._secret(name, named)
        else:
            secret = await self._secret(name, list(copying.snapshots[:PROMISED_LIMIT]), copying)
        task = MaintenanceTask(
            action=run.action,
            repository=RepositoryReference(
                location=record.location.name,
                location_id=record.location.location_id,
                directory=record.directory if copying is None else copying.source,
                key_id=(record.repository.status.key_id or "") if copying is None else "",
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
            keep_reserve=record.location.resource.spec.filesystem is not None,
        )
        body = build_job(
            context.maintenance_template,
            record.repository,
            task,
            name=name,
            namespace=context.namespace,
        )
        running = MaintenanceRun(action=run.action, job=name, start_time=context.now())
        record.update(running=running, data_subset=run.data_subset or record.state.data_subset)
        await record.save({})  # a conflict: what was decided was decided on old news
        if copying is None:
            context.maintaining.add(record.directory)
        self.memory.begun[record.repository.uid] = name
        await context.api.create(JOBS, body, namespace=context.namespace)
        action = run.action.value
        log.info("maintenance begins", directory=record.directory, action=action, job=name)

    async def _secret(self, name: str, named: list[str], copying: Copying | None = None) -> str:
        of = repository_name(self.record.directory) if copying is None else copying.source_name
        data = {
            "password": password_of(self.record.location, of).encode(),
            PROMISED: pack_ids(named),
        }
        if copying is not None:
            target = password_of(self.record.location, copying.target.repository_name)
            data[TARGET_PASSWORD] = target.encode()
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "labels": {OWNER_UID: self.record.repository.uid},
                "ownerReferences": [self.record.repository.owner_reference()],
            },
            "type": "Opaque",
            "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
        }
        with contextlib.suppress(Conflict):
            await self.context.api.create(SECRETS, body, namespace=self.context.namespace)
        return name

    async def _lost(self, promises: Promises) -> bool:
        """Whether something that backups name is not there; then that is said."""
        try:
            directory = self.record.directory
            check_promised(promises, directory, await listed(self.record.location, directory))
        except SnapshotsMissing as exc:
            await self.record.damaged(exc)
            return True
        return False

    async def give_way(self, job: dict[str, Any], to: str) -> None:
        """Backups and restores go first: the pod ends cleanly and takes its lock with it."""
        name = str(job["metadata"]["name"])
        log.info("maintenance gives way", directory=self.record.directory, job=name, to=to)
        await self._drop(name, propagation="Foreground")
        self.record.update(running=None, waits_for=to)

    async def take(self, job: dict[str, Any]) -> None:
        """The result of a finished Job into status; then the Job goes."""
        record, name = self.record, str(job["metadata"]["name"])
        pod = await self._pod(name)
        result = result_of(job, pod)
        action = action_of(job)
        now = self.context.now()
        began = record.state.running.start_time if record.state.running else None
        last = MaintenanceRun(
            action=action,
            job=name,
            start_time=began,
            completion_time=now,
            good=result.good,
            reason=result.reason,
            message=result.message[:500],
        )
        if action is MaintenanceAction.REENCRYPT:
            self.context.to_copy.pop(record.slot, None)  # whoever asked looks at what is there
        record.state = after(record.state, last, result)
        if pod is not None and ended_container(pod) is not None:
            await self._remove_locks(str(pod["metadata"]["uid"]))
        if result.good:
            if action is MaintenanceAction.CHECK:
                await record.whole("CheckFailed")
        elif result.reason in ("CheckFailed", "SnapshotsMissing"):
            await record.damaged(Damaged(result.message, reason=result.reason))
        await record.save({})  # before the Job goes: it is the only one who knows
        log.info(
            "maintenance ended",
            directory=record.directory,
            action=action.value,
            good=result.good,
            reason=result.reason,
            message=result.message,
        )
        await self.context.events.event(
            record.raw,
            reason=f"{action.value}{'Completed' if result.good else 'Failed'}",
            message=result.message or result.reason,
            type="Normal" if result.good else "Warning",
        )
        await self._drop(name)

    async def _pod(self, job: str) -> dict[str, Any] | None:
        """The one that has ended, where there are several: a node that is gone keeps its own."""
        found = await self._pods(job)
        over = [pod for pod in found if ended_container(pod) is not None]
        return next(iter(over or found), None)

    async def _pods(self, job: str) -> list[dict[str, Any]]:
        labels, namespace = f"job-name={job}", self.context.namespace
        found = self.context.api.list(PODS, namespace=namespace, labels=labels)
        return [pod async for pod in found]

    async def _remove_locks(self, pod_uid: str) -> None:
        """The kubelet says that the container has ended, so nobody holds its locks any more."""
        store = self.record.location.store
        following = await following_repository(store, self.record.slot[1])
        copied_into = following.successor.directory if following else self.record.directory
        for directory in {self.record.directory, copied_into}:
            for lock in await list_locks(store, directory):
                owner = lock.owner
                if owner is None or owner.pod_uid != pod_uid:
                    continue
                if owner.cluster == self.context.cluster_uid:
                    await remove_lock(store, directory, lock.id)
                    log.warning("lock of ended pod removed", directory=directory, pod=pod_uid)

    async def _drop(self, name: str, *, propagation: Propagation = "Background") -> None:
        self.memory.taken.add(name)
        self.context.maintaining.discard(self.record.directory)
        namespace = self.context.namespace
        await self.context.api.delete(JOBS, name, namespace=namespace, propagation=propagation)
        await self.context.api.delete(SECRETS, name, namespace=namespace)
