"""Events on objects: what ``kubectl describe`` shows.

Problem: events help people and must never hurt the work: a failed write must not fail a reconcile,
and a loop must not fill etcd with copies of one sentence.
Decision: fire and report: errors are logged and swallowed, each write has 5 s. The same sentence
about the same object raises the count of the event that said it first; repeats within 10 s are
counted here and written with the next one.
Limits: counts are kept in memory, so a new leader starts new events.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import structlog

from ararat.api.base import API_VERSION, Resource
from ararat.errors import AraratError

from .api import KubeApi, KubeObject
from .errors import ApiNotFound
from .resources import EVENTS

EventType = Literal["Normal", "Warning"]

WRITE_SECONDS = 5
QUIET_SECONDS = 10
#: The API server removes events after an hour; after this long a repeat is news.
AGGREGATE_SECONDS = 600
REMEMBERED = 1024
#: Of the API's field.
MESSAGE_LIMIT = 1024

log = structlog.stdlib.get_logger(__name__)


@dataclass
class _Said:
    name: str
    count: int
    first: float
    written: float


def reference(obj: Mapping[str, Any] | Resource[Any, Any]) -> KubeObject:
    """An ObjectReference to a raw object or one of ours."""
    if isinstance(obj, Resource):
        reference: KubeObject = {
            "apiVersion": API_VERSION,
            "kind": obj.KIND,
            "name": obj.metadata.name,
            "namespace": obj.metadata.namespace,
            "uid": obj.metadata.uid,
            "resourceVersion": obj.metadata.resource_version,
        }
    else:
        meta = obj.get("metadata") or {}
        reference = {
            "apiVersion": obj.get("apiVersion"),
            "kind": obj.get("kind"),
            **{key: meta.get(key) for key in ("name", "namespace", "uid", "resourceVersion")},
        }
    return {key: value for key, value in reference.items() if value}


class EventRecorder:
    """Says things about objects. ``component`` and ``instance`` are who says it."""

    def __init__(self, api: KubeApi, *, component: str, instance: str = "") -> None:
        self._api = api
        self._component = component
        self._instance = instance
        self._said: OrderedDict[tuple[str, ...], _Said] = OrderedDict()

    async def event(
        self,
        obj: Mapping[str, Any] | Resource[Any, Any],
        *,
        reason: str,
        message: str,
        type: EventType = "Normal",  # noqa: A002 - Kubernetes' own name for it
    ) -> None:
        """Never raises (but CancelledError). ``message`` holds no secret."""
        about = reference(obj)
        message = message if len(message) <= MESSAGE_LIMIT else message[: MESSAGE_LIMIT - 1] + "…"
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._record(about, reason=reason, message=message, type_=type)
        except (AraratError, TimeoutError) as error:
            log.warning(
                "event_not_recorded",
                about=f"{about.get('kind')}/{about.get('name')}",
                reason=reason,
                error=str(error) or "timeout",
            )

    async def _record(
        self, about: KubeObject, *, reason: str, message: str, type_: EventType
    ) -> None:
        now = asyncio.get_running_loop().time()
        key = (about.get("kind", ""), about.get("uid") or about["name"], type_, reason, message)
        said = self._said.get(key)
        namespace = about.get("namespace") or "default"
        if said is not None and now - said.first < AGGREGATE_SECONDS:
            said.count += 1
            if now - said.written < QUIET_SECONDS:
                return
            said.written = now
            try:
                await self._api.patch(
                    EVENTS,
                    said.name,
                    {"count": said.count, "lastTimestamp": _stamp()},
                    namespace=namespace,
                )
                return
            except ApiNotFound:
                pass  # somebody removed it: say it anew
        name = f"{about['name'][:200]}.{uuid.uuid4().hex[:16]}"
        # Remembered before it is written: two tasks that say the same write one event.
        self._said[key] = _Said(name, 1, now, now)
        self._said.move_to_end(key)
        while len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        moment = _stamp()
        try:
            await self._api.create(
                EVENTS,
                {
                    "apiVersion": "v1",
                    "kind": "Event",
                    "metadata": {"name": name, "namespace": namespace},
                    "involvedObject": about,
                    "reason": reason,
                    "message": message,
                    "type": type_,
                    "count": 1,
                    "firstTimestamp": moment,
                    "lastTimestamp": moment,
                    "source": {"component": self._component, "host": self._instance},
                    "reportingComponent": self._component,
                    "reportingInstance": self._instance,
                },
                namespace=namespace,
            )
        except BaseException:
            self._said.pop(key, None)
            raise


def _stamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
