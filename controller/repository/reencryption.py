"""Everything that is stored is encrypted anew, under inner keys that nobody has seen.

Problem: restic's inner keys stay the same when the master key changes. After a leak all data must
be stored under other ones, terabytes of it, while backups and restores go on, readers in other
clusters hold no lock, and every line of this may be the last that a controller runs.
Decision: when the rotation of the master key is done, one repository after the other,

1. gets a successor: an empty repository that cuts data alike, chosen create-only (``next.json``);
2. is copied into it, by jobs of its maintenance, which are in nobody's way;
3. is left: ``current.json`` names the successor, and what begins now stores there. Whatever was
   stored in the former directory since the copying began is copied, too;
4. is forgotten by the manifests, each of which is written anew once all it names is copied;
5. is removed, a day after no manifest named it any more, when nothing runs that knew it.

A manifest is right at any moment, and names a directory that exists. How far a repository is, is
found out from what is stored: which master key ``current.json`` says it was made under, and what
``next.json`` says. In the end nothing is believed any more that only a former key has signed.
Limits: snapshots that no backup names and that Ararat made are left behind, as orphans are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from ararat import keys, layout
from ararat.api import BackupLocation
from ararat.api.repository import MaintenanceAction
from ararat.errors import AraratError, NotFound
from ararat.human import plural
from ararat.kube.api import KubeObject
from ararat.layout import FollowingFile
from ararat.restic.copies import copies
from ararat.restic.create import current_repository, following_repository
from ararat.restic.errors import NoRepository
from ararat.restic.rekey import repository_folders
from ararat.restic.successor import make_successor, mark, remove_directory, switch
from controller.context import Context
from controller.deletion.manifests import ManifestReader, Promises
from controller.keys import KeyRing
from controller.location.description import drop_former_manifest_keys
from controller.location.open import OpenLocation
from controller.maintenance.copying import Copying
from controller.repository.listing import made_by_hand, snapshots_of
from controller.repository.readdress import Move, readdress, sign_anew
from controller.repository.running import started_before

#: Readers elsewhere hold no lock, and may have read a manifest that names the former directory.
KEPT = timedelta(hours=24)
#: With less than this part to be copied, the rest can follow when the successor is in use.
_REST = 20
#: What was asked to be copied is looked at again though no job has said anything.
_LOOK_AGAIN = timedelta(minutes=10)
_UNFINISHED = ("New", "Queued", "InProgress", "Finalizing")
_ENDED_JOB = ("Completed", "Failed", "Cancelled")
log = structlog.get_logger("controller.rotation")


@dataclass(frozen=True)
class Waits:
    """Why a repository is not done."""

    text: str
    #: Where nothing is left to be done: until when its former directory is kept.
    kept: datetime | None = None


@dataclass
class _Seen:
    """By key, location and folder; so that what needs no look is not looked at."""

    #: Repositories that need nothing any more: what is made now is made well.
    done: set[tuple[str, str, str]] = field(default_factory=set)
    #: Those that need nothing before a moment.
    kept: dict[tuple[str, str, str], tuple[datetime, Waits]] = field(default_factory=dict)


@dataclass
class _Copied:
    """Snapshots of the former directory: what is wanted of them, and what is where."""

    wanted: set[str]
    found: dict[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> list[str]:
        return sorted(self.wanted - self.found.keys())


class Reencryption:
    def __init__(self, context: Context, reader: ManifestReader) -> None:
        self._context = context
        self._reader = reader
        self._seen = _Seen()

    async def step(self, ring: KeyRing, *, settle: timedelta) -> str:
        """As far as it goes now; what it waits for, "" when all is done."""
        waits: list[Waits] = []
        done = 0
        used: set[str] = set()
        for raw in self._context.locations_informer.items():
            name = raw["metadata"]["name"]
            try:
                location = await self._context.locations.open(name)
            except AraratError as exc:
                waits.append(Waits(f"location {name} cannot be used: {exc.message}"))
                continue
            if not location.writable:
                if BackupLocation.parse(raw).status.owner == self._context.cluster_uid:
                    text = f"location {name} is ReadOnly: set it to ReadWrite, so that it can be"
                    waits.append(Waits(f"{text} re-encrypted"))
                continue  # its own cluster does it
            if location.master != ring.current:
                self._context.locations.forget_all()
                waits.append(Waits(f"location {name} was opened with a former key"))
                continue
            used.add(location.location_id)
            look = _Location(self._context, self._reader, location, settle, self._seen)
            found = await look.run(ring)
            waits += found
            done += look.done
        for slot in [one for one in self._context.to_copy if one[0] not in used]:
            del self._context.to_copy[slot]  # it must not keep the others waiting
        if not waits:
            return ""
        first = next((one for one in waits if one.kept is None), waits[0])
        return f"{first.text} ({done} of {done + len(waits)} repositories done)"


@dataclass
class _Location:
    context: Context
    reader: ManifestReader
    location: OpenLocation
    settle: timedelta
    seen: _Seen
    done: int = 0

    async def run(self, ring: KeyRing) -> list[Waits]:
        ours = keys.fingerprint(ring.current)
        waits: list[Waits] = []
        for folder in await repository_folders(self.location.store):
            slot = (ours, self.location.location_id, folder)
            if slot in self.seen.done:
                self.done += 1
                continue
            until, why = self.seen.kept.get(slot, (None, None))
            if until is not None and why is not None and self.context.now() < until:
                waits.append(why)
                continue
            try:
                found = await self._repository(folder, ours)
            except AraratError as exc:
                found = Waits(f"{folder} in location {self.location.name}: {exc.message}")
            if found is None:
                self.done += 1
                self.seen.done.add(slot)
            else:
                waits.append(found)
                if found.kept is not None:
                    self.seen.kept[slot] = (found.kept, found)
        if all(one.kept is not None for one in waits):
            try:
                await self._believe_former_keys_no_more()
            except AraratError as exc:
                waits.append(Waits(f"location {self.location.name}: {exc.message}"))
        return waits

    async def _repository(self, folder: str, ours: str) -> Waits | None:
        """One step or several of one repository; None: it is done."""
        if self._copies_another(folder):
            return Waits(f"{folder} waits for another repository to be copied")
        asked = self.context.to_copy.get((self.location.location_id, folder))
        if asked is not None and self.context.now() < asked.asked + _LOOK_AGAIN:
            return Waits(f"{asked.text}{self._trouble(folder)}")
        self.context.to_copy.pop((self.location.location_id, folder), None)
        store = self.location.store
        current = await current_repository(store, folder)
        following = await following_repository(store, folder)
        if following is None:
            if current is None or current.made_under == ours:
                return None
            following = await make_successor(
                store,
                folder=folder,
                former=current,
                master=self.location.master,
                location_id=self.location.location_id,
                owner=self.context.lock_owner("reencryption"),
                scratch_dir=self.context.scratch_dir,
            )
        now_used = current.directory if current is not None else ""
        if following.switched_at is None and now_used not in (
            following.former,
            following.successor.directory,
        ):
            return await self._abandon(folder, following)
        if following.switched_at is None and now_used == following.former:
            await self._seen(folder)
            copied = await self._copied(following, await self._promises())
            if len(copied.missing) * _REST > len(copied.wanted):
                return self._wants(folder, following, copied)
            async with self.context.repositories.hold(self.location, folder):
                await switch(store, folder, following)
            now_used = following.successor.directory
        if following.switched_at is None:
            following = await self._marked(folder, following, switched_at=self.context.now())
        if now_used == following.successor.directory and following.released_at is None:
            await self._seen(folder)
        return await self._leave(folder, following)

    async def _leave(self, folder: str, following: FollowingFile) -> Waits | None:
        """The successor is in use; what is left behind is brought after, and then removed."""
        former, released, now = following.former, following.released_at, self.context.now()
        if released is not None and now < released + KEPT:
            return _until(former, released + KEPT)
        promises = await self._promises()
        if released is not None:
            if promises.names(former):
                await self._marked(folder, following, released_at=None)
                return Waits(f"{former} is named by a backup again")
            return await self._remove(folder, former, released)
        copied = await self._copied(following, promises)
        await self._readdress(following, promises, copied)
        promises = await self._promises()
        if copied.missing:
            return self._wants(folder, following, copied)
        if promises.names(former):
            named = sorted(b for b, p in promises.by_backup.items() if former in p.directories)
            return Waits(f"{former} is named by backup {named[0]}")
        assert following.switched_at is not None
        running = self._running(former, following.switched_at + self.settle)
        if running:
            return Waits(f"{former} is kept for {running[0]}, which began before")
        await self._marked(folder, following, released_at=now)
        return _until(former, now + KEPT)

    async def _remove(self, folder: str, former: str, released: datetime) -> Waits | None:
        """The former directory; half of it may be gone already, so it is not opened any more."""
        running = self._running(former, released + self.settle)
        if running:
            return Waits(f"{former} is kept for {running[0]}, which began before")
        await remove_directory(self.location.store, former)
        await self.location.store.delete(layout.following(folder))
        log.info("former repository removed", directory=former)
        return None

    async def _abandon(self, folder: str, following: FollowingFile) -> Waits | None:
        """What was to be left was removed meanwhile, with its last backup."""
        unused = following.successor.directory
        running = self._running(unused, self.context.now())
        if running:
            return Waits(f"{unused} is kept for {running[0]}")
        if (await self._promises()).names(unused):
            return Waits(f"{unused} is named by a backup, and not by current.json")
        await remove_directory(self.location.store, unused)
        await self.location.store.delete(layout.following(folder))
        log.info("unused successor removed", directory=unused)
        return await self._repository(folder, keys.fingerprint(self.location.master))

    # --- copying ---

    async def _copied(self, following: FollowingFile, promises: Promises) -> _Copied:
        """What backups name in the former directory, and people made there by hand."""
        former = await snapshots_of(self.context, self.location, following.former)
        wanted = set(promises.snapshots(following.former)) | made_by_hand(former)
        if not wanted:
            return _Copied(wanted)  # the successor may be gone by now
        into = following.successor.directory
        try:
            there = await snapshots_of(self.context, self.location, into)
        except NoRepository as exc:
            raise NotFound(
                f"{plural(len(wanted), 'snapshot')} of {following.former} "
                f"({min(wanted)[:8]}, ...) cannot be copied, because {into} is gone: if backups "
                "name none of them, copy them elsewhere with restic and forget them there, see "
                "docs/keys.md",
                reason="SuccessorGone",
            ) from exc
        return _Copied(wanted, copies(former, there))

    def _wants(self, folder: str, following: FollowingFile, copied: _Copied) -> Waits:
        """Have the repository's maintenance copy what is missing."""
        missing, all_of_them = copied.missing, len(copied.wanted)
        text = f"{all_of_them - len(missing)} of {all_of_them} snapshots of {folder} are copied"
        if self.context.maintenance_template is None:
            return Waits(f"{text}, and this controller makes no maintenance jobs: see the chart")
        self.context.to_copy[self.location.location_id, folder] = Copying(
            source=following.former,
            target=following.successor,
            snapshots=tuple(missing),
            asked=self.context.now(),
            text=text,
        )
        return Waits(f"{text}{self._trouble(folder)}")

    def _copies_another(self, folder: str) -> bool:
        """One at a time: a copy may take days, and prunes and checks wait for a place beside it."""
        mine = (self.location.location_id, folder)
        return any(slot != mine for slot in self.context.to_copy)

    def _trouble(self, folder: str) -> str:
        """Why the last job did not copy, and what keeps the next one waiting."""
        for raw in self.context.repositories_informer.items():
            status = raw.get("status") or {}
            if (status.get("directory") or "").rpartition("/")[0] != folder:
                continue
            if raw["spec"].get("location") != self.location.name:
                continue
            state = status.get("maintenance") or {}
            last = state.get("last") or {}
            if last.get("action") == MaintenanceAction.REENCRYPT and not last.get("good"):
                return f": {last.get('message') or last.get('reason')}"
            if state.get("waitsFor"):
                return f": waits for {state['waitsFor']}"
        return ""

    # --- manifests ---

    async def _promises(self) -> Promises:
        return await self.reader.promises(self.location)

    async def _readdress(
        self, following: FollowingFile, promises: Promises, copied: _Copied
    ) -> None:
        move = Move(following.former, following.successor, copied.found)
        live = {
            str(raw["metadata"]["name"])
            for raw in self.context.backups.items()
            if (raw.get("status") or {}).get("phase", "New") in _UNFINISHED
        }
        for backup, promise in sorted(promises.by_backup.items()):
            named = promise.snapshots.get(following.former)
            # One that is just being committed is compared with what was written.
            if named is None or backup in live or not named.keys() <= copied.found.keys():
                continue
            try:
                await readdress(self.location, backup, move)
            except NotFound:
                continue  # deleted meanwhile

    async def _believe_former_keys_no_more(self) -> None:
        if not self.location.former_manifest_keys:
            return
        for backup in sorted((await self._promises()).by_backup):
            await sign_anew(self.location, backup)
        await drop_former_manifest_keys(self.location)
        self.context.locations.forget_all()

    # --- what is in the way, and what is noted ---

    def _running(self, directory: str, moment: datetime) -> list[str]:
        context = self.context
        runs = (context.backups, context.restores, context.verifications)
        found = started_before([raw for one in runs for raw in one.items()], moment)
        jobs: list[KubeObject] = [
            *context.pod_volume_backups.items(),
            *context.pod_volume_restores.items(),
        ]
        for raw in jobs:
            named = (raw["spec"].get("repository") or {}).get("directory")
            if named == directory and (raw.get("status") or {}).get("phase") not in _ENDED_JOB:
                found.append(f"node job {raw['metadata']['name']}")
        return found

    async def _marked(
        self,
        folder: str,
        following: FollowingFile,
        *,
        switched_at: datetime | None = None,
        released_at: datetime | None = None,
    ) -> FollowingFile:
        return await mark(
            self.location.store,
            folder,
            following,
            switched_at=switched_at or following.switched_at,
            released_at=released_at,
        )

    async def _seen(self, folder: str) -> None:
        """The Repository object is there and names the directory: its maintenance goes by that."""
        if folder == layout.objects_repository():
            await self.context.repositories.objects(self.location)
        else:
            namespace = folder.rpartition("/")[2]
            await self.context.repositories.volumes(self.location, namespace)


def _until(directory: str, moment: datetime) -> Waits:
    return Waits(
        f"{directory} is kept until {moment:%Y-%m-%d %H:%M} UTC, for readers elsewhere",
        kept=moment,
    )
