from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ararat import naming

#: As the API server checks them (k8s.io/apimachinery/pkg/util/validation).
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")

_names = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,260}[a-z0-9])?", fullmatch=True)


@given(st.text(max_size=300))
def test_label_value_is_always_legal(text: str) -> None:
    value = naming.label_value(text)
    assert len(value) <= 63
    assert _LABEL_VALUE.fullmatch(value)


@given(_names)
def test_label_value_keeps_what_fits(name: str) -> None:
    if len(name) <= 63:
        assert naming.label_value(name) == name
    else:
        assert naming.label_value(name).endswith(naming.digest(name))


@given(st.lists(st.text(max_size=80), min_size=1, max_size=4), st.integers(16, 253))
def test_object_name_is_always_a_dns_label_within_its_limit(parts: list[str], limit: int) -> None:
    name = naming.object_name(*parts, limit=limit)
    assert len(name) <= limit
    assert _DNS_LABEL.fullmatch(name)


@given(
    st.lists(st.text(max_size=12), min_size=1, max_size=4),
    st.lists(st.text(max_size=12), min_size=1, max_size=4),
)
def test_object_names_of_different_parts_differ(one: list[str], two: list[str]) -> None:
    same = naming.object_name(*one) == naming.object_name(*two)
    assert same == (one == two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (("a", "b-c"), ("a-b", "c")),
        (("a", ""), ("a",)),
        (("ab", "c"), ("a", "bc")),
        (("1:a",), ("a",)),
        (("default", "objects"), ("default", "objects", "")),
        (("x" * 300 + "a",), ("x" * 300 + "b",)),
        (("Ä",), ("ä",)),
    ],
)
def test_object_names_that_look_alike(one: tuple[str, ...], two: tuple[str, ...]) -> None:
    assert naming.object_name(*one) != naming.object_name(*two)


def test_object_name_can_be_read() -> None:
    assert re.fullmatch(
        r"nightly-data-7f1e-[0-9a-f]{10}", naming.object_name("nightly", "data", "7f1e")
    )


@pytest.mark.parametrize(
    ("text", "label", "name"),
    [
        ("a", True, True),
        ("a-1", True, True),
        ("0a", True, True),
        ("a" * 63, True, True),
        ("a" * 64, False, True),
        ("a.b-c.d", False, True),
        ("a" * 253, False, True),
        ("a" * 254, False, False),
        ("", False, False),
        ("-a", False, False),
        ("a-", False, False),
        ("a..b", False, False),
        ("a.-b", False, False),
        ("a-.b", False, False),
        (".a", False, False),
        ("A", False, False),
        ("a_b", False, False),
        ("a/b", False, False),
        ("ü", False, False),
        # What `$` alone would let through, into names of directories.
        ("a\n", False, False),
        ("a.b\n", False, False),
    ],
)
def test_what_is_a_name(text: str, label: bool, name: bool) -> None:
    assert naming.is_dns_label(text) is label
    assert naming.is_object_name(text) is name


def test_a_label_value_with_a_line_end_is_not_kept() -> None:
    assert naming.label_value("node-1\n") == f"node-1-{naming.digest('node-1' + chr(10))}"
