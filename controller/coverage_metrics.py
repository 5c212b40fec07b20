"""Metrics of what is protected: claims never backed up, and how old the last good backup is.

Problem: a backup that succeeds every night says nothing about the claim that was added last week
and that no backup means.
Decision: every few minutes the leader lists the claims, and knows from manifests when each was last
read in full. A manifest never changes, so each is read once. Numbers are per namespace, so that
their count stays bounded; one per claim is an option, up to a limit. Ages are worked out when
Prometheus asks: they grow while nothing happens, which is the point.
Limits: only the newest backups are looked at (``BACKUPS``), and only the leader answers.
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
from ararat.api import Backup
from ararat.api.manifest import Coverage, Manifest, decode_manifest
from ararat.errors import AraratError
from ararat.keys import manifest_mac_key
from ararat.kube.resources import NAMESPACES, PVCS
from controller.backup.selection import left_out
from controller.context import Context

#: Manifests that are read at most, the newest first.
BACKUPS = 50
PERIOD_SECONDS = 300.0
#: Claims that have numbers of their own at most.
PER_CLAIM = 5000

Claim = tuple[str, str]
log = structlog.get_logger("controller.coverage")


@dataclass
class Ledger:
    """When each claim was last read in full. Pure, but for the clock that it is given."""

    #: By UID of the backup: when it ended, and the claims that it read in full.
    backups: dict[str, tuple[float, frozenset[Claim]]] = field(default_factory=dict)
    claims: frozenset[Claim] = frozenset()

    def add(self, manifest: Manifest) -> None:
        good = frozenset(
            (volume.namespace, volume.claim.name)
            for volume in manifest.volumes
            if volume.claim is not None and volume.coverage is Coverage.BACKED_UP
        )
        self.backups[manifest.backup_uid] = (manifest.completion_time.timestamp(), good)

    def keep(self, uids: Iterable[str]) -> None:
        """Forget backups that are no more."""
        kept = set(uids)
        self.backups = {uid: found for uid, found in self.backups.items() if uid in kept}

    def last_good(self) -> dict[Claim, float]:
        """Of the claims that exist, those that a backup holds: the newest one's end."""
        found: dict[Claim, float] = {}
        for ended, good in sorted(self.backups.values(), key=lambda b: b[0]):
            for claim in good & self.claims:
                found[claim] = ended
        return found


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
        yield from (claims, never, age)
        if self._per_claim:
            single = GaugeMetricFamily(
                "ararat_claim_last_good_backup_seconds",
                "Age of the claim's last good backup.",
                labels=["namespace", "claim"],
            )
            for (namespace, name), ended in sorted(good.items())[:PER_CLAIM]:
                single.add_metric([namespace, name], now - ended)
            yield single

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
        newest = sorted(_restorable(context), key=_ended, reverse=True)[:BACKUPS]
        for backup in newest:
            if _key(backup) not in self.ledger.backups:
                try:
                    await self._read(context, backup)
                except AraratError as exc:
                    log.info("manifest not read", backup=backup.name, reason=exc.reason)
        self.ledger.keep(_key(backup) for backup in newest)

    async def _read(self, context: Context, backup: Backup) -> None:
        location = await context.location(backup.status.location or "")
        data = await location.store.get(layout.backup_manifest(backup.name))
        key = manifest_mac_key(location.master, location.location_id)
        manifest = await asyncio.to_thread(decode_manifest, data, key)
        if manifest.cluster_uid == context.cluster_uid:
            self.ledger.add(manifest.model_copy(update={"backup_uid": _key(backup)}))
        else:  # another cluster's claims are not ours, whatever they are called
            self.ledger.backups[_key(backup)] = (0.0, frozenset())


def _restorable(context: Context) -> Iterator[Backup]:
    for raw in context.backups.items():
        try:
            backup = Backup.parse(raw)
        except ValidationError:
            continue  # its own reconciler says what is wrong with it
        if backup.status.phase.restorable:
            yield backup


def _ended(backup: Backup) -> float:
    return backup.status.completion_time.timestamp() if backup.status.completion_time else 0.0


def _key(backup: Backup) -> str:
    """The object's UID: one that sync made has another than the backup had where it was made."""
    return backup.uid
