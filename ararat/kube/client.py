"""``KubeApi`` over HTTP: any resource by its ``ResourceType``.

Decision: paths, queries and bodies are made here, by hand; there are few of them, and they are the
same for every kind. ``transport`` knows how to get them across.
A server with too much to do may need longer for one page than a call has, and would again if the
listing began anew. So a page that does not come in time is asked for again, a fifth as large, and
those after it are no larger: a listing goes on where it was.
Limits: no protobuf; JSON of a page is decoded in the loop (5 MB take about 50 ms).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any

import aiohttp

from . import discovery
from . import exec as container_exec
from .api import (
    FIELD_MANAGER,
    Discovery,
    ExecResult,
    KubeApi,
    KubeObject,
    Page,
    PatchType,
    Propagation,
    WatchEvent,
    WatchEventType,
)
from .errors import (
    ApiConflict,
    ApiNotFound,
    ApiUnavailable,
    ExecInterrupted,
    Gone,
    from_status,
    parse_retry_after,
)
from .exec import Target
from .resources import CONTROLLER_REVISIONS, PODS, SECRETS, ResourceType
from .transport import REQUESTS, TIMED_OUT, Query, Transport

#: A page that did not come in time is asked for again, so many times smaller.
_SMALLER = 5
#: How often: where the server has sent pages before, and where it has sent none.
_TRIES, _FIRST_TRIES = 3, 1


class KubeClient(KubeApi):
    """Made by ``connection.connect``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    # --- objects --------------------------------------------------------------------------------

    async def get(self, rt: ResourceType, name: str, *, namespace: str | None = None) -> KubeObject:
        return await self._object("get", "GET", rt, name=name, namespace=namespace)

    async def list(
        self,
        rt: ResourceType,
        *,
        namespace: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
        page: int = 500,
    ) -> AsyncIterator[KubeObject]:
        selection = _selection(labels, fields)
        pages = self._pages(rt, namespace, selection, page=page, go_on=True)
        async for one in pages:
            for item in one.items:
                yield item

    def pages(
        self,
        rt: ResourceType,
        *,
        namespace: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
        page: int = 500,
        resource_version: str | None = None,
    ) -> AsyncIterator[Page]:
        selection = _selection(labels, fields)
        if resource_version is not None:
            selection.append(("resourceVersion", resource_version))
        return self._pages(rt, namespace, selection, page=page, go_on=False)

    async def _pages(
        self,
        rt: ResourceType,
        namespace: str | None,
        selection: Query,
        *,
        page: int,
        go_on: bool,
    ) -> AsyncIterator[Page]:
        what = _what("list", rt, namespace)
        path = rt.path(namespace=namespace)
        token = ""
        tries = _FIRST_TRIES
        while True:
            query = [*selection]
            if page:
                query.append(("limit", str(page)))
            if token:
                # A resource version must not be repeated: the token holds it.
                query = [pair for pair in query if pair[0] != "resourceVersion"]
                query.append(("continue", token))
            try:
                raw = await self._transport.call("list", "GET", path, rt=rt, what=what, query=query)
            except Gone as gone:
                if not (go_on and gone.continue_token):
                    raise
                token = gone.continue_token
                continue
            except ApiUnavailable as late:
                if late.reason != TIMED_OUT or page < _SMALLER or not tries:
                    raise
                page, tries = page // _SMALLER, tries - 1
                continue
            tries = _TRIES
            meta = raw.get("metadata") or {}
            items = raw.get("items") or []
            for item in items:
                _complete(item, rt)
            yield Page(
                items=items,
                resource_version=str(meta.get("resourceVersion") or ""),
                remaining=meta.get("remainingItemCount"),
            )
            token = meta.get("continue") or ""
            if not token:
                return

    async def create(
        self,
        rt: ResourceType,
        body: Mapping[str, Any],
        *,
        namespace: str | None = None,
        dry_run: bool = False,
    ) -> KubeObject:
        meta = body.get("metadata") or {}
        namespace = namespace or meta.get("namespace")
        if rt.namespaced and not namespace:
            raise ValueError(f"{rt} to create has no namespace")
        what = _what("create", rt, namespace, meta.get("name") or meta.get("generateName"))
        # The server keeps the bytes of a ControllerRevision's data as they come, and compares them
        # with its own encoding when their owner adopts it. What it reads as YAML (JSON is) it
        # encodes anew, so that both are equal.
        anew = rt == CONTROLLER_REVISIONS
        return _complete(
            await self._transport.call(
                "create",
                "POST",
                rt.path(namespace=namespace),
                rt=rt,
                what=what,
                query=_write_query(dry_run),
                body=json.dumps(body, ensure_ascii=False) if anew else body,
                content_type="application/yaml" if anew else "application/json",
            ),
            rt,
        )

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
        field_manager: str = FIELD_MANAGER,
    ) -> KubeObject:
        query = _write_query(dry_run, field_manager)
        if not isinstance(patch, Mapping):
            kind = PatchType.JSON
        elif kind is PatchType.APPLY:
            meta = {"name": name, **(patch.get("metadata") or {})}
            patch = {"apiVersion": rt.api_version, "kind": rt.kind, **patch, "metadata": meta}
            query.append(("force", "true" if force else "false"))
        return await self._object(
            "patch" if kind is not PatchType.APPLY else "apply",
            "PATCH",
            rt,
            name=name,
            namespace=namespace,
            subresource=subresource,
            query=query,
            body=patch,
            content_type=str(kind),
        )

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
        return await self._object(
            "replace",
            "PUT",
            rt,
            name=name,
            namespace=namespace,
            subresource=subresource,
            query=_write_query(dry_run),
            body=body,
        )

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
        options: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
        }
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            await self._object("delete", "DELETE", rt, name=name, namespace=namespace, body=options)
        except ApiNotFound:
            return
        except ApiConflict:
            if uid is None or not await self._is_another(rt, name, namespace, uid):
                raise

    async def _is_another(
        self, rt: ResourceType, name: str, namespace: str | None, uid: str
    ) -> bool:
        try:
            current = await self.get(rt, name, namespace=namespace)
        except ApiNotFound:
            return True
        return bool(current["metadata"]["uid"] != uid)

    async def _object(
        self,
        verb: str,
        method: str,
        rt: ResourceType,
        *,
        name: str,
        namespace: str | None,
        subresource: str | None = None,
        query: Query | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> KubeObject:
        """A call about one named object."""
        path = rt.path(namespace=namespace, name=name, subresource=subresource)
        what = _what(verb, rt, namespace, name, subresource)
        answer = await self._transport.call(
            verb,
            method,
            path,
            rt=rt,
            what=what,
            query=query,
            body=body,
            content_type=content_type,
        )
        return _complete(answer, rt)

    # --- watch ----------------------------------------------------------------------------------

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
        what = _what("watch", rt, namespace)
        query = [
            *_selection(labels, fields),
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", resource_version),
            ("timeoutSeconds", str(int(timeout_seconds))),
        ]
        REQUESTS.labels("watch", rt.qualified, "started").inc()
        async with self._transport.open(
            rt.path(namespace=namespace),
            what=what,
            query=query,
            inactivity_seconds=inactivity_seconds,
        ) as content:
            accepted = {"metadata": {"resourceVersion": resource_version}}
            yield WatchEvent(WatchEventType.BOOKMARK, accepted)
            async for line in _lines(content):
                yield _event(line, rt, what)

    # --- the rest -------------------------------------------------------------------------------

    async def discover(self) -> Discovery:
        async def fetch(path: str) -> Mapping[str, Any]:
            answer: Mapping[str, Any] = await self._transport.call(
                "get", "GET", path, what=f"discover {path}"
            )
            return answer

        return await discovery.discover(fetch)

    async def server_version(self) -> str:
        answer = await self._transport.call(
            "get", "GET", "/version", what="get the server's version"
        )
        return str(answer.get("gitVersion", ""))

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
        target = Target(namespace, pod, container)
        try:
            async with (
                asyncio.timeout(timeout),
                container_exec.start(self._transport, target, command) as socket,
            ):
                return await container_exec.collect(socket, what=str(target), limit=output_limit)
        except TimeoutError as error:
            raise ExecInterrupted(
                f"{target}: not finished after {timeout:g} s; it may still be running",
                reason="ExecTimeout",
            ) from error

    async def exec_stream(
        self, namespace: str, pod: str, container: str, command: Sequence[str]
    ) -> AsyncGenerator[bytes, None]:
        target = Target(namespace, pod, container)
        async with container_exec.start(self._transport, target, command) as socket:
            async for data in container_exec.stream(socket, what=str(target)):
                yield data

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
        query = [("container", container), ("limitBytes", str(limit_bytes))]
        if tail_lines is not None:
            query.append(("tailLines", str(tail_lines)))
        if previous:
            query.append(("previous", "true"))
        path = PODS.path(namespace=namespace, name=pod, subresource="log")
        what = _what("get", PODS, namespace, pod, "log")
        data = await self._transport.call(
            "get", "GET", path, rt=PODS, what=what, query=query, raw=True
        )
        return bytes(data).decode(errors="replace")


def _selection(labels: str | None, fields: str | None) -> Query:
    pairs = (("labelSelector", labels), ("fieldSelector", fields))
    return [(key, value) for key, value in pairs if value]


def _write_query(dry_run: bool, field_manager: str = FIELD_MANAGER) -> Query:
    query = [("fieldManager", field_manager)]
    if dry_run:
        query.append(("dryRun", "All"))
    return query


def _what(
    verb: str,
    rt: ResourceType,
    namespace: str | None,
    name: str | None = None,
    subresource: str | None = None,
) -> str:
    """How errors name the call: ``patch pods/status web/db-0``."""
    kind = f"{rt}/{subresource}" if subresource else str(rt)
    place = "/".join(part for part in (namespace if rt.namespaced else None, name) if part)
    return f"{verb} {kind} {place}".rstrip()


def _complete(item: Any, rt: ResourceType) -> KubeObject:
    """Lists leave out apiVersion and kind of built-in types; stored objects need them."""
    if isinstance(item, dict) and item.get("kind") != "Status":
        item.setdefault("apiVersion", rt.api_version)
        item.setdefault("kind", rt.kind)
    result: KubeObject = item
    return result


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Whole lines of any length; what follows the last newline was cut off and is dropped."""
    rest = bytearray()
    async for chunk in content.iter_any():
        rest += chunk
        if b"\n" not in chunk:
            continue
        *lines, tail = bytes(rest).split(b"\n")
        rest = bytearray(tail)
        for line in lines:
            if line:
                yield line


def _event(line: bytes, rt: ResourceType, what: str) -> WatchEvent:
    try:
        raw = json.loads(line)
        kind, obj = raw["type"], raw["object"]
        if kind != "ERROR":
            return WatchEvent(WatchEventType(kind), _complete(obj, rt))
    except (ValueError, KeyError, TypeError) as error:
        raise ApiUnavailable(f"{what}: not a watch event") from error
    wait = parse_retry_after(None, obj)
    raise from_status(what, 500, obj, retry_after=wait, secret=rt == SECRETS)
