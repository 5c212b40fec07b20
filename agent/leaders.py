"""What became of the jobs that Follow jobs of this node follow.

Problem: a claim that pods on several nodes mount is filled by one of them; the others' gates need
its outcome, but an agent watches only its own node's jobs.
Decision: leaders on other nodes are read by name every few seconds, only while something follows
them.
Limits: an outcome is seen a few seconds late; that is once per shared claim.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import structlog

from ararat.api import PodVolumeRestore
from ararat.api.nodejob import JobPhase, Role
from ararat.errors import AraratError
from ararat.kube.api import KubeApi
from ararat.kube.errors import ApiNotFound
from ararat.kube.resources import of

from .book import JobBook

_log = structlog.get_logger(__name__)

_POLL_SECONDS = 3.0


class Leaders:
    """Looked up by the name that ``spec.follows`` holds."""

    def __init__(
        self, api: KubeApi, book: JobBook, *, namespace: str, changed: Callable[[], None]
    ) -> None:
        self._api = api
        self._book = book
        self._namespace = namespace
        self._changed = changed
        self._remote: dict[str, PodVolumeRestore] = {}
        self._lost: set[str] = set()

    def get(self, name: str | None) -> PodVolumeRestore | None:
        if name is None:
            return None
        local = next((job for job in self._book.restores() if job.name == name), None)
        return local or self._remote.get(name)

    def lost(self, name: str | None) -> bool:
        """Whether the API server says that there is no such job."""
        return name in self._lost

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            await self.refresh()

    async def refresh(self) -> None:
        wanted = self._wanted(self._book.restores())
        for stale in self._remote.keys() - wanted:
            del self._remote[stale]
        self._lost &= wanted
        for name in wanted:
            known = self._remote.get(name)
            if known is not None and known.status.phase.terminal:
                continue
            await self._read(name, known)

    async def _read(self, name: str, known: PodVolumeRestore | None) -> None:
        try:
            raw = await self._api.get(of(PodVolumeRestore), name, namespace=self._namespace)
            fresh = PodVolumeRestore.parse(raw)
        except ApiNotFound:
            self._lost.add(name)
            self._changed()
            return
        except (AraratError, ValueError) as error:
            _log.warning("leader.unreadable", leader=name, cause=str(error))
            return
        self._lost.discard(name)
        self._remote[name] = fresh
        if known is None or known.metadata.resource_version != fresh.metadata.resource_version:
            self._changed()

    def _wanted(self, jobs: Iterable[PodVolumeRestore]) -> set[str]:
        local: set[str] = set()
        wanted: set[str] = set()
        for job in jobs:
            local.add(job.name)
            follows = job.spec.role is Role.FOLLOW and job.status.phase is not JobPhase.COMPLETED
            if follows and not job.status.phase.terminal and job.spec.follows:
                wanted.add(job.spec.follows)
        return wanted - local
