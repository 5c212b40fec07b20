"""A proxy between a client and the API server that misbehaves on demand.

It terminates TLS: the client speaks plain HTTP to it, it speaks to the server with an
administrator's certificate. Faults are rules, tried in order on each request; what no rule takes is
passed on, streams included.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
from aiohttp import web
from yarl import URL

#: Returns the answer, or None to pass the request on.
Action = Callable[["Proxy", web.Request], Awaitable[web.StreamResponse | None]]


@dataclass
class Rule:
    action: Action
    #: Searched in "METHOD /path?query".
    match: re.Pattern[str]
    times: int | None
    used: int = 0


@dataclass(frozen=True)
class Seen:
    """One request, as it came."""

    line: str
    at: float
    headers: Mapping[str, str] = field(compare=False)


class Proxy:
    """``async with Proxy(admin_kubeconfig) as proxy: connect(proxy.kubeconfig)``."""

    def __init__(self, upstream: Path, directory: Path) -> None:
        document = json.loads(upstream.read_text())
        self._upstream = document["clusters"][0]["cluster"]["server"]
        self._ssl = _context(document)
        self.kubeconfig = directory / "proxy.kubeconfig"
        self.rules: list[Rule] = []
        self.seen: list[Seen] = []
        #: Watches stop passing on at this many bytes, in the middle of a line.
        self.cut_watch_after: int | None = None
        self._connected: list[web.Request] = []
        self._healed = asyncio.Event()
        self._healed.set()

    # --- faults ---------------------------------------------------------------------------------

    def on(self, match: str, action: Action, *, times: int | None = None) -> None:
        self.rules.append(Rule(action, re.compile(match), times))

    def heal(self) -> None:
        """No rules, no partition; requests that hang are dropped."""
        self.rules.clear()
        self.cut_watch_after = None
        self._healed.set()

    def partition(self) -> None:
        """Nothing gets through any more, and nobody is told: open streams fall silent."""
        self._healed.clear()

    def break_streams(self) -> None:
        """Reset every open connection in mid-answer."""
        for request in list(self._connected):
            _abort(request)

    def count(self, match: str) -> int:
        return sum(1 for seen in self.seen if re.search(match, seen.line))

    # --- serving --------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._ssl, limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=False,
        )
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self.kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "a", "cluster": {"server": self.url}}],
                    "users": [{"name": "a", "user": {}}],
                    "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
                    "current-context": "a",
                }
            )
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._healed.set()
        self.break_streams()
        await self._runner.cleanup()
        await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        line = f"{request.method} {request.path_qs}"
        now = asyncio.get_running_loop().time()
        self.seen.append(Seen(line, now, dict(request.headers)))
        self._connected.append(request)
        try:
            if not self._healed.is_set():
                await self._healed.wait()
                return _abort(request)
            for rule in self.rules:
                if rule.match.search(line) and (rule.times is None or rule.used < rule.times):
                    rule.used += 1
                    answer = await rule.action(self, request)
                    if answer is not None:
                        return answer
            return await self._forward(request)
        finally:
            self._connected = [one for one in self._connected if one is not request]

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        drop = {"host", "content-length", "transfer-encoding", "connection", "accept-encoding"}
        headers = {k: v for k, v in request.headers.items() if k.lower() not in drop}
        url = URL(self._upstream + request.raw_path, encoded=True)
        try:
            upstream = await self._session.request(
                request.method, url, headers=headers, data=await request.read()
            )
        except (aiohttp.ClientError, OSError):
            return _abort(request)  # the server is away: as if it were its own socket
        try:
            return await self._copy(request, upstream)
        finally:
            upstream.close()

    async def _copy(
        self, request: web.Request, upstream: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        keep = {"content-type", "retry-after"}
        headers = {k: v for k, v in upstream.headers.items() if k.lower() in keep}
        if "watch=true" not in request.query_string:
            body = await upstream.read()
            if not self._healed.is_set():  # cut while the server was at work: a lost answer
                await self._healed.wait()
                return _abort(request)
            return web.Response(status=upstream.status, body=body, headers=headers)
        response = web.StreamResponse(status=upstream.status, headers=headers)
        await response.prepare(request)
        sent = 0
        try:
            async for chunk in upstream.content.iter_any():
                await self._healed.wait()
                limit = self.cut_watch_after
                if limit is not None and sent + len(chunk) > limit:
                    await response.write(chunk[: limit - sent])
                    await asyncio.sleep(0.05)
                    return _abort(request)
                sent += len(chunk)
                await response.write(chunk)
        except (aiohttp.ClientError, OSError):
            return _abort(request)
        await response.write_eof()
        return response


async def drop(_: Proxy, request: web.Request) -> web.StreamResponse | None:
    """Reset the connection; the server never hears of the request."""
    return _abort(request)


async def lose_answer(proxy: Proxy, request: web.Request) -> web.StreamResponse | None:
    """The server executes it, the client never learns."""
    await proxy._forward(request)
    return _abort(request)


async def hang(_: Proxy, request: web.Request) -> web.StreamResponse | None:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


def delay(seconds: float) -> Action:
    async def action(_: Proxy, __: web.Request) -> web.StreamResponse | None:
        await asyncio.sleep(seconds)
        return None

    return action


def answer(
    code: int,
    *,
    reason: str = "",
    message: str = "",
    retry_after: float | None = None,
    raw: bytes | None = None,
    **status: Any,
) -> Action:
    """A Status like the API server's, or ``raw`` bytes like a load balancer's."""

    async def action(_: Proxy, __: web.Request) -> web.StreamResponse | None:
        headers = {"Retry-After": str(retry_after)} if retry_after is not None else {}
        if raw is not None:
            return web.Response(status=code, body=raw, headers=headers, content_type="text/html")
        body = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": code,
            "reason": reason,
            "message": message,
            **status,
        }
        return web.json_response(body, status=code, headers=headers)

    return action


def stream(*lines: bytes, end: bool = True) -> Action:
    """A watch that sends these bytes and then ends, or stays silent."""

    async def action(_: Proxy, request: web.Request) -> web.StreamResponse | None:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for line in lines:
            await response.write(line)
        if not end:
            await asyncio.Event().wait()
        await response.write_eof()
        return response

    return action


def _abort(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=499)


def _context(document: Mapping[str, Any]) -> ssl.SSLContext:
    cluster = document["clusters"][0]["cluster"]
    user = document["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    with tempfile.NamedTemporaryFile() as pem:
        pem.write(base64.b64decode(user["client-certificate-data"]))
        pem.write(base64.b64decode(user["client-key-data"]))
        pem.flush()
        context.load_cert_chain(pem.name)
    return context
