"""Azurite, the emulator of Azure Blob Storage, over TLS, for the tests of the engine."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import time
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import trustme

from ararat.api.location import Authentication, AzureLocation
from tests.cluster.toolchain import azurite as toolchain

ACCOUNT = "araratdev"
_START_SECONDS = 60


@dataclass
class Azurite:
    """One server in memory; ``with`` starts and stops it."""

    directory: Path
    port: int = 0
    key: str = ""
    ca_bundle: str = ""
    _process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Azurite:
        program = toolchain.ensure()
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1", "localhost", f"{ACCOUNT}.blob.core.test")
        authority.cert_pem.write_to_path(self.directory / "ca.pem")
        certificate.private_key_pem.write_to_path(self.directory / "key.pem")
        (self.directory / "cert.pem").write_bytes(
            b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
        )
        self.ca_bundle = (self.directory / "ca.pem").read_text()
        self.key = self.key or b64encode(secrets.token_bytes(64)).decode()
        self.port = self.port or free_port()
        self.start(program)
        return self

    def start(self, program: Path | None = None) -> None:
        program = program or toolchain.ensure()
        log = (self.directory / "azurite.log").open("ab")
        self._process = subprocess.Popen(
            [
                program,
                *("--blobHost", "127.0.0.1", "--blobPort", str(self.port)),
                *("--cert", self.directory / "cert.pem", "--key", self.directory / "key.pem"),
                *("--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"),
                "--silent",
            ],
            env={**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{self.key}"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self.directory,
        )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.1)
        raise RuntimeError(
            f"Azurite did not start: {(self.directory / 'azurite.log').read_text()[-2000:]}"
        )

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        return f"https://127.0.0.1:{self.port}/{ACCOUNT}"

    def location(
        self,
        container: str,
        *,
        prefix: str = "",
        authentication: Authentication = Authentication.ACCOUNT_KEY,
        endpoint: str | None = None,
    ) -> AzureLocation:
        return AzureLocation(
            account_name=ACCOUNT,
            container=container,
            prefix=prefix,
            endpoint=endpoint or self.endpoint,
            authentication=authentication,
            credentials_secret="azure",
            ca_bundle=self.ca_bundle,
        )

    @property
    def secret(self) -> dict[str, bytes]:
        return {"accountKey": self.key.encode()}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
