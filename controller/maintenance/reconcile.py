"""Repositories, reconciled: surveyed, pruned and checked when due and nothing is in the way.

Everything is found again from objects: the Job carries the repository's UID, the status says when
what was done. A Job is begun only when no node job works on the repository; should one appear, the
Job gives way (prune goes on where it was), so that backups never wait for maintenance. A Job that
gave way stays, being deleted, until its pod is gone; the next one waits for that.
Limits: a node that is dead and stays registered never says that a pod is gone. After 50 minutes it
is waited for no longer: the lock decides then, which a restic that still works there has renewed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import structlog
from pydantic import ValidationError

from ararat import reserve
from ararat.api import Repository
from ararat.api.base import utcnow
from ararat.api.repository import Maintenance, MaintenanceAction, RepositoryKind
from ararat.layout import repository_name
from controller.context import Context, is_ending
from controller.context import job_finished as finished
from controller.deletion.manifests import ManifestReader, Promises
from controller.deletion.snapshots import SnapshotsMissing
from controller.maintenance.jobs import action_of, is_given_up
from controller.maintenance.planner import Plan, Situation, decide
from controller.maintenance.record import Record
from controller.maintenance.runs import Memory, Runs
from controller.maintenance.survey import survey

_LOOK_SECONDS = 60.0
_SURVEY_EVERY = timedelta(hours=1)
_ENDED = ("Completed", "Failed", "Cancelled")
log = structlog.get_logger("controller.maintenance")


class MaintenanceReconciler:
    def __init__(self, context: Context, reader: ManifestReader, plan: Plan) -> None:
        self._context = context
        self._reader = reader
        self._plan = plan
        self._memory = Memory()

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
        record = Record(
            context=self._context,
            raw=raw,
            repository=repository,
            location=location,
            directory=directory,
            state=repository.status.maintenance or Maintenance(),
        )
        runs = Runs(record, self._reader, self._plan, self._memory)
        await _Look(record, runs, self._reader, self._plan).run()
        return _LOOK_SECONDS


@dataclass
class _Look:
    record: Record
    runs: Runs
    reader: ManifestReader
    plan: Plan

    @property
    def context(self) -> Context:
        return self.record.context

    async def run(self) -> None:
        holders = self._holders()
        blockers = [f"node job {holder}" for holder in holders]
        if (
            self.record.repository.spec.kind is RepositoryKind.OBJECTS
        ):  # backups write it themselves
            blockers += [f"backup {backup}" for backup in self._waiting()]
        jobs = await self.runs.jobs()
        ending = await self.runs.ending(jobs)
        jobs = [job for job in jobs if not is_ending(job) and self.runs.untaken(job)]
        if not jobs:
            self.context.maintaining.discard(self.record.directory)
        for job in jobs:
            if finished(job):
                await self.runs.take(job)
            elif action_of(job) is MaintenanceAction.REENCRYPT:
                continue  # beside node jobs, and beside the survey
            elif blockers:
                await self.runs.give_way(job, blockers[0])
            else:
                self.context.maintaining.add(self.record.directory)
                return await self.record.save({"holders": holders})
        promises = await self._survey()
        if self.context.maintenance_template is None or jobs:
            return await self.record.save({"holders": holders})
        decision = decide(
            Situation(
                phase=self.record.repository.status.phase,
                maintenance=self.record.state,
                made=self.record.repository.metadata.creation_timestamp or self.context.now(),
                holders=holders,
                waiting=self._waiting(),
                deleting=self._deleting(),
                full=await self._full(),
                to_copy=0 if self.record.copying is None else len(self.record.copying.snapshots),
                ending=ending,
                others=self._others(),
            ),
            self.plan,
            now=self.context.now(),
        )
        self.record.update(waits_for=decision.waits_for)
        if decision.run is not None:
            await self.runs.start(decision.run, promises)
        await self.record.save({"holders": holders})
        return None

    def _holders(self) -> list[str]:
        """What works on the repository."""
        found, context, directory = [], self.context, self.record.directory
        for informer in (context.pod_volume_backups, context.pod_volume_restores):
            for raw in informer.items():
                phase = (raw.get("status") or {}).get("phase")
                same = (raw["spec"].get("repository") or {}).get("directory") == directory
                if same and phase not in _ENDED:
                    found.append(str(raw["metadata"]["name"]))
        if self.record.repository.spec.kind is RepositoryKind.OBJECTS:
            for raw in context.verifications.items():  # the controller reads it itself
                status = raw.get("status") or {}
                if status.get("phase") == "InProgress" and status.get("objects") is None:
                    found.append(str(raw["metadata"]["name"]))
        return sorted(found)[:20]

    def _waiting(self) -> list[str]:
        """Backups that have begun, or are about to, and may be going to use this repository."""
        spec = self.record.repository.spec
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

    def _others(self) -> int:
        """Jobs that take resources: also those that have given way, until they are given up."""
        now = utcnow()
        jobs = self.context.maintenance_jobs.items()
        return sum(not (finished(job) or is_given_up(job, now=now)) for job in jobs)

    async def _full(self) -> bool:
        free = await asyncio.to_thread(reserve.free_bytes, self.record.location.resource.spec)
        return free is not None and free < reserve.FULL

    def _deleting(self) -> bool:
        phases = [(raw.get("status") or {}).get("phase") for raw in self.context.deletions.items()]
        return "InProgress" in phases

    async def _survey(self) -> Promises | None:
        now = self.context.now()
        last = self.record.state.survey_time
        if last is not None and now - last < _SURVEY_EVERY:
            return None
        promises = await self.reader.promises(self.record.location)
        found = await survey(
            self.context,
            self.record.location,
            directory=self.record.directory,
            repository_name=repository_name(self.record.directory),
            key_id=self.record.repository.status.key_id or "",
            promises=promises,
            known=self.record.state.orphans,
        )
        self.record.update(
            snapshots=found.snapshots,
            orphans=found.orphans,
            foreign_snapshots=found.foreign,
            survey_time=now,
        )
        if found.missing:
            await self.record.damaged(SnapshotsMissing(self.record.directory, found.missing))
        else:
            await self.record.whole("SnapshotsMissing")
        if found.forgotten:
            log.info("orphans forgotten", directory=self.record.directory, count=found.forgotten)
        return promises
