from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ararat import keys
from ararat.errors import WrongKey
from ararat.layout import LocationFile
from controller.repository.rotation import with_key
from controller.repository.running import started_before

OLD, NEW, NEWEST = (bytes([number]) * 32 for number in range(3))
MOMENT = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)


def provable(file: LocationFile, master: bytes) -> set[bytes]:
    """Manifest keys that the holder of a master key has: its own and former ones."""
    ours = keys.fingerprint(master)
    return {keys.manifest_mac_key(master, file.location_id)} | {
        keys.open_manifest_key(
            one.sealed, master=master, location_id=file.location_id, former=one.former
        )
        for one in file.former_manifest_keys
        if one.opened_by == ours
    }


def test_each_key_proves_all_that_was_signed_before_it() -> None:
    first = LocationFile(location_id="l", owner="c", key_fingerprints=[keys.fingerprint(OLD)])
    second = with_key(first, old=OLD, new=NEW)
    assert with_key(second, old=OLD, new=NEW) == second, "said twice, done once"
    third = with_key(second, old=NEW, new=NEWEST)
    signed = {keys.manifest_mac_key(master, "l") for master in (OLD, NEW, NEWEST)}
    assert provable(third, NEWEST) == signed
    assert third.key_fingerprints == [keys.fingerprint(one) for one in (OLD, NEW, NEWEST)]
    assert third.location_id == "l"
    assert LocationFile.decode(third.encode()) == third


def test_a_sealed_key_is_bound_to_its_place() -> None:
    sealed = keys.seal_manifest_key(b"k" * 32, master=NEW, location_id="l", former="f")
    right: dict[str, Any] = {"master": NEW, "location_id": "l", "former": "f"}
    assert keys.open_manifest_key(sealed, **right) == b"k" * 32
    for wrong in ({"master": OLD}, {"location_id": "m"}, {"former": "g"}):
        with pytest.raises(WrongKey):
            keys.open_manifest_key(sealed, **{**right, **wrong})
    for damaged in ("", "zz", sealed[:-2]):
        with pytest.raises(WrongKey):
            keys.open_manifest_key(damaged, **right)


@pytest.mark.parametrize(
    ("phase", "began", "holds"),
    [
        ("InProgress", "2026-11-23T00:59:59Z", True),
        ("InProgress", "2026-11-23T01:00:00Z", True),
        ("InProgress", "2026-11-23T01:00:01Z", False),
        ("InProgress", "2026-11-23T02:59:59+02:00", True),
        ("InProgress", None, True),
        ("Finalizing", "2026-11-22T01:00:00Z", True),
        ("New", None, False),
        (None, None, False),
        ("Completed", "2026-11-22T01:00:00Z", False),
        ("Cancelled", "2026-11-22T01:00:00Z", False),
    ],
)
def test_who_may_hold_a_password_of_the_former_key(
    phase: str | None, began: str | None, holds: bool
) -> None:
    status = {"phase": phase, "startTime": began}
    raw = {
        "kind": "Backup",
        "metadata": {"name": "n"},
        "status": {key: value for key, value in status.items() if value is not None},
    }
    assert started_before([raw], MOMENT) == (["backup n"] if holds else [])
