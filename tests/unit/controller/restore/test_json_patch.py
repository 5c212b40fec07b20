"""RFC 6902 and RFC 7386, by the cases that their appendices name."""

from __future__ import annotations

from typing import Any

import pytest

from controller.restore.json_patch import CannotPatch, DoesNotHold, apply, find, merge


@pytest.mark.parametrize(
    ("document", "operation", "expected"),
    [
        ({"a": 1}, {"op": "add", "path": "/b", "value": 2}, {"a": 1, "b": 2}),
        ({"a": [1, 3]}, {"op": "add", "path": "/a/1", "value": 2}, {"a": [1, 2, 3]}),
        ({"a": [1]}, {"op": "add", "path": "/a/-", "value": [2]}, {"a": [1, [2]]}),
        ({"a": [1]}, {"op": "add", "path": "/a/1", "value": 2}, {"a": [1, 2]}),
        ({"a": 1}, {"op": "add", "path": "/a", "value": 2}, {"a": 2}),
        ({"a": 1}, {"op": "add", "path": "", "value": {"b": 1}}, {"b": 1}),
        ({"a": 1, "b": 2}, {"op": "remove", "path": "/a"}, {"b": 2}),
        ({"a": [1, 2, 3]}, {"op": "remove", "path": "/a/1"}, {"a": [1, 3]}),
        ({"a": 1}, {"op": "replace", "path": "/a", "value": None}, {"a": None}),
        ({"a": [1, 2]}, {"op": "replace", "path": "/a/0", "value": 9}, {"a": [9, 2]}),
        (
            {"a": {"x": 1}, "b": {}},
            {"op": "move", "from": "/a/x", "path": "/b/y"},
            {"a": {}, "b": {"y": 1}},
        ),
        ({"a": [1, 2, 3]}, {"op": "move", "from": "/a/0", "path": "/a/2"}, {"a": [2, 3, 1]}),
        ({"a": [1]}, {"op": "copy", "from": "/a", "path": "/b"}, {"a": [1], "b": [1]}),
        ({"a/b": 1, "m~n": 2}, {"op": "remove", "path": "/a~1b"}, {"m~n": 2}),
        ({"a/b": 1, "m~n": 2}, {"op": "remove", "path": "/m~0n"}, {"a/b": 1}),
        ({"": 1}, {"op": "replace", "path": "/", "value": 2}, {"": 2}),
        ({"a": 1.0}, {"op": "test", "path": "/a", "value": 1}, {"a": 1.0}),
    ],
)
def test_operations(document: Any, operation: dict[str, Any], expected: Any) -> None:
    before = repr(document)
    assert apply(document, [operation]) == expected
    assert repr(document) == before, "the document itself stays"


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        ({"op": "remove", "path": "/x"}, "path /x does not exist"),
        ({"op": "replace", "path": "/x", "value": 1}, "path /x does not exist"),
        ({"op": "add", "path": "/x/y", "value": 1}, "path /x/y does not exist"),
        ({"op": "add", "path": "/l/2", "value": 1}, "a list of 1 has no item 2"),
        ({"op": "remove", "path": "/l/01"}, "a list of 1 has no item 01"),
        ({"op": "remove", "path": "/l/-"}, "has no item -"),
        ({"op": "add", "path": "x", "value": 1}, "must begin with '/'"),
        ({"op": "move", "from": "/o", "path": "/o/in"}, "cannot go into itself"),
        ({"op": "copy", "from": "/none", "path": "/y"}, "/none does not exist"),
        ({"op": "swap", "path": "/o"}, "none of add"),
    ],
)
def test_what_does_not_fit(operation: dict[str, Any], said: str) -> None:
    with pytest.raises(CannotPatch) as failed:
        apply({"o": {"p": 1}, "l": [1]}, [operation])
    assert said in failed.value.message


@pytest.mark.parametrize(
    ("have", "value"), [(1, True), ("1", 1), ({"a": 1}, {"a": 2}), ([1], [1, 2])]
)
def test_a_test_compares_as_json_does(have: Any, value: Any) -> None:
    with pytest.raises(DoesNotHold):
        apply({"a": have}, [{"op": "test", "path": "/a", "value": value}])


def test_later_operations_see_earlier_ones() -> None:
    patch: list[dict[str, Any]] = [
        {"op": "add", "path": "/a", "value": {}},
        {"op": "add", "path": "/a/b", "value": 1},
        {"op": "move", "from": "/a/b", "path": "/c"},
    ]
    assert apply({}, patch) == {"a": {}, "c": 1}
    assert find({"a": [{"b": 1}]}, "/a/0/b") == 1


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge(target: Any, patch: Any, expected: Any) -> None:
    assert merge(target, patch) == expected
