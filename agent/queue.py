"""Which waiting job starts next.

Problem: a node with forty volumes must not run forty restics, and somebody who waits for a restore
must not wait behind the night's backups.
Decision: a pure function: restores before backups, oldest first, at most so many at once, and at
most so many on one repository. Age is the creation time of the job, then its name, so that every
look at the same jobs gives the same order.
Limits: no pre-emption; a restore that arrives waits for the first free slot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class JobKind(StrEnum):
    RESTORE = "restore"
    BACKUP = "backup"


@dataclass(frozen=True)
class Waiting:
    """A job that could start now."""

    uid: str
    name: str
    kind: JobKind
    created: datetime
    #: Location and directory of its repository.
    repository: str
    #: What no two jobs may work on at once: a claim, or a pod's volume.
    subject: str


@dataclass(frozen=True)
class Limits:
    node: int
    repository: int


def order(waiting: Iterable[Waiting]) -> list[Waiting]:
    """All of them, first come first."""
    return sorted(waiting, key=lambda job: (job.kind is JobKind.BACKUP, job.created, job.name))


def startable(
    waiting: Iterable[Waiting], running: Iterable[Waiting], limits: Limits
) -> list[Waiting]:
    """Those that may start now, in order, beside the ones that run."""
    active = list(running)
    busy = {job.subject for job in active}
    per_repository = Counter(job.repository for job in active)
    free = limits.node - len(active)
    chosen: list[Waiting] = []
    for job in order(waiting):
        if free <= 0:
            break
        # A job that must wait for its repository or subject does not hold up the ones behind it.
        if job.subject in busy or per_repository[job.repository] >= limits.repository:
            continue
        busy.add(job.subject)
        per_repository[job.repository] += 1
        free -= 1
        chosen.append(job)
    return chosen
