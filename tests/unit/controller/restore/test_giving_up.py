"""Volumes that are given up: by a person, or by gate.onFailure Start."""

from __future__ import annotations

from typing import Any

import pytest

from ararat.api import PodVolumeRestore
from ararat.api.nodejob import Answer, JobPhase, Progress, Role
from ararat.api.restore import Release, ReleaseAction
from controller.restore.data import index
from controller.restore.gated import read_pods
from controller.restore.jobs import decide
from controller.restore.progress import sum_volumes
from controller.restore.units import Unit, find_units, word_on
from tests.unit.controller.restore.make import (
    UID,
    held_pod,
    job,
    live_claim,
    manifest,
    restore,
    volume,
)

START, FAIL = ReleaseAction.START, ReleaseAction.FAIL
POD = held_pod("web-1")
FAILED = job("j1", pod_name="web-1", phase=JobPhase.FAILED, wrote=True)


def units(
    jobs: list[PodVolumeRestore],
    released: list[Release],
    *,
    pods: list[dict[str, Any]] | None = None,
    claim: dict[str, Any] | None = None,
) -> list[Unit]:
    return find_units(
        restore_uid=UID,
        claims=[claim or live_claim()],
        pods=read_pods([POD] if pods is None else pods, UID),
        jobs=jobs,
        data=index(manifest(volume())),
        sources={"wp": "wp"},
        released=released,
    )


def everything(action: ReleaseAction) -> list[Release]:
    return [Release(action=action)]


def test_the_last_word_counts() -> None:
    words = [Release(action=START), Release(volume="wp/a", action=FAIL)]
    assert (word_on("wp/a", words), word_on("wp/b", words)) == (FAIL, START)
    assert word_on("wp/a", []) is None


@pytest.mark.parametrize(
    ("action", "answer", "let_go"),
    [(START, Answer.RELEASED, ["wp/data-db-0"]), (FAIL, Answer.REFUSED, [])],
)
def test_gates_are_told_and_only_a_start_takes_the_mark_off(
    action: ReleaseAction, answer: Answer, let_go: list[str]
) -> None:
    decision = decide(units([FAILED], everything(action)), restore=restore())
    (plan,) = decision.create
    assert (plan.answer, plan.attempt) == (answer, 1)
    assert [unit.id for unit in decision.let_go] == let_go
    told = job("j2", pod_name="web-1", role=Role.ANSWER, answer=answer, phase=JobPhase.COMPLETED)
    assert decide(units([FAILED, told], everything(action)), restore=restore()).create == []


def test_nothing_is_released_while_something_writes() -> None:
    writing = job("j1", pod_name="web-1", phase=JobPhase.IN_PROGRESS, wrote=True)
    decision = decide(units([writing], everything(START)), restore=restore())
    assert [j.name for j in decision.cancel] == ["j1"]
    assert (decision.create, decision.let_go) == ([], [])


def test_what_is_filled_stays_filled() -> None:
    done = job("j1", pod_name="web-1", phase=JobPhase.COMPLETED)
    decision = decide(units([done], everything(FAIL)), restore=restore())
    assert (decision.create, decision.cancel) == ([], [])
    assert [unit.id for unit in decision.release] == ["wp/data-db-0"]


def test_another_volume_is_not_meant() -> None:
    released = [Release(volume="wp/other", action=START)]
    assert decide(units([FAILED], released), restore=restore()).create == []


def test_a_pod_that_comes_later_is_told_too_and_nothing_is_filled_again() -> None:
    later = held_pod("web-2", created="2026-11-22T12:30:00Z")
    claim = live_claim()
    claim["metadata"]["annotations"] = {"ararat.dev/released": UID}
    found = units([FAILED], everything(START), pods=[later], claim=claim)
    decision = decide(found, restore=restore())
    assert [(p.holder.pod.name, p.answer) for p in decision.create] == [("web-2", Answer.RELEASED)]
    assert decision.let_go == []


def test_policy_start_lets_pods_go_after_the_last_attempt_only() -> None:
    start = restore(gate={"onFailure": "Start"})
    retrying = job("j1", pod_name="web-1", phase=JobPhase.NEW, wrote=True)
    assert decide(units([retrying], []), restore=start).let_go == []
    assert len(decide(units([FAILED], []), restore=start).let_go) == 1
    assert decide(units([FAILED], []), restore=start, retry=True).let_go == []


def test_counts_and_words() -> None:
    half = job(
        "j1",
        pod_name="web-1",
        phase=JobPhase.FAILED,
        wrote=True,
        progress=Progress(bytes_done=500, files_done=5),
    )
    before = sum_volumes(units([half], everything(START)), restore=restore(), overdue={})
    assert not before.settled
    claim = live_claim()
    claim["metadata"]["annotations"] = {"ararat.dev/released": UID}
    after = sum_volumes(
        units([half], everything(START), claim=claim), restore=restore(), overdue={}
    )
    assert after.settled
    assert after.counts.text == "0 of 1 filled, 1 released"
    (failure,) = after.failures
    assert failure.message.startswith("a person released it: 5 of 10 files, 500 B of 1000 B")
    refused = sum_volumes(units([half], everything(FAIL)), restore=restore(), overdue={})
    assert refused.settled
    assert refused.counts.text == "0 of 1 filled, 1 failed"
