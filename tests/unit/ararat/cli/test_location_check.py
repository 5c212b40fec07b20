"""``ararat location check``: a table, JSON, and an exit code that scripts can use."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ararat.cli import location_view, main, remote, session

STEPS: list[dict[str, Any]] = [
    {"name": "reach and log in", "ok": True, "detail": "12 ms"},
    {"name": "delete", "ok": False, "detail": "AccessDenied: no"},
    {"name": "upload rate", "ok": None, "detail": "not tried"},
]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    steps = list(STEPS)

    async def check(*_: Any) -> bytes:
        return b"".join(json.dumps(step).encode() + b"\n" for step in steps)

    def run(_settings: Any, body: Any) -> Any:
        import asyncio

        return asyncio.run(body(None))

    monkeypatch.setattr(remote, "check_location", check)
    monkeypatch.setattr(session, "run", run)
    return steps


def test_the_table() -> None:
    lines = location_view.checks(STEPS).splitlines()
    assert lines[0].split() == ["STEP", "RESULT", "DETAIL"]
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "reach and log in",
        "delete",
        "upload rate",
    ]
    assert "FAILED" in lines[2]


def test_a_step_that_fails_is_exit_code_1(
    found: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["location", "check", "prod", "-o", "json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"location": "prod", "steps": STEPS}
    found[1]["ok"] = True
    assert main.run(["location", "check", "prod"]) == 0
    found[1]["ok"] = False
