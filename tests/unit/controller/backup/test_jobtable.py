from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ararat.api.nodejob import JobPhase, Progress
from controller.backup.jobtable import JobTable

Jobs = dict[str, dict[str, Any]]


def raw(name: str, phase: str = "New", node: str = "n1", **progress: int) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {
            "backup": "nightly",
            "backupUID": "u",
            "node": node,
            "pod": {"namespace": "wp", "name": name, "uid": "p"},
            "volume": "data",
            "repository": {
                "location": "l",
                "locationID": "l1",
                "directory": "d",
                "passwordSecret": "s",
            },
            "host": "h",
        },
        "status": {"phase": phase, "progress": progress},
    }


def table_of(*jobs: dict[str, Any]) -> JobTable:
    table = JobTable()
    table.read(lambda: jobs, lambda _: None)
    return table


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        ([], Progress()),
        (
            [
                raw("a", "InProgress", totalBytes=100, bytesDone=50, bytesPerSecond=5),
                raw("b", "InProgress", totalFiles=4, filesDone=1, bytesPerSecond=7),
            ],
            Progress(
                total_bytes=100,
                bytes_done=50,
                total_files=4,
                files_done=1,
                bytes_per_second=12,
                text="50 B of 100 B (50%)",
            ),
        ),
        (
            # What is done counts in full, and has no rate any more.
            [raw("a", "Completed", totalBytes=100, bytesDone=90, totalFiles=9, bytesPerSecond=5)],
            Progress(total_bytes=100, bytes_done=100, total_files=9, files_done=9, text="100 B"),
        ),
        (
            # More done than known: the total follows.
            [raw("a", "Failed", totalBytes=10, bytesDone=30)],
            Progress(total_bytes=30, bytes_done=30, text="30 B"),
        ),
    ],
)
def test_progress_of_all_jobs(jobs: list[dict[str, Any]], expected: Progress) -> None:
    assert table_of(*jobs).progress == expected


def test_what_is_unfinished_and_where() -> None:
    table = table_of(
        raw("a", "New", "n1"),
        raw("b", "InProgress", "n1"),
        raw("c", "Completed", "n1"),
        raw("d", "Failed", "n2"),
    )
    assert table.busy_nodes() == {"n1"}
    assert table.unfinished_on("n1") == ["a", "b"]
    assert table.unfinished_on("n2") == []
    assert sorted(table.unfinished()) == ["a", "b"]
    assert table.phase("d") is JobPhase.FAILED
    assert table["b"].spec.pod.name == "b"


def test_a_phase_that_moved_is_told_once() -> None:
    jobs: Jobs = {"a": raw("a"), "b": raw("b")}
    table = table_of(*jobs.values())
    assert table.moved() == ["a", "b"]
    jobs["a"] = raw("a", "InProgress", bytesDone=1)
    jobs["b"] = raw("b", "New", bytesDone=1)
    for name in ("a", "b", "gone"):
        table.touch(name)
    table.read(lambda: pytest.fail("everything was read again"), jobs.get)
    assert table.moved() == ["a"]
    assert table.moved() == []


_phases = st.sampled_from([phase.value for phase in JobPhase])
_jobs = st.dictionaries(
    st.sampled_from("abcdef"),
    st.tuples(_phases, st.sampled_from(["n1", "n2"]), st.integers(0, 9), st.integers(0, 9)),
)


@given(st.lists(_jobs, min_size=1, max_size=5))
def test_what_is_kept_up_is_what_is_counted_anew(states: list[dict[str, Any]]) -> None:
    kept = table_of()
    before: Jobs = {}
    for state in states:
        jobs = {
            name: raw(name, phase, node, totalBytes=total, bytesDone=done, bytesPerSecond=total)
            for name, (phase, node, total, done) in state.items()
        }
        for name in before.keys() | jobs.keys():
            if before.get(name) != jobs.get(name):
                kept.touch(name)
        kept.read(lambda: pytest.fail("everything was read again"), jobs.get)
        anew = table_of(*jobs.values())
        assert kept.progress == anew.progress
        assert sorted(kept.unfinished()) == sorted(anew.unfinished())
        assert kept.busy_nodes() == anew.busy_nodes()
        assert set(kept) == set(anew) == set(jobs)
        before = jobs
