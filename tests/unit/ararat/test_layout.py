from __future__ import annotations

import json

import pytest

from ararat import layout
from ararat.errors import Damaged, InvalidSpec
from ararat.layout import CurrentFile, LocationFile


def test_the_layout_is_the_one_in_the_design() -> None:
    assert layout.LOCATION == "location.json"
    assert layout.backup_begin("nightly") == "backups/nightly/begin.json"
    assert layout.backup_manifest("nightly") == "backups/nightly/manifest.json"
    assert layout.backup_deleting("nightly") == "backups/nightly/deleting.json"
    assert layout.backup_log("nightly") == "backups/nightly/log.jsonl.gz"
    assert layout.backup_results("nightly") == "backups/nightly/results.json.gz"
    assert layout.restore_log("r1") == "restores/r1/log.jsonl.gz"
    assert layout.restore_results("r1") == "restores/r1/results.json.gz"
    assert layout.volumes_repository("shop") == "repositories/volumes/shop"
    assert layout.objects_repository() == "repositories/objects"
    assert layout.current(layout.objects_repository()) == "repositories/objects/current.json"


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "a..b", "x" * 254, "a\n"])
def test_names_that_are_not_kubernetes_names_are_refused(name: str) -> None:
    for build in (layout.backup_manifest, layout.restore_log, layout.volumes_repository):
        with pytest.raises(InvalidSpec):
            build(name)


def test_directories_are_fresh_and_name_their_repository() -> None:
    folder = layout.volumes_repository("shop")
    first, second = layout.fresh_directory(folder), layout.fresh_directory(folder)
    assert first != second
    assert layout.repository_name(first) == first.removeprefix("repositories/")
    objects = layout.fresh_directory(layout.objects_repository())
    assert layout.repository_name(objects).startswith("objects/")
    assert layout.is_data(f"{first}/data/ab/abcd")
    assert not layout.is_data(f"{first}/locks/abcd")


@pytest.mark.parametrize(
    "directory",
    [
        "",
        "repositories",
        "repositories/volumes/shop",
        "repositories/objects",
        "repositories/volumes/shop/a/b",
        "repositories/volumes/../x",
        "elsewhere/volumes/shop/a",
    ],
)
def test_what_is_no_repository_has_no_name(directory: str) -> None:
    with pytest.raises(InvalidSpec):
        layout.repository_name(directory)


def test_files_go_through_json() -> None:
    location = LocationFile(location_id="id", owner="cluster", key_fingerprints=["aa"])
    assert LocationFile.decode(location.encode()) == location
    assert json.loads(location.encode())["locationID"] == "id"
    current = CurrentFile(directory="d", repository_name="objects/x", key_id="k")
    assert CurrentFile.decode(current.encode()) == current


def test_unknown_fields_are_for_newer_versions() -> None:
    raw = {"formatVersion": 1, "locationID": "id", "owner": "c", "new": 1}
    assert LocationFile.decode(json.dumps(raw).encode()).location_id == "id"


@pytest.mark.parametrize("data", [b"", b"no json", b"[]", b'{"owner": "c"}'])
def test_what_is_not_readable_is_damaged(data: bytes) -> None:
    with pytest.raises(Damaged):
        LocationFile.decode(data)


def test_a_newer_format_is_refused() -> None:
    raw = {"formatVersion": 2, "locationID": "id", "owner": "c"}
    with pytest.raises(Damaged, match="has format 2, this Ararat reads up to 1: upgrade") as caught:
        LocationFile.decode(json.dumps(raw).encode())
    assert caught.value.reason == "NewerFormat"
