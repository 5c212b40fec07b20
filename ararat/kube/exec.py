"""Commands in containers: the frames of ``v4.channel.k8s.io``.

The API server answers an exec with a WebSocket whose binary messages start with a channel number.
Channel 3 carries one Status object when the command ended; without it nobody knows whether the
command still runs, and the caller is told so (``ExecInterrupted``).
Limits: no stdin (v4 cannot signal its end) and no terminal.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import IntEnum

import aiohttp

from .api import ExecResult
from .errors import (
    ApiError,
    ApiUnavailable,
    ExecFailed,
    ExecInterrupted,
    Invalid,
    shorten,
)
from .resources import PODS
from .transport import REQUESTS, Transport, network_error

PROTOCOL = "v4.channel.k8s.io"


class Channel(IntEnum):
    STDIN = 0
    STDOUT = 1
    STDERR = 2
    ERROR = 3


@dataclass(frozen=True)
class Target:
    """A container."""

    namespace: str
    pod: str
    container: str

    def __str__(self) -> str:
        return f"exec in {self.namespace}/{self.pod} ({self.container})"

    @property
    def path(self) -> str:
        return PODS.path(namespace=self.namespace, name=self.pod, subresource="exec")


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


@asynccontextmanager
async def start(
    transport: Transport, target: Target, command: Sequence[str]
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """Start the command. Raises ExecInterrupted once it may run, anything else only before."""
    REQUESTS.labels("exec", PODS.qualified, "started").inc()
    try:
        async with transport.websocket(
            target.path, query=query(target.container, command), protocol=PROTOCOL
        ) as socket:
            yield socket
    except aiohttp.WSServerHandshakeError as error:
        raise await _why_refused(transport, target, error) from error
    except aiohttp.ClientConnectorError as error:
        raise network_error(str(target), error) from error
    except (aiohttp.ClientError, OSError) as error:
        raise network_error(f"{target}: it may be running", error, kind=ExecInterrupted) from error


async def _why_refused(
    transport: Transport, target: Target, error: aiohttp.WSServerHandshakeError
) -> ApiError:
    """Why a handshake was refused: aiohttp drops the body, so the same is asked without one.

    Without an upgrade nothing is ever run. The harmless command is for the server's checks.
    """
    if error.status >= 500:
        return ApiUnavailable(f"{target}: the node refused it (HTTP {error.status})")
    try:
        asked = query(target.container, ["true"])
        await transport.call("exec", "GET", target.path, what=str(target), query=asked)
    except Invalid as cause:
        return ExecFailed(cause.message)
    except ApiError as cause:
        return cause
    return ApiUnavailable(f"{target}: the server refused it (HTTP {error.status})")


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
