"""What to do next about the hooks of one restored pod. Pure.

Problem: a command that loads a dump or registers a replica must not run twice, must not run before
the application is there, and must not keep a restore from ending.
Decision: each look derives the next step from the record, the pod as it is, and how long it has
been waited for. The record names the hook that may have begun before it is started. A controller
that finds such a one and did not start it itself cannot know what became of it: it counts as
failed, after the longest time that it may still run, and is not run again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ararat.api.hooks import OnError
from ararat.containers import ended, ended_well
from ararat.hooks import When
from controller.hooks.results import HookResult

from .record import Record, RestoreHook

INTERRUPTED = "HookInterrupted"
NOT_RUN = "HookNotRun"
#: The wait for its container was in vain: it may be had another go at.
NOT_READY = "HookWaitTimeout"
INIT_FAILED = "InitHookFailed"
Raw = Mapping[str, Any]


class Act(StrEnum):
    WAIT = "Wait"
    #: Start the next hook.
    RUN = "Run"
    #: Write down ``results``, and that ``ended`` hooks have ended.
    NOTE = "Note"
    #: The init containers have ended well.
    INITIALIZED = "Initialized"
    FINISH = "Finish"


@dataclass(frozen=True)
class Step:
    act: Act
    #: For what it is waited, in one sentence.
    cause: str = ""
    result: HookResult | None = None


def next_step(record: Record, pod: Raw | None, *, waited: float, settled: bool) -> Step:
    """``pod``: the very pod that is meant, None where it is gone; ``waited``: seconds since the
    wait for what is next began; ``settled``: what may have begun has certainly ended by now."""
    if record.finished:
        return Step(Act.FINISH)
    begun = record.begun
    if begun is not None:
        if not settled:
            cause = "a command that was begun before the controller ended may still be running"
            return Step(Act.WAIT, cause)
        message = (
            "was begun before the controller ended: it may or may not have done its work; it is "
            "not run again"
        )
        return Step(Act.NOTE, result=failed(record, begun, INTERRUPTED, message))
    hook = record.next
    if hook is None and not record.init:
        return Step(Act.FINISH)
    gone = _gone(record, pod)
    if gone:
        result = failed(record, hook, NOT_RUN, f"was not run: {gone}")
        return Step(Act.NOTE, result=result)
    assert pod is not None
    if record.init:
        return _initializing(record, pod, waited)
    assert hook is not None
    return _starting(record, hook, pod, waited)


def _initializing(record: Record, pod: Raw, waited: float) -> Step:
    statuses = _statuses(pod, "initContainerStatuses")
    open_ = [name for name in record.init if not ended_well(statuses.get(name))]
    if not open_:
        return Step(Act.INITIALIZED)
    status = statuses.get(open_[0]) or {}
    cause = f"init container {open_[0]} {_state(status)}"
    if _pod_phase(pod) == "Failed" or waited >= record.init_timeout:
        message = f"has not ended well after {record.init_timeout:g} s: {cause}"
        if _pod_phase(pod) == "Failed":
            message = f"has failed, and its pod with it: {cause}"
        result = HookResult(
            when=When.INIT,
            container=open_[0],
            command=[],
            reason=INIT_FAILED,
            message=f"init hook of {record.id} (container {open_[0]}) {message}",
            started=time.time(),
        )
        return Step(Act.NOTE, result=result)
    return Step(Act.WAIT, cause)


def _starting(record: Record, hook: RestoreHook, pod: Raw, waited: float) -> Step:
    status = _statuses(pod, "containerStatuses").get(hook.container) or {}
    running = "running" in (status.get("state") or {})
    if running and (status.get("ready") or not hook.wait_for_ready):
        return Step(Act.RUN)
    wanted = "ready" if hook.wait_for_ready else "running"
    seen = _state(status) if not running else "runs, and is not ready"
    cause = f"container {hook.container} is not {wanted}: it {seen}"
    if waited >= hook.wait_timeout:
        message = f"was not run: after {hook.wait_timeout:g} s {cause}"
        return Step(Act.NOTE, result=failed(record, hook, NOT_READY, message))
    return Step(Act.WAIT, cause)


def noted(record: Record, result: HookResult, *, now: float) -> Record:
    """The record after a hook has ended, in whatever way."""
    ended = record.ended + (0 if result.when is When.INIT else 1)
    over = result.failed and (
        result.on_error is OnError.FAIL or result.reason == NOT_RUN or result.when is When.INIT
    )
    return record.model_copy(
        update={
            "results": [*record.results, result],
            "ended": ended,
            "running": None,
            "since": now,
            "finished": over or ended >= len(record.hooks),
        }
    )


def tried_again(record: Record, *, now: float) -> Record | None:
    """The record for another attempt at what was waited for in vain; None: there is none."""
    last = record.results[-1] if record.results else None
    if not record.finished or last is None or last.reason not in (NOT_READY, INIT_FAILED):
        return None
    back = 0 if last.when is When.INIT else 1
    return record.model_copy(
        update={
            "results": record.results[:-1],
            "ended": record.ended - back,
            "since": now,
            "finished": False,
        }
    )


def failed(record: Record, hook: RestoreHook | None, reason: str, message: str) -> HookResult:
    """A hook that nobody ran to its end; None: the init containers."""
    if hook is None:
        return HookResult(
            when=When.INIT,
            container=record.init[0],
            command=[],
            reason=reason,
            message=f"init hook of {record.id} {message}",
            started=time.time(),
        )
    return HookResult(
        when=When.POST,
        container=hook.container,
        command=hook.command,
        on_error=hook.on_error,
        reason=reason,
        message=f"post hook of {record.id} (container {hook.container}) {message}",
        started=time.time(),
    )


def container_up(pod: Raw | None, container: str) -> bool:
    """Whether the container runs now."""
    status = _statuses(pod or {}, "containerStatuses").get(container) or {}
    return "running" in (status.get("state") or {})


def _gone(record: Record, pod: Raw | None) -> str:
    if pod is None:
        return "its pod is gone"
    if pod["metadata"].get("deletionTimestamp"):
        return "its pod is being deleted"
    if _pod_phase(pod) == "Succeeded":
        return "its pod has ended"
    return "its pod has failed" if _pod_phase(pod) == "Failed" and not record.init else ""


def _pod_phase(pod: Raw) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


def _statuses(pod: Raw, field: str) -> dict[str, Raw]:
    return {status["name"]: status for status in (pod.get("status") or {}).get(field) or []}


def _state(status: Raw) -> str:
    """``waits (CrashLoopBackOff); it ended with exit code 3 before``."""
    state = status.get("state") or {}
    last = (status.get("lastState") or {}).get("terminated")
    over = ended(status)
    if "running" in state:
        text = "runs"
    elif over is not None:
        return f"has ended with exit code {over.get('exitCode')}"
    else:
        reason = (state.get("waiting") or {}).get("reason")
        text = f"waits ({reason})" if reason else "has not started"
    return f"{text}; it ended with exit code {last.get('exitCode')} before" if last else text
