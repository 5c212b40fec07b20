"""Claims that a restore owes data to, by name: also where the claim itself is gone. Pure.

Problem: a claim can be lost before it was filled: its volume was in a zone, or on a node, that does
not come back, so somebody deletes it, and its owner (a StatefulSet) makes it again. The mark that
it is owed data went with the first one, and the application would start on nothing.
Decision: what a restore owes is known by name from its stored plan. A claim of such a name that is
made again is marked when it is made (``remade``), and filled like the first one. What was filled
once is not owed any more.
Limits: a plan that could not be stored owes nothing by name.
"""

from __future__ import annotations

from collections.abc import Iterable

from ararat.api import PodVolumeRestore
from ararat.api.nodejob import JobPhase, Role
from ararat.api.plan import Action, ClaimData, RestorePlan

_CLAIMS = "persistentvolumeclaims"
_OWED = (ClaimData.FILES, ClaimData.MISSING)


def planned_claims(plan: RestorePlan) -> frozenset[str]:
    """``namespace/name`` of the claims that it made and that data is wanted for."""
    not_made = {
        planned.path
        for planned in plan.objects
        if planned.resource == _CLAIMS
        and (planned.action is not Action.CREATE or planned.outcome not in ("", "Created"))
    }
    return (
        frozenset(
            planned.volume
            for planned in plan.volumes
            # A volume that lives with its pod has a name of three parts.
            if planned.data in _OWED and planned.volume.count("/") == 1
        )
        - not_made
    )


def still_owed(claims: frozenset[str], jobs: Iterable[PodVolumeRestore]) -> frozenset[str]:
    """Those that no job has filled, whatever UID they had then."""
    filled = {
        f"{job.spec.pod.namespace}/{job.spec.claim.name}"
        for job in jobs
        if job.spec.claim is not None
        and job.spec.role is Role.FILL
        and job.status.phase is JobPhase.COMPLETED
    }
    return claims - filled
