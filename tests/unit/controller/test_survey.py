"""What of the snapshots that nobody names is an orphan, and since when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ararat.api.repository import Orphan
from ararat.restic.models import Snapshot
from controller.maintenance.survey import split

NOW = datetime(2026, 5, 1, tzinfo=UTC)
BEFORE = NOW - timedelta(hours=20)


def snapshot(name: str, *tags: str) -> Snapshot:
    return Snapshot(id=name, time=NOW, tags=tags)


def orphans(
    *unnamed: Snapshot, live: frozenset[str] = frozenset(), known: tuple[Orphan, ...] = ()
) -> tuple[dict[str, datetime], int]:
    found, foreign = split(list(unnamed), live=live, known=list(known), now=NOW)
    return {one.snapshot: one.since for one in found}, foreign


def test_what_is_left_of_a_backup_that_ended_or_is_gone():
    left = snapshot("left", "ararat", "backup=u1", "job=j")
    assert orphans(left) == ({"left": NOW}, 0)
    # Its backup may name it yet.
    assert orphans(left, live=frozenset({"u1"})) == ({}, 0)
    assert orphans(left, live=frozenset({"u2"})) == ({"left": NOW}, 0)


def test_its_grace_counts_from_where_it_was_found():
    left = snapshot("left", "ararat", "backup=u1")
    known = Orphan(snapshot="left", backup_uid="u1", since=BEFORE)
    assert orphans(left, known=(known,)) == ({"left": BEFORE}, 0)
    # One whose backup turns out to be under way begins anew, should it be left behind after all.
    assert orphans(left, known=(known,), live=frozenset({"u1"})) == ({}, 0)


def test_what_was_made_by_hand_is_nobodys_to_forget():
    made = (
        snapshot("a"),
        snapshot("b", "mine"),
        snapshot("c", "backup=u1"),
        snapshot("d", "ararat"),
        snapshot("e", "ararat", "backup="),
    )
    assert orphans(*made) == ({}, 5)
