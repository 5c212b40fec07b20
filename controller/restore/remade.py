"""Claims that are made again while a restore still owes them their data: marked as they are made.

Problem: see ``owed``. A StatefulSet makes claim and pod within a moment, so nobody who only looks
now and then could mark the claim before its pod starts.
Decision: the webhook is asked about every claim that is made in a namespace that is being restored,
but for those that a restore makes itself. One that a restore owes data by its name gets that
restore's mark and label, and is then like the first one: its pods are held, it is filled. The plan
and the node jobs are read live; a plan that was read is kept.
Limits: restores that were cancelled owe nothing; nor does one that has not made its claims yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from ararat.api import PodVolumeRestore, Restore
from ararat.api.names import RESTORE, RESTORE_PENDING, RESTORE_UID
from ararat.api.plan import in_config_map
from ararat.api.restore import ReleaseAction, RestorePhase, RestoreVolumesMode
from ararat.kube.api import KubeApi
from ararat.naming import label_value
from ararat.plans import plan_map

from .owed import planned_claims, still_owed
from .run import JOBS, RESTORES, is_cancelled
from .units import word_on

_OWING = (RestorePhase.IN_PROGRESS, RestorePhase.FINALIZING, RestorePhase.PARTIALLY_FAILED)
_PLANS_KEPT = 8


@dataclass(frozen=True)
class Debts:
    """Which restore owes data to a claim by its name."""

    api: KubeApi
    #: Ararat's own.
    namespace: str
    #: ConfigMap's UID and version → the claims of the plan in it.
    _plans: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)

    async def owed_by(self, claim: str) -> Restore | None:
        """The newest restore that owes ``namespace/name`` its data. Raises AraratError."""
        owing = [
            restore
            async for raw in self.api.list(RESTORES, namespace=self.namespace)
            if (restore := _owing(raw)) is not None
        ]
        for restore in sorted(owing, key=_age, reverse=True):
            given_up = word_on(claim, restore.spec.released) is ReleaseAction.START
            if not given_up and await self._owes(restore, claim):
                return restore
        return None

    async def _owes(self, restore: Restore, claim: str) -> bool:
        if claim not in await self._planned(restore):
            return False
        labels = f"{RESTORE_UID}={restore.uid}"
        jobs = [
            PodVolumeRestore.parse(raw)
            async for raw in self.api.list(JOBS, namespace=self.namespace, labels=labels)
        ]
        return bool(still_owed(frozenset({claim}), jobs))

    async def _planned(self, restore: Restore) -> frozenset[str]:
        found = await plan_map(self.api, restore)
        if found is None:
            return frozenset()
        key = (found["metadata"]["uid"], found["metadata"]["resourceVersion"])
        if key not in self._plans:
            plan = await asyncio.to_thread(in_config_map, found)
            while len(self._plans) >= _PLANS_KEPT:
                self._plans.pop(next(iter(self._plans)), None)
            self._plans[key] = frozenset() if plan is None else planned_claims(plan)
        return self._plans[key]


def mark(claim: Mapping[str, Any], restore: Restore) -> list[dict[str, Any]]:
    """RFC 6902: the restore owes this claim its data. Pure."""
    metadata = claim.get("metadata") or {}
    labels = {RESTORE: label_value(restore.name), RESTORE_UID: restore.uid}
    annotations = {RESTORE_PENDING: restore.uid}
    return [
        {
            "op": "add",
            "path": "/metadata/labels",
            "value": {**(metadata.get("labels") or {}), **labels},
        },
        {
            "op": "add",
            "path": "/metadata/annotations",
            "value": {**(metadata.get("annotations") or {}), **annotations},
        },
    ]


def _owing(raw: Mapping[str, Any]) -> Restore | None:
    if is_cancelled(raw):
        return None
    try:
        restore = Restore.parse(raw)
    except ValidationError:
        return None
    status = restore.status
    in_place = restore.spec.volumes.mode is RestoreVolumesMode.IN_PLACE
    made = bool(status.plan) and status.objects_done and not in_place
    # The node jobs of one that has ended are kept for as long as it owes something.
    settled = status.phase is RestorePhase.PARTIALLY_FAILED and not status.volumes.failed
    return restore if made and status.phase in _OWING and not settled else None


def _age(restore: Restore) -> tuple[str, str]:
    created = restore.metadata.creation_timestamp
    return (created.isoformat() if created else "", restore.name)
