"""A directory that gives out tokens, and the endpoint of a machine's own identity.

Azurite's OAuth mode reads a token's times, issuer and audience, and not its signature; so this
signs nothing. What it does check is what a test is about: the secret, the assertion, the client.
"""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

import trustme
from aiohttp import web

from tests.cluster.process import free_port

TENANT = "11111111-2222-4333-8444-555555555555"
CLIENT = "99999999-2222-4333-8444-555555555555"
AUDIENCE = "https://storage.azure.com"


def token(*, audience: str = AUDIENCE, valid_for: int = 3600) -> str:
    now = int(time.time())
    claims = {
        "aud": audience,
        "iss": f"https://sts.windows.net/{TENANT}/",
        "iat": now - 60,
        "nbf": now - 60,
        "exp": now + valid_for,
        "appid": CLIENT,
        "tid": TENANT,
        "oid": CLIENT,
        "sub": CLIENT,
        "ver": "1.0",
    }
    parts = [{"alg": "RS256", "typ": "JWT"}, claims]
    encoded = [base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


@dataclass
class TokenServer:
    """``accepts`` gets the form (or the query) of each request for a token."""

    accepts: Callable[[Mapping[str, str]], bool] = lambda _form: True
    port: int = field(default_factory=lambda: free_port("127.0.0.1"))
    plain_port: int = field(default_factory=lambda: free_port("127.0.0.1"))
    authority: trustme.CA = field(default_factory=trustme.CA)
    seen: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    #: Whom the requests were for.
    hosts: list[str] = field(default_factory=list)
    #: Names it has beside its address.
    names: tuple[str, ...] = ()
    audience: str = AUDIENCE

    @property
    def ca_pem(self) -> str:
        return self.authority.cert_pem.bytes().decode()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def plain_url(self) -> str:
        return f"http://127.0.0.1:{self.plain_port}"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[TokenServer]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.authority.issue_cert("127.0.0.1", *self.names).configure_cert(context)
        runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=context).start()
        await web.TCPSite(runner, "127.0.0.1", self.plain_port).start()
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        body = (await request.read()).decode()
        form = {k: str(v) for k, v in dict(request.rel_url.query).items()}
        form |= dict(parse_qsl(body))
        self.seen.append(form)
        self.paths.append(request.path)
        self.hosts.append(request.host)
        if not self.accepts(form):
            return web.json_response(
                {"error": "invalid_client", "error_description": "AADSTS7000215: wrong secret"},
                status=401,
            )
        return web.json_response(
            {
                "token_type": "Bearer",
                "access_token": token(audience=self.audience),
                "expires_in": 3600,
                "expires_on": str(int(time.time()) + 3600),
                "resource": self.audience,
            }
        )
