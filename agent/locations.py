"""Opens the location a job names, and proves that it is the right one.

Problem: a job names a BackupLocation; its spec or its credentials may have changed since, and a
``filesystem`` location may simply be another directory on this node.
Decision: spec and Secret are read anew for each job (the agent may get them, not list them); the
connection is kept while neither changed. Before anything is read or written, ``location.json`` must
show the id that the job names: that is the proof, and it costs one small request.
Limits: credentials that are refused in the middle are read again by the store itself.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

from ararat.api import BackupLocation
from ararat.api.location import BackupLocationSpec
from ararat.api.nodejob import RepositoryReference
from ararat.blob.open import open_store
from ararat.blob.store import BlobStore
from ararat.errors import InvalidSpec, NotFound, Retryable
from ararat.kube.api import KubeApi
from ararat.kube.errors import ApiNotFound
from ararat.kube.resources import SECRETS, of
from ararat.layout import LOCATION, LocationFile

_log = structlog.get_logger(__name__)
_PASSWORD_KEY = "password"  # noqa: S105 - the name of a key, not a password


class LocationMismatch(InvalidSpec):
    """What this node sees is not the location that the job means."""

    default_reason = "LocationMismatch"


@dataclass(frozen=True)
class OpenLocation:
    store: BlobStore
    file: LocationFile
    spec: BackupLocationSpec


@dataclass
class _Connection:
    spec: BackupLocationSpec
    credentials: str
    store: BlobStore
    users: int = 0
    retired: bool = field(default=False)


class Locations:
    """Connections to the locations that this node's jobs use."""

    def __init__(self, api: KubeApi, *, namespace: str, node: str) -> None:
        self._api = api
        self._namespace = namespace
        self._node = node
        self._connections: dict[str, _Connection] = {}
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def opened(self, reference: RepositoryReference) -> AsyncIterator[OpenLocation]:
        """Raises LocationMismatch, NotFound, or what the store says."""
        connection = await self._connect(reference.location)
        connection.users += 1
        try:
            file = await self._prove(connection, reference)
            yield OpenLocation(store=connection.store, file=file, spec=connection.spec)
        finally:
            connection.users -= 1
            if connection.retired and connection.users == 0:
                await connection.store.close()

    async def password(self, reference: RepositoryReference) -> str:
        """The repository's password. Raises NotFound where the controller has not written it."""
        data = await self.secret(reference.password_secret)
        value = data.get(_PASSWORD_KEY, b"").decode("ascii", errors="replace").strip()
        if not value:
            raise NotFound(
                f"Secret {reference.password_secret} has no key {_PASSWORD_KEY}.",
                reason="PasswordMissing",
            )
        return value

    async def close(self) -> None:
        for connection in self._connections.values():
            await connection.store.close()
        self._connections.clear()

    async def _connect(self, name: str) -> _Connection:
        async with self._lock:
            try:
                raw = await self._api.get(of(BackupLocation), name, namespace=self._namespace)
            except ApiNotFound as error:
                raise NotFound(
                    f"BackupLocation {name} does not exist.", reason="LocationNotFound"
                ) from error
            spec = BackupLocation.parse(raw).spec
            credentials = await self._credentials(spec)
            digest = _digest(credentials)
            known = self._connections.get(name)
            if known is not None and (known.spec, known.credentials) == (spec, digest):
                return known
            store = await open_store(spec, credentials, reload=lambda: self._credentials(spec))
            fresh = _Connection(spec=spec, credentials=digest, store=store)
            self._connections[name] = fresh
            if known is not None:
                known.retired = True
                if known.users == 0:
                    await known.store.close()
            return fresh

    async def _credentials(self, spec: BackupLocationSpec) -> Mapping[str, bytes]:
        if spec.azure is None or not spec.azure.credentials_secret:
            return {}
        return await self.secret(spec.azure.credentials_secret)

    async def secret(self, name: str) -> Mapping[str, bytes]:
        try:
            raw = await self._api.get(SECRETS, name, namespace=self._namespace)
        except ApiNotFound as error:
            raise NotFound(
                f"Secret {name} does not exist in namespace {self._namespace}.",
                reason="SecretNotFound",
            ) from error
        return {key: base64.b64decode(value) for key, value in (raw.get("data") or {}).items()}

    async def _prove(self, connection: _Connection, reference: RepositoryReference) -> LocationFile:
        """``location.json`` with the id the job names; errors say what that means on a node."""
        filesystem = connection.spec.filesystem
        try:
            file = LocationFile.decode(await connection.store.get(LOCATION))
        except NotFound as error:
            raise LocationMismatch(self._mismatch(connection, reference, None)) from error
        except Retryable as error:
            if filesystem is None:
                raise
            _log.warning("location.unreadable", location=reference.location, cause=error.message)
            raise LocationMismatch(self._mismatch(connection, reference, None)) from error
        if file.location_id != reference.location_id:
            raise LocationMismatch(self._mismatch(connection, reference, file.location_id))
        return file

    def _mismatch(
        self, connection: _Connection, reference: RepositoryReference, found: str | None
    ) -> str:
        shown = f"shows location {found}" if found else f"has no {LOCATION}"
        filesystem = connection.spec.filesystem
        if filesystem is None:
            return (
                f"BackupLocation {reference.location} {shown}, but location "
                f"{reference.location_id} is meant: was it pointed elsewhere?"
            )
        return (
            f"Node {self._node} does not see location {reference.location}: {filesystem.path} on "
            f"this node {shown}. A filesystem location must be one directory that every node "
            "mounts under the same path."
        )


def _digest(credentials: Mapping[str, bytes]) -> str:
    """Stands for credentials in comparisons, so that they are not kept."""
    state = hashlib.sha256()
    for key, value in sorted(credentials.items()):
        state.update(f"{len(key)}:{key}{len(value)}:".encode())
        state.update(value)
    return state.hexdigest()
