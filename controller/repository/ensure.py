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
from ararat.errors import AraratError, Conflict, WrongKey
from ararat.kube.api import KubeApi
from ararat.kube.resources import of as resource_of
from ararat.kube.status import patch_status
from ararat.restic.create import create_repository, current_repository, remove_abandoned
from ararat.restic.models import LockOwner
from ararat.restic.rekey import Rekey, add_key, name_keys
from controller.keys import MasterKey
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
        master_key: MasterKey,
    ) -> None:
        self._api = api
        self._master_key = master_key
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
                current = await self._create(location, folder)
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
            with contextlib.suppress(AraratError):  # they are in nobody's way
                await remove_abandoned(location.store, folder)
            self._known[slot] = current
            return current

    async def _create(self, location: OpenLocation, folder: str) -> layout.CurrentFile:
        try:
            return await self._create_with(location, folder)
        except WrongKey:
            # Made or re-keyed by another run since a rotation of the master key began: whoever
            # came with the other one of its keys must not fail for that.
            ring = await self._master_key.ring()
            if ring is None or location.master not in ring.all:
                raise
            for other in ring.all:
                if other != location.master and await self._rekey(location, folder, other):
                    return await self._create_with(location, folder)
            raise

    async def _create_with(self, location: OpenLocation, folder: str) -> layout.CurrentFile:
        return await create_repository(
            location.store,
            folder=folder,
            master=location.master,
            location_id=location.location_id,
            owner=self._lock_owner(folder),
            scratch_dir=self._scratch_dir,
        )

    async def _rekey(self, location: OpenLocation, folder: str, other: bytes) -> bool:
        """Make ``folder``'s repository open with the location's key, where ``other`` opens it."""
        current = await current_repository(location.store, folder)
        theirs, ours = keys.fingerprint(other), keys.fingerprint(location.master)
        if current is None or current.for_key(theirs).key_fingerprint != theirs:
            return False
        rekey = Rekey(
            store=location.store,
            location_id=location.location_id,
            old=other,
            new=location.master,
            owner=self._lock_owner(folder),
            scratch_dir=self._scratch_dir,
        )
        key_id = await add_key(rekey, current.directory)
        if key_id is None:
            return False
        known = {theirs: current.for_key(theirs).key_id, ours: key_id}
        await name_keys(location.store, folder, known)
        return True

    def forget_all(self) -> None:
        """Look again at every repository that is asked for: its keys have changed."""
        self._known.clear()

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
        shown = {"message": None, **status.to_dict()}
        damaged = (raw.get("status") or {}).get("phase") == RepositoryPhase.DAMAGED.value
        if damaged and status.phase is RepositoryPhase.READY:
            # It opens; that says nothing about what maintenance found in it.
            shown = {k: v for k, v in shown.items() if k not in ("phase", "message")}
        await patch_status(self._api, _TYPE, raw, shown)


def password_of(location: OpenLocation, repository_name: str) -> str:
    """The password of a repository in this location."""
    return keys.repository_password(location.master, location.location_id, repository_name)
