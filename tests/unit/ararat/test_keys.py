from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ararat import keys
from ararat.errors import InvalidSpec, WrongKey

MASTER = bytes(range(32))


def test_derivations_never_change() -> None:
    """Whatever is derived here opens what is stored: a change would lose every backup."""
    assert keys.fingerprint(MASTER) == "43d94bcf928d01f3"
    assert (
        keys.repository_password(MASTER, "location", "volumes/shop/0123456789abcdef")
        == "2256c040ff1b450fb3b3e367fb8aa68ebccc515904b754883a4a8d06616bd3c8"
    )


def test_keys_are_random_and_go_through_text() -> None:
    first, second = keys.new_master_key(), keys.new_master_key()
    assert first != second
    assert len(first) == 32
    assert keys.decode_master_key(f"{first.hex()}\n".encode()) == first


@pytest.mark.parametrize("text", ["", "zz" * 32, "ab" * 31, "ab" * 33, b"\xff" * 64])
def test_what_is_no_key_is_refused_without_being_shown(text: str | bytes) -> None:
    with pytest.raises(InvalidSpec) as caught:
        keys.decode_master_key(text)
    assert "zz" not in str(caught.value)
    assert caught.value.__cause__ is None


@given(st.text(), st.text(), st.text(), st.text())
def test_no_two_pairs_share_a_password(a: str, b: str, c: str, d: str) -> None:
    same = keys.repository_password(MASTER, a, b) == keys.repository_password(MASTER, c, d)
    assert same is ((a, b) == (c, d))


def test_purposes_do_not_mix() -> None:
    mac = keys.manifest_mac_key(MASTER, "location")
    assert len(mac) == 32
    assert mac.hex() != keys.repository_password(MASTER, "location", "")


def test_another_key_is_named() -> None:
    keys.check_fingerprint(MASTER, keys.fingerprint(MASTER), what="x")
    keys.check_fingerprint(MASTER, "", what="x")
    with pytest.raises(WrongKey, match="0000000000000000"):
        keys.check_fingerprint(MASTER, "0" * 16, what="the repository")


def test_an_export_is_read_back() -> None:
    exported = keys.export_key(MASTER, {"main": "id-1", "dr": "id-2"})
    read = keys.read_export(json.dumps(exported.to_dict()).encode())
    assert read.master == MASTER
    assert [(location.name, location.id) for location in read.locations] == [
        ("dr", "id-2"),
        ("main", "id-1"),
    ]
    assert MASTER.hex() not in repr(exported)


@pytest.mark.parametrize(
    "change", [{"key": "11" * 32}, {"version": 9}, {"key": "short"}, {"fingerprint": None}]
)
def test_a_wrong_export_is_refused(change: dict[str, object]) -> None:
    raw = keys.export_key(MASTER, {}).to_dict() | change
    with pytest.raises(InvalidSpec) as caught:
        keys.read_export(json.dumps(raw).encode())
    assert MASTER.hex() not in str(caught.value)
