from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from controller import runlog
from controller.runlog import RunLog, RunLogs


def lines(log: RunLog) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(log.encode()).decode().splitlines()]


def test_lines_are_kept_with_time_and_level() -> None:
    log = RunLog(kind="Backup", name="nightly", uid="u1")
    log.info("began", volumes=3, name="ä")
    log.warning("slow", odd=object)
    log.error("ended")
    found = lines(log)
    assert [(line["level"], line["event"]) for line in found] == [
        ("info", "began"),
        ("warning", "slow"),
        ("error", "ended"),
    ]
    assert found[0] == {
        "time": found[0]["time"],
        "level": "info",
        "event": "began",
        "volumes": 3,
        "name": "ä",
        "run": "u1",
    }
    assert ["run" in line for line in found] == [True, False, False]
    assert all(line["time"].endswith("+00:00") for line in found)


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 12, 50])
def test_a_long_log_keeps_its_two_ends(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(runlog, "LIMIT", 10)
    log = RunLog(kind="Backup", name="nightly", uid="u1")
    for number in range(count):
        log.info(str(number))
    found = lines(log)
    events = [line["event"] for line in found]
    if count <= 10:
        assert events == [str(n) for n in range(count)]
        return
    kept = [*range(5), *range(count - 5, count)]
    assert events == [*map(str, kept[:5]), "lines left out", *map(str, kept[5:])]
    assert found[5]["count"] == count - 10
    assert all(line["time"] for line in found)


def test_a_run_has_one_log_until_it_is_dropped() -> None:
    logs = RunLogs()
    first = logs.of(kind="Backup", name="a", uid="1")
    assert logs.of(kind="Backup", name="a", uid="1", resumed=True) is first
    assert lines(first) == []
    assert logs.of(kind="Backup", name="a", uid="2") is not first
    logs.drop("1")
    logs.drop("1")
    again = logs.of(kind="Backup", name="a", uid="1", resumed=True)
    assert again is not first
    assert [line["event"] for line in lines(again)] == [
        "taken over by this controller; what is missing is in the former's own log"
    ]


def test_what_others_wrote_comes_first_and_is_of_this_very_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def written(*events: str, before: bytes = b"", uid: str = "u1") -> bytes:
        log = RunLog(kind="Backup", name="nightly", uid=uid)
        for event in events:
            log.info(event)
        if before:
            log.precede(runlog.decode(before, uid=uid))
        return log.encode()

    def events(data: bytes) -> list[str]:
        return [line["event"] for line in runlog.decode(data, uid="u1")]

    first = written("began", "made")
    second = written("taken over", "read", before=first)
    assert events(second) == ["began", "made", "taken over", "read"]
    assert events(written("taken over", before=second)) == [*events(second), "taken over"]
    for strange in (written("began", uid="u2"), b"", b"x", gzip.compress(b"[1]\n"), first[:-9]):
        assert events(strange) == []
    monkeypatch.setattr(runlog, "LIMIT", 4)
    many = written("a", "b", before=written("1", "2", "3", "4", before=second))
    assert events(many) == ["began", "made", "lines left out", "3", "4", "a", "b"]


async def test_who_follows_is_told_what_others_wrote_once() -> None:
    former = RunLog(kind="Backup", name="nightly", uid="u1")
    former.info("began")
    log = RunLog(kind="Backup", name="nightly", uid="u1")
    log.info("taken over")
    lines = log.follow()
    assert (await anext(lines))["event"] == "taken over"
    log.precede(runlog.decode(former.encode(), uid="u1"))
    log.info("ended")
    log.end()
    assert [line["event"] async for line in lines] == ["began", "ended"]
    assert [line["event"] async for line in log.follow()] == ["began", "taken over", "ended"]
