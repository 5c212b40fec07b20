from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ararat.errors import Damaged
from ararat.restic.drops import Drops, decode

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def test_a_pack_goes_when_it_is_asked_for_a_day_later():
    first = Drops(now=NOW)
    assert not first.asked("a")
    assert not first.asked("b")
    # Next time restic does not ask for b: an index names it again, so it is needed, and forgotten.
    later = Drops(now=NOW + timedelta(hours=23), known=decode(first.encode()))
    assert not later.asked("a")
    assert not later.asked("c")
    last = Drops(now=NOW + timedelta(hours=24), known=decode(later.encode()))
    assert last.asked("a")
    assert not last.asked("c")
    assert not last.asked("b")
    assert last.removed == ["a"]
    assert decode(last.encode()) == {"b": last.now, "c": later.now}


def test_at_once_for_a_full_store():
    assert Drops(now=NOW, grace=timedelta(0)).asked("a")


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"packs": {"a": "x"}}', b'{"packs": 3}'])
def test_unreadable_notes(data):
    with pytest.raises(Damaged):
        decode(data)
