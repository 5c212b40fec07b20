"""How Ararat connects to Azure Blob Storage.

Decision: one aiohttp session per store with one TLS context (the SDK would make a new context, and
so a new connection, for every request once a CA bundle is given); our own retry policy, because the
SDK's waits 15 s before its first retry and ignores Retry-After. A rotated key or SAS makes a new
client over the same session.
Limits: data plane only; the container must exist.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from azure.core.pipeline.transport import AioHttpTransport
from azure.storage.blob.aio import ContainerClient, ExponentialRetry

from ararat.api.location import AzureLocation
from ararat.errors import InvalidSpec

from .login import Credential, endpoint

MIB = 1024 * 1024
#: A connection that is not there after this long will not come; four attempts stay below 30 s.
CONNECT_SECONDS = 5
#: Silence on an open connection; a store that is busy answers 503 well before.
READ_SECONDS = 30
#: Both directions of two jobs with restic's five connections each, and our own requests.
CONNECTIONS = 32
#: What a connection holds of a download before it is made to wait.
READ_BUFFER = MIB // 4
#: Larger than any body that is stored from memory, so that it is always one Put Blob.
SINGLE_PUT = 64 * MIB
_MAX_RETRY_AFTER = 30.0
_PIECEWISE = 256 * 1024


class RetryPolicy(ExponentialRetry):
    """1, 3, 5 seconds (give or take one) between attempts, or what the service asks for."""

    def __init__(self) -> None:
        super().__init__(initial_backoff=1, increment_base=2, retry_total=3, random_jitter_range=1)

    def increment(
        self, settings: Any, request: Any, response: Any = None, error: Any = None
    ) -> Any:
        settings["retry_after"] = _seconds(response.headers.get("Retry-After")) if response else 0.0
        return super().increment(settings, request, response, error)

    def get_backoff_time(self, settings: dict[str, Any]) -> float:
        asked = float(settings.get("retry_after", 0.0))
        return max(0.0, super().get_backoff_time(settings), asked)


class PiecewiseTransport(AioHttpTransport):  # type: ignore[misc] # its base is untyped
    """Sends bodies in pieces.

    aiohttp hands a body of bytes to the connection in one go, and TLS then holds it twice more;
    a BytesIO it copies. That would be three times 16 MiB for each of a job's uploads.
    """

    def _get_request_data(self, request: Any) -> Any:
        # Private to azure-core; without it bodies are only sent less sparingly.
        data = super()._get_request_data(request)
        if isinstance(data, bytes) and len(data) > _PIECEWISE:
            return _pieces(data)
        return data


async def _pieces(data: bytes) -> AsyncIterator[memoryview]:
    """The SDK has set Content-Length already; it asks anew for each attempt."""
    view = memoryview(data)
    for start in range(0, len(view), _PIECEWISE):
        yield view[start : start + _PIECEWISE]


def transport(location: AzureLocation) -> AioHttpTransport:
    """Connections of one store; must be called in a running event loop."""
    context = ssl.create_default_context()
    if location.ca_bundle:
        try:
            context.load_verify_locations(cadata=location.ca_bundle)
        except ssl.SSLError as exc:
            raise InvalidSpec("azure.caBundle holds no readable PEM certificate") from exc
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            ssl=context, limit=CONNECTIONS, keepalive_timeout=60, socket_factory=_socket
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=True,
        read_bufsize=READ_BUFFER,
    )
    return PiecewiseTransport(session=session, connection_data_block_size=_PIECEWISE)


def client(
    location: AzureLocation, login: Credential, connections: AioHttpTransport
) -> ContainerClient:
    """A client of the container; cheap, made anew when credentials rotate."""
    # The SDK logs every request's headers at INFO.
    logging.getLogger("azure").setLevel(logging.WARNING)
    return ContainerClient(
        endpoint(location),
        location.container,
        credential=login,
        transport=connections,
        retry_policy=RetryPolicy(),
        connection_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_single_put_size=SINGLE_PUT,
    )


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A connection whose data nobody acknowledges breaks, also in the middle of an upload."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, READ_SECONDS * 1000)
    return made


def _seconds(text: str | None) -> float:
    try:
        return min(_MAX_RETRY_AFTER, max(0.0, float(text or 0)))
    except ValueError:
        return 0.0
