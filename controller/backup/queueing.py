"""Which backups may run beside each other. Pure.

Backups of disjoint namespaces run together; one that shares a namespace with a running one waits:
two freezes of one application at a time would deadlock its hooks, and reading twice gains nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from ararat.api import Backup
from ararat.api.backup import BackupPhase

#: Status names at most this many namespaces; a backup of more overlaps with everything.
_NAMED = 100


def blocked_by(
    backup: Backup,
    namespaces: Sequence[str],
    others: Iterable[Backup],
    *,
    beginning: Mapping[str, Collection[str]],
) -> str | None:
    """The name of a running backup that this one has to wait for, or None.

    ``beginning``: by name, the namespaces of other backups that have begun and whose status may
    not say so yet.
    """
    mine = set(namespaces)
    for name, taken in beginning.items():
        if not mine.isdisjoint(taken):
            return name
    for other in others:
        if other.uid == backup.uid or other.status.phase not in (
            BackupPhase.IN_PROGRESS,
            BackupPhase.FINALIZING,
        ):
            continue
        if other.status.namespace_count > _NAMED or mine & set(other.status.namespaces):
            return other.name
    return None
