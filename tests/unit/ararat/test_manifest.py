from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ararat.api.backup import BackupPhase, BackupSpec, ObjectsResult
from ararat.api.manifest import Coverage, Manifest, ManifestVolume, decode_manifest
from ararat.errors import Damaged

KEY = b"k" * 32
MANIFEST = Manifest(
    backup="nightly",
    backup_uid="u1",
    cluster_uid="c1",
    location_id="l1",
    spec=BackupSpec(included_namespaces=["wp"]),
    phase=BackupPhase.COMPLETED,
    start_time=datetime(2026, 1, 1, tzinfo=UTC),
    completion_time=datetime(2026, 1, 2, tzinfo=UTC),
    namespaces=["wp"],
    objects=ObjectsResult(directory="repositories/objects/x", snapshot_id="s", count=3),
    volumes=[
        ManifestVolume(
            namespace="wp", pod="p", volume="ä", coverage=Coverage.BACKED_UP, snapshot_id="t"
        )
    ],
)


def fault_of(data: bytes, key: bytes = KEY) -> str:
    with pytest.raises(Damaged) as caught:
        decode_manifest(data, key)
    return caught.value.reason


def changed(**fields: Any) -> bytes:
    return json.dumps({**json.loads(MANIFEST.encode(KEY)), **fields}).encode()


def test_what_is_written_is_read() -> None:
    assert decode_manifest(MANIFEST.encode(KEY), KEY) == MANIFEST
    assert MANIFEST.encode(KEY) == MANIFEST.encode(KEY)


def test_white_space_and_order_do_not_matter() -> None:
    body = json.loads(MANIFEST.encode(KEY))
    spread = json.dumps(dict(reversed(body.items())), indent=2).encode()
    assert decode_manifest(spread, KEY) == MANIFEST


def test_fields_of_a_later_version_are_covered_and_ignored() -> None:
    class Later(Manifest):
        def to_dict(self) -> dict[str, Any]:
            return {**super().to_dict(), "added": "x"}

    assert fault_of(changed(added="x")) == "ManifestForged"
    assert decode_manifest(Later(**MANIFEST.model_dump()).encode(KEY), KEY) == MANIFEST


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "Damaged"),
        (b"{", "Damaged"),
        (b"[]", "Damaged"),
        (b"null", "Damaged"),
        (b"\xff\xfe", "Damaged"),
        (b"[" * 100_000, "Damaged"),
        (b'{"a":' * 100_000, "Damaged"),
        (b"{}", "NewerFormat"),
        (b'{"formatVersion": "1"}', "NewerFormat"),
        (changed(formatVersion=2), "NewerFormat"),
        (b'{"formatVersion": 1}', "ManifestForged"),
        (b'{"formatVersion": 1, "hmac": 7}', "ManifestForged"),
        # Each of these once ended the whole look at a location.
        (changed(hmac="ä"), "ManifestForged"),
        (changed(hmac="\ud800"), "ManifestForged"),
        (b'{"formatVersion": 1, "hmac": "x", "a": "\\ud800"}', "ManifestForged"),
        (changed(phase="Failed"), "ManifestForged"),
        (changed(hmac=""), "ManifestForged"),
        (MANIFEST.encode(b"o" * 32), "ManifestForged"),
    ],
)
def test_what_is_not_a_manifest_of_ours(data: bytes, reason: str) -> None:
    assert fault_of(data) == reason


def test_a_signed_manifest_without_its_fields() -> None:
    class Bare(Manifest):
        def to_dict(self) -> dict[str, Any]:
            return {"formatVersion": 1}

    assert fault_of(Bare(**MANIFEST.model_dump()).encode(KEY)) == "Damaged"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_fault_and_never_a_crash(data: bytes) -> None:
    fault_of(data)


_json: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["formatVersion", "hmac", "backup", "x"]), _json))
def test_any_json_is_a_fault_and_never_a_crash(body: dict[str, Any]) -> None:
    fault_of(json.dumps(body).encode())


@given(st.integers(0, len(MANIFEST.encode(KEY)) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed(at: int, flip: int) -> None:
    data = bytearray(MANIFEST.encode(KEY))
    data[at] ^= flip
    try:
        found = decode_manifest(bytes(data), KEY)
    except Damaged:
        return
    assert found == MANIFEST


def test_which_volumes_can_be_restored() -> None:
    restorable = {
        coverage
        for coverage in Coverage
        if ManifestVolume(namespace="n", pod="p", volume="v", coverage=coverage).restorable
    }
    assert restorable == {Coverage.BACKED_UP, Coverage.INCOMPLETE}
    assert MANIFEST.volumes[0].id == "wp/p/ä"
