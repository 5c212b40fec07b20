"""What is recorded of a pod's hooks, and what it comes to."""

from __future__ import annotations

import base64
import json
import subprocess
from typing import Any

import pytest

from ararat.api.backup import BackupHooks, BackupSpec, HookResource
from ararat.api.hooks import ExecHook, HookAction, OnError
from ararat.api.manifest import Coverage, ManifestVolume
from ararat.api.nodejob import PodReference
from ararat.errors import Damaged
from ararat.hooks import Hook, When
from controller.backup.hooks import outcome
from controller.backup.hooks.decide import State
from controller.backup.hooks.plan import PlannedHooks
from controller.backup.hooks.record import Record, decode, encode
from controller.hooks import execute
from controller.hooks.results import HookResult, Means, RecordedHook

POD = PodReference(namespace="wp", name="db-0", uid="u1")
HOOK = Hook("db", ("freeze", "--now"), OnError.FAIL, 20.0)


def record(**changes: object) -> Record:
    base = Record(
        backup="nightly",
        backup_uid="b1",
        pod=POD,
        group="g",
        state=State.DONE,
        pre=[RecordedHook.of(HOOK)],
        post=[RecordedHook.of(HOOK)],
        means={"db": Means.TIMEOUT},
        frozen_at=1000.0,
        thawed_at=1012.5,
    )
    return base.model_copy(update=changes)


def result(when: When = When.PRE, **changes: object) -> HookResult:
    base = HookResult(when=when, container="db", command=["freeze"], exit_code=0)
    return base.model_copy(update=changes)


BAD: dict[str, Any] = {
    "exit_code": 3,
    "reason": "ExitCode",
    "message": "pre hook of wp/db-0 ended badly",
}


def test_a_record_is_read_as_it_was_written() -> None:
    written = record(results=[result(stdout="ä" * 4096)], state=State.FROZEN)
    secret = encode(written, namespace="ararat", version="7")
    assert secret["metadata"]["resourceVersion"] == "7"
    assert secret["metadata"]["labels"] == {"ararat.dev/hooks-of": "b1"}
    assert decode(secret) == written
    assert decode(secret).pre[0].hook() == HOOK
    other = encode(record(pod=POD.model_copy(update={"uid": "u2"})), namespace="a", version=None)
    assert other["metadata"]["name"] != secret["metadata"]["name"]
    assert "resourceVersion" not in other["metadata"]


@pytest.mark.parametrize("data", [{}, None, {"record": "!"}, {"record": "YQ=="}])
def test_what_is_no_record(data: dict[str, str] | None) -> None:
    with pytest.raises(Damaged, match="Secret hooks-x"):
        decode({"metadata": {"name": "hooks-x"}, "data": data})


def test_the_largest_record_fits_into_an_object() -> None:
    import os

    noise = base64.b64encode(os.urandom(4096)).decode()[:4096]
    hooks = [RecordedHook.of(HOOK)] * 32
    results = [result(stdout=noise[n:] + noise[:n], stderr=noise) for n in range(96)]
    secret = encode(record(pre=hooks, results=results), namespace="a", version=None)
    assert len(json.dumps(secret)) < 1 << 20


def test_how_long_a_hook_may_run_without_us() -> None:
    assert record().longest_pre == 20.0
    assert not record().endless
    assert record(means={}).endless
    assert record().frozen_seconds == 12.5
    assert record(thawed_at=None).frozen_seconds is None


def test_failures_and_warnings() -> None:
    failed, warned = outcome.failures(
        [
            record(results=[result(**BAD)], failure="PreHookFailed", message=BAD["message"]),
            record(results=[result(**{**BAD, "on_error": OnError.CONTINUE})]),
            # The controller was ended, and the next one began again.
            record(results=[result(**{**BAD, "lost": True}), result()]),
            record(results=[result(When.POST, reason="PodGone", message="gone")]),
            record(failure="PodGone", message="gone before"),
            record(failure="InvalidHook", message="changed meanwhile"),
        ]
    )
    assert [(f.object, f.reason) for f in failed] == [
        ("wp/db-0", "PreHookFailed"),
        ("wp/db-0", "InvalidHook"),
    ]
    assert warned == [BAD["message"], BAD["message"], "gone", "gone before"]


def test_lines_and_sums() -> None:
    other = PodReference(namespace="wp", name="web", uid="u2")
    planned = [
        PlannedHooks(pod=POD, group="g", pre=1, post=1),
        PlannedHooks(pod=other, group="h", pre=0, post=1),
    ]
    known = record(results=[result(), result(When.POST, **BAD)])
    lines = outcome.lines(planned, [known])
    assert [(line.id, line.attempted, line.failed, line.reason) for line in lines] == [
        ("wp/db-0", 2, 1, "PostHookFailed"),
        ("wp/web", 0, 0, "NotRun"),
    ]
    assert lines[0].frozen_seconds == 12.5
    counts = outcome.count_lines(lines)
    assert counts is not None
    assert counts.text == "2 pods, 2 run, 1 failed, longest freeze 12.5s"
    assert outcome.count([known]).attempted == 2
    assert outcome.count([record(state=State.FROZEN)]).text == (
        "1 pod, 0 run, 1 frozen now, longest freeze 12.5s"
    )
    assert outcome.count_lines([]) is None


def test_what_was_cut_off_does_not_count() -> None:
    volume = ManifestVolume(
        namespace="wp", pod="db-0", volume="data", coverage=Coverage.BACKED_UP, snapshot_id="s"
    )
    cut = outcome.cut_off([record(cut=["job-1"], message="pod wp/db-0 was let go after 600 s")])
    assert outcome.judge(volume, "job-2", cut) == volume
    judged = outcome.judge(volume, "job-1", cut)
    assert (judged.coverage, judged.reason, judged.snapshot_id) == (
        Coverage.FAILED,
        "MaxFreeze",
        None,
    )


def test_a_manifest_shows_no_command() -> None:
    secret = HookAction(exec=ExecHook(command=["mysql", "-phunter2"]))
    hooks = BackupHooks(max_freeze_seconds=5, resources=[HookResource(pre=[secret])])
    shown = outcome.without_commands(BackupSpec(hooks=hooks))
    assert "hunter2" not in json.dumps(shown.to_dict())
    assert shown.hooks.max_freeze_seconds == 5


@pytest.mark.parametrize("means", Means)
def test_commands_run_as_they_are_written(means: Means) -> None:
    """By real shells: what the command says, and its exit code, come through."""
    script = 'printf "%s|" "$@"; echo oops >&2; exit 7'
    hook = Hook("main", ("sh", "-c", script, "x", "a b", "$HOME", "'"))
    argv = execute.words(hook, means)
    ran = subprocess.run(argv, capture_output=True, timeout=30, check=False)
    assert (ran.stdout, ran.stderr, ran.returncode) == (b"a b|$HOME|'|", b"oops\n", 7)


@pytest.mark.parametrize("means", [Means.TIMEOUT, Means.SHELL])
def test_commands_end_by_themselves(means: Means) -> None:
    argv = execute.words(Hook("main", ("sleep", "60"), timeout=0.2), means)
    ran = subprocess.run(argv, capture_output=True, timeout=30, check=False)
    assert ran.returncode in (137, -9)
