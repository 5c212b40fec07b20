"""``location check`` tries each thing for real, says what fails, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from ararat.api.location import Authentication, BackupLocationSpec
from ararat.blob import probe as probing
from ararat.blob.open import open_store
from ararat.blob.probe import Step, probe
from ararat.blob.store import BlobStore
from tests.cluster.azurite import Azurite

from .locations import account_key, location, new_container
from .test_azure import container_sas

STEPS = ["reach and log in", "list", "write", "read", "delete", "upload rate", "download rate"]


def results(steps: Sequence[Step]) -> dict[str, bool | None]:
    return {step.name: step.ok for step in steps}


async def names(store: BlobStore) -> list[str]:
    return [blob.name async for blob in store.list("")]


async def test_a_store_that_works(store: BlobStore) -> None:
    await store.put("location.json", b"{}")
    steps = await probe(store, writes=True)
    assert results(steps) == dict.fromkeys(STEPS, True), steps
    assert "ms" in steps[0].detail
    assert "MiB/s" in steps[-1].detail
    assert await names(store) == ["location.json"]


async def test_a_location_that_is_only_read_is_not_written_to(store: BlobStore) -> None:
    steps = await probe(store, writes=False)
    assert results(steps) == {
        **dict.fromkeys(STEPS[:2], True),
        **dict.fromkeys(STEPS[2:5], None),
    }
    assert await names(store) == []


async def test_a_check_that_is_interrupted_leaves_nothing(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = asyncio.Event()

    async def hang(_self: object) -> str:
        reached.set()
        await asyncio.sleep(3600)
        return ""

    monkeypatch.setattr(probing._Prober, "_read", hang)
    task = asyncio.create_task(probe(store, writes=True))
    await reached.wait()
    assert await names(store)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await names(store) == []


async def test_what_a_killed_check_left_is_removed_by_a_later_one(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put("probes/0123456789abcdef/large", b"left behind")
    await probe(store, writes=True)
    assert await names(store) == ["probes/0123456789abcdef/large"], "it may be another's, and new"
    monkeypatch.setattr(probing, "_ABANDONED", -probing._ABANDONED)
    await probe(store, writes=True)
    assert await names(store) == []


async def test_the_first_thing_that_fails_is_named(azurite: Azurite) -> None:
    store = await open_store(
        BackupLocationSpec(azure=location(azurite, "not-there")), account_key(azurite)
    )
    steps = await probe(store, writes=True)
    assert (steps[0].ok, {step.ok for step in steps[1:]}) == (False, {None})
    assert steps[0].detail.startswith("ContainerNotFound: ")
    await store.close()


async def test_a_signature_without_the_right_to_delete(azurite: Azurite) -> None:
    """What is left then is said, with its name."""
    container = await new_container(azurite)
    store = await open_store(
        BackupLocationSpec(azure=location(azurite, container, authentication=Authentication.SAS)),
        {"sas": container_sas(azurite, container, "racwl").encode()},
    )
    steps = await probe(store, writes=True)
    found = results(steps)
    assert found["write"] is True
    assert found["delete"] is False
    assert found["upload rate"] is None
    assert found["clean up"] is False
    assert "probes/" in steps[-1].detail
    await store.close()
