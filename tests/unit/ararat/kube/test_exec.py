from __future__ import annotations

import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest

from ararat.kube import ExecFailed, ExecInterrupted
from ararat.kube.exec import Tail, collect, exit_code, query, stream

from .virtual import virtual

SUCCESS = json.dumps({"metadata": {}, "status": "Success"}).encode()


def ended_with(code: int) -> bytes:
    causes = [{"reason": "ExitCode", "message": str(code)}]
    return json.dumps(
        {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}
    ).encode()


class Socket:
    """A WebSocket that delivers these frames and then closes."""

    def __init__(self, *frames: tuple[int, bytes] | Exception) -> None:
        self.frames = frames
        self.error: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[Any]:
        for frame in self.frames:
            if isinstance(frame, Exception):
                self.error = frame
                yield SimpleNamespace(type=aiohttp.WSMsgType.ERROR, data=frame)
            else:
                channel, data = frame
                yield SimpleNamespace(type=aiohttp.WSMsgType.BINARY, data=bytes([channel]) + data)

    def exception(self) -> Exception | None:
        return self.error


def socket(*frames: tuple[int, bytes] | Exception) -> aiohttp.ClientWebSocketResponse:
    return cast("aiohttp.ClientWebSocketResponse", Socket(*frames))


@virtual
async def test_streams_are_kept_apart_and_the_exit_code_is_read():
    opening = [(0, b""), (1, b""), (2, b""), (3, b"")]
    frames = [*opening, (1, b"out\xff"), (2, b"err"), (1, b"put"), (3, ended_with(7))]
    result = await collect(socket(*frames), what="exec", limit=100)
    assert (result.stdout, result.stderr, result.exit_code) == (b"out\xffput", b"err", 7)
    assert not result.truncated


@virtual
async def test_of_much_output_the_end_is_kept():
    frames = [(1, b"0123456789")] * 100
    result = await collect(socket(*frames, (1, b"the end"), (3, SUCCESS)), what="exec", limit=10)
    assert result.stdout == b"789the end"
    assert result.truncated
    assert result.exit_code == 0


@virtual
async def test_a_connection_that_ends_first_says_that_the_command_may_still_run():
    for frames in ([(1, b"half")], [(1, b"half"), ConnectionResetError("reset by peer")]):
        with pytest.raises(ExecInterrupted, match="may still be running"):
            await collect(socket(*frames), what="exec", limit=10)


@virtual
async def test_stdout_is_streamed():
    parts = [data async for data in stream(socket((1, b"a"), (1, b"b"), (3, SUCCESS)), what="e")]
    assert parts == [b"a", b"b"]


@virtual
async def test_a_stream_that_fails_says_what_the_command_said():
    parts = []
    with pytest.raises(ExecFailed, match="exit code 2: no such table") as caught:  # noqa: PT012
        async for data in stream(
            socket((1, b"a"), (2, b"no such\ntable"), (3, ended_with(2))), what="exec"
        ):
            parts.append(data)
    assert parts == [b"a"]
    assert caught.value.reason == "ExecExitCode"


@pytest.mark.parametrize(
    "status",
    [
        b'{"status": "Failure", "message": "container not found"}',
        b'{"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": []}, '
        b'"message": "container not found"}',
        b"container not found",
        b'["container not found"]',
    ],
)
def test_a_command_that_never_ran_is_no_exit_code(status: bytes):
    with pytest.raises(ExecFailed, match="container not found"):
        exit_code(status, what="exec in web/a (main)")


def test_arguments_are_not_joined():
    assert query("main", ["sh", "-c", "a b"])[-3:] == [
        ("command", "sh"),
        ("command", "-c"),
        ("command", "a b"),
    ]


def test_a_tail_of_exactly_its_limit_is_whole():
    tail = Tail(3)
    tail.add(b"abc")
    assert (tail.value(), tail.truncated) == (b"abc", False)
    tail.add(b"d")
    assert (tail.value(), tail.truncated) == (b"bcd", True)
