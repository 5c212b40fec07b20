"""The next step about a restored pod's hooks, from what is recorded and seen."""

from __future__ import annotations

from typing import Any

import pytest

from ararat.api.hooks import OnError
from ararat.api.nodejob import PodReference
from ararat.hooks import When
from controller.hooks.results import HookResult
from controller.restore.hooks.decide import Act, next_step, noted, tried_again
from controller.restore.hooks.outcome import standing
from controller.restore.hooks.record import Record, RestoreHook
from tests.containers import NEVER_STARTED, PASSED, ended_state

RUNNING: dict[str, Any] = {"running": {}}


def hook(**fields: Any) -> RestoreHook:
    return RestoreHook(
        **{
            "container": "app",
            "command": ["load"],
            "on_error": OnError.FAIL,
            "timeout": 30.0,
            "wait_timeout": 60.0,
            **fields,
        }
    )


def record(*hooks: RestoreHook, **fields: Any) -> Record:
    pod = PodReference(namespace="wp", name="db", uid="u")
    return Record(restore="r", restore_uid="ru", pod=pod, hooks=list(hooks), **fields)


def pod(
    state: dict[str, Any] | None = None,
    *,
    ready: bool = False,
    init: dict[str, Any] | None = None,
    phase: str = "Running",
    **metadata: Any,
) -> dict[str, Any]:
    status: dict[str, Any] = {"phase": phase}
    if state is not None:
        status["containerStatuses"] = [{"name": "app", "ready": ready, "state": state}]
    if init is not None:
        status["initContainerStatuses"] = [{"name": "fix", "state": init}]
    return {"metadata": {"name": "db", **metadata}, "status": status}


def step(known: Record, seen: Any, *, waited: float = 0.0, settled: bool = True) -> Any:
    return next_step(known, seen, waited=waited, settled=settled)


@pytest.mark.parametrize(
    ("known", "seen", "waited", "act", "words"),
    [
        (record(hook()), pod(), 0, Act.WAIT, "app is not running: it has not started"),
        (record(hook()), pod(RUNNING), 0, Act.RUN, ""),
        (record(hook(wait_for_ready=True)), pod(RUNNING), 59, Act.WAIT, "is not ready"),
        (record(hook(wait_for_ready=True)), pod(RUNNING, ready=True), 0, Act.RUN, ""),
        (record(hook(wait_for_ready=True)), pod(RUNNING), 60, Act.NOTE, "after 60 s container"),
        (record(hook()), None, 0, Act.NOTE, "was not run: its pod is gone"),
        (record(hook()), pod(deletionTimestamp="now"), 0, Act.NOTE, "is being deleted"),
        (record(hook()), pod(phase="Succeeded"), 0, Act.NOTE, "has ended"),
        (record(hook()), pod(phase="Failed"), 0, Act.NOTE, "has failed"),
        (record(hook(), ended=1), pod(RUNNING), 0, Act.FINISH, ""),
        (record(finished=True), None, 0, Act.FINISH, ""),
        (
            record(init=["fix"], init_timeout=9),
            pod(init=RUNNING),
            8,
            Act.WAIT,
            "init container fix runs",
        ),
        (
            record(init=["fix"], init_timeout=9),
            pod(init={"waiting": {"reason": "CrashLoopBackOff"}}),
            9,
            Act.NOTE,
            "waits (CrashLoopBackOff)",
        ),
        (
            record(init=["fix"], init_timeout=9),
            pod(init=ended_state(3), phase="Failed"),
            0,
            Act.NOTE,
            "has ended with exit code 3",
        ),
        (
            record(init=["fix"], init_timeout=9),
            pod(init=PASSED),
            0,
            Act.INITIALIZED,
            "",
        ),
        (
            record(init=["fix"], init_timeout=9),
            pod(init=NEVER_STARTED),
            0,
            Act.WAIT,
            "init container fix has not started",
        ),
    ],
)
def test_next_step(known: Record, seen: Any, waited: float, act: Act, words: str) -> None:
    found = step(known, seen, waited=waited)
    assert found.act is act
    assert words in (found.result.message if found.result else found.cause)


def test_what_was_begun_is_not_begun_again() -> None:
    known = record(hook(), hook(), running=0)
    assert step(known, pod(RUNNING), settled=False).act is Act.WAIT
    found = step(known, pod(RUNNING))
    assert (found.act, found.result.reason) == (Act.NOTE, "HookInterrupted")
    after = noted(known, found.result, now=5.0)
    assert (after.finished, after.running) == (True, None)
    # Where its failure is excused, the next one is run.
    excused = record(hook(on_error=OnError.CONTINUE), hook(), running=0)
    after = noted(excused, step(excused, pod(RUNNING)).result, now=5.0)
    assert (after.finished, after.ended) == (False, 1)
    assert step(after, pod(RUNNING)).act is Act.RUN


def test_a_retry_waits_again_and_runs_nothing_twice() -> None:
    waited = record(hook(wait_for_ready=True))
    after = noted(waited, step(waited, pod(RUNNING), waited=60).result, now=1.0)
    again = tried_again(after, now=9.0)
    assert again is not None
    assert (again.ended, again.finished, again.results, again.since) == (0, False, [], 9.0)
    bad = HookResult(when=When.POST, container="app", command=["load"], reason="ExitCode")
    assert tried_again(noted(waited, bad, now=1.0), now=9.0) is None


def test_what_is_told() -> None:
    bad = HookResult(
        when=When.POST, container="app", command=["s3cret"], reason="ExitCode", message="m"
    )
    excused = bad.model_copy(update={"on_error": OnError.CONTINUE, "message": "w"})
    told = standing(
        [
            (record(hook(), results=[bad], finished=True), ""),
            (record(hook(), results=[excused], finished=True), ""),
            (record(hook()), "its container"),
        ]
    )
    assert not told.settled
    assert [(f.object, f.reason) for f in told.failures] == [("wp/db", "RestoreHookFailed")]
    assert told.warnings == ["w"]
    assert [cause.message for cause in told.waiting] == ["its container"]
    assert told.counts.text == "3 pods, 2 run, 2 failed, 1 waiting"
