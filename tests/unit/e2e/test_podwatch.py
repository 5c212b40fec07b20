"""What counts as "an application container ran before its volumes were filled"."""

from __future__ import annotations

from typing import Any

import pytest

from tests.containers import NEVER_STARTED
from tests.e2e.support.podwatch import GATE, PodHistory

_BEGAN = "2026-01-01T00:00:01Z"
_PASSED = {"terminated": {"exitCode": 0, "startedAt": _BEGAN, "finishedAt": "2026-01-01T00:00:10Z"}}
_WAITING = {"running": {"startedAt": _BEGAN}}
_FAILED = {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:00:10Z"}}


def pod(
    gate: dict[str, Any], app: dict[str, Any], *, restarts: int = 0, first: str = GATE
) -> dict[str, Any]:
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    return {
        "metadata": {"name": "db-0", "uid": "1"},
        "spec": {"initContainers": [{"name": first}], "volumes": [claim]},
        "status": {
            "initContainerStatuses": [{"name": GATE, "state": gate, "restartCount": 0}],
            "containerStatuses": [{"name": "db", "state": app, "restartCount": restarts}],
        },
    }


def started(second: int) -> dict[str, Any]:
    return {"running": {"startedAt": f"2026-01-01T00:00:{second:02}Z"}}


@pytest.mark.parametrize(
    "version",
    [
        pod(_WAITING, {"waiting": {"reason": "PodInitializing"}}),
        pod(_PASSED, started(10)),
        pod(_PASSED, started(12)),
    ],
)
def test_a_gate_that_ends_first_is_fine(version: dict[str, Any]) -> None:
    assert PodHistory([version]).violations() == []


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (pod(_WAITING, started(5)), "had not passed"),
        (pod(_FAILED, started(12)), "had not passed"),
        (pod(NEVER_STARTED, started(12)), "had not passed"),
        (pod(_PASSED, started(9)), "started at"),
        (pod(_PASSED, started(12), restarts=1), "was restarted"),
        (pod(_PASSED, started(12), first="other"), "the first init container is other"),
    ],
)
def test_everything_else_is_a_violation(version: dict[str, Any], said: str) -> None:
    (sentence,) = PodHistory([version, version]).violations()
    assert said in sentence


def test_a_bad_moment_counts_even_if_the_end_is_good() -> None:
    history = PodHistory([pod(_WAITING, started(5)), pod(_PASSED, started(12))])
    assert len(history.violations()) == 1


def test_a_gate_that_was_made_and_never_started_is_named() -> None:
    waits = {"waiting": {"reason": "PodInitializing"}}
    history = PodHistory([pod(_PASSED, waits), pod(NEVER_STARTED, waits), pod(_FAILED, waits)])
    assert history.never_started() == ["db-0"]
