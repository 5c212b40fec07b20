"""Opening a location: the store, what it is, whether this cluster may write to it.

Problem: a wrong directory, a wrong container or a wrong key must be noticed before anything is
read or written, and two clusters must never write to one location.
Decision: ``location.json`` is the location's identity. It is made once, create-only, in a place
that holds nothing of Ararat's yet; after that its absence is a fault and never a reason to begin
anew. The owner in it is changed only on request of a person, and only if nobody else changed it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import ValidationError

from ararat import keys, layout
from ararat.api import BackupLocation
from ararat.api.names import RECOVER, TAKE_OVER
from ararat.blob.open import open_store
from ararat.blob.store import BlobStore
from ararat.errors import (
    AccessDenied,
    AraratError,
    Conflict,
    Damaged,
    InvalidSpec,
    NotFound,
    Retryable,
    WrongKey,
)
from ararat.kube.api import KubeApi
from ararat.kube.resources import SECRETS
from ararat.kube.resources import of as resource_of
from ararat.restic.recover import recovered_location
from controller.keys import MasterKey


class NotOwner(AccessDenied):
    """The location is another cluster's to write."""

    default_reason = "NotOwner"

    def __init__(self, message: str, *, owner: str) -> None:
        super().__init__(message)
        self.owner = owner


@dataclass(frozen=True)
class OpenLocation:
    """A location that was proven to be the one it says it is."""

    resource: BackupLocation
    store: BlobStore
    location_id: str
    owner: str
    #: The master key that opens it; while the key is being rotated either one may do.
    master: bytes
    #: The location is ReadWrite and belongs to this cluster.
    writable: bool
    former_manifest_keys: tuple[bytes, ...] = ()

    @property
    def manifest_keys(self) -> tuple[bytes, ...]:
        """What proves its manifests: the key that signs new ones, then those of former keys."""
        own = keys.manifest_mac_key(self.master, self.location_id)
        return (own, *self.former_manifest_keys)

    @property
    def name(self) -> str:
        return self.resource.name


#: How long an open location is believed without a look at its BackupLocation and credentials: a
#: changed Secret, which nothing announces, is noticed this late. A changed BackupLocation is
#: announced (``changed``).
_BELIEVED_SECONDS = 30.0


@dataclass
class _Cached:
    fingerprint: str
    location: OpenLocation
    #: Monotonic.
    believed_until: float


class Locations:
    """Opens locations by name; stores are shared and closed here."""

    def __init__(
        self, api: KubeApi, *, namespace: str, master_key: MasterKey, cluster_uid: str
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._master_key = master_key
        self._cluster_uid = cluster_uid
        self._cache: dict[str, _Cached] = {}
        #: Stores that no name leads to any more; runs that began with one may still use it.
        self._retired: list[BlobStore] = []
        self._locks: dict[str, asyncio.Lock] = {}

    async def open(self, name: str, *, fresh: bool = False) -> OpenLocation:
        """The location, proven. ``fresh``: look at its BackupLocation and credentials now.

        Raises NotFound (no such BackupLocation), InvalidSpec, WrongKey, AccessDenied, Damaged, or
        Retryable while the store cannot be reached.
        """
        known = self._cache.get(name)
        if known is not None and not fresh and time.monotonic() < known.believed_until:
            return known.location
        begun = time.monotonic()
        resource = await self._resource(name)
        credentials = await self._credentials(resource)
        fingerprint = _fingerprint(resource, credentials)
        async with self._locks.setdefault(name, asyncio.Lock()):
            cached = self._cache.get(name)
            if cached is not None and cached.fingerprint == fingerprint:
                cached.location = replace(cached.location, resource=resource)
                cached.believed_until = begun + _BELIEVED_SECONDS
                return cached.location
            store = await open_store(
                resource.spec, credentials, reload=lambda: self._credentials(resource)
            )
            try:
                location = await self._prove(resource, store)
            except BaseException:
                await store.close()
                raise
            self.forget(name)
            self._cache[name] = _Cached(fingerprint, location, begun + _BELIEVED_SECONDS)
            return location

    async def described(self, name: str) -> tuple[BackupLocation, BlobStore]:
        """The location as it is described, with a store of its own; nothing is proven or asked.

        The caller closes the store. Raises NotFound, InvalidSpec, AccessDenied.
        """
        resource = await self._resource(name)
        credentials = await self._credentials(resource)
        return resource, await open_store(resource.spec, credentials)

    async def check(self, name: str) -> OpenLocation:
        """As open(), but looks at the store again.

        What it finds (another owner, another key) is what open() says from then on; a store that
        cannot be reached changes nothing.
        """
        location = await self.open(name, fresh=True)
        try:
            proven = await self._prove(location.resource, location.store)
        except Retryable:
            raise
        except AraratError:
            self._forget_store(name, location.store)
            raise
        async with self._locks.setdefault(name, asyncio.Lock()):
            cached = self._cache.get(name)
            if cached is not None and cached.location.store is location.store:
                cached.location = proven
        return proven

    def changed(self, name: str) -> None:
        """Its BackupLocation is another than it was: the next open() looks at it."""
        cached = self._cache.get(name)
        if cached is not None:
            cached.believed_until = 0.0

    def forget(self, name: str) -> None:
        """The next open() begins anew."""
        cached = self._cache.pop(name, None)
        if cached is not None:
            self._retired.append(cached.location.store)

    def forget_all(self) -> None:
        """As forget(), of every location: the master key is another one."""
        for name in list(self._cache):
            self.forget(name)

    def _forget_store(self, name: str, store: BlobStore) -> None:
        cached = self._cache.get(name)
        if cached is not None and cached.location.store is store:
            self.forget(name)

    async def close(self) -> None:
        self.forget_all()
        while self._retired:
            await self._retired.pop().close()

    async def _resource(self, name: str) -> BackupLocation:
        try:
            raw = await self._api.get(resource_of(BackupLocation), name, namespace=self._namespace)
        except NotFound as exc:
            raise NotFound(
                f"there is no BackupLocation {name!r}: see `ararat location get`",
                reason="LocationNotFound",
            ) from exc
        try:
            return BackupLocation.parse(raw)
        except ValidationError as exc:
            raise InvalidSpec(f"BackupLocation {name}: {first_error(exc)}") from exc

    async def _credentials(self, resource: BackupLocation) -> Mapping[str, bytes]:
        azure = resource.spec.azure
        if azure is None or not azure.credentials_secret:
            return {}
        try:
            secret = await self._api.get(
                SECRETS, azure.credentials_secret, namespace=self._namespace
            )
        except NotFound as exc:
            raise InvalidSpec(
                f"BackupLocation {resource.name}: secret "
                f"{self._namespace}/{azure.credentials_secret} does not exist",
                reason="CredentialsNotFound",
            ) from exc
        return {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}

    async def _prove(self, resource: BackupLocation, store: BlobStore) -> OpenLocation:
        try:
            info = await store.head(layout.LOCATION)
            file = layout.LocationFile.decode(await store.get(layout.LOCATION))
        except NotFound:
            return await self._initialise(resource, store)
        known = resource.status.location_id
        if known and known != file.location_id:
            raise Damaged(
                f"location {resource.name} held {known} and now holds {file.location_id}: it is "
                "another place; make a new BackupLocation for it",
                reason="LocationChanged",
            )
        master = await self._master_for(resource, file)
        if file.owner != self._cluster_uid and not resource.read_only:
            if resource.metadata.annotations.get(TAKE_OVER) != file.owner:
                raise NotOwner(
                    f"location {resource.name} belongs to cluster {file.owner}: set accessMode to "
                    f"ReadOnly, or run `ararat location take-over {resource.name}` if that cluster "
                    "no longer writes to it",
                    owner=file.owner,
                )
            file = file.model_copy(update={"owner": self._cluster_uid})
            await store.put(layout.LOCATION, file.encode(), if_match=info.etag)
        return OpenLocation(
            resource=resource,
            store=store,
            location_id=file.location_id,
            owner=file.owner,
            master=master,
            former_manifest_keys=_former_manifest_keys(master, file),
            writable=not resource.read_only and file.owner == self._cluster_uid,
        )

    async def _master_for(self, resource: BackupLocation, file: layout.LocationFile) -> bytes:
        ring = await self._master_key.ring()
        if ring is None:
            raise WrongKey(
                f"location {resource.name} needs the master key it was made with, and this "
                "installation has none: import it with `ararat key import`",
                reason="KeyMissing",
            )
        for master in ring.all:
            if keys.fingerprint(master) in file.key_fingerprints:
                return master
        raise WrongKey(
            f"location {resource.name} was made under another master key "
            f"({', '.join(file.key_fingerprints)}) than this installation's "
            f"({keys.fingerprint(ring.current)}): import the right one with `ararat key import`"
        )

    async def _recover(self, resource: BackupLocation, store: BlobStore) -> OpenLocation:
        """location.json anew, from what the repositories' key files say: asked for by a person."""
        if resource.read_only:
            raise InvalidSpec(
                f"location {resource.name} is ReadOnly: recover it where it is written to, or set "
                "it to ReadWrite if that is to be here",
                reason="LocationLost",
            )
        ring = await self._master_key.ring()
        if ring is None:
            raise WrongKey(
                f"location {resource.name} can only be recovered with its master key, and this "
                "installation has none: import it with `ararat key import`",
                reason="KeyMissing",
            )
        file = await recovered_location(store, masters=ring.all, owner=self._cluster_uid)
        with contextlib.suppress(Conflict):
            await store.put(layout.LOCATION, file.encode(), create_only=True)
        return await self._prove(resource, store)

    async def _initialise(self, resource: BackupLocation, store: BlobStore) -> OpenLocation:
        for folder in (layout.BACKUPS, layout.REPOSITORIES):
            if await store.list_directories(folder):
                if resource.metadata.annotations.get(RECOVER) == "true":
                    return await self._recover(resource, store)
                raise Damaged(
                    f"location {resource.name} holds {folder} but no location.json: run "
                    f"`ararat location recover {resource.name}`, or see docs/recovery.md",
                    reason="LocationLost",
                )
        if resource.status.location_id:
            raise Damaged(
                f"location {resource.name} held {resource.status.location_id} and now holds "
                "nothing of Ararat's: it is another place, or it was emptied; see docs/recovery.md",
                reason="LocationLost",
            )
        if resource.read_only:
            raise InvalidSpec(
                f"location {resource.name} is ReadOnly and holds no backups: check container and "
                "prefix, or wait for its owner's first backup",
                reason="LocationEmpty",
            )
        master = await self._master_key.get_or_create()
        file = layout.LocationFile(
            location_id=str(uuid.uuid4()),
            owner=self._cluster_uid,
            key_fingerprints=[keys.fingerprint(master)],
        )
        try:
            await store.put(layout.LOCATION, file.encode(), create_only=True)
        except Conflict:
            return await self._prove(resource, store)
        return OpenLocation(
            resource=resource,
            store=store,
            location_id=file.location_id,
            owner=file.owner,
            master=master,
            writable=True,
        )


def _former_manifest_keys(master: bytes, file: layout.LocationFile) -> tuple[bytes, ...]:
    ours = keys.fingerprint(master)
    return tuple(
        keys.open_manifest_key(
            one.sealed, master=master, location_id=file.location_id, former=one.former
        )
        for one in file.former_manifest_keys
        if one.opened_by == ours
    )


def _fingerprint(resource: BackupLocation, credentials: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256(f"{resource.uid}/{resource.metadata.generation}".encode())
    for annotation in (TAKE_OVER, RECOVER):
        digest.update(resource.metadata.annotations.get(annotation, "").encode() + b"\0")
    for key in sorted(credentials):
        digest.update(key.encode() + b"\0" + credentials[key] + b"\0")
    return digest.hexdigest()


def first_error(exc: ValidationError) -> str:
    """One sentence from pydantic's list: the field and what is wrong with it."""
    error = exc.errors(include_url=False)[0]
    field = ".".join(str(part) for part in error["loc"]) or "spec"
    return f"{field}: {error['msg'].removeprefix('Value error, ')}"
