from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ararat.blob.store import check_name
from ararat.errors import InvalidSpec


@given(st.lists(st.text(alphabet="abz09-_ ~ü☁", min_size=1, max_size=9), min_size=1, max_size=9))
def test_ordinary_names_are_legal(parts: list[str]) -> None:
    name = "/".join(parts)
    assert check_name(name) == name


@given(st.text(max_size=30))
def test_a_legal_name_never_leaves_its_folder(name: str) -> None:
    try:
        check_name(name)
    except InvalidSpec:
        return
    parts = name.split("/")
    assert all(part not in ("", ".", "..") for part in parts)
    assert "\\" not in name
    assert "\0" not in name


@pytest.mark.parametrize("name", ["x" * 256, "ü" * 128, "a/" * 600 + "a", "a\ud800"])
def test_names_that_are_too_long_or_no_text(name: str) -> None:
    with pytest.raises(InvalidSpec):
        check_name(name)
