"""What all backups of a location still promise: which snapshot is named by whom.

Problem: before anything is deleted it must be known what every manifest names, and a location may
hold thousands of them.
Decision: manifests never change, so one that was read is kept under its etag, boiled down to names.
A backup whose deletion has begun promises nothing any more. One unreadable manifest is an error:
nobody knows what it names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ararat import layout
from ararat.api.manifest import Manifest, decode_manifest
from ararat.concurrency import for_each
from ararat.errors import Damaged, NotFound
from controller.location.open import OpenLocation

_READ_AT_ONCE = 8


@dataclass(frozen=True)
class Promise:
    """What one manifest names: full snapshot IDs by repository directory, and whose they are."""

    backup: str
    #: directory → snapshot → what it is of (``namespace/pod/volume``, or ``objects``).
    snapshots: Mapping[str, Mapping[str, str]]

    @property
    def directories(self) -> frozenset[str]:
        return frozenset(self.snapshots)


@dataclass(frozen=True)
class Promises:
    """Of all backups of a location that exist."""

    by_backup: Mapping[str, Promise]
    #: Backups whose deletion has begun.
    deleting: frozenset[str] = frozenset()

    def snapshots(self, directory: str) -> dict[str, list[str]]:
        """Snapshot → ``backup: volume``, for everybody who names it."""
        found: dict[str, list[str]] = {}
        for promise in self.by_backup.values():
            for snapshot, what in promise.snapshots.get(directory, {}).items():
                found.setdefault(snapshot, []).append(f"{promise.backup}: {what}")
        return found

    def names(self, directory: str) -> bool:
        """Whether any backup needs this repository."""
        return any(directory in promise.snapshots for promise in self.by_backup.values())


def promise_of(manifest: Manifest) -> Promise:
    """Whatever in a manifest has a directory and snapshots is a promise, wherever it stands in it:
    what is not known to be needed would be deleted."""
    found: dict[str, dict[str, str]] = {
        repository.directory: {} for repository in manifest.repositories
    }
    for volume in manifest.volumes:
        if volume.snapshot_id and volume.directory:
            found.setdefault(volume.directory, {})[volume.snapshot_id] = volume.id
    for path, part in _parts(manifest.to_dict(), ()):
        directory, snapshot = part.get("directory"), part.get("snapshotID")
        further = part.get("furtherSnapshots") or []
        if directory:
            for named in (snapshot, *further):
                if named:
                    found.setdefault(directory, {}).setdefault(named, path[0] if path else "")
    return Promise(manifest.backup, found)


def _parts(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every JSON object within ``value``, and where it stands."""
    if isinstance(value, dict):
        yield path, value
        for key, inner in value.items():
            yield from _parts(inner, (*path, key))
    elif isinstance(value, list):
        for inner in value:
            yield from _parts(inner, path)


@dataclass
class ManifestReader:
    """Keeps what it has read; one for all locations of a process."""

    _read: dict[tuple[str, str], tuple[str, Promise]] = field(default_factory=dict)
    #: One at a time: what one has just listed is not what another still holds.
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def promises(self, location: OpenLocation) -> Promises:
        """Raises Damaged naming the manifest that cannot be read, and Retryable."""
        async with self._lock:
            return await self._promises(location)

    async def _promises(self, location: OpenLocation) -> Promises:
        etags: dict[str, str] = {}
        deleting: set[str] = set()
        async for blob in location.store.list(f"{layout.BACKUPS}/"):
            _, _, rest = blob.name.partition("/")
            backup, _, file = rest.partition("/")
            if file == "manifest.json":
                etags[backup] = blob.etag
            elif file == "deleting.json":
                deleting.add(backup)
        for backup in deleting:
            etags.pop(backup, None)
        place = location.location_id
        missing = [
            backup
            for backup, etag in etags.items()
            if self._read.get((place, backup), ("", None))[0] != etag
        ]
        gone: set[str] = set()

        async def read(backup: str) -> None:
            try:
                self._read[place, backup] = (etags[backup], await read_promise(location, backup))
            except NotFound:
                gone.add(backup)  # deleted since the listing, and only we delete

        await for_each(missing, read, at_once=_READ_AT_ONCE)
        for known in [k for k in self._read if k[0] == place and k[1] not in etags]:
            del self._read[known]
        return Promises(
            by_backup={b: self._read[place, b][1] for b in etags if b not in gone},
            deleting=frozenset(deleting),
        )


async def read_promise(location: OpenLocation, backup: str) -> Promise:
    """Raises NotFound, Damaged."""
    data = await location.store.get(layout.backup_manifest(backup))
    try:
        manifest = decode_manifest(data, *location.manifest_keys)
    except Damaged as exc:
        raise Damaged(
            f"nothing can be deleted from location {location.name} while the manifest of backup "
            f"{backup} is unreadable, because nobody knows what it names: {exc.message}",
            reason=exc.reason,
        ) from exc
    if manifest.backup != backup:
        raise Damaged(
            f"the manifest in backups/{backup} of location {location.name} is that of "
            f"{manifest.backup}",
            reason="ManifestForged",
        )
    return promise_of(manifest)
