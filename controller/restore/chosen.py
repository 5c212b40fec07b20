"""Which backup a restore is of: the one it names, or its schedule's newest Completed one.

Problem: between choosing a backup and reading it, retention may begin to delete it.
Decision: the choice is written into status first; from then on a deletion sees that the backup is
being restored. Then it is asked for once more: one whose deletion had begun before is not chosen
again, because it is not Completed any more.
"""

from __future__ import annotations

from collections.abc import Callable

from pydantic import ValidationError

from ararat.api import Backup
from ararat.api.backup import BackupPhase
from ararat.api.restore import RestorePhase
from ararat.errors import NotFound
from ararat.kube.resources import of as resource_of
from ararat.newest import newest_completed

from .run import Look

_BACKUPS = resource_of(Backup)


async def choose_backup(look: Look) -> None:
    """Into ``status.backup``, before the restore begins. Raises InvalidSpec, Retryable."""
    restore = look.restore
    if restore.status.phase is not RestorePhase.NEW:
        return
    if restore.spec.backup:
        await _note(look, restore.spec.backup)
        return
    while True:
        found = await _backups(look)
        chosen = newest_completed(found, restore.spec.schedule, ours=_ours(look))
        await _note(look, chosen.name)
        if await _still_there(look, chosen):
            look.log.info("backup chosen", schedule=restore.spec.schedule, backup=chosen.name)
            return


async def _note(look: Look, backup: str) -> None:
    if look.restore.status.backup != backup:
        await look.patch({"backup": backup})


def _ours(look: Look) -> Callable[[str], bool]:
    def ours(location: str) -> bool:
        raw = look.context.locations_informer.get(location, look.context.namespace)
        return raw is None or raw["spec"].get("accessMode") != "ReadOnly"

    return ours


async def _backups(look: Look) -> list[Backup]:
    """Asked of the API server: the backup that has just ended is the one that is wanted."""
    found = []
    async for raw in look.context.api.list(_BACKUPS, namespace=look.context.namespace):
        try:
            found.append(Backup.parse(raw))
        except ValidationError:
            continue  # its own reconciler says what is wrong with it
    return found


async def _still_there(look: Look, chosen: Backup) -> bool:
    context = look.context
    try:
        raw = await context.api.get(_BACKUPS, chosen.name, namespace=context.namespace)
    except NotFound:
        return False
    return raw["metadata"]["uid"] == chosen.uid and (
        Backup.parse(raw).status.phase is BackupPhase.COMPLETED
    )
