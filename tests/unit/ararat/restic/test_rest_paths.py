from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ararat.restic.rest_paths import Kind, Range, Target, parse_path, parse_range

ID = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("path", "target", "name"),
    [
        ("/r/config", Target(Kind.CONFIG), "config"),
        (f"/r/data/{ID}", Target(Kind.DATA, ID), f"data/01/{ID}"),
        (f"/r/locks/{ID}", Target(Kind.LOCK, ID), f"locks/{ID}"),
        ("/r/snapshots/", Target(Kind.SNAPSHOT), "snapshots/"),
        ("/r/data/", Target(Kind.DATA), "data/"),
    ],
)
def test_what_restic_asks_for(path: str, target: Target, name: str) -> None:
    assert parse_path(path) == target
    assert target.name == name
    assert target.is_listing is path.endswith("/")


@given(
    st.one_of(
        st.text(),
        st.text(alphabet="/r.%2ealdtkysc0123f", max_size=90).map(lambda text: f"/r/{text}"),
    )
)
def test_nothing_else_names_a_blob(path: str) -> None:
    target = parse_path(path)
    if target is not None:
        assert ".." not in target.name
        assert target.name.split("/")[0] in list(Kind)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, Range()),
        ("bytes=0-", Range()),
        ("bytes=5-9", Range(5, 5)),
        ("bytes=5-5", Range(5, 1)),
        ("bytes=9-5", None),
        ("bytes=-5", None),
        ("bytes=1-2,3-4", None),
        ("bytes=1-2 ", None),
        ("items=1-2", None),
        ("bytes=" + "9" * 30 + "-", None),
    ],
)
def test_ranges(header: str | None, expected: Range | None) -> None:
    assert parse_range(header) == expected
