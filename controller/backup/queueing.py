"""Which backups may run beside each other, and who is next. Pure.

Backups of disjoint namespaces run together; one that shares a namespace with a running one waits:
two freezes of one application at a time would deadlock its hooks, and reading twice gains nothing.
Decision: those that wait for the same namespaces take turns in the order in which they were asked
for, so that nobody is overtaken for ever; the price is that a small backup may wait behind a large
one that itself waits. Every wait is for an older backup or a running one, so no two wait for each
other.
Limits: creation times are whole seconds; of two in one second the name decides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ararat.api import Backup
from ararat.api.backup import BackupPhase

#: Status names at most this many namespaces; a backup of more overlaps with everything.
_NAMED = 100
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Turn:
    """Where a backup stands in the queue for its namespaces."""

    #: 1 is next.
    position: int
    #: The backup that has to end, or to go, first.
    waits_for: str

    @property
    def message(self) -> str:
        place = "next" if self.position == 1 else f"number {self.position} in the queue"
        return (
            f"{place}: waits for backup {self.waits_for}, which means some of the same namespaces"
        )


def turn_of(
    backup: Backup,
    namespaces: Sequence[str],
    others: Iterable[Backup],
    *,
    beginning: Mapping[str, Collection[str]],
) -> Turn | None:
    """Where this backup stands; None: it is its turn.

    ``beginning``: by name, the namespaces of other backups that have begun and whose status may
    not say so yet.
    """
    mine = set(namespaces)
    running = [name for name, taken in beginning.items() if not mine.isdisjoint(taken)]
    waiting = []
    for other in others:
        if other.uid == backup.uid or not _overlaps(mine, other):
            continue
        phase = other.status.phase
        if phase in (BackupPhase.IN_PROGRESS, BackupPhase.FINALIZING):
            running.append(other.name)
        elif (
            phase is BackupPhase.QUEUED
            and other.name not in beginning
            and _asked_for(other) < _asked_for(backup)
        ):
            waiting.append(other)
    if not running and not waiting:
        return None
    waiting.sort(key=_asked_for)
    return Turn(position=len(waiting) + 1, waits_for=running[0] if running else waiting[0].name)


def _asked_for(backup: Backup) -> tuple[datetime, str]:
    return backup.metadata.creation_timestamp or _NEVER, backup.name


def _overlaps(mine: set[str], other: Backup) -> bool:
    status = other.status
    return status.namespace_count > _NAMED or not mine.isdisjoint(status.namespaces)
