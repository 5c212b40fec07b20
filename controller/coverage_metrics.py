"""Metrics of what is protected: claims never backed up, and how old the last good backup is.

Problem: a backup that succeeds every night says nothing about the claim that was added last week
and that no backup means.
Decision: every few minutes the leader lists the claims, and knows from manifests when each was last
read in full. What a manifest says of claims never changes, so each is read once. Numbers are per
namespace and, up to a limit and unless the chart says otherwise, per claim. A claim that a
schedule's newest backup was to hold, and of which there is no good copy within 1.5 times the
schedule's interval, has a number of its own: an alert names it. Ages are worked out when Prometheus
asks: they grow while nothing happens, which is the point.
Limits: only the newest backups are looked at (``BACKUPS``), and of each schedule those that its
claims may be protected by; only the leader answers. Of a schedule that makes no backup at all no
claim is named: the schedule itself is overdue then.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry
from pydantic import ValidationError

from ararat import layout
from ararat.api import Backup, Schedule
from ararat.api.manifest import Coverage, Manifest, decode_manifest
from ararat.errors import AraratError
from ararat.kube.resources import NAMESPACES, PVCS
from controller.backup.selection import left_out
from controller.context import Context

#: Manifests that are read at most, the newest first.
BACKUPS = 50
PERIOD_SECONDS = 300.0
#: Claims that have numbers of their own at most.
PER_CLAIM = 5000

#: Manifests of one schedule that are read at most beside those.
PER_SCHEDULE = 50
#: Claims that are named as overdue at most, for each schedule.
OVERDUE = 50
_OVERDUE_AFTER = 1.5

Claim = tuple[str, str]
log = structlog.get_logger("controller.coverage")


@dataclass(frozen=True)
class Entry:
    """What a backup says of claims. Times are seconds since the epoch."""

    began: float = 0.0
    ended: float = 0.0
    schedule: str = ""
    #: Claims that it read in full, and those that it was to read.
    good: frozenset[Claim] = frozenset()
    meant: frozenset[Claim] = frozenset()


def entry_of(manifest: Manifest) -> Entry:
    def claims(*wanted: Coverage) -> frozenset[Claim]:
        return frozenset(
            (volume.namespace, volume.claim.name)
            for volume in manifest.volumes
            if volume.claim is not None and volume.coverage in wanted
        )

    return Entry(
        began=manifest.start_time.timestamp(),
        ended=manifest.completion_time.timestamp(),
        schedule=manifest.spec.schedule or "",
        good=claims(Coverage.BACKED_UP),
        meant=claims(Coverage.BACKED_UP, Coverage.INCOMPLETE, Coverage.FAILED),
    )


@dataclass
class Ledger:
    """When each claim was last read in full. Pure, but for the clock that it is given."""

    #: By UID of the backup.
    backups: dict[str, Entry] = field(default_factory=dict)
    claims: frozenset[Claim] = frozenset()
    #: Seconds between two runs of each schedule that is not paused.
    intervals: dict[str, float] = field(default_factory=dict)

    def add(self, manifest: Manifest) -> None:
        self.backups[manifest.backup_uid] = entry_of(manifest)

    def keep(self, uids: Iterable[str]) -> None:
        """Forget backups that are no more."""
        kept = set(uids)
        self.backups = {uid: found for uid, found in self.backups.items() if uid in kept}

    def last_good(self) -> dict[Claim, float]:
        """Of the claims that exist, those that a backup holds: the newest one's end."""
        found: dict[Claim, float] = {}
        for entry in sorted(self.backups.values(), key=lambda b: b.ended):
            for claim in entry.good & self.claims:
                found[claim] = entry.ended
        return found

    def overdue(self, schedule: str, *, now: float) -> list[Claim]:
        """Claims that the schedule's newest backup was to hold, and that no backup of late holds.

        Of late: it began within 1.5 times the schedule's interval.
        """
        mine = [entry for entry in self.backups.values() if entry.schedule == schedule]
        newest = max(mine, key=lambda entry: entry.began, default=Entry())
        since = now - _OVERDUE_AFTER * self.intervals.get(schedule, 0.0)
        if newest.began < since:
            return []  # the schedule makes no backups: that is what is to be said
        fresh = [entry.good for entry in self.backups.values() if entry.began >= since]
        return sorted((newest.meant & self.claims).difference(*fresh))


class CoverageMetrics(Collector):
    """Registered while this process leads."""

    def __init__(self, *, per_claim: bool, clock: Callable[[], float] = time.time) -> None:
        self.ledger = Ledger()
        self._per_claim = per_claim
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        good, now = self.ledger.last_good(), self._clock()
        every = Counter(namespace for namespace, _ in self.ledger.claims)
        oldest: dict[str, float] = {}
        protected: Counter[str] = Counter()
        for (namespace, _), ended in good.items():
            protected[namespace] += 1
            oldest[namespace] = min(ended, oldest.get(namespace, ended))
        claims = GaugeMetricFamily(
            "ararat_claims", "Claims that backups may hold.", labels=["namespace"]
        )
        never = GaugeMetricFamily(
            "ararat_claims_never_backed_up",
            "Claims that none of the newest backups holds in full.",
            labels=["namespace"],
        )
        age = GaugeMetricFamily(
            "ararat_claims_oldest_good_backup_seconds",
            "Age of the last good backup of the claim whose last good backup is the oldest.",
            labels=["namespace"],
        )
        for namespace, count in every.items():
            claims.add_metric([namespace], count)
            never.add_metric([namespace], count - protected[namespace])
            if namespace in oldest:
                age.add_metric([namespace], now - oldest[namespace])
        yield from (claims, never, age, self._overdue(now))
        if self._per_claim:
            single = GaugeMetricFamily(
                "ararat_claim_last_good_backup_seconds",
                "Age of the claim's last good backup.",
                labels=["namespace", "claim"],
            )
            for (namespace, name), ended in sorted(good.items())[:PER_CLAIM]:
                single.add_metric([namespace, name], now - ended)
            yield single

    def _overdue(self, now: float) -> Metric:
        family = GaugeMetricFamily(
            "ararat_claim_overdue",
            "1: no good backup of the claim within 1.5 times the interval of its schedule.",
            labels=["schedule", "namespace", "claim"],
        )
        for schedule in self.ledger.intervals:
            for namespace, name in self.ledger.overdue(schedule, now=now)[:OVERDUE]:
                family.add_metric([schedule, namespace, name], 1)
        return family

    async def run(self, context: Context, *, registry: CollectorRegistry = REGISTRY) -> None:
        """Keep the numbers until cancelled."""
        registry.register(self)
        try:
            while True:
                try:
                    await self.look(context)
                except AraratError as exc:
                    log.warning("coverage not known", reason=exc.reason, message=exc.message)
                await asyncio.sleep(PERIOD_SECONDS)
        finally:
            registry.unregister(self)

    async def look(self, context: Context) -> None:
        """Bring the ledger up to date."""
        never = {context.namespace, context.keys_namespace}
        async for namespace in context.api.list(NAMESPACES):
            if left_out(namespace):
                never.add(namespace["metadata"]["name"])
        self.ledger.claims = frozenset(
            [
                (claim["metadata"]["namespace"], claim["metadata"]["name"])
                async for claim in context.api.list(PVCS)
                if claim["metadata"]["namespace"] not in never and not left_out(claim)
            ]
        )
        self.ledger.intervals = dict(_intervals(context))
        wanted = self._wanted(context)
        for backup in wanted:
            if _key(backup) not in self.ledger.backups:
                try:
                    await self._read(context, backup)
                except AraratError as exc:
                    log.info("manifest not read", backup=backup.name, reason=exc.reason)
        self.ledger.keep(_key(backup) for backup in wanted)

    def _wanted(self, context: Context) -> list[Backup]:
        """The newest backups, and what protects the claims of each schedule by now."""
        newest = sorted(_restorable(context), key=_ended, reverse=True)
        wanted = {_key(backup): backup for backup in newest[:BACKUPS]}
        for schedule, interval in self.ledger.intervals.items():
            since = self._clock() - _OVERDUE_AFTER * interval
            mine = [backup for backup in newest if backup.spec.schedule == schedule]
            fresh = [backup for backup in mine[1:PER_SCHEDULE] if _ended(backup) >= since]
            wanted.update({_key(backup): backup for backup in (*mine[:1], *fresh)})
        return list(wanted.values())

    async def _read(self, context: Context, backup: Backup) -> None:
        location = await context.location(backup.status.location or "")
        data = await location.store.get(layout.backup_manifest(backup.name))
        manifest = await asyncio.to_thread(decode_manifest, data, *location.manifest_keys)
        if manifest.cluster_uid == context.cluster_uid:
            self.ledger.add(manifest.model_copy(update={"backup_uid": _key(backup)}))
        else:  # another cluster's claims are not ours, whatever they are called
            self.ledger.backups[_key(backup)] = Entry()


def _restorable(context: Context) -> Iterator[Backup]:
    for raw in context.backups.items():
        try:
            backup = Backup.parse(raw)
        except ValidationError:
            continue  # its own reconciler says what is wrong with it
        if backup.status.phase.restorable:
            yield backup


def _intervals(context: Context) -> Iterator[tuple[str, float]]:
    for raw in context.schedules.items():
        try:
            schedule = Schedule.parse(raw)
        except ValidationError:
            continue
        if not schedule.spec.paused and schedule.status.interval_seconds:
            yield schedule.name, float(schedule.status.interval_seconds)


def _ended(backup: Backup) -> float:
    return backup.status.completion_time.timestamp() if backup.status.completion_time else 0.0


def _key(backup: Backup) -> str:
    """The object's UID: one that sync made has another than the backup had where it was made."""
    return backup.uid
