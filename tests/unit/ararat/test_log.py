from __future__ import annotations

import json
import logging

import pytest
import structlog

from ararat import log


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_our_lines_and_those_of_libraries_look_alike(capsys: pytest.CaptureFixture[str]):
    log.configure("info", json=True)
    structlog.contextvars.bind_contextvars(backup="nightly")
    structlog.stdlib.get_logger("ararat.x").info("job_started", volume="data")
    logging.getLogger("some.library").warning("it %s", "broke")
    ours, theirs = lines(capsys)
    assert ours.pop("timestamp")
    assert ours == {
        "event": "job_started",
        "volume": "data",
        "backup": "nightly",
        "level": "info",
        "logger": "ararat.x",
    }
    assert (theirs["event"], theirs["level"], theirs["backup"]) == (
        "it broke",
        "warning",
        "nightly",
    )


def test_levels(capsys: pytest.CaptureFixture[str]):
    log.configure("warning", json=True)
    logger = structlog.stdlib.get_logger("ararat.x")
    logger.info("no")
    logger.warning("yes")
    logging.getLogger("azure.core").info("headers")
    assert [line["event"] for line in lines(capsys)] == ["yes"]


def test_libraries_that_say_too_much_are_quiet(capsys: pytest.CaptureFixture[str]):
    log.configure("debug", json=True)
    logging.getLogger("azure.core.pipeline").info("Authorization: SharedKey x")
    logging.getLogger("azure.core.pipeline").warning("throttled")
    assert [line["event"] for line in lines(capsys)] == ["throttled"]


def test_credentials_are_never_written(capsys: pytest.CaptureFixture[str]):
    log.configure("info", json=True)
    structlog.stdlib.get_logger("ararat.x").info("opened", password="hunter2", token="t")
    assert "hunter2" not in (text := capsys.readouterr().err)
    assert json.loads(text)["password"] == "[redacted]"


def test_a_traceback_is_one_line(capsys: pytest.CaptureFixture[str]):
    log.configure("info", json=True)
    try:
        raise ValueError("bug")
    except ValueError:
        structlog.stdlib.get_logger("ararat.x").exception("crashed", key="a")
    (line,) = lines(capsys)
    assert "ValueError: bug" in str(line["exception"])


def test_on_a_terminal_lines_are_for_people(capsys: pytest.CaptureFixture[str]):
    log.configure("info", json=False)
    structlog.stdlib.get_logger("ararat.x").info("job_started", volume="data")
    text = capsys.readouterr().err
    assert "job_started" in text
    assert "volume" in text
    assert not text.startswith("{")
