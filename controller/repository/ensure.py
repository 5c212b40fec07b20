"""A repository for a namespace (or for API objects): found, or made once.

The engine makes it in a fresh directory and names it in ``current.json`` only after it was opened;
this module adds the Repository object that people see, and one lock per repository so that this
process does not make the same one twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from ararat import keys, layout, naming
from ararat.api import Repository
from ararat.api.base import Meta
from ararat.api.names import LOCATION
from ararat.api.repository import (
    RepositoryKind,
    RepositoryPhase,
    RepositorySpec,
    RepositoryStatus,
)
from ararat.errors import AraratError, Conflict
from ararat.kube.api import KubeApi
from ararat.kube.resources import of as resource_of
from ararat.kube.status import patch_status
from ararat.restic.create import create_repository
from ararat.restic.models import LockOwner
from controller.location.open import OpenLocation

_TYPE = resource_of(Repository)


class Repositories:
    def __init__(
        self,
        api: KubeApi,
        *,
        namespace: str,
        scratch_dir: Path,
        lock_owner: Callable[[str], LockOwner],
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._scratch_dir = scratch_dir
        self._lock_owner = lock_owner
        self._known: dict[tuple[str, str], layout.CurrentFile] = {}
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}

    async def volumes(self, location: OpenLocation, namespace: str) -> layout.CurrentFile:
        """The repository of a workload namespace's volumes."""
        return await self._ensure(location, RepositoryKind.VOLUMES, namespace)

    async def objects(self, location: OpenLocation) -> layout.CurrentFile:
        """The repository of API objects."""
        return await self._ensure(location, RepositoryKind.OBJECTS, None)

    @contextlib.asynccontextmanager
    async def hold(self, location: OpenLocation, folder: str) -> AsyncIterator[None]:
        """Nobody here gets this repository meanwhile, and afterwards it is looked for anew."""
        slot = (location.location_id, folder)
        async with self._locks.setdefault(slot, asyncio.Lock()):
            self._known.pop(slot, None)
            yield

    async def _ensure(
        self, location: OpenLocation, kind: RepositoryKind, namespace: str | None
    ) -> layout.CurrentFile:
        folder = layout.volumes_repository(namespace) if namespace else layout.objects_repository()
        slot = (location.location_id, folder)
        async with self._locks.setdefault(slot, asyncio.Lock()):
            if slot in self._known:
                return self._known[slot]
            spec = RepositorySpec(location=location.name, kind=kind, namespace=namespace)
            try:
                current = await create_repository(
                    location.store,
                    folder=folder,
                    master=location.master,
                    location_id=location.location_id,
                    owner=self._lock_owner(folder),
                    scratch_dir=self._scratch_dir,
                )
            except AraratError as exc:
                with contextlib.suppress(AraratError):  # what matters is why it is not ready
                    await self._show(
                        spec,
                        RepositoryStatus(phase=RepositoryPhase.NOT_READY, message=exc.message),
                    )
                raise
            await self._show(
                spec,
                RepositoryStatus(
                    phase=RepositoryPhase.READY,
                    directory=current.directory,
                    repository_id=current.repository_id,
                    key_id=current.key_id,
                ),
            )
            self._known[slot] = current
            return current

    async def _show(self, spec: RepositorySpec, status: RepositoryStatus) -> None:
        # The kind belongs to the name: a workload namespace may be called "objects".
        name = naming.object_name(spec.location, spec.namespace or "objects", spec.kind.value)
        body = Repository(
            metadata=Meta(
                name=name,
                namespace=self._namespace,
                labels={LOCATION: naming.label_value(spec.location)},
            ),
            spec=spec,
            status=RepositoryStatus(),
        ).manifest()
        try:
            raw = await self._api.create(_TYPE, body, namespace=self._namespace)
        except Conflict:
            raw = await self._api.get(_TYPE, name, namespace=self._namespace)
        await patch_status(self._api, _TYPE, raw, {"message": None, **status.to_dict()})


def password_of(location: OpenLocation, repository_name: str) -> str:
    """The password of a repository in this location."""
    return keys.repository_password(location.master, location.location_id, repository_name)
