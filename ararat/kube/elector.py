"""One leader at a time, by a Lease.

Problem: two controllers must never act at once, also when the leader's network, its API server or
the leader itself hangs; and a leader whose work crashed must not keep the Lease alive.
Decision: the clock is the local monotonic one; the Lease's own timestamps are never compared with
it. A follower counts from when *it* last saw the Lease change; a leader counts from when it *sent*
the last renewal that went through. A leader that could not renew for ``renew`` seconds cancels its
work, which then has ``lease - renew`` seconds to end before anybody else may start; work that
resists is ended with the process (``abort``). While cancelled work winds down for another reason
(SIGTERM) the Lease is still renewed. When the work has ended, well or badly, the Lease is released,
so that the next leader starts at once.
A Lease that bears our identity is ours: a restarted container goes on at once. So the identity must
be the pod's name, never shared.
Limits: a process that is frozen and thawed notices only when its loop runs again; a write already
in flight then is fenced by resource versions and derived names, not by the Lease.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import structlog
from prometheus_client import Gauge

from ararat.errors import AraratError, Conflict

from .api import KubeApi, KubeObject
from .errors import ApiNotFound
from .resources import LEASES

LEADER = Gauge("ararat_leader", "1 while this process leads.", ["lease"])

log = structlog.stdlib.get_logger(__name__)


class _Lost(Exception):
    """The Lease is another's, or can be at any moment."""


def exit_at_once() -> None:
    """End the process."""
    os._exit(70)  # the one way out that no handler can delay


class Elector:
    """Runs a body while it leads. All times are seconds."""

    def __init__(
        self,
        api: KubeApi,
        *,
        namespace: str,
        name: str,
        identity: str,
        lease: float = 15,
        renew: float = 10,
        retry: float = 2,
        abort: Callable[[], None] = exit_at_once,
    ) -> None:
        if not retry < renew < lease:
            raise ValueError("retry < renew < lease must hold")
        self._api = api
        self._namespace = namespace
        self._name = name
        self.identity = identity
        self._lease = lease
        self._renew = renew
        self._retry = retry
        self._abort = abort
        #: What the Lease looked like when we last saw it change: holder, resource version.
        self._seen: tuple[str, str] | None = None
        #: When that will have run out.
        self._seen_ends = 0.0
        #: The Lease as we last wrote it, and when we began to write.
        self._held: KubeObject = {}
        self._renewed_at = 0.0

    async def run(self, body: Callable[[], Awaitable[None]]) -> None:
        """Lead, and run ``body`` while leading, as often as leadership is won.

        Returns when the body returns. What the body raises is raised, after the Lease was released.
        Losing the Lease cancels the body and starts over.
        """
        while True:
            await self._acquire()
            LEADER.labels(self._name).set(1)
            log.info("leading", lease=self._name, identity=self.identity)
            lost = False
            try:
                lost = await self._lead(body)
            except BaseExceptionGroup as group:
                # The group holds the body's error and nothing else: the body is its only task.
                raise group.exceptions[0] from None
            finally:
                LEADER.labels(self._name).set(0)
                if not lost:
                    await self._release()
            if not lost:
                return
            log.warning("leadership_lost", lease=self._name, identity=self.identity)

    # --- following ------------------------------------------------------------------------------

    async def _acquire(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._renew):
                    if await self._try_acquire():
                        return
            except TimeoutError:
                log.info("lease_unreachable", lease=self._name, reason="Timeout")
            except Conflict:
                pass  # somebody else moved first
            except AraratError as error:
                log.info(
                    "lease_unreachable",
                    lease=self._name,
                    reason=error.reason,
                    error=error.message,
                )
            wait = self._retry * random.uniform(0.9, 1.2)  # noqa: S311
            ends_in = self._seen_ends - asyncio.get_running_loop().time()
            await asyncio.sleep(min(wait, ends_in + 0.01) if ends_in > 0 else wait)

    async def _try_acquire(self) -> bool:
        clock = asyncio.get_running_loop().time
        try:
            current = await self._api.get(LEASES, self._name, namespace=self._namespace)
        except ApiNotFound:
            current = None
        started = clock()
        if current is None:
            self._held = await self._api.create(
                LEASES, self._lease_object(None), namespace=self._namespace
            )
            self._renewed_at = started
            return True
        spec = current.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        seen = (holder, str(current["metadata"]["resourceVersion"]))
        if seen != self._seen:
            lasts = float(spec.get("leaseDurationSeconds") or self._lease)
            self._seen, self._seen_ends = seen, started + lasts
        if holder not in ("", self.identity) and started < self._seen_ends:
            return False
        self._held = await self._api.replace(
            LEASES, self._name, self._lease_object(current), namespace=self._namespace
        )
        self._renewed_at = started
        return True

    # --- leading --------------------------------------------------------------------------------

    async def _lead(self, body: Callable[[], Awaitable[None]]) -> bool:
        """Run the body and renew. True: the Lease was lost and the body is no longer running."""

        async def work() -> None:
            await body()

        cancelled: asyncio.CancelledError | None = None
        clock = asyncio.get_running_loop().time
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work())
            while not task.done():
                try:
                    left = self._renewed_at + self._renew - clock()
                    await asyncio.wait({task}, timeout=max(0.0, min(self._retry, left)))
                    if not task.done():
                        await self._renew_once()
                except _Lost as lost:
                    log.warning("lease_lost", lease=self._name, cause=str(lost))
                    task.cancel()
                    cancelled = await self._until_stopped(task) or cancelled
                    if cancelled is not None:
                        raise cancelled from None
                    return True
                except asyncio.CancelledError as error:
                    # Ours to end, or the group's because the body crashed. The body must have
                    # ended before the Lease goes, so renewing continues until it has.
                    cancelled = error
                    task.cancel()
                    # Taken note of, and raised below. Without this a later timeout in here would
                    # look like one more cancellation.
                    if (me := asyncio.current_task()) is not None:
                        me.uncancel()
        if cancelled is not None:
            raise cancelled
        return False

    async def _until_stopped(self, task: asyncio.Task[None]) -> asyncio.CancelledError | None:
        """The body must be gone before the Lease is: a tenth is kept for the clocks.

        After a freeze the Lease is gone already; then work gets the moment it takes to notice.
        Being cancelled meanwhile does not make the body stop sooner; it is returned.
        """
        loop = asyncio.get_running_loop()
        cancelled = None
        spare = 0.1 * (self._lease - self._renew)
        end = max(self._renewed_at + self._lease - spare, loop.time() + spare / 2)
        while not task.done() and (left := end - loop.time()) > 0:
            try:
                await asyncio.wait({task}, timeout=left)
            except asyncio.CancelledError as error:
                cancelled = error
        if not task.done():
            log.critical("leader_does_not_stop", lease=self._name)
            self._abort()
        return cancelled

    async def _renew_once(self) -> None:
        """Renew. Raises _Lost if the Lease is another's or ``renew`` seconds have passed."""
        clock = asyncio.get_running_loop().time
        deadline = self._renewed_at + self._renew
        if clock() >= deadline:
            raise _Lost("not renewed in time")
        try:
            # Half the time each: a connection that hangs must not use up all of it.
            async with asyncio.timeout(min(deadline - clock(), self._renew / 2)):
                while True:
                    started = clock()
                    wanted = self._lease_object(self._held)
                    try:
                        self._held = await self._api.replace(
                            LEASES, self._name, wanted, namespace=self._namespace
                        )
                    except Conflict:
                        await self._reread()
                    else:
                        self._renewed_at = started
                        return
        except TimeoutError:
            log.info("lease_renewal_failed", lease=self._name, reason="Timeout")
        except ApiNotFound:
            raise _Lost("deleted") from None
        except AraratError as error:
            log.info(
                "lease_renewal_failed", lease=self._name, reason=error.reason, error=error.message
            )

    async def _reread(self) -> None:
        """After a conflict: an earlier renewal of ours that seemed lost, or another leader."""
        current = await self._api.get(LEASES, self._name, namespace=self._namespace)
        if (current.get("spec") or {}).get("holderIdentity") != self.identity:
            raise _Lost("taken")
        self._held = current

    async def _release(self) -> None:
        """Let the next leader start at once. Best effort: else the Lease runs out."""
        try:
            async with asyncio.timeout(min(3.0, self._lease / 2)):
                current = await self._api.get(LEASES, self._name, namespace=self._namespace)
                if (current.get("spec") or {}).get("holderIdentity") == self.identity:
                    released = self._lease_object(current, holder="")
                    await self._api.replace(LEASES, self._name, released, namespace=self._namespace)
        except (AraratError, TimeoutError) as error:
            log.info("lease_not_released", lease=self._name, error=str(error))

    def _lease_object(self, current: KubeObject | None, holder: str | None = None) -> KubeObject:
        """What to write: over ``current``, whose resource version makes the write conditional."""
        owner = self.identity if holder is None else holder
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        meta: dict[str, Any] = {"name": self._name, "namespace": self._namespace}
        spec: dict[str, Any] = dict((current or {}).get("spec") or {})
        if current is not None:
            meta = {**current["metadata"]}
            meta.pop("managedFields", None)
        if spec.get("holderIdentity") != owner:
            spec["acquireTime"] = now
            if owner:
                spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
        spec |= {
            "holderIdentity": owner,
            "leaseDurationSeconds": max(1, round(self._lease)),
            "renewTime": now,
        }
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": meta,
            "spec": spec,
        }
