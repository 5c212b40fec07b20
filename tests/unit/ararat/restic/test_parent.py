from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ararat.restic.models import Snapshot
from ararat.restic.parent import choose_parent, find_finished, job_tag

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def snapshot(id_: str, hours: float, *, host: str = "h", tags: tuple[str, ...] = ()) -> Snapshot:
    return Snapshot(id=id_, time=NOW + timedelta(hours=hours), hostname=host, tags=tags)


def test_the_newest_of_the_same_host_whatever_its_path_or_tags() -> None:
    found = [
        snapshot("a", -3, tags=("job=1",)),
        snapshot("b", -1, tags=("job=2",)),
        snapshot("c", -0.5, host="other"),
    ]
    assert choose_parent(found, "h", now=NOW) == ("b", "newest of 2 snapshots of this volume")


def test_none_yet() -> None:
    assert choose_parent([], "h", now=NOW) == (None, "first backup of this volume")
    assert choose_parent([snapshot("a", -1, host="x")], "h", now=NOW)[0] is None


def test_the_future_is_not_believed_but_clocks_may_differ_a_little() -> None:
    assert choose_parent([snapshot("a", 0.1)], "h", now=NOW)[0] == "a"
    assert choose_parent([snapshot("a", -1), snapshot("b", 5)], "h", now=NOW)[0] == "a"
    chosen, reason = choose_parent([snapshot("b", 5)], "h", now=NOW)
    assert chosen is None
    assert "clocks" in reason


def test_equal_times_are_the_same_choice_for_everybody() -> None:
    pair = [snapshot("b", -1), snapshot("a", -1)]
    assert choose_parent(pair, "h", now=NOW) == choose_parent(reversed(pair), "h", now=NOW)


def test_a_job_finds_what_it_finished() -> None:
    found = [
        snapshot("a", -2, tags=("ararat", job_tag("j1"))),
        snapshot("b", -1, tags=("ararat", job_tag("j1"))),
        snapshot("c", -1, tags=("ararat", job_tag("j2"))),
        snapshot("d", 0, host="x", tags=("ararat", job_tag("j1"))),
    ]
    finished = find_finished(found, host="h", job="j1")
    assert finished is not None
    assert finished.id == "b"
    assert find_finished(found, host="h", job="j3") is None
