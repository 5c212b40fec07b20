"""The hooks of all restores that this process works on: decisions carried out.

Problem: a command takes seconds to minutes, and what it waits for longer; a look at a restore must
not wait for either, and neither must the volumes of other pods.
Decision: each pod with hooks has a task of its own from the moment that its volumes are filled. It
looks at the pod in the cache, does what ``decide`` says, and writes the record before it starts
anything. A look at the restore only starts tasks, and sums up.
Limits: pods are known by the restore's label: those that it made, and those that were held for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from ararat.api import Restore
from ararat.api.names import HELPER, RESTORE_HOOKS_OF, RESTORE_UID
from ararat.errors import AraratError, Conflict, Damaged, InvalidSpec, Retryable
from ararat.hooks import When
from ararat.kube.resources import PODS, SECRETS
from ararat.naming import label_value
from controller.context import Context
from controller.hooks import execute, kept
from controller.hooks.pod import live_pod
from controller.hooks.results import HookResult, tell
from controller.restore.units import Unit
from controller.runlog import RunLog

from . import decide, outcome
from .decide import Act, next_step, noted
from .inject import injected
from .outcome import Standing
from .parse import PodRestoreHooks, restore_hooks
from .record import Record, RestoreHook, decode, encode, reference

#: Commands that run at once: each is a connection through the API server.
_AT_ONCE = 32
#: Between two looks at a pod in the cache, in seconds.
_LOOK_SECONDS = 0.5
log = structlog.get_logger("controller.hooks")
Raw = Mapping[str, Any]


@dataclass
class _Run:
    """The hooks of one pod, in this process."""

    record: Record
    #: Resource version of its Secret; None: there is none.
    version: str | None = None
    task: asyncio.Task[None] | None = None
    #: What it waits for.
    cause: str = ""
    #: Monotonic seconds when the wait for what is next began.
    since: float = 0.0
    #: Monotonic seconds when what a former controller began has certainly ended.
    settled_at: float = 0.0

    @property
    def busy(self) -> bool:
        return self.task is not None and not self.task.done()


@dataclass
class _Book:
    """The hooks of one restore, in this process."""

    restore: Restore
    log: RunLog
    wake: Callable[[], None]
    #: By UID of the pod.
    runs: dict[str, _Run] = field(default_factory=dict)
    #: Pods (by UID) that have none.
    without: set[str] = field(default_factory=set)
    #: Nothing more is begun.
    ending: bool = False


class RestoreHookDriver:
    """One per leader. ``tasks`` must outlive it."""

    def __init__(
        self, context: Context, *, tasks: asyncio.TaskGroup, enqueue: Callable[[str], None]
    ) -> None:
        self._context = context
        self._tasks = tasks
        self._enqueue = enqueue
        self._books: dict[str, _Book] = {}
        self._running = asyncio.Semaphore(_AT_ONCE)

    async def step(
        self, restore: Restore, run_log: RunLog, *, held: frozenset[str], fresh: bool = False
    ) -> Standing:
        """Do what is next. ``held``: UIDs of pods whose volumes are not filled; ``fresh``: believe
        no cache about which pods there are. Raises AraratError."""
        book = await self._book(restore, run_log)
        book.ending = False
        for pod in await self._pods(restore, fresh=fresh):
            uid = pod["metadata"]["uid"]
            if uid in book.runs or uid in book.without or uid in held:
                continue
            if HELPER in pod["metadata"]["labels"] or pod["metadata"].get("deletionTimestamp"):
                continue
            record = _new_record(restore, pod)
            if record is None:
                book.without.add(uid)
            else:
                book.runs[uid] = _Run(record, since=time.monotonic())
        for run in book.runs.values():
            if not run.record.finished and not run.busy:
                run.task = self._tasks.create_task(self._guard(book, run))
        return outcome.standing((run.record, run.cause) for run in book.runs.values())

    async def try_again(self, restore: Restore, run_log: RunLog) -> None:
        """What was waited for in vain gets another chance."""
        book = await self._book(restore, run_log)
        for run in book.runs.values():
            again = decide.tried_again(run.record, now=time.time())
            if again is not None and not run.busy:
                run.record, run.since = again, time.monotonic()

    async def stop(self, uid: str) -> int:
        """Nothing more is begun for this restore; returns how many commands still run."""
        book = self._books.get(uid)
        if book is None:
            return 0
        book.ending = True
        return sum(run.busy for run in book.runs.values())

    def records(self, uid: str) -> list[Record]:
        """What is known of the hooks of a restore that ``step`` was called for."""
        book = self._books.get(uid)
        found = [run.record for run in book.runs.values()] if book else []
        return sorted(found, key=lambda record: record.id)

    def forget(self, uid: str) -> None:
        book = self._books.pop(uid, None)
        if book is not None:
            book.ending = True

    # --- what is known ---

    async def _book(self, restore: Restore, run_log: RunLog) -> _Book:
        book = self._books.get(restore.uid)
        if book is None:
            key = f"{self._context.namespace}/{restore.name}"
            book = _Book(restore, run_log, wake=lambda: self._enqueue(key))
            now = time.monotonic()
            async for secret in self._context.api.list(
                SECRETS,
                namespace=self._context.namespace,
                labels=f"{RESTORE_HOOKS_OF}={restore.uid}",
                page=100,
            ):
                try:
                    found = decode(secret)
                except Damaged as exc:
                    run_log.warning("hooks unknown", message=exc.message)
                    continue
                run = _Run(found, secret["metadata"]["resourceVersion"])
                _take_over(run, now)
                book.runs[found.pod.uid] = run
            self._books[restore.uid] = book
        book.restore, book.log = restore, run_log
        return book

    async def _pods(self, restore: Restore, *, fresh: bool) -> Sequence[Raw]:
        """Pods with the restore's label."""
        if fresh:
            labels = f"{RESTORE_UID}={restore.uid}"
            return [pod async for pod in self._context.api.list(PODS, labels=labels)]
        found = self._context.gated_pods.by_index("restore", label_value(restore.name))
        return [p for p in found if p["metadata"]["labels"].get(RESTORE_UID) == restore.uid]

    # --- the hooks of one pod ---

    async def _guard(self, book: _Book, run: _Run) -> None:
        """One pod's trouble must not end the task group that all work runs in."""
        try:
            await self._serve(book, run)
        except Conflict as exc:
            # Another leader wrote it, or somebody's hand: what is known here is out of date.
            book.log.warning("hooks are not as they were", pod=run.record.id, message=exc.message)
            await asyncio.sleep(_LOOK_SECONDS)
            self._books.pop(book.restore.uid, None)
            book.ending = True
        except AraratError as exc:
            book.log.warning("hooks will be tried again", pod=run.record.id, message=exc.message)
            run.cause = exc.message
            await asyncio.sleep(kept.LONGEST_PAUSE)
        except Exception:
            log.exception("hooks crashed", pod=run.record.id)
            await asyncio.sleep(kept.LONGEST_PAUSE)
        finally:
            book.wake()

    async def _serve(self, book: _Book, run: _Run) -> None:
        if run.version is None:
            await self._write(book, run)
        while not book.ending:
            now = time.monotonic()
            pod = self._cached(run.record)
            if pod is None:  # the cache may be behind, or its pod gone
                pod = await live_pod(self._context.api, run.record.pod)
            step = next_step(run.record, pod, waited=now - run.since, settled=now >= run.settled_at)
            match step.act:
                case Act.FINISH:
                    await self._write(book, run, finished=True)
                    return
                case Act.WAIT:
                    run.cause = step.cause
                    await asyncio.sleep(_LOOK_SECONDS)
                case Act.INITIALIZED:
                    for name in run.record.init:
                        book.log.info("init hook ended", pod=run.record.id, container=name)
                    done = [_initialized(name) for name in run.record.init]
                    await self._write(
                        book,
                        run,
                        init=[],
                        results=[*run.record.results, *done],
                        since=time.time(),
                    )
                case Act.NOTE:
                    assert step.result is not None
                    await self._note(book, run, step.result)
                case Act.RUN:
                    async with self._running:
                        if not book.ending:
                            await self._run(book, run)

    async def _run(self, book: _Book, run: _Run) -> None:
        """Start the next hook, once."""
        record, hook = run.record, run.record.next
        assert hook is not None
        if (
            await live_pod(self._context.api, record.pod) is None
        ):  # a command goes to a name: it must be this pod's
            run.cause = "its pod is gone"
            message = "was not run: its pod is gone, or was replaced"
            result = decide.failed(record, hook, decide.NOT_RUN, message)
            await self._note(book, run, result)
            return
        means = record.means.get(hook.container)
        try:
            if means is None:
                means = await execute.means_of(
                    self._context.api, record.pod.namespace, record.pod.name, hook.container
                )
        except Retryable as exc:
            await self._not_yet(book, run, hook, exc.message)
            return
        # From here on it may have begun.
        await self._write(
            book, run, running=record.ended, means={**record.means, hook.container: means}
        )
        run.cause = f"a hook runs in container {hook.container}"
        try:
            result = await execute.run(
                self._context.api,
                (record.pod.namespace, record.pod.name),
                hook.hook(),
                when=When.POST,
                means=means,
                # Nothing ends it: it is left alone when its time is over.
                patience=hook.timeout,
            )
        except Retryable as exc:  # it was certainly not started
            await self._write(book, run, running=None)
            await self._not_yet(book, run, hook, exc.message)
            return
        if result.reason == "NotStarted" and not await self._up(run, hook):
            await self._write(book, run, running=None)
            await self._not_yet(book, run, hook, "its container has just ended")
            return
        await self._note(book, run, result)

    async def _not_yet(self, book: _Book, run: _Run, hook: RestoreHook, why: str) -> None:
        """Once more in a moment, as long as it may be waited for."""
        run.cause = why
        if time.monotonic() - run.since >= hook.wait_timeout:
            message = f"was not run: after {hook.wait_timeout:g} s {why}"
            result = decide.failed(run.record, hook, decide.NOT_READY, message)
            await self._note(book, run, result)
            return
        await asyncio.sleep(_LOOK_SECONDS * 2)

    async def _note(self, book: _Book, run: _Run, result: HookResult) -> None:
        tell(book.log, result, pod=run.record.id)
        after = noted(run.record, result, now=time.time())
        await self._write(
            book, run, **{name: getattr(after, name) for name in type(after).model_fields}
        )
        run.cause = ""

    # --- the pod ---

    def _cached(self, record: Record) -> Raw | None:
        pod = self._context.gated_pods.get(record.pod.name, record.pod.namespace)
        return pod if pod is not None and pod["metadata"]["uid"] == record.pod.uid else None

    async def _up(self, run: _Run, hook: RestoreHook) -> bool:
        try:
            return decide.container_up(
                await live_pod(self._context.api, run.record.pod), hook.container
            )
        except Retryable:
            return True

    # --- the record ---

    async def _write(self, book: _Book, run: _Run, **changes: Any) -> None:
        """Raises Conflict: somebody else wrote in between."""
        wanted = run.record.model_copy(update=changes)
        if wanted == run.record and run.version is not None:
            return
        body = encode(
            wanted,
            restore=book.restore,
            namespace=self._context.namespace,
            version=run.version,
        )
        run.version = await kept.write(self._context.api, body)
        if wanted.since != run.record.since:
            run.since = time.monotonic()
        run.record = wanted


def _new_record(restore: Restore, pod: Raw) -> Record | None:
    """None: the pod has no hooks. Pure but for the clock."""
    patience = float(restore.spec.gate.no_progress_seconds)
    invalid = ""
    try:
        # What was put into the pod is known by its annotation; here it is a matter of time.
        hooks = restore_hooks(pod, restore.spec.hooks)
    except InvalidSpec as exc:
        hooks, invalid = PodRestoreHooks(), exc.message
    timeout = hooks.init_timeout if hooks.init_timeout is not None else patience
    init = injected(dict(pod)) if timeout > 0 else []
    if not (hooks.post or init or invalid):
        return None
    return Record(
        restore=restore.name,
        restore_uid=restore.uid,
        pod=reference(pod),
        init=init,
        init_timeout=timeout,
        hooks=[RestoreHook.recorded(found, patience=patience) for found in hooks.post],
        since=time.time(),
        finished=bool(invalid),
        invalid=invalid,
    )


def _initialized(name: str) -> HookResult:
    return HookResult(when=When.INIT, container=name, command=[], exit_code=0)


def _take_over(run: _Run, now: float) -> None:
    """What another controller recorded, told by this one's clock."""
    run.since = now - max(0.0, time.time() - run.record.since)
    begun = run.record.begun
    if begun is not None:
        # Counted from now and not from what the record says: another machine's clock wrote that.
        run.settled_at = now + begun.timeout + execute.GRACE_SECONDS


def unfilled(units: Iterable[Unit]) -> frozenset[str]:
    """UIDs of pods that wait for volumes which are not filled."""
    return frozenset(holder.pod.uid for unit in units if not unit.over for holder in unit.holders)
