"""The hooks of all backups that this process works on: decisions carried out.

Problem: commands take seconds to minutes, and a look at a backup must not wait for them.
Decision: each pod's hooks run in a task of their own; a look decides for each group (see decide)
and starts tasks or patches node jobs; a task that ends brings the backup up again. A record is
written before what it announces is done, and only over the version that was read: of two
controllers that take themselves for the leader, one is refused before it runs anything.
Records whose backup has ended or is gone are found at the start and now and then, and settled.
Limits: a pod that cannot be reached is tried for ten minutes, then its post hooks count as failed
and an Event on the pod says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from ararat.api.backup import BackupHooks, HookCounts
from ararat.api.names import HOOKS_OF
from ararat.concurrency import for_each
from ararat.errors import AraratError, Conflict, Damaged, InvalidSpec
from ararat.kube.resources import SECRETS
from controller.backup.hooks import commands, outcome, record
from controller.backup.hooks.decide import (
    HOOK_FAILED,
    Decision,
    Pod,
    State,
    decide,
)
from controller.backup.hooks.node_jobs import NodeJobs
from controller.backup.hooks.plan import PlannedHooks, hooks_of, runs
from controller.backup.hooks.record import Record
from controller.context import Context
from controller.hooks import execute, kept
from controller.hooks.pod import live_pod
from controller.hooks.results import HookResult, Means, RecordedHook, tell
from controller.runlog import RunLog

_AT_ONCE = 16
#: Pods whose pre hooks run at once: each is a connection through the API server.
_FREEZING = 32
#: How long a pod that does not answer is tried for its post hooks, in seconds.
PERSIST_SECONDS = 600.0
#: Between two looks for records of backups that are gone.
SWEEP_SECONDS = 300.0
_WATCH_SECONDS = 1.0
log = structlog.get_logger("controller.hooks")


@dataclass
class _Run:
    """The hooks of one pod, in this process."""

    record: Record
    #: Resource version of its Secret; None: there is none.
    version: str | None = None
    task: asyncio.Task[None] | None = None
    #: Monotonic seconds when a pre hook that may still run has certainly ended.
    settled_at: float = 0.0
    #: Monotonic seconds when its first pre hook began.
    frozen_at: float = 0.0

    @property
    def busy(self) -> bool:
        return self.task is not None and not self.task.done()


@dataclass
class _Book:
    """The hooks of one backup, in this process."""

    name: str
    uid: str
    log: RunLog | Any
    #: By UID of the pod.
    runs: dict[str, _Run] = field(default_factory=dict)
    #: Names of node jobs, by group.
    jobs: Mapping[str, Sequence[str]] | None = None
    #: Groups that nothing is left to do for.
    done: set[str] = field(default_factory=set)
    #: Its Backup is gone.
    abandoned: bool = False
    #: Nothing is read any more: no further pre hook is started.
    ending: bool = False
    wake: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Standing:
    """How the hooks of a backup stand."""

    #: Every post hook that was owed has been run.
    done: bool
    counts: HookCounts | None = None
    #: Seconds until time alone changes something.
    wait: float | None = None


class HookDriver:
    """One per leader. ``tasks`` must outlive it."""

    def __init__(
        self, context: Context, *, tasks: asyncio.TaskGroup, enqueue: Callable[[str], None]
    ) -> None:
        self._context = context
        self._tasks = tasks
        self._enqueue = enqueue
        self._books: dict[str, _Book] = {}
        self._jobs = NodeJobs(context)
        self._freezing = asyncio.Semaphore(_FREEZING)

    async def step(
        self,
        *,
        name: str,
        uid: str,
        log: RunLog,
        planned: Sequence[PlannedHooks],
        jobs: Callable[[], Mapping[str, Sequence[str]]],
        hooks: BackupHooks,
        ending: bool,
    ) -> Standing:
        """Do what is next for a backup under way. ``jobs``: names of node jobs, by group;
        asked once."""
        if not planned:
            return Standing(done=True)
        book = await self._book(name, uid, log)
        book.ending = ending
        for plan in planned:
            if plan.pod.uid not in book.runs:
                book.runs[plan.pod.uid] = _Run(
                    Record(backup=name, backup_uid=uid, pod=plan.pod, group=plan.group)
                )
        if book.jobs is None:
            book.jobs = jobs()
        groups: dict[str, list[_Run]] = {}
        for run in book.runs.values():
            groups.setdefault(run.record.group, []).append(run)
        waits: list[float] = []

        async def step_group(members: list[_Run]) -> None:
            group = members[0].record.group
            # Nothing is awaited between the decision and the start of what it decides.
            decision = decide(
                [_view(run) for run in members],
                [self._jobs.get(job) for job in (book.jobs or {}).get(group, ())],
                ending=ending,
                max_freeze=float(hooks.max_freeze_seconds),
            )
            book.done.discard(group)
            await self._carry_out(book, members, decision, hooks=hooks)
            if decision.done:
                book.done.add(group)
            if decision.wait is not None:
                waits.append(decision.wait)

        left = [members for group, members in groups.items() if ending or group not in book.done]
        await for_each(left, step_group, at_once=_AT_ONCE)
        return Standing(
            done=all(group in book.done for group in groups),
            counts=outcome.count([run.record for run in book.runs.values()]),
            wait=min(waits, default=None),
        )

    async def settle(self, uid: str, *, name: str, log: RunLog | None = None) -> float | None:
        """Let go of the pods of a backup of which nothing is read any more.

        Returns None when nothing is owed; the records are gone then. Else seconds to look again.
        """
        book = await self._book(name, uid, log)
        book.ending = True
        views = {pod_uid: _view(run) for pod_uid, run in book.runs.items()}
        decision = decide(list(views.values()), [], ending=True, max_freeze=0.0)
        for pod_uid in decision.thaw:
            self._start(book, book.runs[pod_uid], self._thaw(book, book.runs[pod_uid]))
        if not decision.done:
            return decision.wait if decision.wait is not None else 5.0

        async def delete(run: _Run) -> None:
            secret = record.secret_name(uid, run.record.pod)
            await self._context.api.delete(SECRETS, secret, namespace=self._context.namespace)

        written = [run for run in book.runs.values() if run.version is not None]
        await for_each(written, delete, at_once=_AT_ONCE)
        self._books.pop(uid, None)
        return None

    def records(self, uid: str) -> list[Record]:
        """What is known of the hooks of a backup that ``step`` was called for."""
        book = self._books.get(uid)
        found = [run.record for run in book.runs.values()] if book else []
        return sorted(found, key=lambda r: r.id)

    async def watch(self) -> None:
        """For ever: see to it that no pod stays frozen because nobody looks at its backup.

        A backup may be gone, or its looks may fail (its location cannot be reached, say). What was
        recorded is read at the start and now and then; the longest freeze ends by the clock.
        """
        await self._context.backups.synced()
        next_sweep = time.monotonic()
        while True:
            if time.monotonic() >= next_sweep:
                next_sweep = time.monotonic() + SWEEP_SECONDS
                with contextlib.suppress(AraratError):
                    await self._sweep()
            for book in list(self._books.values()):
                self._end_longest(book)
                if book.abandoned:
                    with contextlib.suppress(AraratError):
                        await self.settle(book.uid, name=book.name)
            await asyncio.sleep(_WATCH_SECONDS)

    async def _sweep(self) -> None:
        found: dict[str, str] = {}
        async for secret in self._secrets(HOOKS_OF):
            found[secret["metadata"]["labels"][HOOKS_OF]] = _backup_name(secret)
        alive = {raw["metadata"]["uid"] for raw in self._context.backups.items()}
        for uid, name in found.items():
            book = await self._book(name, uid, None)
            if uid not in alive and not book.abandoned:
                # One that is still there is settled by its own reconciler.
                log.warning("backup is gone, its pods are let go", backup=name, uid=uid)
                book.abandoned = True

    def _end_longest(self, book: _Book) -> None:
        now = time.monotonic()
        for run in book.runs.values():
            known = run.record
            if known.state is not State.FROZEN or run.busy:
                continue
            if now - run.frozen_at >= known.max_freeze:
                left = self._jobs.unfinished(known)
                self._start(book, run, self._thaw(book, run, cut=left))

    # --- what is known ---

    async def _book(self, name: str, uid: str, run_log: RunLog | None) -> _Book:
        book = self._books.get(uid)
        if book is None:
            key = f"{self._context.namespace}/{name}"
            book = _Book(name, uid, run_log or log, wake=lambda: self._enqueue(key))
            now = time.monotonic()
            async for secret in self._secrets(f"{HOOKS_OF}={uid}"):
                try:
                    found = record.decode(secret)
                except Damaged as exc:
                    book.log.warning("hooks unknown", message=exc.message)
                    continue
                run = _Run(found, secret["metadata"]["resourceVersion"])
                _settle_later(run, now)
                book.runs[found.pod.uid] = run
            self._books[uid] = book
        if run_log is not None:
            book.log = run_log
        return book

    def _secrets(self, labels: str) -> Any:
        return self._context.api.list(
            SECRETS, namespace=self._context.namespace, labels=labels, page=100
        )

    # --- steps ---

    async def _carry_out(
        self, book: _Book, members: Sequence[_Run], decision: Decision, *, hooks: BackupHooks
    ) -> None:
        by_uid = {run.record.pod.uid: run for run in members}
        for uid in decision.freeze:
            self._start(book, by_uid[uid], self._freeze(book, by_uid[uid], hooks))
        for uid in decision.thaw:
            run = by_uid[uid]
            again = uid in decision.again
            cut = decision.cut if run.record.state is State.FROZEN else ()
            self._start(book, run, self._thaw(book, run, again=again, cut=cut))
        for job in decision.release:
            await self._jobs.release(job)
        for job in () if decision.thaw else decision.cut:
            await self._jobs.cut(job)
        if decision.fail:
            said = next((r.record.message for r in members if r.record.message), "")
            for job in decision.fail:
                await self._jobs.fail(job, decision.failure, said)

    def _start(self, book: _Book, run: _Run, work: Any) -> None:
        run.task = self._tasks.create_task(self._guard(book, run, work))

    async def _guard(self, book: _Book, run: _Run, work: Any) -> None:
        """One pod's trouble must not end the task group that all work runs in."""
        try:
            await work
        except Conflict as exc:
            # Another leader wrote it, or somebody's hand: what is known here is out of date.
            book.log.warning("hooks are not as they were", pod=run.record.id, message=exc.message)
            await self._read_again(run)
        except AraratError as exc:
            book.log.warning("hooks will be tried again", pod=run.record.id, message=exc.message)
            await asyncio.sleep(kept.LONGEST_PAUSE)
        except Exception:
            log.exception("hooks crashed", pod=run.record.id)
            await asyncio.sleep(kept.LONGEST_PAUSE)
        finally:
            book.wake()

    # --- the hooks of one pod ---

    async def _freeze(self, book: _Book, run: _Run, hooks: BackupHooks) -> None:
        async with self._freezing:
            await self._freeze_now(book, run, hooks)

    async def _freeze_now(self, book: _Book, run: _Run, hooks: BackupHooks) -> None:
        known = run.record
        pod = await live_pod(self._context.api, known.pod)
        if pod is None or not runs(pod):
            message = f"pod {known.id} is gone, or was replaced, before its hooks were run"
            await self._write(run, state=State.DONE, failure="PodGone", message=message)
            return
        try:
            hooked = hooks_of(pod, hooks)
        except InvalidSpec as exc:
            await self._write(run, state=State.DONE, failure=exc.reason, message=exc.message)
            return
        try:
            means = await commands.means_of(self._context.api, known, (*hooked.pre, *hooked.post))
        except AraratError as exc:
            message = f"pod {known.id}: its hooks could not be run: {exc.message}"
            await self._write(run, state=State.DONE, failure=HOOK_FAILED, message=message)
            return
        for container in (c for c, m in means.items() if m is Means.NONE):
            book.log.warning(
                "no shell: a hook that takes too long cannot be ended",
                pod=known.id,
                container=container,
            )
        # From here on the post hooks are owed.
        await self._write(
            run,
            state=State.OWED,
            pre=[RecordedHook.of(hook) for hook in hooked.pre],
            post=[RecordedHook.of(hook) for hook in hooked.post],
            means=means,
            attempts=known.attempts + 1,
            max_freeze=float(hooks.max_freeze_seconds),
            frozen_at=time.time(),
            thawed_at=None,
        )
        run.frozen_at = time.monotonic()
        failed = await self._run_pre(book, run, deadline=run.frozen_at + hooks.max_freeze_seconds)
        if failed is not None and failed.lost:
            _settle_later(run, time.monotonic() - failed.seconds)
            book.log.warning("it is not known whether the hook still runs", pod=known.id)
            await self._write(run)  # the result
            return
        if failed is not None:
            await self._write(run, state=State.BROKEN, failure=HOOK_FAILED, message=failed.message)
            return
        replaced = await commands.replaced(self._context.api, run.record)
        if replaced is not None:
            # A command goes to a name, and the name was somebody else's for some of this time.
            await self._write(run, state=State.BROKEN, failure="PodGone", **replaced)
            return
        await self._write(run, state=State.FROZEN)

    async def _run_pre(self, book: _Book, run: _Run, *, deadline: float) -> HookResult | None:
        """Run the pre hooks; returns the one that ends it, if any."""
        for index, hook in enumerate(run.record.pre):
            if book.ending:
                break
            result = await commands.run_pre(
                self._context.api,
                run.record,
                index,
                patience=deadline - time.monotonic(),
                until=deadline,
            )
            self._note(book, run, result)
            if result.lost or (result.failed and hook.on_error == "Fail"):
                return result
        return None

    async def _thaw(
        self, book: _Book, run: _Run, *, again: bool = False, cut: Sequence[str] = ()
    ) -> None:
        """Run the post hooks. ``again``: the pod is only set back to begin anew.

        ``cut``: jobs that do not count because they were not done when their pods were let go.
        """
        if cut:
            message = f"pod {run.record.id} was let go after {run.record.max_freeze:g} s"
            await self._write(run, cut=list(cut), message=message)
        until = time.monotonic() + PERSIST_SECONDS
        for index in range(len(run.record.post)):
            result = await commands.run_post(
                self._context.api, run.record, index, patience=60.0, until=until
            )
            self._note(book, run, result)
            if result.failed:
                await self._warn(run, result)
        await self._write(run, state=State.IDLE if again else State.DONE, thawed_at=time.time())
        for job in cut:
            with contextlib.suppress(AraratError):  # if not now, then by the next look
                await self._jobs.cut(job)
        window = run.record.frozen_seconds
        book.log.info("pod was let go", pod=run.record.id, frozen_seconds=round(window or 0.0, 3))

    def _note(self, book: _Book, run: _Run, result: HookResult) -> None:
        tell(book.log, result, pod=run.record.id)
        results = [*run.record.results, result][-record.MOST_RESULTS :]
        run.record = run.record.model_copy(update={"results": results})

    async def _warn(self, run: _Run, result: HookResult) -> None:
        reference = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**run.record.pod.to_dict(), "uid": run.record.pod.uid},
        }
        await self._context.events.event(
            reference,
            reason="PostHookFailed",
            message=f"{result.message}: the pod may still be as its pre hook left it",
            type="Warning",
        )

    async def _read_again(self, run: _Run) -> None:
        name = record.secret_name(run.record.backup_uid, run.record.pod)
        with contextlib.suppress(AraratError):
            secret = await self._context.api.get(SECRETS, name, namespace=self._context.namespace)
            run.record = record.decode(secret)
            run.version = secret["metadata"]["resourceVersion"]
            _settle_later(run, time.monotonic())

    async def _write(self, run: _Run, **changes: Any) -> None:
        """Record it. Tried until it is, for what follows depends on it.

        Raises Conflict: somebody else wrote in between.
        """
        wanted = run.record.model_copy(update=changes)
        body = record.encode(wanted, namespace=self._context.namespace, version=run.version)
        run.version = await kept.write(self._context.api, body)
        run.record = wanted


def _view(run: _Run) -> Pod:
    now = time.monotonic()
    frozen_for = now - run.frozen_at if run.frozen_at else 0.0
    return Pod(
        uid=run.record.pod.uid,
        state=run.record.state,
        busy=run.busy,
        frozen_for=frozen_for,
        settled_in=max(0.0, run.settled_at - now),
        attempts=run.record.attempts,
        failure=run.record.failure,
    )


def _settle_later(run: _Run, since: float) -> None:
    """Work out when a pre hook that may have begun at ``since`` (monotonic) has certainly ended."""
    known = run.record
    spent = max(0.0, time.time() - known.frozen_at) if known.frozen_at else 0.0
    if not run.frozen_at:
        run.frozen_at = since - spent
    if known.state is not State.OWED:
        return
    # Counted from now and not from what the record says: another machine's clock wrote that.
    ends = known.longest_pre + execute.GRACE_SECONDS
    if known.endless:
        ends = max(ends, known.max_freeze - spent)
    run.settled_at = since + ends


def _backup_name(secret: dict[str, Any]) -> str:
    try:
        return record.decode(secret).backup
    except Damaged:
        return ""
