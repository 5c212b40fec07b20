"""The backups of a schedule as retention sees them: from objects, where needed from manifests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

import structlog
from pydantic import ValidationError

from ararat.api import Backup
from ararat.api.backup import BackupPhase
from ararat.api.manifest import decode_manifest
from ararat.api.schedule import Retention
from ararat.cron import find_zone
from ararat.errors import Damaged, NotFound
from ararat.layout import backup_manifest
from controller.location.open import OpenLocation
from controller.schedule.retention import Held, Verdict, decide, undecided

log = structlog.get_logger("controller.schedule")


def held(backup: Backup) -> Held | None:
    """None: it has not ended, or is on its way out."""
    status = backup.status
    if not status.phase.terminal or status.phase is BackupPhase.DELETING:
        return None
    if backup.metadata.deletion_timestamp is not None:
        return None
    began = status.start_time or backup.metadata.creation_timestamp
    if began is None:
        return None
    return Held(
        name=backup.name,
        time=began,
        phase=status.phase,
        # Either is enough: the pin is on its way into the location, or out of it.
        pinned=backup.spec.pinned or status.pinned,
    )


def parsed(found: Iterable[dict[str, object]]) -> list[Backup]:
    """What is no valid Backup is left alone: its own reconciler says what is wrong with it."""
    result = []
    for raw in found:
        try:
            result.append(Backup.parse(raw))
        except ValidationError:
            continue
    return result


async def verdicts(
    location: OpenLocation,
    backups: Iterable[Backup],
    retention: Retention,
    *,
    zone: str,
    now: datetime,
) -> list[Verdict]:
    """What is kept of one schedule's backups in one location. Raises Retryable."""
    known = [found for backup in backups if (found := held(backup)) is not None]
    clock = find_zone(zone)
    for name in undecided(known, retention, zone=clock, now=now):
        good = await _volumes(location, name)
        known = [replace(one, good=good) if one.name == name else one for one in known]
    return decide(known, retention, zone=clock, now=now)


async def _volumes(location: OpenLocation, name: str) -> frozenset[str] | None:
    """The volumes a backup holds. None where that cannot be known: then it is kept."""
    try:
        data = await location.store.get(backup_manifest(name))
        manifest = decode_manifest(data, *location.manifest_keys)
    except (NotFound, Damaged) as exc:
        log.warning("manifest unreadable", backup=name, message=exc.message)
        return None
    volumes = {volume.host or volume.id for volume in manifest.volumes if volume.restorable}
    return frozenset(volumes | {"objects"})
