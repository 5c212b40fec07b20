"""One deletion, step by step; every step can be done again, so it goes on wherever it was ended.

Order: the Backup says Deleting (no restore begins any more in this cluster), ``deleting.json``
(no cluster offers it), snapshots, the manifest, the repositories that nobody needs any more, the
other files with ``begin.json`` and ``deleting.json`` last, the Backup object.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog

from ararat import layout, reserve
from ararat.api import Backup, BackupVerification, DeleteBackupRequest, Restore
from ararat.api.backup import BackupPhase
from ararat.api.base import utcnow
from ararat.api.deletion import DeletionCause
from ararat.errors import AraratError, Conflict, Damaged, NotFound, OutOfSpace, Retryable
from ararat.kube.resources import of as resource_of
from ararat.kube.status import patch_status
from controller.context import Context
from controller.deletion import repository
from controller.deletion.manifests import ManifestReader, Promise, Promises, read_promise
from controller.deletion.request import REQUESTS, restore_ended, restored_backup
from controller.deletion.snapshots import check_promised, forget, listed
from controller.location.open import OpenLocation

_BACKUPS = resource_of(Backup)
_CLOCKS_AGREE = timedelta(hours=1)
log = structlog.get_logger("controller.deletion")


class Refused(AraratError):
    """The deletion will not be begun; the reason says what to do first."""

    default_reason = "Refused"


class Waits(Retryable):
    """The deletion has begun and goes on when something else has ended."""

    default_reason = "Waits"


@dataclass
class Deletion:
    context: Context
    reader: ManifestReader
    raw: dict[str, Any]
    request: DeleteBackupRequest
    backup_raw: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.request.spec.backup

    async def run(self) -> None:
        """Raises Refused (nothing was touched), Waits, Damaged, OutOfSpace, Retryable."""
        found = await self._backup()
        place = self.request.status.location
        place = place or (found.status.location if found else self.request.spec.location)
        if found is None and place is None:
            raise Refused(
                f"there is no backup {self.name!r}: see `ararat backup get`",
                reason="BackupNotFound",
            )
        begun = self.request.status.location is not None
        if found is None and not begun:
            await self._must_have_begun(place or "")
        if found is not None and found.status.phase is not BackupPhase.DELETING:
            if not found.status.phase.terminal:
                raise Refused(
                    f"backup {self.name} is {found.status.phase}: end it with "
                    f"`ararat backup cancel {self.name}` first",
                    reason="BackupRunning",
                )
            begun = False
        if found is not None and (place is None or await self._is_nothing_but_object(found, place)):
            await self._drop_object(found)
            return
        assert place is not None
        location = await self.context.location(place)
        if not location.writable:
            raise Refused(
                f"location {place} is ReadOnly here: delete the backup in the cluster that owns it",
                reason="LocationReadOnly",
            )
        try:
            if not begun:
                await self._check_clock(location)
                await self._begin(found, location)
            elif found is not None:
                await self._no_restores(begun=True)
            await self._delete(found, location)
        except OutOfSpace:
            # A deletion writes before it removes: that is what the reserve is for.
            if not await reserve.give_up(location.store, pieces=1):
                raise
            log.warning(
                "a piece of the reserve is given up", backup=self.name, location=location.name
            )
            await self.run()

    async def _check_clock(self, location: OpenLocation) -> None:
        """A clock that is years ahead must not make every backup look old enough to go."""
        if self.request.spec.cause is not DeletionCause.EXPIRED or self.context.clock_is_moved:
            return
        ours, theirs = self.context.now(), await location.store.now()
        if abs(ours - theirs) > _CLOCKS_AGREE:
            raise Refused(
                f"the clock here says {ours:%Y-%m-%d %H:%M} and that of location {location.name} "
                f"{theirs:%Y-%m-%d %H:%M}: nothing is deleted for its age until they agree",
                reason="ClocksDisagree",
            )

    async def _must_have_begun(self, place: str) -> None:
        """Without its object a backup is only deleted where that had begun already."""
        location = await self.context.location(place)
        try:
            await location.store.head(layout.backup_deleting(self.name))
        except NotFound as exc:
            raise Refused(
                f"there is no backup {self.name!r}: see `ararat backup get`",
                reason="BackupNotFound",
            ) from exc

    async def _is_nothing_but_object(self, backup: Backup, place: str) -> bool:
        """A backup that failed holds nothing, and its name in the location may be another's."""
        phase = backup.status.phase
        if phase.restorable or phase is BackupPhase.DELETING:
            return False
        store = (await self.context.location(place)).store
        try:
            await store.head(layout.backup_manifest(self.name))
        except NotFound:
            pass
        else:
            return True
        try:
            begun = json.loads(await store.get(layout.backup_begin(self.name)))
        except (NotFound, ValueError):
            return True
        return not isinstance(begun, dict) or begun.get("uid") != backup.uid

    async def _backup(self) -> Backup | None:
        try:
            raw = await self.context.api.get(_BACKUPS, self.name, namespace=self.context.namespace)
        except NotFound:
            return None
        self.backup_raw = raw
        found = Backup.parse(raw)
        wanted = self.request.spec.backup_uid
        if wanted and found.uid != wanted:
            if self.request.status.location is None:
                raise Refused(
                    f"backup {self.name} is another one by now: ask again", reason="BackupReplaced"
                )
            return None
        return found

    async def _begin(self, backup: Backup | None, location: OpenLocation) -> None:
        await self._no_restores(begun=False)
        if backup is not None and backup.status.phase is not BackupPhase.DELETING:
            # Only if it is still what was looked at: a conflict means to look again.
            await patch_status(
                self.context.api,
                _BACKUPS,
                self.backup_raw,
                {"phase": BackupPhase.DELETING.value, "message": "is being deleted"},
                resource_version=backup.metadata.resource_version,
            )
        await self._say({"location": location.name, "startTime": utcnow().isoformat()})
        await self._no_restores(begun=True)

    async def _no_restores(self, *, begun: bool) -> None:
        """Asked of the API server: the cache may be a moment behind."""
        found = self.context.api.list(resource_of(Restore), namespace=self.context.namespace)
        active = sorted(
            [
                str(raw["metadata"]["name"])
                async for raw in found
                if restored_backup(raw) == self.name
                and not restore_ended(raw)
                # Verifications end by themselves, and their restores with them.
                and (begun or not raw["spec"].get("isolated"))
            ]
        )
        if not active:
            if begun:
                await self._no_verifications()
            return
        if begun:
            raise Waits(f"waits for restore {active[0]}", reason="BackupBeingRestored")
        raise Refused(
            f"backup {self.name} is being restored by {', '.join(active)}: delete it afterwards",
            reason="BackupBeingRestored",
        )

    async def _no_verifications(self) -> None:
        """They end by themselves when the backup says Deleting."""
        kind = resource_of(BackupVerification)
        async for raw in self.context.api.list(kind, namespace=self.context.namespace):
            phase = (raw.get("status") or {}).get("phase")
            if raw["spec"].get("backup") == self.name and phase == "InProgress":
                name = raw["metadata"]["name"]
                raise Waits(f"waits for verification {name} to let go", reason="BackupBeingRead")

    async def _delete(self, backup: Backup | None, location: OpenLocation) -> None:
        store = location.store
        mark = json.dumps({"request": self.request.uid, "time": utcnow().isoformat()}).encode()
        try:
            await store.put(layout.backup_deleting(self.name), mark, create_only=True)
            log.info("deletion begins", backup=self.name, location=location.name)
        except Conflict:
            pass  # this deletion was begun before, or another one was
        own = await self._own(location)
        directories = sorted({*self.request.status.directories, *(own.directories if own else ())})
        promises = await self.reader.promises(location)
        if own is not None:
            await self._say({"directories": directories})
            await self._forget(location, own, promises)
            await store.delete(layout.backup_manifest(self.name))
        await self._retire(location, directories, promises)
        await self._files(location)
        await self._drop_object(backup)

    async def _own(self, location: OpenLocation) -> Promise | None:
        """None: there is no manifest, or it is gone already, or nobody can read it."""
        try:
            return await read_promise(location, self.name)
        except NotFound:
            return None
        except Damaged as exc:
            if exc.reason == "NewerFormat":
                raise
            # Nothing is done on its word: its snapshots are found as orphans later.
            log.warning("unreadable manifest deleted", backup=self.name, message=exc.message)
            await location.store.delete(layout.backup_manifest(self.name))
            return None

    async def _forget(self, location: OpenLocation, own: Promise, promises: Promises) -> None:
        forgotten = kept = 0
        for directory, snapshots in own.snapshots.items():
            self.context.check_not_maintained(directory)
            check_promised(promises, directory, await listed(location, directory))
            needed = promises.snapshots(directory)
            kept += sum(snapshot in needed for snapshot in snapshots)
            forgotten += await forget(
                location, directory, [s for s in snapshots if s not in needed]
            )
        await self._say({"snapshots": forgotten, "keptSnapshots": kept})

    async def _retire(
        self, location: OpenLocation, directories: list[str], promises: Promises
    ) -> None:
        for directory in directories:
            if repository.namespace_of(directory) is None or promises.names(directory):
                continue
            self.context.check_not_maintained(directory)
            removing = self.request.status.removing
            if directory not in removing:
                await self._say({"removing": [*removing, directory]})
            if await repository.retire(self.context, location, directory, promises):
                await repository.remove(self.context, location, directory)

    async def _files(self, location: OpenLocation) -> None:
        last = [layout.backup_begin(self.name), layout.backup_deleting(self.name)]
        async for blob in location.store.list(layout.backup_prefix(self.name)):
            if blob.name not in last:
                await location.store.delete(blob.name)
        for name in last:
            await location.store.delete(name)

    async def _drop_object(self, backup: Backup | None) -> None:
        if backup is not None:
            await self.context.api.delete(
                _BACKUPS, self.name, namespace=self.context.namespace, uid=backup.uid
            )
        log.info("backup deleted", backup=self.name)

    async def _say(self, status: dict[str, Any]) -> None:
        self.raw = await patch_status(
            self.context.api, REQUESTS, self.raw, {"phase": "InProgress", **status}
        )
        self.request = DeleteBackupRequest.parse(self.raw)
