from __future__ import annotations

import json
from datetime import timedelta

import pytest
import yaml

from ararat.cli import render
from tests.unit.ararat.cli.builders import NOW


def test_table_is_aligned_and_has_no_trailing_blanks():
    text = render.table(("NAME", "N", "NOTE"), [("a", "1", ""), ("longer", "", "x y")])
    assert text.splitlines() == [
        "NAME     N   NOTE",
        "a        1   -",
        "longer   -   x y",
    ]


def test_fields_leave_out_what_is_empty():
    text = render.fields([("Name", "a"), ("Phase", None), ("Location", "b"), ("X", "")])
    assert text == "Name:      a\nLocation:  b"
    assert render.fields([]) == ""


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (7199, "119m"),
        (7200, "2h"),
        (172800, "2d"),
        (-5, "0s"),
    ],
)
def test_age(seconds, expected):
    assert render.age(NOW - timedelta(seconds=seconds), NOW) == expected


def test_nothing_is_shown_as_nothing():
    assert render.age(None, NOW) == "-"
    assert render.moment(None, NOW) is None
    assert render.took(NOW, None) == ""
    assert render.size(0) == ""
    assert render.section("Title:", "") == ""


def test_moment_and_duration():
    assert render.moment(NOW - timedelta(minutes=5), NOW) == "2026-11-22 21:25:00 UTC (5m ago)"
    assert render.took(NOW - timedelta(seconds=72), NOW) == "1m 12s"


def test_listing():
    assert render.listing([], empty="all") == "all"
    assert render.listing(list("abc"), empty="all", limit=3) == "a, b, c"
    assert render.listing(list("abcde"), empty="all", limit=3) == "a, b, c and 2 more"


def test_documents():
    obj = {
        "kind": "K",
        "spec": {},
        "apiVersion": "v1",
        "metadata": {"name": "a", "managedFields": []},
    }
    one = render.documents([obj], single=True)
    assert list(one) == ["apiVersion", "kind", "metadata", "spec"]
    assert one["metadata"] == {"name": "a"}
    assert render.documents([obj], single=False) == {
        "apiVersion": "v1",
        "kind": "List",
        "items": [one],
    }
    assert yaml.safe_load(render.as_yaml(one)) == one == json.loads(render.as_json(one))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            {
                "time": "2026-11-22T21:30:45+00:00",
                "level": "info",
                "event": "snapshot made",
                "n": 3,
            },
            "21:30:45 info     snapshot made  n=3",
        ),
        (
            {
                "time": "2026-11-22T21:30:45Z",
                "level": "warning",
                "event": "x",
                "why": "a b",
                "id": "c",
            },
            '21:30:45 warning  x  why="a b" id=c',
        ),
        ({"event": "lines left out", "count": 2}, "         info     lines left out  count=2"),
        ({}, "         info"),
    ],
)
def test_log_line(line, expected):
    assert render.log_line(line) == expected
