"""What makes a location the one it says it is, on a directory."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from ararat import keys, layout
from ararat.api import BackupLocation
from ararat.blob.filesystem import FilesystemStore
from ararat.errors import AccessDenied, AraratError, Damaged, InvalidSpec, NotFound, WrongKey
from ararat.kube.resources import SECRETS
from ararat.kube.resources import of as resource_of
from controller.keys import MasterKey
from controller.location.open import Locations, OpenLocation, first_error
from tests.unit.ararat.kube.fake import FakeApi

LOCATIONS = resource_of(BackupLocation)


class Installation:
    """One cluster's view: an API with a BackupLocation, and what opens it."""

    def __init__(self, directory: Path, cluster: str, *, read_only: bool = False) -> None:
        self.api = FakeApi()
        self.directory = directory
        self.master_key = MasterKey(self.api, namespace="ararat-keys")
        self.locations = Locations(
            self.api, namespace="ararat", master_key=self.master_key, cluster_uid=cluster
        )
        self.put(read_only=read_only)

    def put(
        self,
        *,
        read_only: bool = False,
        status: dict[str, Any] | None = None,
        take_over: str = "",
        generation: int = 1,
    ) -> None:
        annotations = {"ararat.dev/take-over-from": take_over} if take_over else {}
        self.api.put(
            LOCATIONS,
            {
                "metadata": {
                    "name": "main",
                    "namespace": "ararat",
                    "generation": generation,
                    "annotations": annotations,
                },
                "spec": {
                    "filesystem": {"path": str(self.directory)},
                    "accessMode": "ReadOnly" if read_only else "ReadWrite",
                },
                "status": status or {},
            },
        )

    def give_key(self, master: bytes) -> None:
        self.api.put(
            SECRETS,
            {
                "metadata": {"name": "master-key", "namespace": "ararat-keys"},
                "data": {"key": base64.b64encode(master.hex().encode()).decode()},
            },
        )

    async def open(self) -> OpenLocation:
        return await self.locations.open("main")

    async def check(self) -> OpenLocation:
        return await self.locations.check("main")


async def reason_of(attempt: Coroutine[Any, Any, object], kind: type[AraratError]) -> str:
    with pytest.raises(kind) as caught:
        await attempt
    assert caught.value.message
    return caught.value.reason


def stored(directory: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((directory / "location.json").read_text())
    return content


async def test_a_new_location_is_claimed_once(tmp_path: Path) -> None:
    first = Installation(tmp_path, "cluster-1")
    location = await first.open()
    assert (location.name, location.owner, location.writable) == ("main", "cluster-1", True)
    assert stored(tmp_path) == {
        "formatVersion": 1,
        "locationID": location.location_id,
        "owner": "cluster-1",
        "keyFingerprints": [keys.fingerprint(location.master)],
    }
    assert await first.master_key.get() == location.master
    again = Installation(tmp_path, "cluster-1")
    again.give_key(location.master)
    assert (await again.open()).location_id == location.location_id


async def test_two_who_begin_at_once_agree(tmp_path: Path) -> None:
    first = Installation(tmp_path, "cluster-1")
    twin = Locations(
        first.api, namespace="ararat", master_key=first.master_key, cluster_uid="cluster-1"
    )
    one, two = await asyncio.gather(first.open(), twin.open("main"))
    assert (one.location_id, one.master) == (two.location_id, two.master)
    assert stored(tmp_path)["locationID"] == one.location_id


async def test_a_location_that_does_not_exist(tmp_path: Path) -> None:
    locations = Installation(tmp_path, "c").locations
    assert await reason_of(locations.open("mian"), NotFound) == "LocationNotFound"


async def test_another_cluster_may_only_read(tmp_path: Path) -> None:
    owner = await Installation(tmp_path, "cluster-1").open()
    before = stored(tmp_path)
    other = Installation(tmp_path, "cluster-2")
    other.give_key(owner.master)
    assert await reason_of(other.open(), AccessDenied) == "NotOwner"
    other.put(read_only=True, generation=2)
    reader = await other.open()
    assert (reader.owner, reader.writable) == ("cluster-1", False)
    assert stored(tmp_path) == before


async def test_a_location_is_taken_over_on_request_only(tmp_path: Path) -> None:
    first = Installation(tmp_path, "cluster-1")
    owner = await first.open()
    other = Installation(tmp_path, "cluster-2")
    other.give_key(owner.master)
    other.put(take_over="somebody-else")
    assert await reason_of(other.open(), AccessDenied) == "NotOwner"
    assert stored(tmp_path)["owner"] == "cluster-1"
    other.put(take_over="cluster-1")
    taken = await other.open()
    assert (taken.owner, taken.writable) == ("cluster-2", True)
    assert stored(tmp_path)["owner"] == "cluster-2"
    # The former owner notices at its next look, and from then on does not write.
    assert (await first.open()).writable
    assert await reason_of(first.check(), AccessDenied) == "NotOwner"
    assert await reason_of(first.open(), AccessDenied) == "NotOwner"


def wrong_key(first: Installation) -> None:
    first.give_key(keys.new_master_key())


def no_key(first: Installation) -> None:
    first.api.remove(SECRETS, "master-key", "ararat-keys")


def malformed_key(first: Installation) -> None:
    first.give_key(b"short")


def another_place(first: Installation) -> None:
    file = layout.LocationFile(location_id="other", owner="cluster-1", key_fingerprints=[])
    (first.directory / "location.json").write_bytes(file.encode())


def lost(first: Installation) -> None:
    (first.directory / "location.json").unlink()


def newer_format(first: Installation) -> None:
    content = {**stored(first.directory), "formatVersion": 2}
    (first.directory / "location.json").write_text(json.dumps(content))


def not_json(first: Installation) -> None:
    (first.directory / "location.json").write_text("{")


@pytest.mark.parametrize(
    ("harm", "kind", "reason"),
    [
        (wrong_key, WrongKey, "WrongKey"),
        (no_key, WrongKey, "KeyMissing"),
        (malformed_key, WrongKey, "WrongKey"),
        (another_place, Damaged, "LocationChanged"),
        (lost, Damaged, "LocationLost"),
        (newer_format, Damaged, "NewerFormat"),
        (not_json, Damaged, "Damaged"),
    ],
)
async def test_a_fault_is_found_by_a_check_and_by_every_open_after_it(
    tmp_path: Path, harm: Callable[[Installation], None], kind: type[AraratError], reason: str
) -> None:
    first = Installation(tmp_path, "cluster-1")
    location = await first.open()
    first.put(status={"locationID": location.location_id})
    harm(first)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    assert await reason_of(first.check(), kind) == reason
    assert await reason_of(first.open(), kind) == reason
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


@pytest.mark.parametrize("folder", ["backups/a/manifest.json", "repositories/objects/x/config"])
async def test_a_place_that_holds_data_is_never_begun_anew(tmp_path: Path, folder: str) -> None:
    await FilesystemStore(tmp_path).put(folder, b"x")
    first = Installation(tmp_path, "cluster-1")
    assert await reason_of(first.open(), Damaged) == "LocationLost"
    assert not (tmp_path / "location.json").exists()
    assert await first.master_key.get() is None


async def test_an_empty_place_is_not_begun_by_a_reader(tmp_path: Path) -> None:
    reader = Installation(tmp_path, "cluster-2", read_only=True)
    assert await reason_of(reader.open(), InvalidSpec) == "LocationEmpty"
    assert list(tmp_path.iterdir()) == []
    assert await reader.master_key.get() is None


async def test_a_directory_that_is_not_there_is_an_outage(tmp_path: Path) -> None:
    gone = Installation(tmp_path / "gone", "cluster-1")
    assert await reason_of(gone.open(), AraratError) == "ContainerNotFound"


async def test_an_outage_changes_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    directory.mkdir()
    first = Installation(directory, "cluster-1")
    location = await first.open()
    directory.rename(tmp_path / "away")
    assert await reason_of(first.check(), AraratError) == "ContainerNotFound"
    assert (await first.open()).store is location.store
    (tmp_path / "away").rename(directory)
    assert (await first.check()).location_id == location.location_id


async def test_stores_are_shared_until_the_spec_changes_and_closed_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[FilesystemStore] = []

    async def close(store: FilesystemStore) -> None:
        closed.append(store)

    monkeypatch.setattr(FilesystemStore, "close", close)
    first = Installation(tmp_path, "cluster-1")
    one = await first.open()
    assert (await first.open()).store is one.store
    first.put(generation=2)
    assert (await first.open()).store is one.store  # nothing has told of it yet
    first.locations.changed("main")
    two = await first.open()
    assert two.store is not one.store
    assert closed == []  # a run that began with the former may still use it
    first.locations.forget("main")
    three = await first.open()
    await first.locations.close()
    assert set(map(id, closed)) == {id(one.store), id(two.store), id(three.store)}


async def test_credentials_that_are_missing_are_named(tmp_path: Path) -> None:
    first = Installation(tmp_path, "cluster-1")
    first.api.put(
        LOCATIONS,
        {
            "metadata": {"name": "main", "namespace": "ararat", "generation": 9},
            "spec": {
                "azure": {
                    "accountName": "account",
                    "container": "backups",
                    "authentication": "AccountKey",
                    "credentialsSecret": "azure",
                }
            },
        },
    )
    assert await reason_of(first.open(), InvalidSpec) == "CredentialsNotFound"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "spec: exactly one of azure and filesystem must be set"),
        ({"filesystem": {"path": "x"}}, "spec.filesystem.path: String should match pattern '^/'"),
        (
            {"filesystem": {"path": "/x"}, "syncPeriodSeconds": 1},
            "spec.syncPeriodSeconds: Input should be greater than or equal to 5",
        ),
    ],
)
def test_a_wrong_spec_in_one_sentence(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="validation error") as caught:
        BackupLocation.parse({"metadata": {}, "spec": spec})
    assert first_error(caught.value) == message  # type: ignore[arg-type]
