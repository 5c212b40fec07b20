"""What becomes of restic's commands where the service itself fails, not a stand-in for it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from ararat.api.location import AzureLocation, BackupLocationSpec
from ararat.blob.errors import ContainerNotFound, StoreUnreachable
from ararat.blob.open import open_store
from ararat.errors import AccessDenied, AraratError
from ararat.restic.errors import ResticFailed
from ararat.restic.models import Access, BackupRequest, PruneRequest
from ararat.restic.settings import Settings
from tests.cluster.azurite import Azurite
from tests.cluster.process import free_port
from tests.component.blob.locations import account_key, location, new_container
from tests.component.blob.proxy import Fault, FaultProxy, Faults

from . import trees
from .conftest import HOST, Repository, Template


@pytest.fixture
async def proxy(azurite: Azurite) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(azurite).running() as running:
        yield running


@pytest.fixture
async def stored(
    proxy: FaultProxy, template: Template, work: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Repository]:
    """Three snapshots, one of them forgotten. A page of a listing is one blob."""
    container = await new_container(proxy.azurite)
    azure = location(proxy.azurite, container, endpoint=proxy.endpoint, ca_bundle=proxy.ca_pem)
    store = await open_store(BackupLocationSpec(azure=azure), account_key(proxy.azurite))
    repository = await template.copy_to(store, work)
    made = []
    for seed in (1, 2, 3):
        trees.fill(repository.volume, files=4, seed=seed)
        async with repository.open() as restic:
            made.append(await restic.backup(BackupRequest(source=repository.volume, host=HOST)))
    async with repository.open(Access.MAINTENANCE) as restic:
        assert made[0].snapshot_id
        await restic.forget([made[0].snapshot_id])
    monkeypatch.setattr("ararat.blob.azure.PAGE", 1)
    monkeypatch.setattr("ararat.blob.azure.DATA_PAGE", 1)
    yield repository
    await store.close()


def pages(kind: str, fault: Fault, *, first: bool = True) -> Faults:
    """Meets the pages of a kind's listing; the first one, or all others."""

    def pick(method: str, path: str) -> Fault | None:
        listing = method == "GET" and "comp=list" in path and kind in path
        return fault if listing and first is ("marker=" not in path) else None

    return pick


def ended(body: bytes) -> bytes:
    """A page that says it was the last one."""
    cut, count = re.subn(rb"<NextMarker>[^<]+</NextMarker>", b"<NextMarker />", body)
    assert count <= 1
    return cut


@pytest.mark.timeout(180)
async def test_prune_refuses_where_a_page_of_a_listing_is_dropped(
    stored: Repository, proxy: FaultProxy
) -> None:
    before = await stored.files()
    everything = PruneRequest(max_unused="0")
    async with stored.open(Access.MAINTENANCE) as restic:
        for kind in ("index", "data"):
            # The service says nothing of it: restic misses what it knows of. Of three indexes it
            # sees one, and two are needed.
            proxy.faults = pages(kind, Fault(rewrite=ended))
            with pytest.raises(ResticFailed):
                await restic.prune(everything)
    for kind in ("index", "data"):
        # The service fails on it: the listing is an error, never a shorter list.
        proxy.faults = pages(kind, Fault(status=404, code="ContainerNotFound"), first=False)
        async with stored.open(Access.MAINTENANCE) as restic:
            with pytest.raises(ContainerNotFound):
                await restic.prune(everything)

    proxy.faults = lambda _method, _path: None
    assert await stored.files() == before
    # It was for the pages alone.
    async with stored.open(Access.MAINTENANCE) as restic:
        await restic.prune(everything)
        assert (await restic.check(read_data_subset="100%")).ok
    assert await stored.files() != before


@pytest.mark.timeout(120)
async def test_each_cause_ends_a_job_in_time_and_is_named(
    azurite: Azurite, template: Template, work: Path
) -> None:
    """Nobody listens, no container, a wrong key: seconds each, not restic's 15 minutes."""
    assert Settings().start_patience <= 25  # and an orderly end
    container = await new_container(azurite)
    nowhere = f"https://127.0.0.1:{free_port('127.0.0.1')}/{azurite.account}"
    key, wrong = account_key(azurite), {"accountKey": b"d3Jvbmc="}

    async def job(
        number: int, azure: AzureLocation, secret: dict[str, bytes], kind: type[AraratError]
    ) -> None:
        store = await open_store(BackupLocationSpec(azure=azure), secret)
        folder = work / str(number)
        folder.mkdir()
        repository = Repository(store, folder, template.master, template.current)
        # The pause before a lock is given up is another matter.
        repository.settings = replace(repository.settings, closing=2.0)
        trees.fill(repository.volume, files=2)
        async with repository.open() as restic:
            with pytest.raises(kind):
                await restic.backup(BackupRequest(source=repository.volume, host=HOST))
        await store.close()

    async with asyncio.timeout(60):
        await asyncio.gather(
            job(1, location(azurite, container, endpoint=nowhere), key, StoreUnreachable),
            job(2, location(azurite, "not-there"), key, ContainerNotFound),
            job(3, location(azurite, container), wrong, AccessDenied),
        )
