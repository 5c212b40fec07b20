"""What Prometheus reads of the objects: made from the caches at the moment it asks.

Decision: a collector instead of gauges that are set, so that an object that is gone leaves no
series behind. Labels are names of schedules, repositories, locations and restores: bounded by what
exists.
Limits: only the leader has caches; a follower answers with nothing of this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

from prometheus_client.core import REGISTRY, CollectorRegistry, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import ValidationError

from ararat.api import Backup, BackupLocation, Repository, Resource, Restore, Schedule
from ararat.api.backup import LastVerification
from ararat.api.base import ConditionStatus
from ararat.api.repository import Maintenance, RepositoryPhase
from ararat.duration import parse
from controller.context import Context
from controller.maintenance.planner import overdue
from controller.restore.gated import read_pods
from controller.restore.run import PROGRESSING

T = TypeVar("T", bound=Resource[Any, Any])
#: Of a repository: known once a prune or a check has ended well.
_MEASURED = ("size_bytes", "used_bytes")


class ObjectsCollector(Collector):
    def __init__(self, context: Context) -> None:
        self._context = context

    def collect(self) -> Iterable[Metric]:
        context = self._context
        yield from _locations(_parsed(BackupLocation, context.locations_informer.items()))
        yield from _backups(_parsed(Backup, context.backups.items()))
        yield from _schedules(_parsed(Schedule, context.schedules.items()))
        yield from self._repositories()
        restores = _parsed(Restore, context.restores.items())
        yield from _restores(restores, context.now())
        yield _held(restores, context.gated_pods.items())

    def _repositories(self) -> Iterator[Metric]:
        context = self._context
        names = {
            "size_bytes": "Data that is stored.",
            "used_bytes": "Data that a snapshot needs.",
            "dropped_bytes": "Pruned data that is kept for a day.",
            "reclaimed_bytes": "Data that pruning has removed so far.",
            "snapshots": "Snapshots that it holds.",
            "foreign_snapshots": "Snapshots that Ararat did not make.",
            "failures": "Maintenance runs that failed since one was good.",
        }
        families = {
            key: _gauge(f"ararat_repository_{key}", text, "repository")
            for key, text in names.items()
        }
        pruned = _gauge(
            "ararat_repository_last_prune_timestamp_seconds", "Last good prune.", "repository"
        )
        checked = _gauge(
            "ararat_repository_last_check_timestamp_seconds", "Last good check.", "repository"
        )
        damaged = _gauge("ararat_repository_damaged", "It lacks what backups name.", "repository")
        late = _gauge(
            "ararat_repository_maintenance_overdue", "Twice its time has passed.", "repository"
        )
        orphans = _gauge("ararat_repository_orphans", "Snapshots no backup names.", "repository")
        for repository in _parsed(Repository, context.repositories_informer.items()):
            if not context.owns(repository.spec.location):
                continue
            state, label = repository.status.maintenance or Maintenance(), [repository.name]
            measured = state.last_prune_time is not None or state.last_check_time is not None
            for key, family in families.items():
                if measured or key not in _MEASURED:
                    family.add_metric(label, getattr(state, key))
            orphans.add_metric(label, len(state.orphans))
            damaged.add_metric(label, repository.status.phase is RepositoryPhase.DAMAGED)
            made = repository.metadata.creation_timestamp
            if context.maintenance_template is not None and made is not None:
                is_late = overdue(state, made, context.maintenance_plan, now=context.now())
                late.add_metric(label, is_late)
            for family, moment in (
                (pruned, state.last_prune_time),
                (checked, state.last_check_time),
            ):
                if moment is not None:
                    family.add_metric(label, moment.timestamp())
        yield from (*families.values(), pruned, checked, damaged, late, orphans)


@contextmanager
def exported(collector: Collector, registry: CollectorRegistry = REGISTRY) -> Iterator[None]:
    """Prometheus sees it while this lasts: while this process leads."""
    registry.register(collector)
    try:
        yield
    finally:
        registry.unregister(collector)


def _locations(found: Iterable[BackupLocation]) -> Iterator[Metric]:
    family = _gauge("ararat_location_available", "Whether it can be used.", "location")
    for location in found:
        family.add_metric([location.name], location.available)
    yield family


def _backups(found: Iterable[Backup]) -> Iterator[Metric]:
    phases = _gauge("ararat_backups", "Backups there are, by phase.", "phase")
    unprotected = _gauge(
        "ararat_unprotected_volumes",
        "Volumes that the newest backup of each schedule met and nobody asked for.",
        "schedule",
    )
    rotten = _gauge(
        "ararat_backups_verification_failed",
        "Backups that did not hold what they promise when they were last verified.",
        "schedule",
    )
    bad: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    newest: dict[str, Backup] = {}
    for backup in found:
        counts[backup.status.phase.value] += 1
        schedule = backup.spec.schedule
        last = backup.status.verification
        bad[schedule or ""] += last is not None and last.phase == "Failed"
        if schedule is None or not backup.status.phase.restorable:
            continue
        standing = newest.get(schedule)
        if standing is None or _began(standing) < _began(backup):
            newest[schedule] = backup
    for phase, count in counts.items():
        phases.add_metric([phase], count)
    for schedule, backup in newest.items():
        coverage = backup.status.coverage
        unprotected.add_metric([schedule], coverage.unprotected if coverage else 0)
    for schedule, count in bad.items():
        rotten.add_metric([schedule], count)
    yield from (phases, unprotected, rotten)


def _schedules(found: Iterable[Schedule]) -> Iterator[Metric]:
    interval = _gauge(
        "ararat_schedule_interval_seconds", "Longest time between two runs.", "schedule"
    )
    completed = _gauge(
        "ararat_schedule_last_completed_timestamp_seconds",
        "When its newest Completed backup began; its own making where there is none yet.",
        "schedule",
    )
    paused = _gauge("ararat_schedule_paused", "Whether it rests.", "schedule")
    missed = _gauge("ararat_schedule_missed_runs", "Runs left out so far.", "schedule")
    verify = _gauge(
        "ararat_schedule_verify_interval_seconds",
        "Time between two verifications, where it asks for them.",
        "schedule",
    )
    passed = _gauge(
        "ararat_schedule_last_verified_timestamp_seconds",
        "When all of one of its backups was last as promised; since when that is asked for where "
        "there was none yet.",
        "schedule",
    )
    for schedule in found:
        label, status = [schedule.name], schedule.status
        interval.add_metric(label, status.interval_seconds)
        paused.add_metric(label, schedule.spec.paused)
        missed.add_metric(label, status.missed)
        last = status.last_completed.time if status.last_completed else None
        moment = last or schedule.metadata.creation_timestamp
        if moment is not None:
            completed.add_metric(label, moment.timestamp())
        known, wanted = status.verification or LastVerification(), schedule.spec.verify
        verified = known.last_run_time if wanted and wanted.run else known.last_passed_time
        if wanted is not None and status.verify_since is not None:
            verify.add_metric(label, parse(wanted.every).total_seconds())
            passed.add_metric(label, (verified or status.verify_since).timestamp())
    yield from (interval, completed, paused, missed, verify, passed)


def _restores(found: Iterable[Restore], now: datetime) -> Iterator[Metric]:
    waiting = _gauge(
        "ararat_restore_waiting_seconds",
        "How long a restore that has not ended has waited for something, without a break.",
        "restore",
    )
    for restore in found:
        status = restore.status
        since = next(
            (
                c.last_transition_time
                for c in status.conditions
                if c.type == PROGRESSING and c.status is ConditionStatus.FALSE
            ),
            status.start_time,
        )
        if not status.phase.terminal and since is not None and status.waiting:
            waiting.add_metric([restore.name], (now - since).total_seconds())
    yield waiting


def _held(restores: Iterable[Restore], pods: Iterable[dict[str, Any]]) -> Metric:
    """Pods that gates hold, by restore: those of one that has ended start no more by themselves."""
    family = GaugeMetricFamily(
        "ararat_restore_held_pods",
        "Pods that wait behind the gate of a restore.",
        labels=["restore", "ended"],
    )
    found = list(pods)
    for restore in restores:
        count = sum(pod.held for pod in read_pods(found, restore.uid))
        if count:
            family.add_metric([restore.name, str(restore.status.phase.terminal).lower()], count)
    return family


def _gauge(name: str, text: str, label: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=[label])


def _began(backup: Backup) -> float:
    moment = backup.status.start_time or backup.metadata.creation_timestamp
    return moment.timestamp() if moment else 0.0


def _parsed(kind: type[T], raws: Iterable[dict[str, Any]]) -> list[T]:
    result = []
    for raw in raws:
        try:
            result.append(kind.parse(raw))
        except ValidationError:
            continue  # its reconciler says what is wrong with it
    return result
