"""API objects: listed, filtered, laid out as a tree for restic.

Problem: a cluster's objects, Secrets among them, must be stored without ever touching a disk in
the clear, without holding them all in memory, and without one broken API group losing the rest.
Decision: kind by kind, page by page, each object is written to
``resources/<resource.group>/{cluster,namespaces/<ns>}/<name>.json`` below a memory-backed spool
and forgotten; restic reads the tree. When the spool holds enough for one part, the part is stored,
the spool is emptied and the listing goes on: of any number of objects, only one part stands in
memory (docs/decisions/0008-object-parts.md). A kind that cannot be listed is a failure of the
backup that names it; a group that discovery cannot reach is a warning.
Limits: names longer than a file name are cut and hashed; the object itself carries its name.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ararat.api.backup import Failure, Selection
from ararat.errors import AraratError, Retryable
from ararat.kinds import known_kinds, meant_by
from ararat.kube.api import KubeApi
from ararat.kube.errors import Invalid
from ararat.kube.resources import ResourceType
from ararat.naming import digest

from .selection import NeedsCollector, left_out, subjects_of, wanted
from .volumes import claims_of

#: A file name holds 255 bytes on every file system restic is likely to restore to; ".json" and a
#: digest take their part.
_NAME_BYTES = 200
TREE = "resources"
#: Seconds before a kind whose listing broke off is listed again: one disturbance of the API server
#: must not leave a hole in the backup.
_PAUSES = (1.0, 3.0, 10.0)
_METHOD_NOT_ALLOWED = 405
#: A file on tmpfs costs at least a page, and about as much again in the kernel.
_PAGE = 4096
_FILE_OVERHEAD = 1024
#: What a listing may bring at once; a Secret may be a megabyte, and a page is held whole.
_LIST_PAGES = {"secrets": 50, "configmaps": 100}
_LIST_PAGE = 500


@dataclass
class Collected:
    """What was written, and what went wrong."""

    count: int = 0
    failures: list[Failure] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def object_path(resource: ResourceType, obj: dict[str, Any]) -> Path:
    """Where an object stands in the tree."""
    metadata = obj["metadata"]
    scope = (
        Path("namespaces") / file_name(metadata["namespace"])
        if metadata.get("namespace")
        else Path("cluster")
    )
    return Path(TREE) / resource.qualified / scope / f"{file_name(metadata['name'])}.json"


def file_name(name: str) -> str:
    """A name as a file name: itself where it fits, else cut and hashed."""
    safe = name.replace("/", "%2F")
    if len(safe.encode()) <= _NAME_BYTES and safe not in (".", ".."):
        return safe
    return f"{safe.encode()[:_NAME_BYTES].decode(errors='ignore')}~{digest(name)}"


class _NotStored(Exception):
    """A part could not be stored: no fault of the kind that was being listed."""

    def __init__(self, error: AraratError) -> None:
        super().__init__(error.message)
        self.error = error


class Collector:
    """Writes the objects of one backup below ``spool``."""

    def __init__(
        self,
        api: KubeApi,
        *,
        spool: Path,
        selection: Selection,
        namespaces: Sequence[str],
        across: bool,
        store: Callable[[], Awaitable[None]] | None = None,
        part_bytes: int = 0,
    ) -> None:
        """``store`` is called when the spool holds ``part_bytes``, and once more by the caller."""
        self._api = api
        self._spool = spool
        self._store = store
        self._part_bytes = part_bytes
        #: Bytes of memory that the spool takes: zero right after a part was stored.
        self.spooled = 0
        self._selection = selection
        self._namespaces = frozenset(namespaces)
        #: Most namespaces are meant, so objects are listed across all of them in one go.
        self._across = across
        self._result = Collected()
        self._needs = NeedsCollector()
        #: Claims (namespace, name) that chosen pods mount.
        self._claims: set[tuple[str, str]] = set()

    async def run(self, resources: Sequence[ResourceType]) -> Collected:
        """Collect everything. Raises what ``store`` does, and nothing for single kinds."""
        try:
            return await self._collect(resources)
        except _NotStored as exc:
            raise exc.error from exc

    async def _collect(self, resources: Sequence[ResourceType]) -> Collected:
        namespaced = [r for r in resources if r.namespaced]
        for resource in namespaced:
            await self._guard(resource, self._namespaced)
        for resource in (r for r in resources if not r.namespaced):
            if resource.qualified == "namespaces":
                await self._guard(resource, self._namespace_objects)
            elif self._selection.include_cluster_resources is not False:
                await self._guard(resource, self._cluster)
        return self._result

    async def _guard(
        self, resource: ResourceType, work: Callable[[ResourceType], Awaitable[None]]
    ) -> None:
        key = resource.qualified
        for pause in (*_PAUSES, None):
            before = self._result.count
            try:
                await work(resource)
            except Retryable as exc:
                if pause is None:
                    self._result.failures.append(
                        Failure(object=key, reason=exc.reason, message=exc.message)
                    )
                    return
                self._result.count = before  # what was written is written over
                await asyncio.sleep(max(pause, getattr(exc, "retry_after", None) or 0))
            except AraratError as exc:
                if isinstance(exc, Invalid) and exc.status == _METHOD_NOT_ALLOWED:
                    self._result.warnings.append(f"{key}: cannot be listed ({exc.message})")
                else:
                    self._result.failures.append(
                        Failure(object=key, reason=exc.reason, message=exc.message)
                    )
                return
            else:
                return

    async def _namespaced(self, resource: ResourceType) -> None:
        scopes: Sequence[str | None] = [None] if self._across else sorted(self._namespaces)
        for scope in scopes:
            async for obj in self._list(resource, scope):
                if obj["metadata"].get("namespace") in self._namespaces:
                    await self._take(resource, obj)

    async def _namespace_objects(self, resource: ResourceType) -> None:
        async for obj in self._list(resource):
            if obj["metadata"]["name"] in self._namespaces and not left_out(obj):
                # A namespace comes along with its objects, whatever labels they were chosen by.
                await self._write(resource, obj)

    async def _cluster(self, resource: ResourceType) -> None:
        every = self._selection.include_cluster_resources is True
        needs = self._needs.needs()
        async for obj in self._list(resource):
            # What the chosen ones need comes along whatever its labels are, but not against its
            # owner's will.
            if every:
                chosen = wanted(self._selection, obj)
            else:
                chosen = needs.includes(resource, obj) and not left_out(obj)
            if chosen:
                await self._write(resource, obj)
                if subjects_of(obj):
                    self._needs.add_role(obj)

    def _list(
        self, resource: ResourceType, namespace: str | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        page = _LIST_PAGES.get(resource.qualified, _LIST_PAGE)
        return self._api.list(resource, namespace=namespace, page=page)

    async def _take(self, resource: ResourceType, obj: dict[str, Any]) -> None:
        metadata = obj["metadata"]
        if resource.qualified == "persistentvolumeclaims":
            # The claims of chosen pods come along whatever their labels are: without them there is
            # nothing to restore the pods' data into.
            chosen = (metadata["namespace"], metadata["name"]) in self._claims
            chosen = chosen and not left_out(obj)
        else:
            chosen = False
        if chosen or wanted(self._selection, obj):
            if resource.qualified == "pods":
                self._claims |= {(metadata["namespace"], name) for name in claims_of(obj)}
            self._needs.add(resource, obj)
            await self._write(resource, obj)

    async def _write(self, resource: ResourceType, obj: dict[str, Any]) -> None:
        # List items carry neither; a stored object must say what it is.
        obj.setdefault("apiVersion", resource.api_version)
        obj.setdefault("kind", resource.kind)
        if resource.qualified != "services":  # theirs tell which node ports somebody asked for
            (obj.get("metadata") or {}).pop("managedFields", None)
        path = self._spool / object_path(resource, obj)
        content = json.dumps(obj, sort_keys=True, ensure_ascii=False).encode()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_bytes(content)
        self._result.count += 1
        self.spooled += -(-len(content) // _PAGE) * _PAGE + _FILE_OVERHEAD
        if self._store is not None and self.spooled >= self._part_bytes:
            try:
                await self._store()
            except AraratError as exc:
                raise _NotStored(exc) from exc
            empty(self._spool)
            self.spooled = 0
        elif self._result.count % 200 == 0:
            await asyncio.sleep(0)  # let the others run: writes to memory do not yield


def in_order(resources: Sequence[ResourceType], wishes: Sequence[str] = ()) -> list[ResourceType]:
    """Those first that say which of the others are needed, then as the user wishes.

    Pods before claims, everything namespaced before cluster objects, and among these cluster role
    bindings before cluster roles. ``wishes``: kinds as kubectl takes them.
    """
    known = known_kinds(resources)
    ranks: dict[str, int] = {}
    for rank, word in enumerate(wishes):
        for kind in meant_by(known, word):
            ranks.setdefault(kind, rank)
    first = ("pods", "clusterrolebindings.rbac.authorization.k8s.io")
    return sorted(
        resources,
        key=lambda r: (
            not r.namespaced,
            r.qualified not in first,
            ranks.get(r.qualified, len(wishes)),
        ),
    )


def empty(spool: Path) -> None:
    """An empty tree: of no objects, too, there is a snapshot."""
    shutil.rmtree(spool, ignore_errors=True)
    spool.mkdir(parents=True, mode=0o700)
    (spool / TREE).mkdir(mode=0o700)
