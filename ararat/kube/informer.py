"""A local copy of a set of objects that follows the API server.

Problem: reconcilers need to look at thousands of objects often, and to hear of changes soon; a
watch breaks in many ways (clean end, cut connection, silence, 410, a restarting server), and a
change missed is a job that never starts.
Decision: a consistent paged list, then a watch from its resource version. A broken watch goes on
from the last version seen (bookmarks move it along); 410 means list again, which also reports what
vanished meanwhile. A connection that is silent for 70 s is dead: bookmarks come every minute. (Old
servers send none for kinds that never changed; going on from the same version costs little.)
Raw dicts, no models; ``transform`` makes them small (see compact).
Handlers are called synchronously in the loop, after the copy and the indexes were changed: they
only put keys into queues. A handler that raises is logged and changes nothing for the others.
``cached=True`` lists from the server's own cache instead of etcd and without pages: for many
clients with small selections (agents), where a listing may lag behind for a moment.
Limits: objects in the copy are shared: whoever gets one must not change it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import structlog
from prometheus_client import Counter

from ararat.errors import AraratError

from .api import KubeApi, KubeObject, WatchEventType
from .backoff import delay
from .compact import compact
from .errors import ApiError, ApiUnavailable, Gone
from .resources import ResourceType

Change = Literal["added", "modified", "deleted"]
#: (change, object, the object before). A deletion carries the last known state twice.
Handler = Callable[[Change, KubeObject, KubeObject | None], None]
Indexer = Callable[[KubeObject], Iterable[str]]

#: Of silence before a watch is given up. Bookmarks come every 60 s.
INACTIVITY_SECONDS = 70.0
#: The server ends a watch after this time, spread by half: load moves between servers.
WATCH_SECONDS = 300.0
RETRY_FIRST, RETRY_CAP = 0.5, 30.0
#: A connection that lasted this long had worked.
LIVED_SECONDS = 10.0

RELISTS = Counter("ararat_kube_relists", "Complete listings by informers.", ["resource"])

log = structlog.stdlib.get_logger(__name__)


def key_of(obj: Mapping[str, Any]) -> str:
    """``namespace/name``, or ``name`` for cluster-scoped objects."""
    meta = obj["metadata"]
    namespace = meta.get("namespace")
    return f"{namespace}/{meta['name']}" if namespace else str(meta["name"])


def split_key(key: str) -> tuple[str | None, str]:
    """(namespace, name) of a key."""
    namespace, slash, name = key.rpartition("/")
    return (namespace if slash else None), name


def _version_of(obj: Mapping[str, Any]) -> str:
    return str(obj["metadata"].get("resourceVersion", ""))


class Informer:
    """The copy. ``run`` keeps it; everything else reads it."""

    def __init__(
        self,
        api: KubeApi,
        rt: ResourceType,
        *,
        namespace: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
        indexers: Mapping[str, Indexer] | None = None,
        transform: Callable[[KubeObject], KubeObject] | None = compact,
        cached: bool = False,
        page: int = 500,
        inactivity_seconds: float = INACTIVITY_SECONDS,
    ) -> None:
        self._api = api
        self.rt = rt
        self._scope: dict[str, Any] = {"namespace": namespace, "labels": labels, "fields": fields}
        self._indexers = dict(indexers or {})
        self._transform = transform
        self._cached = cached
        self._page = page
        self._inactivity = inactivity_seconds
        self._objects: dict[str, KubeObject] = {}
        #: index name → index value → keys (a dict, because sets have no order)
        self._index: dict[str, dict[str, dict[str, None]]] = {name: {} for name in self._indexers}
        self._values: dict[str, dict[str, tuple[str, ...]]] = {name: {} for name in self._indexers}
        self._handlers: list[Handler] = []
        self._synced = asyncio.Event()
        #: Where the next watch starts; None: list first.
        self._version: str | None = None
        #: The last version seen at all.
        self._newest: str | None = None
        self._distrust_cache = False
        self._heard: float | None = None

    # --- reading --------------------------------------------------------------------------------

    def on_change(self, handler: Handler) -> None:
        """Call ``handler`` for every change from now on; what is already here is replayed."""
        self._handlers.append(handler)
        for obj in list(self._objects.values()):
            self._call(handler, "added", obj, None)

    async def synced(self) -> None:
        """Wait for the first complete listing."""
        await self._synced.wait()

    @property
    def has_synced(self) -> bool:
        return self._synced.is_set()

    def silence(self) -> float:
        """Seconds since the server last said anything; infinite before it ever did."""
        if self._heard is None:
            return float("inf")
        return asyncio.get_running_loop().time() - self._heard

    def get(self, name: str, namespace: str | None = None) -> KubeObject | None:
        return self._objects.get(f"{namespace}/{name}" if namespace else name)

    def by_key(self, key: str) -> KubeObject | None:
        return self._objects.get(key)

    def items(self) -> list[KubeObject]:
        return list(self._objects.values())

    def by_index(self, index: str, value: str) -> list[KubeObject]:
        return [self._objects[key] for key in self._index[index].get(value, ())]

    def __len__(self) -> int:
        return len(self._objects)

    def __contains__(self, key: str) -> bool:
        return key in self._objects

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._objects))

    # --- following ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the copy until cancelled. API errors never end it."""
        clock = asyncio.get_running_loop().time
        failures = 0
        while True:
            started = clock()
            problem: AraratError
            try:
                if self._version is None:
                    await self._relist()
                await self._follow(self._version or "")
                if clock() - started > LIVED_SECONDS:
                    failures = 0
                    continue  # a watch ends every few minutes: go on at once
                problem = ApiUnavailable(f"watch {self.rt}: ended at once", reason="WatchEnded")
            except Gone as error:
                self._version = None
                problem = error
            except AraratError as error:
                problem = error
            # After a while that went well this is a new failure.
            lived = clock() - started > LIVED_SECONDS
            failures = 1 if lived else failures + 1
            wait = delay(failures, first=RETRY_FIRST, cap=RETRY_CAP)
            if isinstance(problem, ApiError) and problem.retry_after is not None:
                wait = max(wait, problem.retry_after * random.uniform(1, 1.3))  # noqa: S311
            # A watch that lived and goes on where it was is daily life: a quiet kind's ends so.
            routine = lived and self._version is not None
            (log.debug if routine else log.info)(
                "watch_interrupted",
                resource=self.rt.qualified,
                reason=problem.reason,
                error=problem.message,
                relist=self._version is None,
                wait=round(wait, 2),
            )
            await asyncio.sleep(wait)

    async def _relist(self) -> None:
        """Make the copy equal to a fresh listing, page by page so that memory stays flat."""
        RELISTS.labels(self.rt.qualified).inc()
        seen: set[str] = set()
        version = ""
        from_cache = self._cached and not self._distrust_cache
        # A cache that cannot serve the listing (of a server that came back with older data) must
        # not be asked for ever: after any failure the next listing goes to etcd.
        self._distrust_cache = True
        # Never older than what was seen: a lagging server's cache must not turn time back.
        oldest = self._newest or "0"
        pages = self._api.pages(
            self.rt,
            **self._scope,
            page=0 if from_cache else self._page,
            resource_version=oldest if from_cache else None,
        )
        async for page in pages:
            self._hear()
            version = page.resource_version
            for obj in page.items:
                seen.add(key_of(obj))
                self._upsert(obj)
        self._distrust_cache = False
        for key in [key for key in self._objects if key not in seen]:
            self._remove(key)
        self._version = self._newest = version
        self._synced.set()

    async def _follow(self, version: str) -> None:
        events = self._api.watch(
            self.rt,
            **self._scope,
            resource_version=version,
            timeout_seconds=WATCH_SECONDS * random.uniform(0.75, 1.25),  # noqa: S311
            inactivity_seconds=self._inactivity,
        )
        async with contextlib.aclosing(events):
            async for event in events:
                self._hear()
                if event.type is WatchEventType.DELETED:
                    self._remove(key_of(event.object), event.object)
                elif event.type is not WatchEventType.BOOKMARK:
                    self._upsert(event.object)
                self._version = self._newest = _version_of(event.object) or self._version

    def _hear(self) -> None:
        self._heard = asyncio.get_running_loop().time()

    # --- the copy -------------------------------------------------------------------------------

    def _upsert(self, obj: KubeObject) -> None:
        if self._transform is not None:
            obj = self._transform(obj)
        key = key_of(obj)
        old = self._objects.get(key)
        if old is not None:
            if _version_of(old) == _version_of(obj):
                return
            if old["metadata"].get("uid") != obj["metadata"].get("uid"):
                # Deleted and made again while we were not looking: two events, not one.
                self._remove(key)
                old = None
        self._objects[key] = obj
        self._reindex(key, obj)
        self._emit("added" if old is None else "modified", obj, old)

    def _remove(self, key: str, last: KubeObject | None = None) -> None:
        old = self._objects.pop(key, None)
        if old is None:
            return
        self._reindex(key, None)
        if last is not None and self._transform is not None:
            last = self._transform(last)
        self._emit("deleted", last or old, old)

    def _reindex(self, key: str, obj: KubeObject | None) -> None:
        for name, indexer in self._indexers.items():
            new: tuple[str, ...] = ()
            if obj is not None:
                try:
                    new = tuple(dict.fromkeys(indexer(obj)))
                except Exception:
                    log.exception("indexer_failed", index=name, key=key)
            index, values = self._index[name], self._values[name]
            old = values.get(key, ())
            if new == old:
                continue
            for value in old:
                if value not in new:
                    keys = index[value]
                    del keys[key]
                    if not keys:
                        del index[value]
            for value in new:
                index.setdefault(value, {})[key] = None
            if new:
                values[key] = new
            else:
                values.pop(key, None)

    def _emit(self, change: Change, obj: KubeObject, old: KubeObject | None) -> None:
        for handler in self._handlers:
            self._call(handler, change, obj, old)

    def _call(
        self, handler: Handler, change: Change, obj: KubeObject, old: KubeObject | None
    ) -> None:
        try:
            handler(change, obj, old)
        except Exception:
            log.exception("handler_failed", resource=self.rt.qualified, key=key_of(obj))
