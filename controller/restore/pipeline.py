"""Carries a plan out: kind by kind, the objects of one kind in parallel.

Problem: thousands of objects in a dependable order, with a failure here and there, a cancel in the
middle, and somebody who wants to see how far it is.
Decision: the pipeline only does what the plan says and counts. Definitions are awaited Established
before anything else is created; namespaces that exist and that data is on its way into are
labelled before their claims; nothing that makes pods is created before it is proven that pods of
others are held, too. A cancel takes effect between two objects.
Limits: what is under way when the API server goes away is done again by the next run; objects that
this restore made are recognised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from ararat.api.names import RESTORING
from ararat.api.plan import Action
from ararat.concurrency import for_each
from ararat.errors import NotFound
from ararat.kube.api import KubeApi
from ararat.kube.resources import CRDS, NAMESPACES

from .claims import pending_for
from .create import Creator, Outcome, Result
from .order import rank
from .plan import Item, Plan
from .probe import prove_held
from .selection import CLAIMS
from .stored import Object

#: Requests under way at once. The API server's fairness keeps others alive; more costs only us.
PARALLEL = 24
_PODS = rank("pods")
_ESTABLISH_SECONDS = 60.0
_ESTABLISH_PAUSE = 0.5


@dataclass
class Tally:
    """How far a run is; read by others while it goes on."""

    total: int = 0
    created: int = 0
    updated: int = 0
    left_alone: int = 0
    failed: int = 0
    step: str = ""
    results: list[Result] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, result: Result) -> None:
        match result.outcome:
            case Outcome.CREATED:
                self.created += 1
            case Outcome.UPDATED:
                self.updated += 1
            case Outcome.LEFT_ALONE:
                self.left_alone += 1
            case Outcome.FAILED:
                self.failed += 1
        # The bodies of thousands of objects are not held for those that went well.
        if result.outcome is not Outcome.CREATED or result.warnings:
            self.results.append(result)

    @property
    def done(self) -> int:
        return self.created + self.updated + self.left_alone + self.failed


class Pipeline:
    """One run over one plan."""

    def __init__(
        self,
        api: KubeApi,
        plan: Plan,
        creator: Creator,
        *,
        restore: str,
        gate_image: str,
        cancelled: Callable[[], bool] = lambda: False,
        parallel: int = PARALLEL,
    ) -> None:
        self._api = api
        self._plan = plan
        self._creator = creator
        self._restore = restore
        self._gate_image = gate_image
        self._cancelled = cancelled
        self._parallel = parallel
        self.tally = Tally(total=plan.total)

    async def run(self) -> bool:
        """Whether everything in the plan was tried (False: cancelled).

        Raises Retryable where the API server is away.
        """
        proven = False
        for resource, items in self._plan.steps():
            if not proven and rank(resource) >= _PODS:
                proven = True
                await self._prove_held()
                if self._cancelled():
                    return False
            self.tally.step = f"creating {resource.partition('.')[0]} ({len(items)})"
            await self._step(items)
            if self._cancelled():
                return False
            if resource == "customresourcedefinitions.apiextensions.k8s.io":
                await self._established(items)
            if resource == "namespaces":
                self._creator.own_namespaces |= self._made(items)
                await self._label()
        return True

    def _made(self, items: Iterable[Item]) -> frozenset[str]:
        """The namespaces that this restore made, now or before it was interrupted."""
        others = {
            result.item.name
            for result in self.tally.results
            if result.item.resource == "namespaces" and result.outcome is not Outcome.CREATED
        }
        return frozenset(item.name for item in items if item.name not in others)

    async def _step(self, items: Iterable[Item]) -> None:
        queue = iter(items)
        await for_each([queue] * self._parallel, self._work, at_once=self._parallel)

    async def _work(self, queue: Iterator[Item]) -> None:
        for item in queue:
            if self._cancelled():
                return
            self.tally.add(await self._creator.create(item))

    async def _prove_held(self) -> None:
        """Before anything that makes pods: others' pods are held, too."""
        self.tally.step = "waiting until pods are held by the webhook"
        claims = {
            str(item.namespace): item.name
            for item in self._plan.items
            if item.resource == CLAIMS
            and item.action is Action.CREATE
            and item.namespace in self._plan.restoring
            and pending_for(item.body or {}) is not None
        }
        proof = await prove_held(
            self._api, claims, image=self._gate_image, restore_uid=self._creator.restore_uid
        )
        self.tally.warnings += proof.warnings

    async def _label(self) -> None:
        """Namespaces that were there before get the label that the webhooks go by."""
        for name in sorted(self._plan.restoring):
            namespace = await self._get(name)
            if namespace is None:
                continue
            labels = namespace["metadata"].get("labels") or {}
            if labels.get(RESTORING) != self._restore:
                patch = {"metadata": {"labels": {RESTORING: self._restore}}}
                await self._api.patch(NAMESPACES, name, patch)

    async def _get(self, name: str) -> Object | None:
        try:
            return await self._api.get(NAMESPACES, name)
        except NotFound:  # its creation failed, and that is on record
            return None

    async def _established(self, items: Iterable[Item]) -> None:
        """Wait until the API server serves the new kinds."""
        waiting = {item.name for item in items}
        self.tally.step = "waiting for custom resource definitions"
        try:
            async with asyncio.timeout(_ESTABLISH_SECONDS):
                while waiting and not self._cancelled():
                    for name in sorted(waiting):
                        if await self._is_established(name):
                            waiting.discard(name)
                    if waiting:
                        await asyncio.sleep(_ESTABLISH_PAUSE)
        except TimeoutError:
            # Objects of these kinds fail one by one and say so.
            return

    async def _is_established(self, name: str) -> bool:
        try:
            crd = await self._api.get(CRDS, name)
        except NotFound:
            return True
        conditions = (crd.get("status") or {}).get("conditions") or []
        return any(
            condition.get("type") == "Established" and condition.get("status") == "True"
            for condition in conditions
        )
