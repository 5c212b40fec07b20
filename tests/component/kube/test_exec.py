"""Exec over a real WebSocket: the API server of these tests has no node, so one is played here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from ararat.kube import (
    ApiNotFound,
    ApiUnavailable,
    ExecFailed,
    ExecInterrupted,
    KubeClient,
    connect,
)
from ararat.kube.exec import PROTOCOL

SUCCESS = b'\x03{"metadata":{},"status":"Success"}'
Play = Callable[[web.WebSocketResponse], Awaitable[None]]


class Server:
    def __init__(self) -> None:
        self.play: Play | None = None
        self.refuse: tuple[int, dict[str, object]] | None = None
        self.queries: list[list[str]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.refuse is not None:
            code, status = self.refuse
            return web.json_response({"kind": "Status", "code": code, **status}, status=code)
        self.queries.append(request.query.getall("command"))
        assert request.query["container"] == "main"
        assert request.headers["Authorization"] == "Bearer t0ken"
        socket = web.WebSocketResponse(protocols=(PROTOCOL,))
        await socket.prepare(request)
        assert self.play is not None
        await self.play(socket)
        return socket


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def api(server: Server, tmp_path: Path) -> AsyncIterator[KubeClient]:
    app = web.Application()
    app.router.add_get("/api/v1/namespaces/web/pods/a/exec", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    config = tmp_path / "kubeconfig"
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    config.write_text(
        json.dumps(
            {
                "clusters": [{"name": "a", "cluster": {"server": address}}],
                "users": [{"name": "a", "user": {"token": "t0ken"}}],
                "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
                "current-context": "a",
            }
        )
    )
    async with connect(config) as client:
        yield client
    await runner.cleanup()


async def test_a_command_and_what_it_says(server: Server, api: KubeClient):
    async def play(socket: web.WebSocketResponse) -> None:
        for channel in range(4):
            await socket.send_bytes(bytes([channel]))
        await socket.send_bytes(b"\x01hello ")
        await socket.send_bytes(b"\x02oops")
        await socket.send_bytes(b"\x01world")
        await socket.send_bytes(SUCCESS)
        await socket.close()

    server.play = play
    result = await api.exec("web", "a", "main", ["sh", "-c", "echo 'a & b' #?"])
    assert (result.stdout, result.stderr, result.exit_code) == (b"hello world", b"oops", 0)
    assert server.queries == [["sh", "-c", "echo 'a & b' #?"]]


async def test_a_command_that_does_not_end_in_time(server: Server, api: KubeClient):
    async def play(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(b"\x01working")
        await socket.receive()

    server.play = play
    start = asyncio.get_running_loop().time()
    with pytest.raises(ExecInterrupted, match="may still be running") as caught:
        await api.exec("web", "a", "main", ["fsfreeze"], timeout=0.5)
    assert caught.value.reason == "ExecTimeout"
    assert asyncio.get_running_loop().time() - start < 4


async def test_a_connection_that_breaks(server: Server, api: KubeClient):
    async def play(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(b"\x01working")
        transport = socket._req.transport if socket._req else None
        assert transport is not None
        transport.abort()

    server.play = play
    with pytest.raises(ExecInterrupted, match="may still be running"):
        await api.exec("web", "a", "main", ["fsfreeze"])


async def test_a_large_output_is_streamed_with_back_pressure(server: Server, api: KubeClient):
    total = 64 << 20
    sent = 0

    async def play(socket: web.WebSocketResponse) -> None:
        nonlocal sent
        while sent < total:
            await socket.send_bytes(b"\x01" + b"x" * 32768)
            sent += 32768
        await socket.send_bytes(SUCCESS)
        await socket.close()

    server.play = play
    got = 0
    ahead = 0
    async for data in api.exec_stream("web", "a", "main", ["cat", "/dump"]):
        if got == 0:
            await asyncio.sleep(0.5)  # a slow reader: the other side must wait
        got += len(data)
        ahead = max(ahead, sent - got)
    assert got == total
    assert ahead < 24 << 20


async def test_a_refusal_says_why(server: Server, api: KubeClient):
    server.refuse = (404, {"message": 'pods "a" not found', "details": {"name": "a"}})
    with pytest.raises(ApiNotFound, match="not found"):
        await api.exec("web", "a", "main", ["true"])
    server.refuse = (500, {"message": "dial tcp: no route to host"})
    with pytest.raises(ApiUnavailable, match="the node refused it"):
        await api.exec("web", "a", "main", ["true"])
    server.refuse = (400, {"message": "container main is not valid for pod a", "details": {}})
    with pytest.raises(ExecFailed, match="container main is not valid"):
        await api.exec("web", "a", "main", ["true"])


async def test_where_nobody_listens_nothing_was_started(tmp_path: Path):
    config = tmp_path / "kubeconfig"
    config.write_text(
        json.dumps(
            {
                "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}],
                "users": [{"name": "a", "user": {}}],
                "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
                "current-context": "a",
            }
        )
    )
    async with connect(config) as api:
        with pytest.raises(ApiUnavailable) as caught:
            await api.exec("web", "a", "main", ["fsfreeze"])
    assert not isinstance(caught.value, ExecInterrupted)
