"""Packs of a store that is a directory, handed over to the socket without passing through us."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from ararat.blob.filesystem import FilesystemStore
from ararat.restic.handover import Handover
from ararat.restic.settings import MIB, Settings

from .serving import BASE, DIRECTORY, served

NAME = "b" * 64
BODY = os.urandom(MIB) * 24
WHOLE = {"Range": f"bytes=0-{len(BODY) - 1}"}


class Store(FilesystemStore):
    """Says which reads came through the process."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.root = root
        self.read_through: list[int] = []

    def read(
        self, name: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        self.read_through.append(offset)
        return super().read(name, offset=offset, length=length)


@pytest.fixture
async def store(work: Path) -> Store:
    made = Store(work)
    await made.put(f"{DIRECTORY}/data/bb/{NAME}", BODY)
    return made


async def back_to(number: int) -> None:
    """Descriptors are given back."""
    async with asyncio.timeout(60):
        while descriptors() > number:
            await asyncio.sleep(0.02)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_ranges_come_whole_and_never_through_us(store: Store, work: Path) -> None:
    async with served(store, work) as rest:
        url = f"{BASE}data/{NAME}"
        async with rest.http.get(url, headers=WHOLE) as answer:
            assert (answer.status, await answer.read()) == (206, BODY)
        before = descriptors()
        wanted = {"Range": f"bytes=5-{20 * MIB}"}

        async def slowly() -> bytes:
            async with rest.http.get(url, headers=wanted) as answer:
                await asyncio.sleep(0.3)  # both ends' buffers fill, and the hand-over waits
                return await answer.read()

        bodies = await asyncio.gather(*(slowly() for _ in range(12)))
        assert set(map(len, bodies)) == {20 * MIB - 4}
        assert all(body == BODY[5 : 20 * MIB + 1] for body in bodies)
        assert store.read_through == []
        assert rest.server.stats.operations["get data"].bytes_out == len(BODY) + 12 * len(bodies[0])
        assert rest.http.connector is not None
        await rest.http.connector.close()
        await back_to(before)
        # Small ones are not worth a thread.
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(rest.socket))) as http,
            http.get(url, headers={"Range": "bytes=7-9"}) as answer,
        ):
            assert await answer.read() == BODY[7:10]
        assert store.read_through == [7]


async def test_a_reader_that_leaves_is_no_failure(store: Store, work: Path) -> None:
    async with served(store, work) as rest:
        before = descriptors()
        for _ in range(3):
            reader, writer = await asyncio.open_unix_connection(str(rest.socket))
            head = f"GET /r/data/{NAME} HTTP/1.1\r\nHost: x\r\nRange: {WHOLE['Range']}\r\n\r\n"
            writer.write(head.encode())
            assert (await reader.readline()).split()[1] == b"206"
            writer.transport.abort()
        assert await rest.server.idle(10)
        await back_to(before)
        assert rest.fatal == []
        assert store.read_through == []


async def test_a_file_cut_off_meanwhile_ends_the_answer(store: Store, work: Path) -> None:
    async with served(store, work) as rest:
        url = f"{BASE}data/{NAME}"
        async with rest.http.get(url, headers=WHOLE) as answer:
            await answer.content.readexactly(MIB)
            os.truncate(store.root / DIRECTORY / "data" / "bb" / NAME, 20 * MIB)
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()
        assert store.read_through == [20 * MIB]
        async with rest.http.get(url, headers=WHOLE) as answer:
            assert answer.status == 416
        assert rest.fatal == []


async def test_a_file_that_cannot_be_handed_over_is_read(
    store: Store, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = os.sendfile

    def refuses(out: int, file: int, offset: int, count: int) -> int:
        if offset >= 9 * MIB:
            raise OSError(errno.EINVAL, "this file system does not")
        return send(out, file, offset, min(count, 9 * MIB - offset))

    monkeypatch.setattr(os, "sendfile", refuses)
    async with (
        served(store, work) as rest,
        rest.http.get(f"{BASE}data/{NAME}", headers=WHOLE) as answer,
    ):
        assert await answer.read() == BODY
    assert store.read_through == [9 * MIB]


async def test_a_file_that_hangs_ends_the_answer_and_then_the_session(
    store: Store, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def hangs(out: int, file: int, offset: int, count: int) -> int:
        over.wait(60)
        raise OSError(errno.EIO, "gone for good")

    monkeypatch.setattr(os, "sendfile", hangs)
    settings = Settings(attempt_seconds=0.2, start_patience=1.0, outage_patience=1.0)
    try:
        async with served(store, work, settings=settings) as rest:
            before = descriptors()
            with pytest.raises(aiohttp.ClientError):
                async with rest.http.get(f"{BASE}data/{NAME}", headers=WHOLE) as answer:
                    await answer.read()
            assert store.read_through == []  # nothing may follow bytes that may still come
            async with asyncio.timeout(60):
                while not rest.fatal:
                    with contextlib.suppress(aiohttp.ClientError):
                        async with rest.http.get(f"{BASE}data/{NAME}", headers=WHOLE) as answer:
                            await answer.read()
            over.set()
            await back_to(before)
    finally:
        over.set()


def test_closing_waits_for_the_step_under_way(tmp_path: Path) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)

    class Transport(asyncio.BaseTransport):
        def get_extra_info(self, name: str, default: object = None) -> object:
            return near

    path = tmp_path / "file"
    path.write_bytes(BODY)
    before = descriptors()
    handover = Handover(os.open(path, os.O_RDONLY), Transport(), offset=0)
    while handover.step(len(BODY)):
        pass  # until the socket is full

    def step() -> None:
        with contextlib.suppress(OSError):
            handover.step(MIB)

    thread = threading.Thread(target=step)
    thread.start()
    handover.close()
    handover.close()
    thread.join()
    assert descriptors() == before
    assert handover.step(MIB) == 0
    near.close()
    far.close()
