"""Which waiting job starts next, and which held jobs get their slots.

Problem: a node with forty volumes must not run forty restics, and somebody who waits for a restore
must not wait behind the night's backups. And a pod that is frozen by a hook must not queue: the
slots for all its volumes are needed before the hook runs.
Decision: a pure function: restores before backups, oldest first, at most so many at once, and at
most so many on one repository. Age is the creation time of the job, then its name, so that every
look at the same jobs gives the same order.
Jobs with ``hold`` queue as a group, in the place of their oldest, and get all their slots at once
(as many as there are members, at most the node's) or none: so no two groups can each hold half of
what both need. While the oldest group waits, nothing behind it takes a slot, else it might wait
for ever. Slots once reserved are the group's until its last member has ended; a member that comes
late shares them, and a slot more is added only where one is free.
Limits: no pre-emption; a restore that arrives waits for the first free slot. A slot may idle while
a group waits for its second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class JobKind(StrEnum):
    RESTORE = "restore"
    BACKUP = "backup"


@dataclass(frozen=True)
class Waiting:
    """A job that could start now, or reserve its slot."""

    uid: str
    name: str
    kind: JobKind
    created: datetime
    """Since when it queues."""
    repository: str
    """Location and directory of its repository."""
    subject: str
    """What no two jobs may work on at once: a claim, or a pod's volume."""
    group: str = ""
    """Those that get their slots together; a held job always has one, if only its own."""
    hold: bool = False
    """It must not run yet, only reserve."""
    reserved: bool = False
    """Slots are reserved for it."""


@dataclass(frozen=True)
class Limits:
    node: int
    repository: int


@dataclass(frozen=True)
class Plan:
    """What follows from one look, each in order."""

    start: tuple[Waiting, ...] = ()
    reserve: tuple[Waiting, ...] = ()
    hold: tuple[Waiting, ...] = ()
    """Held jobs that get no slot yet."""


def order(waiting: Iterable[Waiting]) -> list[Waiting]:
    """All of them, first come first."""
    return sorted(waiting, key=lambda job: (job.kind is JobKind.BACKUP, job.created, job.name))


def plan(waiting: Iterable[Waiting], running: Iterable[Waiting], limits: Limits) -> Plan:
    """What may start and what may be reserved now, beside the jobs that run."""
    return _Planner(order(waiting), list(running), limits).plan()


class _Planner:
    """One look: what is taken, and what is given away on top."""

    def __init__(self, waiting: list[Waiting], running: list[Waiting], limits: Limits) -> None:
        self._waiting = waiting
        self._running = running
        self._limits = limits
        self._groups = {job.group for job in waiting if job.reserved and job.group}
        self._used = Counter(job.repository for job in running)
        #: Repositories that a group waits for.
        self._closed: set[str] = set()
        #: Volumes that are being read, or promised to a reservation: nobody else begins on them.
        self._taken = {job.subject for job in running}
        self._start: list[Waiting] = []
        self._reserve: list[Waiting] = []
        self._hold: list[Waiting] = []

    def plan(self) -> Plan:
        slots = self._allotments()
        free = self._limits.node - sum(slots.values())
        free -= sum(job.group not in slots for job in self._running)
        for group, granted in slots.items():
            self._serve(group, granted)
        self._taken |= {job.subject for job in self._waiting if job.group in slots}
        self._others([job for job in self._waiting if job.group not in slots], free)
        return Plan(tuple(self._start), tuple(self._reserve), tuple(self._hold))

    def _allotments(self) -> dict[str, int]:
        """Slots of each group that has some: first one each, then as many as it can use."""
        free = self._limits.node - sum(job.group not in self._groups for job in self._running)
        busy = Counter(job.group for job in self._running)
        members = Counter(job.group for job in (*self._waiting, *self._running))
        groups = list(dict.fromkeys(job.group for job in self._waiting if job.reserved))
        # Groups whose members run keep what they use, whatever else has changed.
        groups.sort(key=lambda group: -busy[group])
        slots: dict[str, int] = {}
        for group in groups:
            slots[group] = max(busy[group], min(1, max(free, 0)))
            free -= slots[group]
        for group in groups:
            more = max(0, min(members[group] - slots[group], free))
            slots[group] += more
            free -= more
        return slots

    def _serve(self, group: str, slots: int) -> None:
        """Members of a group that has slots: start those that may run, reserve for the rest."""
        used = sum(job.group == group for job in self._running)
        for job in self._waiting:
            if job.group != group:
                continue
            if job.hold:
                if not job.reserved:
                    self._reserve.append(job)
            elif used < slots and job.subject not in self._taken and self._room(job.repository) > 0:
                self._begin(job)
                used += 1
        # What is not used yet is kept all the same, also on the group's repository.
        repository = next(job.repository for job in self._waiting if job.group == group)
        self._used[repository] += max(0, slots - used)

    def _others(self, waiting: list[Waiting], free: int) -> None:
        held: dict[str, list[Waiting]] = {}
        for job in waiting:
            if job.hold:
                held.setdefault(job.group, []).append(job)
        for job in waiting:
            members = held.pop(job.group, []) if job.hold else [job]
            if not members:
                continue
            repository = job.repository
            need = min(len(members), self._limits.node, self._limits.repository)
            if any(member.subject in self._taken for member in members):
                # It waits for its volume, and does not hold up those behind it.
                fits = False
            elif repository in self._closed or self._room(repository) < need:
                fits = False
                # A group would never get its slots if each one that falls free went to others.
                if job.hold:
                    self._closed.add(repository)
            else:
                fits = need <= free
                if job.hold and not fits:
                    free = 0
            if not fits:
                self._hold += [member for member in members if member.hold]
                continue
            free -= need
            if job.hold:
                self._reserve += members
                self._taken.update(member.subject for member in members)
                self._used[repository] += need
            else:
                self._begin(job)

    def _begin(self, job: Waiting) -> None:
        self._taken.add(job.subject)
        self._used[job.repository] += 1
        self._start.append(job)

    def _room(self, repository: str) -> int:
        return self._limits.repository - self._used[repository]


def expired(
    waiting: Iterable[Waiting], reserved_seconds: Mapping[str, float], *, limit: float
) -> list[Waiting]:
    """Reserved jobs that nobody released in time, with all of their group that still hold."""
    jobs = [job for job in waiting if job.reserved and job.hold]
    late = {job.group for job in jobs if reserved_seconds.get(job.uid, 0.0) > limit}
    return [job for job in jobs if job.group in late]
