"""Writing the status of our own objects.

Problem: status writes are most of what a backup costs the API server, a job's name can come back
with another UID, and progress is out of date as soon as it is written.
Decision: merge patches on the status subresource, left out when they would change nothing. Each
names the resource version it was made for, which no namesake can have (a UID in a status patch is
silently ignored by the API server); after a conflict the object is read, its UID compared, and the
patch made again. ``StatusWriter`` merges what is offered between two writes and keeps a minimum
distance between them.
A value of None removes a field (that is what a merge patch does).
Limits: lists (conditions) are replaced whole: one writer per list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog

from ararat.errors import AraratError, NotFound

from .api import KubeApi, KubeObject
from .errors import ApiConflict
from .informer import key_of
from .resources import ResourceType

#: How often one patch is made again because somebody else wrote in between.
CONFLICTS = 5

log = structlog.stdlib.get_logger(__name__)


def merge(old: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 7386 on plain dicts; ``old`` is left alone."""
    result = dict(old)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            before = result.get(key)
            result[key] = merge(before if isinstance(before, Mapping) else {}, value)
        else:
            result[key] = value
    return result


async def patch_status(
    api: KubeApi,
    rt: ResourceType,
    obj: Mapping[str, Any],
    status: Mapping[str, Any],
    *,
    resource_version: str | None = None,
) -> KubeObject:
    """Merge ``status`` into the object's. Returns the object, unwritten if nothing would change.

    ``resource_version``: only if the object is still this version, else ApiConflict. Without it the
    patch goes onto whatever the object has become. Raises ApiConflict with reason ObjectReplaced
    where another object has taken the name, ApiNotFound where none has.
    """
    meta = obj["metadata"]
    name, namespace = meta["name"], meta.get("namespace")
    current: Mapping[str, Any] = obj
    conflict: ApiConflict | None = None
    for _ in range(CONFLICTS + 1):
        if conflict is not None or not meta.get("resourceVersion"):
            current = await api.get(rt, name, namespace=namespace)
            if meta.get("uid") not in (None, current["metadata"]["uid"]):
                raise ApiConflict(
                    f"{rt} {key_of(obj)} is another object now", reason="ObjectReplaced"
                )
            if conflict is not None and resource_version is not None:
                raise conflict
        before = current.get("status") or {}
        if resource_version is None and merge(before, status) == before:
            return dict(current)
        version = resource_version or current["metadata"]["resourceVersion"]
        patch = {"metadata": {"resourceVersion": version}, "status": dict(status)}
        try:
            return await api.patch(rt, name, patch, namespace=namespace, subresource="status")
        except ApiConflict as error:
            conflict = error
    assert conflict is not None
    raise conflict


class StatusWriter:
    """The status of one object, written by one owner.

    ``offer`` is for progress: it returns at once, and ``run`` writes the latest at most every
    ``interval`` seconds. ``write`` is for what matters: it is written when it returns.
    """

    def __init__(
        self,
        api: KubeApi,
        rt: ResourceType,
        obj: Mapping[str, Any],
        *,
        interval: float = 2,
    ) -> None:
        self._api = api
        self._rt = rt
        self._obj: KubeObject = dict(obj)
        self.interval = interval
        self._pending: dict[str, Any] = {}
        self._offered = asyncio.Event()
        self._lock = asyncio.Lock()

    @property
    def current(self) -> KubeObject:
        """The object as the server last returned it."""
        return self._obj

    def offer(self, status: Mapping[str, Any]) -> None:
        self._pending = _overlay(self._pending, status)
        self._offered.set()

    async def write(self, status: Mapping[str, Any]) -> KubeObject:
        """Write now, together with what was offered. Raises what ``patch_status`` raises."""
        self.offer(status)
        return await self._flush()

    async def run(self) -> None:
        """Write what is offered until cancelled. Errors are logged: the next offer tries again.

        Ends by itself when the object is gone.
        """
        while True:
            await self._offered.wait()
            try:
                await self._flush()
            except NotFound:
                return
            except ApiConflict as error:
                if error.reason == "ObjectReplaced":
                    return
                log.info("status_not_written", resource=str(self._rt), error=error.message)
            except AraratError as error:
                log.info("status_not_written", resource=str(self._rt), error=error.message)
            await asyncio.sleep(self.interval)

    async def _flush(self) -> KubeObject:
        async with self._lock:  # writes reach the server in the order in which they were made
            status, self._pending = self._pending, {}
            self._offered.clear()
            try:
                self._obj = await patch_status(self._api, self._rt, self._obj, status)
            except BaseException:
                # Not lost: what was offered since wins over it.
                self._pending = _overlay(status, self._pending)
                self._offered.set()
                raise
            return self._obj


def _overlay(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """One merge patch that does what both do; unlike in ``merge`` a None stays."""
    result = dict(old)
    for key, value in new.items():
        before = result.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            result[key] = _overlay(before, value)
        else:
            result[key] = value
    return result
