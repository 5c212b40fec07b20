"""What a location is, found out from its repositories' key files alone.

Problem: location.json is one small blob; without it nobody knows the location's id, and without
the id no password can be derived.
Decision: every key file of ours says in the clear which location, repository and master key it was
written for. They must all say the same location, and the master key at hand must really open them;
then location.json can be written again as it was.
Limits: who owned the location is not in there: whoever recovers it owns it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from ararat import layout
from ararat.blob.store import BlobStore
from ararat.errors import Damaged, NotFound, WrongKey
from ararat.keys import fingerprint, repository_password
from ararat.layout import LocationFile, LocationKeysFile

from . import keyfile
from .keyfile import KeyIdentity
from .rekey import repository_directories
from .rest_paths import Kind

log = structlog.get_logger()


async def recovered_location(
    store: BlobStore, *, masters: Sequence[bytes], owner: str
) -> LocationFile:
    """The lost location.json. ``masters`` are the keys at hand, the present one first.

    Raises WrongKey: the repositories are under another key. Raises Damaged: there is no key file
    of ours, or they tell of several locations.
    """
    found: dict[str, set[str]] = {}  # location id → fingerprints
    opened: set[str] = set()
    keyring = {fingerprint(master): master for master in masters}
    for directory in await repository_directories(store):
        folder = f"{directory}/{Kind.KEY}/"
        for name in sorted([blob.name async for blob in store.list(folder)]):
            data = await store.get(name)
            who = keyfile.identity(data)
            if who is None or who.repository_name != layout.repository_name(directory):
                continue
            found.setdefault(who.location_id, set()).add(who.fingerprint)
            master = keyring.get(who.fingerprint)
            # One that opens is proof for its fingerprint: the others need not be tried.
            if master is not None and who.fingerprint not in opened:
                await asyncio.to_thread(_prove, data, who, master)
                opened.add(who.fingerprint)
    if len(found) != 1:
        told = f"tell of {len(found)} locations" if found else "are not there"
        raise Damaged(f"the location cannot be recovered: key files of its repositories {told}")
    location_id, fingerprints = next(iter(found.items()))
    if not opened:
        raise WrongKey(
            f"the repositories are under master key {', '.join(sorted(fingerprints))}, and this "
            f"installation has {', '.join(keyring)}: import the right one with `ararat key import`"
        )
    log.warning("location-recovered", id=location_id, keys=sorted(fingerprints))
    return LocationFile(
        location_id=location_id,
        owner=owner,
        key_fingerprints=sorted(fingerprints, key=lambda one: (one not in opened, one)),
        former_manifest_keys=await _former_manifest_keys(store),
    )


def _prove(data: bytes, who: KeyIdentity, master: bytes) -> None:
    """Raises WrongPassword: the key file was altered, or is not what it says."""
    password = repository_password(master, who.location_id, who.repository_name)
    keyfile.unwrap(data, password=password)


async def _former_manifest_keys(store: BlobStore) -> list[layout.FormerManifestKey]:
    try:
        data = await store.get(layout.LOCATION_KEYS)
    except NotFound:
        return []
    return LocationKeysFile.decode(data).former_manifest_keys
