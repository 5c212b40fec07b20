"""Commands in containers: the frames of ``v4.channel.k8s.io``.

The API server answers an exec with a WebSocket whose binary messages start with a channel number.
Channel 3 carries one Status object when the command ended; without it nobody knows whether the
command still runs, and the caller is told so (``ExecInterrupted``).
Limits: no stdin (v4 cannot signal its end) and no terminal.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from enum import IntEnum

import aiohttp

from .api import ExecResult
from .errors import ExecFailed, ExecInterrupted, shorten

PROTOCOL = "v4.channel.k8s.io"


class Channel(IntEnum):
    STDIN = 0
    STDOUT = 1
    STDERR = 2
    ERROR = 3


class Tail:
    """The last ``limit`` bytes of a stream: hooks print their reason last."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()
        self.truncated = False

    def add(self, data: bytes) -> None:
        self._data += data
        surplus = len(self._data) - self._limit
        if surplus > 0:
            del self._data[:surplus]
            self.truncated = True

    def value(self) -> bytes:
        return bytes(self._data)


def query(container: str, command: Sequence[str]) -> list[tuple[str, str]]:
    return [
        ("container", container),
        ("stdout", "true"),
        ("stderr", "true"),
        *(("command", argument) for argument in command),
    ]


def exit_code(status: bytes, *, what: str) -> int:
    """From the Status on the error channel. Raises ExecFailed where the command never ran."""
    try:
        answer = json.loads(status)
        if answer.get("status") == "Success":
            return 0
        if answer.get("reason") == "NonZeroExitCode":
            for cause in answer["details"]["causes"]:
                if cause.get("reason") == "ExitCode":
                    return int(cause["message"])
        text = str(answer.get("message") or answer.get("reason") or "no reason given")
    except (ValueError, KeyError, TypeError, AttributeError):
        text = status.decode(errors="replace")
    raise ExecFailed(f"{what}: {shorten(text)}")


async def frames(
    socket: aiohttp.ClientWebSocketResponse, *, what: str
) -> AsyncIterator[tuple[int, bytes]]:
    """(channel, data) up to and with the Status. Raises ExecInterrupted where it never comes."""
    async for message in socket:
        if message.type is aiohttp.WSMsgType.ERROR:
            break
        if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
            continue
        channel, data = message.data[0], message.data[1:]
        if data:  # every stream is opened by an empty frame
            yield channel, data
        if channel == Channel.ERROR and data:
            return
    cause = socket.exception()
    detail = f" ({shorten(str(cause))})" if cause else ""
    raise ExecInterrupted(
        f"{what}: the connection ended before the command did{detail}; it may still be running"
    ) from cause


async def collect(socket: aiohttp.ClientWebSocketResponse, *, what: str, limit: int) -> ExecResult:
    """Wait for the end and keep the tails of both streams."""
    stdout, stderr = Tail(limit), Tail(limit)
    code = -1
    async for channel, data in frames(socket, what=what):
        if channel == Channel.STDOUT:
            stdout.add(data)
        elif channel == Channel.STDERR:
            stderr.add(data)
        elif channel == Channel.ERROR:
            code = exit_code(data, what=what)
    return ExecResult(
        stdout=stdout.value(),
        stderr=stderr.value(),
        exit_code=code,
        truncated=stdout.truncated or stderr.truncated,
    )


async def stream(socket: aiohttp.ClientWebSocketResponse, *, what: str) -> AsyncIterator[bytes]:
    """Stdout as it comes. Raises ExecFailed with the tail of stderr unless the exit code is 0."""
    stderr = Tail(4096)
    async for channel, data in frames(socket, what=what):
        if channel == Channel.STDOUT:
            yield data
        elif channel == Channel.STDERR:
            stderr.add(data)
        elif channel == Channel.ERROR and (code := exit_code(data, what=what)):
            said = shorten(stderr.value().decode(errors="replace"))
            raise ExecFailed(f"{what}: exit code {code}: {said}", reason="ExecExitCode")
