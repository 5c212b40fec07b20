"""A proxy with faults in front of Azurite: what the service and the network really do at times."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import aiohttp
import trustme
import yarl
from aiohttp import web

from tests.cluster.azurite import Azurite
from tests.cluster.process import free_port


@dataclass(frozen=True)
class Fault:
    #: Answer with this instead of asking Azurite.
    status: int | None = None
    code: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    #: Cut the connection before Azurite is asked.
    reset: bool = False
    #: Ask Azurite, then cut the connection: the answer is lost.
    lose_answer: bool = False
    #: Send this many bytes of the answer's body, then cut the connection.
    cut_after: int | None = None
    #: Send something else than Azurite's answer.
    rewrite: Callable[[bytes], bytes] | None = None
    #: Seconds before anything is done.
    delay: float = 0.0


#: Which fault a request meets: method and path.
Faults = Callable[[str, str], Fault | None]


def times(count: int, fault: Fault, method: str = "", part: str = "") -> Faults:
    """The first ``count`` requests of a method whose path and query hold ``part``."""
    left = [count]

    def pick(done: str, path: str) -> Fault | None:
        if left[0] and method in ("", done) and part in path:
            left[0] -= 1
            return fault
        return None

    return pick


@dataclass
class FaultProxy:
    azurite: Azurite
    faults: Faults = lambda _method, _path: None
    port: int = field(default_factory=lambda: free_port("127.0.0.1"))
    authority: trustme.CA = field(default_factory=trustme.CA)
    seen: list[str] = field(default_factory=list)
    #: Requests under way, and the most there ever were at once.
    active: int = 0
    peak: int = 0

    @property
    def endpoint(self) -> str:
        return f"https://127.0.0.1:{self.port}/{self.azurite.account}"

    @property
    def ca_pem(self) -> str:
        return self.authority.cert_pem.bytes().decode()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[FaultProxy]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.authority.issue_cert("127.0.0.1").configure_cert(context)
        trust = ssl.create_default_context(cafile=str(self.azurite.ca_file))
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trust), auto_decompress=False
        ) as self._http:
            runner = web.ServerRunner(
                web.Server(self._handle, access_log=None), shutdown_timeout=0.1
            )
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=context).start()
            try:
                yield self
            finally:
                await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.active += 1
        self.peak = max(self.peak, self.active)
        try:
            return await self._answer(request)
        except ConnectionError:
            return _cut(request)  # the client has gone first
        finally:
            self.active -= 1

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append(f"{request.method} {request.raw_path}")
        fault = self.faults(request.method, request.raw_path) or Fault()
        await asyncio.sleep(fault.delay)
        if fault.reset:
            return _cut(request)
        if fault.status is not None:
            await request.content.read()  # unlike read(), of any size
            return web.Response(
                status=fault.status, headers={"x-ms-error-code": fault.code, **fault.headers}
            )
        body = await request.content.read()
        url = f"https://127.0.0.1:{self.azurite.port}{request.raw_path}"
        headers = {k: v for k, v in request.headers.items() if k not in ("Host", "Expect")}
        async with self._http.request(
            request.method,
            yarl.URL(url, encoded=True),
            headers=headers,
            data=body,
            skip_auto_headers=("Content-Type",),
        ) as answer:
            data = await answer.read()
            if fault.rewrite is not None:
                data = fault.rewrite(data)
            if fault.lose_answer:
                return _cut(request)
            kept = {
                k: v
                for k, v in answer.headers.items()
                if k.lower() not in ("transfer-encoding", "connection", "content-length")
            }
            response = web.StreamResponse(status=answer.status, headers=kept)
            length = answer.headers.get("Content-Length") if request.method == "HEAD" else len(data)
            response.headers["Content-Length"] = str(length or 0)
            await response.prepare(request)
            if fault.cut_after is not None:
                await response.write(data[: fault.cut_after])
                return _cut(request)
            if request.method != "HEAD":
                await response.write(data)
            return response


def _cut(request: web.BaseRequest) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
