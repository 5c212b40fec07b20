"""What only the Azure store meets: logins, faults of network and service, rotation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.storage.blob import (
    AccountSasPermissions,
    ContainerSasPermissions,
    ResourceTypes,
    generate_account_sas,
    generate_container_sas,
)

from ararat.api.location import Authentication, BackupLocationSpec
from ararat.blob.azure import AzureStore
from ararat.blob.errors import ContainerNotFound, StoreThrottled, StoreUnreachable
from ararat.blob.open import open_store
from ararat.errors import AccessDenied, Conflict, InvalidSpec, NotFound
from tests.cluster.azurite import Azurite
from tests.cluster.process import free_port

from .locations import account_key, location, new_container
from .proxy import Fault, FaultProxy, times

SOON = timedelta(hours=1)


@pytest.fixture
async def container(azurite: Azurite) -> str:
    return await new_container(azurite)


@pytest.fixture
async def proxy(azurite: Azurite) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(azurite).running() as running:
        yield running


@pytest.fixture
async def store(proxy: FaultProxy, container: str) -> AsyncIterator[AzureStore]:
    azure = location(
        proxy.azurite, container, prefix="p", endpoint=proxy.endpoint, ca_bundle=proxy.ca_pem
    )
    opened = AzureStore(azure, account_key(proxy.azurite))
    yield opened
    await opened.close()


def container_sas(
    azurite: Azurite, container: str, permissions: str = "racwdl", **more: Any
) -> str:
    return generate_container_sas(
        azurite.account,
        container,
        account_key=azurite.key,
        permission=ContainerSasPermissions.from_string(permissions),
        **{"expiry": datetime.now(UTC) + SOON, **more},
    )


def account_sas(azurite: Azurite) -> str:
    return generate_account_sas(
        azurite.account,
        azurite.key,
        ResourceTypes(container=True, object=True),
        AccountSasPermissions.from_string("racwdl"),
        datetime.now(UTC) + SOON,
    )


async def open_sas(azurite: Azurite, container: str, sas: str) -> Any:
    azure = location(azurite, container, authentication=Authentication.SAS)
    return await open_store(BackupLocationSpec(azure=azure), {"sas": sas.encode()})


@pytest.mark.parametrize("form", ["container", "account", "with a question mark", "with a newline"])
async def test_shared_access_signatures(azurite: Azurite, container: str, form: str) -> None:
    sas = account_sas(azurite) if form == "account" else container_sas(azurite, container)
    if form == "with a question mark":
        sas = f"?{sas}"
    if form == "with a newline":
        sas = f"{sas}\n"
    store = await open_sas(azurite, container, sas)
    await store.put("a/b", b"1", create_only=True, metadata={"k": "v"})
    assert [blob.name async for blob in store.list("", metadata=True)] == ["a/b"]
    assert await store.list_directories("") == ["a"]
    await store.now()
    await store.delete("a/b")
    await store.close()


@pytest.mark.parametrize("form", ["expired", "wrong", "key"])
async def test_refused_credentials(azurite: Azurite, container: str, form: str) -> None:
    if form == "expired":
        past = datetime.now(UTC) - SOON
        sas = container_sas(azurite, container, start=past - SOON, expiry=past)
        store = await open_sas(azurite, container, sas)
    elif form == "wrong":
        sas = container_sas(azurite, container)
        store = await open_sas(azurite, container, sas.replace("sig=", "sig=AA"))
    else:
        wrong = {"accountKey": b"d3Jvbmc="}
        store = await open_store(BackupLocationSpec(azure=location(azurite, container)), wrong)
    for call in (store.get("x"), store.head("x"), store.put("x", b""), store.list_directories("")):
        with pytest.raises(AccessDenied) as caught:
            await call
        assert "sig" not in caught.value.message
    await store.close()


@pytest.mark.parametrize("secret", [{}, {"sas": b"x"}, {"accountKey": b"\xff"}])
async def test_a_secret_without_the_key(azurite: Azurite, secret: dict[str, bytes]) -> None:
    with pytest.raises(AccessDenied, match="azure"):
        await open_store(BackupLocationSpec(azure=location(azurite, "any")), secret)


async def test_workload_identity_needs_its_webhook(
    azurite: Azurite, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    azure = location(azurite, "any", authentication=Authentication.WORKLOAD_IDENTITY)
    with pytest.raises(InvalidSpec, match="workload identity"):
        await open_store(BackupLocationSpec(azure=azure), {})


async def test_a_rotated_credential_is_taken_up_by_itself(azurite: Azurite, container: str) -> None:
    """The Secret changes while a store is open: the next refused request reads it again."""
    secret = {"accountKey": b"b2xkIGtleQ=="}
    asked = 0

    async def reload() -> dict[str, bytes]:
        nonlocal asked
        asked += 1
        return secret

    spec = BackupLocationSpec(azure=location(azurite, container))
    store = await open_store(spec, secret, reload=reload)
    with pytest.raises(AccessDenied):
        await store.put("a", b"1")
    assert asked == 1
    secret = account_key(azurite)
    await asyncio.sleep(5.1)  # the pause between two looks at the Secret
    await asyncio.gather(*(store.put(f"a{n}", b"1") for n in range(5)))
    assert asked == 2
    assert len([blob async for blob in store.list("")]) == 5
    await store.close()


async def test_a_missing_container_is_an_outage(azurite: Azurite) -> None:
    store = AzureStore(location(azurite, "not-there"), account_key(azurite))

    async def listing() -> None:
        async for _ in store.list(""):
            pass

    async def stream() -> AsyncIterator[bytes]:
        yield b"x"

    for call in (
        store.get("x"),
        store.head("x"),
        store.put("x", b"1"),
        store.put("x", b"1", create_only=True),
        store.put_stream("x", stream()),
        store.delete("x"),
        store.list_directories(""),
        store.now(),
        listing(),
    ):
        with pytest.raises(ContainerNotFound, match="create the container"):
            await call
    await store.close()


async def test_an_unknown_authority_is_not_trusted(azurite: Azurite, container: str) -> None:
    azure = location(azurite, container).model_copy(update={"ca_bundle": None})
    store = AzureStore(azure, account_key(azurite))
    began = time.monotonic()
    with pytest.raises(StoreUnreachable):
        await store.get("x")
    assert time.monotonic() - began < 30
    await store.close()


async def test_a_broken_bundle_is_said_to_be_broken(azurite: Azurite, container: str) -> None:
    azure = location(azurite, container).model_copy(update={"ca_bundle": "no certificate"})
    with pytest.raises(InvalidSpec, match="caBundle"):
        AzureStore(azure, account_key(azurite))


async def test_a_server_that_is_not_there_is_known_within_30_seconds(azurite: Azurite) -> None:
    nowhere = f"https://127.0.0.1:{free_port('127.0.0.1')}/{azurite.account}"
    store = AzureStore(location(azurite, "any", endpoint=nowhere), account_key(azurite))
    began = time.monotonic()
    with pytest.raises(StoreUnreachable, match="cannot be reached"):
        await store.get("x")
    assert time.monotonic() - began < 30
    await store.close()


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500, code="InternalError"),
        Fault(status=503, code="ServerBusy", headers={"Retry-After": "1"}),
        Fault(reset=True),
        Fault(cut_after=10),
    ],
)
async def test_short_faults_are_not_seen(
    store: AzureStore, proxy: FaultProxy, fault: Fault
) -> None:
    await store.put("x", b"content" * 100)
    proxy.faults = times(1, fault, method="GET")
    assert await store.get("x") == b"content" * 100
    proxy.faults = times(1, fault, method="GET")
    assert [blob.name async for blob in store.list("")] == ["x"]
    if fault.cut_after is None:
        proxy.faults = times(1, fault, method="GET")
        assert abs((await store.now()).timestamp() - time.time()) < 60
        proxy.faults = times(1, fault, method="PUT")
        await store.put("y", b"1")
        assert await store.get("y") == b"1"


async def test_the_service_is_asked_again_when_it_says(
    store: AzureStore, proxy: FaultProxy
) -> None:
    proxy.faults = times(1, Fault(status=503, code="ServerBusy", headers={"Retry-After": "6"}))
    began = time.monotonic()
    await store.put("x", b"1")
    assert 5.5 < time.monotonic() - began < 9


async def test_a_throttled_answer_is_told_from_an_outage(
    store: AzureStore, proxy: FaultProxy
) -> None:
    proxy.faults = times(9, Fault(status=429, headers={"Retry-After": "3"}))
    with pytest.raises(StoreThrottled) as caught:
        await store.put("x", b"1")
    assert caught.value.retry_after == 3


async def test_a_lost_answer_to_a_create_only_put(store: AzureStore, proxy: FaultProxy) -> None:
    """The SDK's own second attempt meets the first one's success."""
    proxy.faults = times(1, Fault(lose_answer=True), method="PUT")
    try:
        await store.put("x", b"mine", create_only=True)
    except Conflict:
        assert await store.get("x") == b"mine"


async def test_a_page_of_a_listing_that_fails_is_never_left_out(
    store: AzureStore, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ararat.blob.azure.PAGE", 3)
    for number in range(8):
        await store.put(f"n{number}", b"")
    for fault in (Fault(status=500), Fault(reset=True), Fault(cut_after=50)):
        proxy.faults = times(1, fault, part="marker=")
        assert len([blob async for blob in store.list("")]) == 8
    proxy.faults = times(99, Fault(status=404, code="ContainerNotFound"), part="marker=")
    with pytest.raises(ContainerNotFound):
        [blob async for blob in store.list("")]


async def test_a_silent_404_is_looked_into(store: AzureStore, proxy: FaultProxy) -> None:
    proxy.faults = times(1, Fault(status=404), method="HEAD")
    with pytest.raises(NotFound):
        await store.head("x")
    proxy.faults = lambda method, _path: (
        Fault(status=404) if method == "HEAD" else Fault(status=404, code="ContainerNotFound")
    )
    with pytest.raises(ContainerNotFound):
        await store.head("x")


async def test_one_connection_serves_many_requests(azurite: Azurite, container: str) -> None:
    """With a CA bundle the SDK would shake hands anew for every request."""
    store = AzureStore(location(azurite, container), account_key(azurite))
    await store.put("x", b"1")
    began = time.monotonic()
    for _ in range(20):
        await store.head("x")
    connector = store._transport.session.connector
    assert connector is not None
    assert sum(len(found) for found in connector._conns.values()) == 1
    assert time.monotonic() - began < 5
    await store.close()


async def test_a_download_goes_on_where_it_was_cut(store: AzureStore, proxy: FaultProxy) -> None:
    data = bytes(range(256)) * 4096
    await store.put("x", data)
    proxy.faults = times(2, Fault(cut_after=300_000), method="GET")
    before = len(proxy.seen)
    assert await store.get("x") == data
    assert len(proxy.seen) - before == 3
    proxy.faults = times(1, Fault(cut_after=1000), method="GET")
    assert b"".join([p async for p in store.read("x", offset=7, length=5000)]) == data[7:5007]
    proxy.faults = times(99, Fault(cut_after=0), method="GET")
    with pytest.raises(StoreUnreachable, match="breaks off"):
        await store.get("x")


async def test_two_versions_of_a_blob_are_never_mixed(store: AzureStore, proxy: FaultProxy) -> None:
    await store.put("x", b"a" * 1_000_000)
    proxy.faults = times(1, Fault(cut_after=300_000), method="GET")
    pieces = store.read("x")
    assert set(await anext(pieces)) == set(b"a")
    await store.put("x", b"b" * 1_000_000)
    seen: set[int] = set()

    async def go_on() -> None:
        async for piece in pieces:
            seen.update(piece)

    with pytest.raises(StoreUnreachable, match="changed while it was read"):
        await go_on()
    assert seen <= set(b"a")
