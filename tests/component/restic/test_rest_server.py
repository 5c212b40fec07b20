"""The REST server's rules, by requests made by hand over its socket."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ararat.blob.errors import ContainerNotFound, StoreThrottled, StoreUnreachable
from ararat.blob.store import BlobStore
from ararat.errors import AccessDenied, AraratError, OutOfSpace
from ararat.restic.models import Access
from ararat.restic.settings import MIB, Settings

from .conftest import directory_store
from .serving import BASE, DIRECTORY, Served, name_of, served
from .stores import FaultyStore

PACK = os.urandom(1000)
KINDS = ("data", "index", "keys", "locks", "snapshots")


@pytest.fixture
async def store(work: Path) -> AsyncIterator[BlobStore]:
    async with directory_store(work) as opened:
        yield opened


@pytest.fixture
async def rest(store: BlobStore, work: Path) -> AsyncIterator[Served]:
    async with served(store, work) as running:
        yield running


async def names(store: BlobStore) -> list[str]:
    return sorted([b.name.removeprefix(f"{DIRECTORY}/") async for b in store.list("")])


async def test_the_socket_is_private(rest: Served) -> None:
    assert stat.S_IMODE(rest.socket.stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", KINDS)
async def test_a_file_goes_in_and_comes_out(rest: Served, store: BlobStore, kind: str) -> None:
    name = name_of(PACK)
    assert await rest.status("HEAD", f"{kind}/{name}") == 404
    assert await rest.status("GET", f"{kind}/{name}") == 404
    assert await rest.post(kind, PACK) == 200
    stored = f"data/{name[:2]}/{name}" if kind == "data" else f"{kind}/{name}"
    assert await names(store) == [stored]
    async with rest.http.head(f"{BASE}{kind}/{name}") as answer:
        assert answer.headers["Content-Length"] == str(len(PACK))
    async with rest.http.get(f"{BASE}{kind}/{name}") as answer:
        assert (answer.status, await answer.read()) == (200, PACK)
    async with rest.http.get(f"{BASE}{kind}/{name}", headers={"Range": "bytes=10-19"}) as answer:
        assert (answer.status, await answer.read()) == (206, PACK[10:20])
        assert answer.headers["Content-Length"] == "10"
    async with rest.http.get(f"{BASE}{kind}/{name}", headers={"Range": "bytes=990-"}) as answer:
        assert await answer.read() == PACK[990:]
    async with rest.http.get(f"{BASE}{kind}/") as answer:
        assert answer.headers["Content-Type"] == "application/vnd.x.restic.rest.v2"
        assert json.loads(await answer.read()) == [{"name": name, "size": len(PACK)}]


async def test_an_empty_kind_lists_nothing(rest: Served) -> None:
    async with rest.http.get(f"{BASE}snapshots/") as answer:
        assert (answer.status, await answer.read()) == (200, b"[]")


async def test_a_range_beyond_the_end_is_416(rest: Served) -> None:
    await rest.post("data", PACK)
    for wanted in ("bytes=990-1009", "bytes=2000-2010"):
        async with rest.http.get(
            f"{BASE}data/{name_of(PACK)}", headers={"Range": wanted}
        ) as answer:
            assert answer.status == 416


async def test_a_large_file_that_is_too_short_is_416_the_second_time(
    store: BlobStore, work: Path
) -> None:
    name = "a" * 64
    await store.put(f"{DIRECTORY}/data/aa/{name}", os.urandom(3 * MIB))
    async with served(store, work) as rest:
        wanted = {"Range": f"bytes=0-{4 * MIB}"}
        with pytest.raises(aiohttp.ClientPayloadError):
            async with rest.http.get(f"{BASE}data/{name}", headers=wanted) as answer:
                await answer.read()
        async with rest.http.get(f"{BASE}data/{name}", headers=wanted) as answer:
            assert answer.status == 416
        async with rest.http.get(
            f"{BASE}data/{name}", headers={"Range": f"bytes=1-{3 * MIB - 1}"}
        ) as answer:
            assert answer.status == 206


async def test_a_large_file_streams_both_ways(store: BlobStore, work: Path) -> None:
    body = os.urandom(MIB) * 40
    async with served(store, work) as rest:
        assert await rest.post("data", body) == 200
        async with rest.http.get(f"{BASE}data/{name_of(body)}") as answer:
            assert await answer.read() == body
        wanted = {"Range": f"bytes=5-{30 * MIB}"}
        async with rest.http.get(f"{BASE}data/{name_of(body)}", headers=wanted) as answer:
            assert await answer.read() == body[5 : 30 * MIB + 1]


@pytest.mark.parametrize("size", [1000, 40 * MIB])
async def test_a_body_without_its_hash_is_not_stored(
    rest: Served, store: BlobStore, size: int
) -> None:
    assert await rest.post("data", b"x" * size, name="0" * 64) == 400
    assert await names(store) == []


@pytest.mark.parametrize("length", [2000, 40 * MIB])
async def test_half_a_body_is_not_stored(rest: Served, store: BlobStore, length: int) -> None:
    reader, writer = await asyncio.open_unix_connection(str(rest.socket))
    head = f"POST /r/data/{name_of(PACK)} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
    writer.write(head.encode() + PACK)
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.close()
    await asyncio.sleep(0.2)
    assert await names(store) == []
    assert await rest.post("data", PACK) == 200
    assert await rest.server.idle(2)
    assert rest.fatal == []
    del reader


async def test_nothing_is_overwritten(rest: Served, store: BlobStore) -> None:
    assert await rest.post("data", PACK) == 200
    assert await rest.post("data", PACK) == 200
    assert await rest.status("POST", "config", b"the config") == 200
    assert await rest.status("POST", "config", b"the config") == 200
    assert await rest.status("POST", "config", b"another one") == 403
    assert await rest.status("POST", "config", b"THE CONFIG") == 403
    assert await store.get(f"{DIRECTORY}/config") == b"the config"


async def test_a_name_with_other_content_is_refused(rest: Served, store: BlobStore) -> None:
    name = name_of(PACK)
    await store.put(f"{DIRECTORY}/data/{name[:2]}/{name}", b"cut short")
    assert await rest.post("data", PACK) == 403


async def test_a_node_job_deletes_nothing(rest: Served, store: BlobStore) -> None:
    for kind in KINDS:
        await store.put(f"{DIRECTORY}/{kind}/{'a' * 64}", b"older")
        path = f"data/{'a' * 2}/{'a' * 64}" if kind == "data" else f"{kind}/{'a' * 64}"
        await store.put(f"{DIRECTORY}/{path}", b"older")
        assert await rest.status("DELETE", f"{kind}/{'a' * 64}") == 403
        assert await store.get(f"{DIRECTORY}/{path}") == b"older"
    await store.put(f"{DIRECTORY}/config", b"older")
    assert await rest.status("DELETE", "config") == 403


async def test_deleting_what_this_session_saved_is_a_success_that_deletes_nothing(
    rest: Served, store: BlobStore
) -> None:
    for kind in ("data", "index", "keys", "snapshots"):
        await rest.post(kind, PACK)
        assert await rest.status("DELETE", f"{kind}/{name_of(PACK)}") == 200
    await rest.status("POST", "config", PACK)
    assert await rest.status("DELETE", "config") == 200
    assert len(await names(store)) == 5


async def test_own_locks_are_removed_and_carry_their_owner(rest: Served, store: BlobStore) -> None:
    await rest.post("locks", PACK)
    info = await store.head(f"{DIRECTORY}/locks/{name_of(PACK)}")
    assert info.metadata["ararat_job"] == "job-uid"
    assert info.metadata["ararat_pod_uid"] == "pod-uid"
    assert await rest.status("DELETE", f"locks/{name_of(PACK)}") == 200
    assert await names(store) == []
    # Asked again, as restic does where the answer was lost, and for one that never was.
    assert await rest.status("DELETE", f"locks/{name_of(PACK)}") == 200
    assert await rest.status("DELETE", f"locks/{'c' * 64}") == 200


async def test_locks_left_behind_are_swept_others_are_not(rest: Served, store: BlobStore) -> None:
    other = f"{DIRECTORY}/locks/{'b' * 64}"
    await store.put(other, b"somebody else's")
    await rest.post("locks", PACK)
    await rest.blobs.sweep()
    assert await names(store) == [f"locks/{'b' * 64}"]


async def test_maintenance_deletes_but_never_the_config(store: BlobStore, work: Path) -> None:
    await store.put(f"{DIRECTORY}/config", b"config")
    await store.put(f"{DIRECTORY}/index/{'a' * 64}", b"older")
    await store.put(f"{DIRECTORY}/locks/{'a' * 64}", b"not ours")
    async with served(store, work, access=Access.MAINTENANCE) as rest:
        assert await rest.post("data", PACK) == 200
        assert await rest.status("DELETE", f"data/{name_of(PACK)}") == 200
        assert await rest.status("DELETE", f"index/{'a' * 64}") == 200
        assert await rest.status("DELETE", f"index/{'c' * 64}") == 200
        assert await rest.status("DELETE", f"locks/{'a' * 64}") == 403
        assert await rest.status("DELETE", "config") == 403
    assert await names(store) == ["config", f"locks/{'a' * 64}"]


async def test_a_reader_writes_nothing(store: BlobStore, work: Path) -> None:
    await store.put(f"{DIRECTORY}/index/{'a' * 64}", b"older")
    async with served(store, work, access=Access.READ_ONLY) as rest:
        for kind in KINDS:
            assert await rest.post(kind, PACK) == 403
            assert await rest.status("DELETE", f"{kind}/{'a' * 64}") == 403
        assert await rest.status("POST", "config", b"x") == 403
        assert await rest.status("GET", f"index/{'a' * 64}") == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "../../etc/passwd"),
        ("GET", "data/../config"),
        ("GET", f"data/{'a' * 63}"),
        ("GET", f"data/{'A' * 64}"),
        ("GET", f"data/%2e%2e/{'a' * 64}"),
        ("GET", f"locks/{'a' * 64}/x"),
        ("GET", f"tmp/{'a' * 64}"),
        ("POST", "data/"),
        ("POST", ""),
        ("POST", f"data/{'a' * 64}?create=true&x"),
        ("DELETE", "data/"),
        ("DELETE", ""),
        ("PUT", f"data/{'a' * 64}"),
        ("PATCH", "config"),
        ("OPTIONS", "config"),
        ("BREW", "config"),
    ],
)
async def test_what_restic_never_sends_is_refused(
    rest: Served, store: BlobStore, method: str, path: str
) -> None:
    assert 400 <= await rest.status(method, path, b"x" if method == "POST" else None) < 500
    assert await names(store) == []
    assert rest.fatal == []


async def test_creating_is_accepted(rest: Served) -> None:
    assert await rest.status("POST", "?create=true", b"") == 200


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
async def test_nonsense_neither_stops_nor_fools_the_server(
    rest: Served, store: BlobStore, data: st.DataObject
) -> None:
    line = data.draw(
        st.one_of(
            st.binary(max_size=200),
            st.builds(
                lambda method, path, headers, body: (
                    f"{method} {path} HTTP/1.1\r\nHost: x\r\n".encode()
                    + b"".join(f"{k}: {v}\r\n".encode() for k, v in headers)
                    + b"\r\n"
                    + body
                ),
                st.sampled_from(["GET", "POST", "DELETE", "HEAD", "PUT"]),
                st.sampled_from(
                    ["/", "/r/", "/r/data/", f"/r/data/{'0' * 64}", "/r/x", "//r/config"]
                ),
                st.lists(
                    st.sampled_from(
                        [
                            ("Content-Length", "5"),
                            ("Content-Length", "-1"),
                            ("Content-Length", "99999999999999999"),
                            ("Transfer-Encoding", "chunked"),
                            ("Range", "bytes=-5"),
                            ("Range", "bytes=9-3"),
                            ("Range", "chapters=1-2"),
                            ("Expect", "100-continue"),
                            ("Upgrade", "websocket"),
                        ]
                    ),
                    max_size=3,
                ),
                st.binary(max_size=100),
            ),
        )
    )
    reader, writer = await asyncio.open_unix_connection(str(rest.socket))
    writer.write(line)
    writer.write_eof()
    try:
        async with asyncio.timeout(5):
            await reader.read()
    except ConnectionError:
        pass
    writer.close()
    assert await names(store) == []
    assert rest.fatal == []
    assert await rest.status("GET", "snapshots/") == 200


def once(exc: AraratError, operation: str, times: int = 1):
    left = [times]

    def fault(done: str, _name: str) -> AraratError | None:
        if done == operation and left[0]:
            left[0] -= 1
            return exc
        return None

    return fault


async def test_short_outages_are_ridden_out(store: BlobStore, work: Path) -> None:
    faulty = FaultyStore(store)
    async with served(faulty, work) as rest:
        assert await rest.status("GET", "snapshots/") == 200
        for exc in (
            StoreUnreachable("gone"),
            StoreThrottled("slow down", retry_after=0.1),
            AccessDenied("rotating"),
        ):
            for operation, request in (
                ("put", lambda: rest.post("data", os.urandom(100))),
                ("list", lambda: rest.status("GET", "index/")),
                ("head", lambda: rest.status("HEAD", "config")),
            ):
                faulty.before = once(exc, operation)
                assert await request() in (200, 404)
        assert rest.fatal == []


async def test_a_save_whose_answer_is_lost_is_a_success(store: BlobStore, work: Path) -> None:
    faulty = FaultyStore(store)
    async with served(faulty, work) as rest:
        await rest.status("GET", "snapshots/")
        faulty.after = once(StoreUnreachable("lost"), "put")
        assert await rest.post("data", PACK) == 200
        faulty.after = once(StoreUnreachable("lost"), "put")
        assert await rest.status("POST", "config", b"config") == 200
    assert len(await names(store)) == 2


async def test_a_reading_goes_on_where_the_store_dropped_it(store: BlobStore, work: Path) -> None:
    body = os.urandom(20 * MIB)
    faulty = FaultyStore(store)
    async with served(faulty, work) as rest:
        await rest.post("data", body)
        faulty.after = once(StoreUnreachable("cut"), "read", times=2)
        async with rest.http.get(f"{BASE}data/{name_of(body)}") as answer:
            assert await answer.read() == body
    assert sum(call.startswith("read") for call in faulty.calls) == 3


async def test_a_listing_that_breaks_off_is_never_given_out(store: BlobStore, work: Path) -> None:
    async with served(store, work) as rest:
        for _ in range(5):
            await rest.post("index", os.urandom(10))
    faulty = FaultyStore(store)
    async with served(faulty, work) as rest:
        faulty.after = once(StoreUnreachable("page lost"), "list")
        async with rest.http.get(f"{BASE}index/") as answer:
            assert len(json.loads(await answer.read())) == 5


@pytest.mark.parametrize(
    ("exc", "answered", "seconds"),
    [
        (StoreUnreachable("gone"), False, 2),
        (StoreUnreachable("gone"), True, 4),
        (ContainerNotFound("no container"), True, 2),
        (AccessDenied("refused"), True, 2),
    ],
)
async def test_a_long_outage_ends_the_session(
    store: BlobStore, work: Path, exc: AraratError, answered: bool, seconds: float
) -> None:
    faulty = FaultyStore(store)
    loop = asyncio.get_running_loop()
    async with served(faulty, work) as rest:
        if answered:
            assert await rest.status("GET", "snapshots/") == 200
        faulty.before = lambda _operation, _name: exc
        began = loop.time()
        assert await rest.status("GET", "snapshots/") == 403
        assert loop.time() - began == pytest.approx(seconds, abs=0.8)
        assert rest.fatal == [exc]
        # From now on at once, and whatever is asked: restic gives up on 403.
        began = loop.time()
        assert await rest.post("data", PACK) == 403
        assert await rest.status("DELETE", f"locks/{'a' * 64}") == 403
        assert loop.time() - began < 0.5


async def test_a_full_store_ends_the_session_at_once(store: BlobStore, work: Path) -> None:
    faulty = FaultyStore(store, before=once(OutOfSpace("full"), "put", times=99))
    async with served(faulty, work) as rest:
        assert await rest.post("data", PACK) == 403
        assert isinstance(rest.fatal[0], OutOfSpace)


async def test_a_call_that_hangs_is_an_outage(store: BlobStore, work: Path) -> None:
    faulty = FaultyStore(store)
    patience = Settings(outage_patience=1, start_patience=1, attempt_seconds=1)
    async with served(faulty, work, settings=patience) as rest:
        faulty.delay = 60
        assert await rest.status("GET", "snapshots/") == 403
        assert isinstance(rest.fatal[0], StoreUnreachable)


async def test_a_mistake_of_ours_is_not_retried_for_minutes(store: BlobStore, work: Path) -> None:
    class Broken(FaultyStore):
        async def head(self, name: str):
            raise ZeroDivisionError

    async with served(Broken(store), work) as rest:
        assert await rest.status("HEAD", "config") == 403
        assert rest.fatal


async def test_bodies_wait_for_the_memory_they_need(store: BlobStore, work: Path) -> None:
    faulty = FaultyStore(store, delay=0.05)
    async with served(faulty, work, budget=3 * MIB) as rest:
        bodies = [os.urandom(2 * MIB) for _ in range(6)]
        assert set(await asyncio.gather(*(rest.post("data", body) for body in bodies))) == {200}
        # A lock does not wait behind data.
        slow = asyncio.gather(*(rest.post("data", os.urandom(2 * MIB)) for _ in range(6)))
        await asyncio.sleep(0.02)
        assert await rest.post("locks", PACK) == 200
        assert not slow.done()
        await slow


async def test_saves_of_one_name_at_once_store_one_file(store: BlobStore, work: Path) -> None:
    faulty = FaultyStore(store, delay=0.02)
    async with served(faulty, work) as rest:
        answers = await asyncio.gather(*(rest.post("index", PACK) for _ in range(8)))
    assert set(answers) == {200}
    assert len(await names(store)) == 1


async def test_operations_are_counted(rest: Served) -> None:
    await rest.post("data", PACK)
    await rest.status("GET", f"data/{name_of(PACK)}")
    await rest.status("GET", f"data/{'a' * 64}")
    await rest.post("data", PACK, name="0" * 64)
    counted = rest.server.stats
    assert (counted.operations["post data"].requests, counted.operations["post data"].errors) == (
        2,
        1,
    )
    assert counted.operations["get data"].bytes_out == len(PACK)
    assert counted.bytes_in == 2 * len(PACK)


async def test_a_connection_is_kept(rest: Served) -> None:
    connector = aiohttp.UnixConnector(str(rest.socket), limit=1)
    async with aiohttp.ClientSession(connector=connector) as http:
        for _ in range(3):
            async with http.get(f"{BASE}data/{'a' * 64}") as answer:
                await answer.read()
                assert not answer.headers.get("Connection")
