"""Azurite, the Azure Blob Storage emulator, over TLS with an authority of its own.

Problem: tests need Blob Storage as tests, pods and restic reach it, and each of them checks TLS.
Decision: one server per object, on an address the caller chooses (a cluster's `gateway_ip` is
reached by its pods and by this machine alike). Account name and key are random for each object. The
certificate names the given address, 127.0.0.1, localhost and `*.blob.core.test`, for path-style and
host-style requests.
Limits: API versions are not checked. restic's own Azure backend needs a host-style name in a hosts
file, and `-o azure.access-tier=Hot`; without that it retries for ever.
"""

from __future__ import annotations

import base64
import email.utils
import hashlib
import hmac
import http.client
import json
import os
import secrets
import shutil
import socket
import ssl
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.cluster.certs import Authority
from tests.cluster.errors import ClusterError
from tests.cluster.process import Service, free_port
from tests.cluster.toolchain import azurite as program

SUFFIX: Final = "blob.core.test"

_API_VERSION = "2021-08-06"
_READY_TIMEOUT = 60.0


class Azurite:
    """A Blob service with one account."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        *,
        names: Iterable[str] = (),
        directory: Path | None = None,
        memory: bool = False,
    ) -> None:
        """Listen on *host*; *names* are further host names and addresses of the certificate."""
        self._temporary = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="ararat-azurite-"))
        self.host = host
        self.port = free_port(host)
        self.account = f"ararat{secrets.token_hex(4)}"
        self.key = base64.b64encode(secrets.token_bytes(64)).decode()
        self._authority = Authority(self.directory / "pki", name="ararat-test-azurite")
        self._pair = self._authority.issue(
            "azurite",
            common_name="azurite",
            names=dict.fromkeys([host, "127.0.0.1", "localhost", f"*.{SUFFIX}", *names]),
        )
        storage = (
            ["--inMemoryPersistence"] if memory else ["--location", str(self.directory / "data")]
        )
        self.service = Service(
            "azurite",
            directory=self.directory,
            command=[
                str(program.ensure()),
                *("--blobHost", host, "--blobPort", str(self.port)),
                *("--cert", str(self._pair.certificate), "--key", str(self._pair.key)),
                *("--oauth", "basic"),
                "--skipApiVersionCheck",
                "--disableTelemetry",
                "--silent",
                *storage,
            ],
            env={**os.environ, "AZURITE_ACCOUNTS": f"{self.account}:{self.key}"},
            leashed=True,
        )

    @property
    def endpoint(self) -> str:
        """The path-style address of the account."""
        return f"https://{self.host}:{self.port}/{self.account}"

    @property
    def ca_file(self) -> Path:
        """The authority's certificate, as a file."""
        return self._authority.pair.certificate

    @property
    def ca_pem(self) -> str:
        """The authority's certificate, as text."""
        return self.ca_file.read_text()

    def start(self) -> Azurite:
        """Start and wait until it answers; after `stop_server` with the same data and port."""
        self.service.start()
        self.service.wait_until(self._answers, timeout=_READY_TIMEOUT, what="answer on its port")
        return self

    def stop_server(self) -> None:
        """Take the service away; data and port stay for `start` (unless it is in memory)."""
        self.service.stop()

    def stop(self) -> None:
        """Stop; a service with a temporary directory leaves no file."""
        self.service.stop()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def create_container(self, name: str) -> None:
        """Make a container; one that exists is no error."""
        status, text = self._put(f"/{self.account}/{name}", query="restype=container")
        if status not in {http.HTTPStatus.CREATED, http.HTTPStatus.CONFLICT}:
            raise ClusterError(f"Azurite did not make the container {name} ({status}): {text}")

    def multiply(self, container: str, name: str, names: Iterable[str]) -> None:
        """Make *names* beside the blob *name*, with its content, in the stopped service's database.

        Ten thousand requests would take a minute; what is listed afterwards comes from the server.
        *names* come in order, behind *name*.
        """
        path = self.directory / "data" / "__azurite_db_blob__.json"
        database = json.loads(path.read_text())
        (blobs,) = (c for c in database["collections"] if c["name"] == "$BLOBS_COLLECTION$")
        (one,) = (b for b in blobs["data"] if (b["containerName"], b["name"]) == (container, name))
        blobs["data"] = [one, *({**one, "name": made} for made in names)]
        for number, blob in enumerate(blobs["data"], start=1):
            blob["$loki"] = number
        blobs["maxId"] = len(blobs["data"])
        for index in blobs["binaryIndices"].values():
            index["values"] = list(range(len(blobs["data"])))
        path.write_text(json.dumps(database))

    def __enter__(self) -> Azurite:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        try:
            socket.create_connection((self.host, self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def _put(self, path: str, *, query: str) -> tuple[int, str]:
        """One request without body, signed with the account's key (SharedKey)."""
        headers = {
            "x-ms-date": email.utils.formatdate(usegmt=True),
            "x-ms-version": _API_VERSION,
        }
        signed_headers = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
        resource = f"/{self.account}{path}\n{query.replace('=', ':')}"
        to_sign = f"PUT{chr(10) * 12}{signed_headers}{resource}"
        digest = hmac.new(base64.b64decode(self.key), to_sign.encode(), hashlib.sha256).digest()
        signature = base64.b64encode(digest).decode()
        connection = http.client.HTTPSConnection(
            self.host,
            self.port,
            context=ssl.create_default_context(cafile=str(self.ca_file)),
            timeout=15,
        )
        try:
            connection.request(
                "PUT",
                f"{path}?{query}",
                headers={
                    **headers,
                    "Authorization": f"SharedKey {self.account}:{signature}",
                    "Content-Length": "0",
                },
            )
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")
        finally:
            connection.close()
