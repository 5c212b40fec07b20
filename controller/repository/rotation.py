"""The master key is changed for another one, while backups and restores go on.

Problem: what is stored needs the old key, runs hold passwords made from it, every line of this may
be the last one that a controller runs, and a key that is gone too early loses everything.
Decision: the master key's Secret says what is to be done, and the leader does it, in steps that can
each be repeated. ``ararat key rotate`` puts the new key beside the present one (``next``). Then

1. every location of this cluster names both keys, every repository in it opens with both (proven
   by restic), and the keys that prove older manifests are sealed for the new master key;
2. ``next`` becomes the key in one write, and the present one ``former``. From here on whatever
   begins uses the new key; what runs goes on with the old one;
3. when every run that began before that has ended, the old key's access is removed everywhere, and
   ``former`` is forgotten;
4. where that was asked for, everything is encrypted anew (``reencryption``).

A location that cannot be reached, or is another cluster's and needs the present key, stops it
before 2 or 3; the Secret says so in an annotation. Nothing ever opens with neither key.
Limits: 1 to 3 re-wrap (``ararat.restic.rekey``): they are for a key that changes hands or is due,
not for one that has leaked; for that there is 4.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from ararat import keys, layout
from ararat.api import BackupLocation
from ararat.api.base import utcnow
from ararat.errors import AraratError, Conflict
from ararat.kube.api import KubeObject
from ararat.restic.create import current_repository
from ararat.restic.rekey import (
    Rekey,
    add_key,
    name_keys,
    remove_key,
    repository_directories,
    repository_folders,
)
from controller.context import Context
from controller.deletion.manifests import ManifestReader
from controller.keys import KeyRing
from controller.location.description import location_file, store_location_file
from controller.location.open import OpenLocation
from controller.repository.reencryption import Reencryption
from controller.repository.running import started_before

#: Between two looks at the Secret; a rotation is asked for by people.
LOOK_SECONDS = 15.0
log = structlog.get_logger("controller.rotation")


class KeyRotation:
    #: From taking a password to saying so in status a run needs a moment.
    settle = timedelta(minutes=1)

    def __init__(self, context: Context, reader: ManifestReader | None = None) -> None:
        self._context = context
        self._reencryption = Reencryption(context, reader or ManifestReader())

    async def run(self) -> None:
        while True:
            try:
                await self.step()
            except AraratError as exc:
                log.warning("key rotation is held up", reason=exc.reason, message=exc.message)
            except Exception:
                log.exception("key rotation failed")  # a mistake of ours must not stop backups
            await asyncio.sleep(LOOK_SECONDS)

    async def step(self) -> None:
        """As far as it goes now. Raises AraratError: what it could not even say."""
        ring = await self._context.master_key.ring()
        if ring is None:
            return
        try:
            if ring.former is not None:
                waiting = await self._retire(ring, former=ring.former)
            elif ring.next is not None:
                waiting = await self._advance(ring, wanted=ring.next)
            elif ring.reencrypt:
                waiting = await self._reencrypt(ring)
            else:
                return
        except AraratError as exc:
            waiting = exc.message
        ring = await self._context.master_key.ring() if waiting else None
        if ring is not None and ring.message != waiting:
            log.info("key rotation waits", why=waiting)
            await self._context.master_key.say(ring, waiting)

    async def _advance(self, ring: KeyRing, *, wanted: bytes) -> str:
        """Step 1 and 2; why not, if not."""
        if wanted == ring.current:
            return "the new key is the present one: remove 'next' from the Secret"
        for raw in self._context.locations_informer.items():
            waiting = await self._prepare_location(raw, old=ring.current, new=wanted)
            if waiting:
                return waiting
        await self._context.master_key.advance(ring)
        log.info("master key rotated", fingerprint=keys.fingerprint(wanted))
        self._context.locations.forget_all()
        self._context.repositories.forget_all()
        return ""

    async def _retire(self, ring: KeyRing, *, former: bytes) -> str:
        """Step 3; why not, if not."""
        # Another leader may have made the step before: what this one knows may be older.
        self._context.locations.forget_all()
        settled = datetime.fromisoformat(ring.rotated_at) + self.settle
        if utcnow() < settled:
            return "runs that began with the former key are given a minute to show"
        informers = (self._context.backups, self._context.restores)
        running = started_before([raw for one in informers for raw in one.items()], settled)
        if running:
            return f"{running[0]} began with the former key and still runs"
        for raw in self._context.locations_informer.items():
            # What was made meanwhile by runs with the former key.
            waiting = await self._prepare_location(raw, old=former, new=ring.current)
            if waiting:
                return waiting
        for raw in self._context.locations_informer.items():
            location = await self._context.locations.open(raw["metadata"]["name"])
            if location.writable:
                await self._forget_former(location, former=former, current=ring.current)
        await self._context.master_key.retire(ring)
        self._context.locations.forget_all()
        self._context.repositories.forget_all()
        log.info("former master key retired", fingerprint=keys.fingerprint(former))
        return ""

    async def _reencrypt(self, ring: KeyRing) -> str:
        """Step 4; why not, if not."""
        waiting = await self._reencryption.step(ring, settle=self.settle)
        if not waiting:
            await self._context.master_key.reencrypted(ring)
            log.info("everything is encrypted anew", fingerprint=keys.fingerprint(ring.current))
        return waiting

    async def _prepare_location(self, raw: KubeObject, *, old: bytes, new: bytes) -> str:
        """Make a location open with both keys; why not, if not."""
        name = raw["metadata"]["name"]
        try:
            location = await self._context.locations.check(name)
        except AraratError as exc:
            return f"location {name} cannot be used: {exc.message}"
        file = await location_file(location.store)
        if not location.writable:
            if keys.fingerprint(new) in file.key_fingerprints:
                return ""
            owner = BackupLocation.parse(raw).status.owner
            if owner == self._context.cluster_uid:
                return (
                    f"location {name} is ReadOnly: set it to ReadWrite, so that it can be re-keyed"
                )
            return (
                f"location {name} is another cluster's and needs the present key: rotate it there "
                "first and use the same new key here (--to), or delete its BackupLocation"
            )
        await _name_both(location, old=old, new=new)
        rekey = self._rekey(location, old=old, new=new)
        made: dict[str, str] = {}
        for directory in await repository_directories(location.store):
            key_id = await add_key(rekey, directory)
            if key_id is not None:
                made[directory] = key_id
        for folder in await repository_folders(location.store):
            current = await current_repository(location.store, folder)
            if current is None or current.directory not in made:
                continue  # being removed, or made since: the next round sees it
            old_print, new_print = keys.fingerprint(old), keys.fingerprint(new)
            if current.key_fingerprint != new_print:
                known = {old_print: current.key_id, new_print: made[current.directory]}
                await name_keys(location.store, folder, known)
        log.info("location opens with both keys", location=name, repositories=len(made))
        return ""

    async def _forget_former(
        self, location: OpenLocation, *, former: bytes, current: bytes
    ) -> None:
        rekey = self._rekey(location, old=former, new=current)
        ours = keys.fingerprint(current)
        for folder in await repository_folders(location.store):
            named = await current_repository(location.store, folder)
            if named is not None:
                mine = named.for_key(ours)
                if mine.key_fingerprint != ours:
                    raise Conflict(f"the repository {named.directory} was made since: once more")
                await name_keys(location.store, folder, {ours: mine.key_id})
        for directory in await repository_directories(location.store):
            await remove_key(rekey, directory)
        theirs = keys.fingerprint(former)
        info = await location.store.head(layout.LOCATION)
        file = await location_file(location.store)
        left = [one for one in file.former_manifest_keys if one.opened_by != theirs]
        changed = file.model_copy(
            update={
                "key_fingerprints": [one for one in file.key_fingerprints if one != theirs],
                "former_manifest_keys": left,
            }
        )
        await store_location_file(location, changed, etag=info.etag)

    def _rekey(self, location: OpenLocation, *, old: bytes, new: bytes) -> Rekey:
        return Rekey(
            store=location.store,
            location_id=location.location_id,
            old=old,
            new=new,
            owner=self._context.lock_owner("key-rotation"),
            scratch_dir=self._context.scratch_dir,
        )


@dataclass(frozen=True)
class _Sealed:
    former: str
    key: bytes


async def _name_both(location: OpenLocation, *, old: bytes, new: bytes) -> None:
    """location.json names both keys, and holds for the new one what proves older manifests."""
    info = await location.store.head(layout.LOCATION)
    file = await location_file(location.store)
    changed = with_key(file, old=old, new=new)
    if changed != file:
        await store_location_file(location, changed, etag=info.etag)


def with_key(file: layout.LocationFile, *, old: bytes, new: bytes) -> layout.LocationFile:
    """Pure but for the sealing's nonce: the file with ``new`` beside ``old``."""
    theirs, ours = keys.fingerprint(old), keys.fingerprint(new)
    present = {one.former for one in file.former_manifest_keys if one.opened_by == ours}
    provers = [_Sealed(theirs, keys.manifest_mac_key(old, file.location_id))]
    for one in file.former_manifest_keys:
        if one.opened_by == theirs:
            opened = keys.open_manifest_key(
                one.sealed, master=old, location_id=file.location_id, former=one.former
            )
            provers.append(_Sealed(one.former, opened))
    added = [
        layout.FormerManifestKey(
            former=prover.former,
            opened_by=ours,
            sealed=keys.seal_manifest_key(
                prover.key, master=new, location_id=file.location_id, former=prover.former
            ),
        )
        for prover in provers
        if prover.former not in present
    ]
    fingerprints = [*file.key_fingerprints, *([] if ours in file.key_fingerprints else [ours])]
    return file.model_copy(
        update={
            "key_fingerprints": fingerprints,
            "former_manifest_keys": [*file.former_manifest_keys, *added],
        }
    )
