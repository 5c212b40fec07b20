"""One connection pool to one API server: calls with deadlines, typed errors, numbers.

Problem: ``kubernetes.aio`` maps answers by status code (a server-side apply that creates comes back
as None), lets aiohttp's errors through, gives watches no idle deadline and walks every body twice.
Decision: its configuration (token refresh, kubeconfig, TLS) and its REST layer are used, its
generated classes are not: addresses come ready, bodies are plain JSON, and everything that can go
wrong leaves here as one of ``ararat.kube.errors``.
A refusal that was surely not executed (429), and a read that failed with a Retry-After, are
repeated within the call's deadline, as the server asks. Everything else is the caller's decision.
At most ``parallel`` calls are in flight; Leases pass the queue, so that a busy controller does not
lose its leadership to its own lists.
Limits: a rotated cluster CA needs a restart. Watches and execs do not count as calls in flight.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Any
from urllib.parse import urlencode

import aiohttp
from prometheus_client import Counter, Histogram
from yarl import URL

from ararat import __version__

from .errors import (
    ApiError,
    ApiUnavailable,
    TooManyRequests,
    from_status,
    parse_retry_after,
    parse_status,
    shorten,
)
from .library import Configuration, RESTClientObject
from .resources import LEASES, SECRETS, ResourceType

REQUESTS = Counter(
    "ararat_kube_requests", "Calls to the API server.", ["verb", "resource", "outcome"]
)
LATENCY = Histogram(
    "ararat_kube_request_seconds",
    "Time of calls to the API server, waiting and repeats included.",
    ["verb"],
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60),
)
CONNECT_SECONDS = 10
#: Reason of a call that got no answer within its deadline.
TIMED_OUT = "ApiTimeout"
#: How often one call is repeated at the server's request.
REPEATS = 5

Query = list[tuple[str, str]]


class Transport:
    """See the module. ``reauthenticate`` is awaited once when the server answers 401."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        timeout: float = 30,
        parallel: int = 64,
        reauthenticate: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        # The CA of a cluster is trusted as kubectl trusts it: RFC 5280's strict checks, the default
        # of Python 3.13, refuse the certificates of many distributions.
        configuration.disable_strict_ssl_verification = True
        configuration.connection_pool_maxsize = 0  # bounded by ``parallel``; watches come on top
        self._configuration = configuration
        self._timeout = timeout
        self._gate = asyncio.Semaphore(parallel)
        self._reauthenticate = reauthenticate
        self._rest = RESTClientObject(configuration)

    async def close(self) -> None:
        await self._rest.close()

    async def call(
        self,
        verb: str,
        method: str,
        path: str,
        *,
        what: str,
        rt: ResourceType | None = None,
        query: Query | None = None,
        body: Any = None,
        content_type: str = "application/json",
        raw: bool = False,
    ) -> Any:
        """One call with its deadline and the repeats the server asks for; decoded unless ``raw``.

        ``verb`` is for the metrics, ``what`` names the call in errors.
        """
        url = self._url(path, query)
        clock = asyncio.get_running_loop().time
        started = clock()
        outcome = "cancelled"
        try:
            async with (
                asyncio.timeout(self._timeout),
                nullcontext() if rt == LEASES else self._gate,
            ):
                for repeat in range(REPEATS + 1):
                    try:
                        data = await self._once(
                            method,
                            url,
                            what=what,
                            body=body,
                            content_type=content_type,
                            secret=rt == SECRETS,
                        )
                        break
                    except ApiError as error:
                        pause = _pause(error, method)
                        left = started + self._timeout - clock()
                        if pause is None or pause >= left or repeat == REPEATS:
                            raise
                    await asyncio.sleep(pause)
            answer = data if raw else _decode(data, what)
            outcome = "ok"
        except TimeoutError as error:
            outcome = TIMED_OUT
            raise ApiUnavailable(
                f"{what}: no answer within {self._timeout:g} s", reason=TIMED_OUT
            ) from error
        except ApiError as error:
            outcome = error.reason
            raise
        finally:
            REQUESTS.labels(verb, rt.qualified if rt else "-", outcome).inc()
            LATENCY.labels(verb).observe(clock() - started)
        return answer

    async def _once(
        self, method: str, url: URL, *, what: str, body: Any, content_type: str, secret: bool
    ) -> bytes:
        limit = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        for may_log_in in (True, False):
            try:
                response = await self._send(
                    method, url, timeout=limit, body=body, content_type=content_type
                )
                data = await response.read()
            except (aiohttp.ClientError, OSError) as error:
                raise network_error(what, error) from error
            if response.status < 300:
                return data
            if response.status != 401 or self._reauthenticate is None or not may_log_in:
                break
            await self._reauthenticate()
        raise failure(what, response, data, secret=secret)

    @asynccontextmanager
    async def open(
        self, path: str, *, what: str, query: Query, inactivity_seconds: float
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """A GET whose answer has no end; silence for too long breaks it.

        The headers must come within a call's deadline. Errors of the connection come out typed.
        """
        idle = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=inactivity_seconds
        )
        response: aiohttp.ClientResponse | None = None
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._send("GET", self._url(path, query), timeout=idle)
                if response.status != 200:
                    raise failure(what, response, await response.read())
            yield response.content
        except (aiohttp.ClientError, OSError) as error:
            raise network_error(what, error) from error
        finally:
            if response is not None:
                response.close()  # it is not read to its end: the connection cannot be reused

    @asynccontextmanager
    async def websocket(
        self, path: str, *, query: Query, protocol: str
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """aiohttp's errors pass: only the caller knows what they mean."""
        if self._rest.pool_manager is None:
            self._rest.pool_manager = self._rest._create_pool_manager()
        async with self._rest.pool_manager.ws_connect(
            self._url(path, query),
            headers={**await self._headers(), "Accept": "*/*"},
            protocols=(protocol,),
            # Keeps silent commands alive through load balancers. Long, because a slow reader
            # leaves the answer to a ping waiting behind data.
            heartbeat=60,
            timeout=aiohttp.ClientWSTimeout(ws_close=2),
            server_hostname=self._configuration.tls_server_name,
            proxy=self._configuration.proxy,
        ) as socket:
            yield socket

    async def _send(
        self,
        method: str,
        url: URL,
        *,
        timeout: aiohttp.ClientTimeout,
        body: Any = None,
        content_type: str = "application/json",
    ) -> aiohttp.ClientResponse:
        headers = {**await self._headers(), "Content-Type": content_type}
        # The library hands url and timeout on to aiohttp as they are, so aiohttp's own types do
        # here what its generated classes cannot: a quoted address, an idle deadline.
        answer = await self._rest.request(  # type: ignore[no-untyped-call]
            method, url, headers=headers, body=body, _request_timeout=timeout
        )
        response: aiohttp.ClientResponse = answer.response
        return response

    async def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": f"ararat/{__version__}"}
        setting = (await self._configuration.auth_settings()).get("BearerToken")
        if setting and setting["value"]:
            headers["Authorization"] = setting["value"]
        return headers

    def _url(self, path: str, query: Query | None) -> URL:
        tail = "?" + urlencode(query) if query else ""
        return URL(self._configuration.host.rstrip("/") + path + tail, encoded=True)


def _pause(error: ApiError, method: str) -> float | None:
    """Seconds until the call may be repeated; None: it may not."""
    safe = isinstance(error, TooManyRequests) or (
        method == "GET" and isinstance(error, ApiUnavailable)
    )
    if not safe or error.retry_after is None:
        return None
    # Spread, so that those who were sent away together do not come back together.
    return max(error.retry_after, 0.2) * random.uniform(1, 1.3)  # noqa: S311


def _decode(data: bytes, what: str) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise ApiUnavailable(f"{what}: the answer is not JSON") from error


def network_error(
    what: str, error: Exception, *, kind: type[ApiUnavailable] = ApiUnavailable
) -> ApiUnavailable:
    text = shorten(str(error)) or "no further detail"
    return kind(f"{what}: {type(error).__name__}: {text}")


def failure(
    what: str, response: aiohttp.ClientResponse, data: bytes, *, secret: bool = False
) -> ApiError:
    """The typed error for an answer that is no success."""
    status = parse_status(data)
    wait = parse_retry_after(response.headers.get("Retry-After"), status)
    return from_status(what, response.status, status, retry_after=wait, secret=secret)
