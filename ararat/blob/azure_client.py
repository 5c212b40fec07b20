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
from azure.core.exceptions import AzureError, ClientAuthenticationError
from azure.core.pipeline.transport import AioHttpTransport
from azure.storage.blob.aio import ContainerClient, ExponentialRetry

from ararat.api.location import AzureLocation
from ararat.errors import InvalidSpec

from .login import Credential, endpoint
from .pace import shared_pace

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
_THROTTLED = (429, 503)
_PIECEWISE = 256 * 1024


class RetryPolicy(ExponentialRetry):
    """1, 3, 5 seconds (give or take one) between attempts, or what the service asks for.

    A service that asks for fewer requests is heard at its first word, not after the last attempt.
    """

    def __init__(self) -> None:
        super().__init__(initial_backoff=1, increment_base=2, retry_total=3, random_jitter_range=1)

    async def send(self, request: Any) -> Any:  # type: ignore[override] # as the SDK's own is
        """The SDK's own does not repeat a 429, and tells nobody of a 503 before the last one."""
        settings = self.configure_retries(request)
        below: Any = self.next
        pause: Any = self.sleep
        while True:
            response: Any = None
            error: AzureError | None = None
            try:
                response = await below.send(request)
            except ClientAuthenticationError:
                raise  # no token, no signature: not the service's word
            except AzureError as exc:
                error = exc
            answer = response.http_response if response is not None else None
            settings["retry_after"] = 0.0
            if answer is not None:
                settings["retry_after"] = _seconds(answer.headers.get("Retry-After"))
                if answer.status_code in _THROTTLED:
                    shared_pace().slow_down()
            repeat = answer is None or _is_passing(answer.status_code)
            if not repeat or not self.increment(
                settings, request=request.http_request, response=answer, error=error
            ):
                if error is not None:
                    raise error
                response.http_response.location_mode = settings["mode"]
                return response
            await pause(settings, request.context.transport)

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


def _is_passing(status: int) -> bool:
    """Whether the same request may well be answered in a moment."""
    return status in (408, 429) or (status >= 500 and status not in (501, 505))


def _seconds(text: str | None) -> float:
    try:
        return min(_MAX_RETRY_AFTER, max(0.0, float(text or 0)))
    except ValueError:
        return 0.0
