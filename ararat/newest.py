"""Which backup is meant by a schedule: the newest one that is Completed. Pure.

Problem: whoever restores in a hurry names the schedule, and must get neither half a backup nor,
where two clusters have a schedule of the same name, the other cluster's data.
Decision: only Completed backups count, by the time they began. Where both a location of this
cluster and one of another cluster hold some, nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from ararat.api import Backup
from ararat.api.backup import BackupPhase
from ararat.errors import InvalidSpec

_NEVER = datetime.min.replace(tzinfo=UTC)


def newest_completed(
    backups: Iterable[Backup], schedule: str, *, ours: Callable[[str], bool]
) -> Backup:
    """``ours``: whether a location is this cluster's to write.

    Raises InvalidSpec (BackupNotFound, ScheduleAmbiguous).
    """
    mine = [backup for backup in backups if backup.spec.schedule == schedule]
    good = [
        backup
        for backup in mine
        if backup.status.phase is BackupPhase.COMPLETED
        and backup.metadata.deletion_timestamp is None
    ]
    if not good:
        raise InvalidSpec(_nothing(schedule, mine), reason="BackupNotFound")
    here = [backup for backup in good if ours(backup.status.location or "")]
    elsewhere = [backup for backup in good if not ours(backup.status.location or "")]
    if here and elsewhere:
        own, other = _newest(here), _newest(elsewhere)
        raise InvalidSpec(
            f"schedule {schedule!r} has backups of this cluster (the newest: {own.name}) and in "
            f"location {other.status.location}, which another cluster writes ({other.name}): name "
            "the backup that is meant",
            reason="ScheduleAmbiguous",
        )
    return _newest(good)


def _newest(backups: list[Backup]) -> Backup:
    return max(backups, key=lambda backup: (_began(backup), backup.name))


def _began(backup: Backup) -> datetime:
    return backup.status.start_time or backup.metadata.creation_timestamp or _NEVER


def _nothing(schedule: str, backups: list[Backup]) -> str:
    partly = [b for b in backups if b.status.phase is BackupPhase.PARTIALLY_FAILED]
    text = f"schedule {schedule!r} has no Completed backup to restore"
    if partly:
        newest = _newest(partly)
        return f"{text}; {newest.name}, which is PartiallyFailed, can be restored by its name"
    return f"{text}: see `ararat backup get`"
