"""A small API server in memory: resource versions, conflicts, watches, and faults on demand.

Only for tests of the runtime in virtual time; the component tests run the same expectations against
a real API server (``tests/component/kube/test_client.py``).
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from ararat.kube import (
    AlreadyExists,
    ApiConflict,
    ApiNotFound,
    Discovery,
    ExecResult,
    KubeApi,
    KubeObject,
    Page,
    PatchType,
    Propagation,
    ResourceType,
    WatchEvent,
    WatchEventType,
)
from ararat.kube.status import merge

#: What the runtime in virtual time does not need is not faked.
_REAL_ONLY = "only the component tests' real API server does this"
Before = Callable[[str, str], Awaitable[None]]


class Stream:
    """One open watch; put events or an exception, or None for a clean end."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[WatchEvent | Exception | None] = asyncio.Queue()


class FakeApi(KubeApi):
    def __init__(self) -> None:
        self.store: dict[tuple[str, str, str], KubeObject] = {}
        self.version = 100
        self.calls: list[tuple[str, str]] = []
        self.watches: list[Stream] = []
        self.watched_from: list[str] = []
        self.listed: list[tuple[int, str | None]] = []
        #: Awaited before each call with (verb, name): may raise or hang.
        self.before: Before | None = None
        #: Awaited after a write was executed: a lost answer.
        self.after: Before | None = None

    # --- test side ---

    def put(self, rt: ResourceType, obj: KubeObject, *, notify: bool = True) -> KubeObject:
        """Create or change an object, as another client would."""
        self.version += 1
        obj = copy.deepcopy(obj)
        meta = obj.setdefault("metadata", {})
        key = (rt.plural, meta.get("namespace") or "", meta["name"])
        old = self.store.get(key)
        meta.setdefault("uid", old["metadata"]["uid"] if old else f"uid-{self.version}")
        meta["resourceVersion"] = str(self.version)
        self.store[key] = obj
        if notify:
            self._notify(WatchEventType.MODIFIED if old else WatchEventType.ADDED, obj)
        return copy.deepcopy(obj)

    def remove(
        self, rt: ResourceType, name: str, namespace: str = "", *, notify: bool = True
    ) -> None:
        self.version += 1
        obj = self.store.pop((rt.plural, namespace, name))
        obj["metadata"]["resourceVersion"] = str(self.version)
        if notify:
            self._notify(WatchEventType.DELETED, obj)

    def _notify(self, kind: WatchEventType, obj: KubeObject) -> None:
        for stream in self.watches:
            stream.queue.put_nowait(WatchEvent(kind, copy.deepcopy(obj)))

    async def _enter(self, verb: str, name: str) -> None:
        self.calls.append((verb, name))
        if self.before is not None:
            await self.before(verb, name)
        await asyncio.sleep(0.01)

    async def _leave(self, verb: str, name: str) -> None:
        if self.after is not None:
            await self.after(verb, name)

    def _find(self, rt: ResourceType, name: str, namespace: str | None) -> KubeObject:
        try:
            return self.store[rt.plural, namespace or "", name]
        except KeyError:
            raise ApiNotFound(f"{rt} {name}") from None

    # --- KubeApi ---

    async def get(self, rt: ResourceType, name: str, *, namespace: str | None = None) -> KubeObject:
        await self._enter("get", name)
        return copy.deepcopy(self._find(rt, name, namespace))

    async def list(
        self,
        rt: ResourceType,
        *,
        namespace: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
        page: int = 500,
    ) -> AsyncIterator[KubeObject]:
        listing = self.pages(rt, namespace=namespace, labels=labels, fields=fields, page=page)
        async for one in listing:
            for item in one.items:
                yield item

    async def pages(
        self,
        rt: ResourceType,
        *,
        namespace: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
        page: int = 500,
        resource_version: str | None = None,
    ) -> AsyncIterator[Page]:
        self.listed.append((page, resource_version))
        version = str(self.version)
        snapshot = [
            copy.deepcopy(obj)
            for (plural, where, _), obj in sorted(self.store.items())
            if plural == rt.plural and (namespace is None or namespace == where)
        ]
        step = page or max(1, len(snapshot))
        for start in range(0, max(1, len(snapshot)), step):
            await self._enter("list", str(start))
            yield Page(snapshot[start : start + step], version)

    async def watch(
        self,
        rt: ResourceType,
        *,
        resource_version: str,
        namespace: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
        timeout_seconds: float = 300,
        inactivity_seconds: float = 70,
    ) -> AsyncGenerator[WatchEvent, None]:
        self.watched_from.append(resource_version)
        await self._enter("watch", rt.plural)
        stream = Stream()
        for obj in self.store.values():
            if int(obj["metadata"]["resourceVersion"]) > int(resource_version):
                stream.queue.put_nowait(WatchEvent(WatchEventType.MODIFIED, copy.deepcopy(obj)))
        self.watches.append(stream)
        try:
            yield WatchEvent(
                WatchEventType.BOOKMARK, {"metadata": {"resourceVersion": resource_version}}
            )
            while (event := await stream.queue.get()) is not None:
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.watches.remove(stream)

    async def create(
        self,
        rt: ResourceType,
        body: Mapping[str, Any],
        *,
        namespace: str | None = None,
        dry_run: bool = False,
    ) -> KubeObject:
        name = body["metadata"]["name"]
        await self._enter("create", name)
        if (rt.plural, namespace or "", name) in self.store:
            raise AlreadyExists(f"{rt} {name}")
        obj = copy.deepcopy(dict(body))
        obj["metadata"]["namespace"] = namespace
        result = self.put(rt, obj)
        await self._leave("create", name)
        return result

    async def patch(
        self,
        rt: ResourceType,
        name: str,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        namespace: str | None = None,
        subresource: str | None = None,
        kind: PatchType = PatchType.MERGE,
        dry_run: bool = False,
        force: bool = True,
        field_manager: str = "",
    ) -> KubeObject:
        await self._enter("patch", name)
        assert isinstance(patch, Mapping)
        current = self._find(rt, name, namespace)
        guard = patch.get("metadata") or {}
        if guard.get("resourceVersion") not in (None, current["metadata"]["resourceVersion"]):
            raise ApiConflict(f"{rt} {name}: it changed")
        result = self.put(rt, merge(current, patch))
        await self._leave("patch", name)
        return result

    async def replace(
        self,
        rt: ResourceType,
        name: str,
        body: Mapping[str, Any],
        *,
        namespace: str | None = None,
        subresource: str | None = None,
        dry_run: bool = False,
    ) -> KubeObject:
        await self._enter("replace", name)
        current = self._find(rt, name, namespace)
        if body["metadata"].get("resourceVersion") != current["metadata"]["resourceVersion"]:
            raise ApiConflict(f"{rt} {name}: it changed")
        result = self.put(rt, dict(body))
        await self._leave("replace", name)
        return result

    async def delete(
        self,
        rt: ResourceType,
        name: str,
        *,
        namespace: str | None = None,
        uid: str | None = None,
        propagation: Propagation = "Background",
        grace_seconds: int | None = None,
    ) -> None:
        await self._enter("delete", name)
        if (rt.plural, namespace or "", name) in self.store:
            self.remove(rt, name, namespace or "")

    async def discover(self) -> Discovery:
        raise NotImplementedError(_REAL_ONLY)

    async def server_version(self) -> str:
        raise NotImplementedError(_REAL_ONLY)

    async def exec(
        self,
        namespace: str,
        pod: str,
        container: str,
        command: Sequence[str],
        *,
        timeout: float | None = 30,
        output_limit: int = 65536,
    ) -> ExecResult:
        raise NotImplementedError(_REAL_ONLY)

    def exec_stream(
        self, namespace: str, pod: str, container: str, command: Sequence[str]
    ) -> AsyncGenerator[bytes, None]:
        raise NotImplementedError(_REAL_ONLY)

    async def pod_log(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        tail_lines: int | None = None,
        limit_bytes: int = 1 << 20,
        previous: bool = False,
    ) -> str:
        raise NotImplementedError(_REAL_ONLY)
