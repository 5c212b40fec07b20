"""Which snapshot the next backup of a volume is compared with.

Problem: restic's own choice groups by host and absolute path; the kubelet's path holds the pod's
UID, so a new pod would mean that every file is read again.
Decision: the newest snapshot of the same host (our stable identity of the volume), whatever its
path or tags; the id is passed to restic explicitly, and the reason is for the log.
Limits: a snapshot that claims to come from the future is not used: it would be chosen for ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from .models import Snapshot

#: Clocks of nodes differ a little; restic's own locks allow for 7.5 minutes.
CLOCK_TOLERANCE = timedelta(minutes=10)


def choose_parent(
    snapshots: Iterable[Snapshot], host: str, *, now: datetime | None = None
) -> tuple[str | None, str]:
    """The full id of the parent, or None, and why in a few words."""
    moment = now or datetime.now(UTC)
    same_host = [snapshot for snapshot in snapshots if snapshot.hostname == host]
    if not same_host:
        return None, "first backup of this volume"
    usable = [s for s in same_host if s.time <= moment + CLOCK_TOLERANCE]
    if not usable:
        return None, "all snapshots of this volume are from the future: check the nodes' clocks"
    # Equal times are told apart by id, so that every caller chooses the same one.
    chosen = max(usable, key=lambda snapshot: (snapshot.time, snapshot.id))
    return chosen.id, f"newest of {len(usable)} snapshots of this volume"


def find_finished(snapshots: Iterable[Snapshot], *, host: str, job: str) -> Snapshot | None:
    """The snapshot that an earlier run of the same job finished, if there is one."""
    tag = job_tag(job)
    found = [s for s in snapshots if s.hostname == host and s.has_tag(tag)]
    return max(found, key=lambda snapshot: (snapshot.time, snapshot.id), default=None)


def job_tag(job: str) -> str:
    return f"job={job}"
