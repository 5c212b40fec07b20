"""Logins by token: service principal, managed and workload identity, and what changes in them."""

from __future__ import annotations

import datetime
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from ararat.api.location import Authentication, AzureLocation, BackupLocationSpec
from ararat.blob import login
from ararat.blob.open import open_store
from ararat.blob.store import BlobStore
from ararat.errors import AccessDenied, InvalidSpec
from tests.cluster.azurite import Azurite

from .locations import location, new_container
from .tokens import CLIENT, TENANT, TokenServer


@pytest.fixture
async def directory(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TokenServer]:
    async with TokenServer().running() as server:
        monkeypatch.setenv("AZURE_AUTHORITY_HOST", server.url)
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", server.plain_url)
        for name in ("IDENTITY_ENDPOINT", "MSI_ENDPOINT", "AZURE_FEDERATED_TOKEN_FILE"):
            monkeypatch.delenv(name, raising=False)
        yield server


async def described(
    azurite: Azurite, directory: TokenServer, kind: Authentication, **more: Any
) -> AzureLocation:
    made = location(
        azurite, await new_container(azurite), ca_bundle=azurite.ca_pem + directory.ca_pem
    )
    fields = made.model_dump(exclude_none=True, exclude={"credentials_secret"})
    return AzureLocation.model_validate({**fields, "authentication": kind, **more})


async def used(azure: AzureLocation, secret: Mapping[str, bytes]) -> None:
    store = await open_store(BackupLocationSpec(azure=azure), secret)
    try:
        await works(store)
    finally:
        await store.close()


async def works(store: BlobStore) -> None:
    await store.put("a/b", b"1")
    assert [blob.name async for blob in store.list("")] == ["a/b"]
    assert await store.get("a/b") == b"1"
    await store.delete("a/b")


def certificate() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ararat-test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private + made.public_bytes(serialization.Encoding.PEM)


PRINCIPAL = {"client_id": CLIENT, "tenant_id": TENANT, "credentials_secret": "azure"}


async def test_a_service_principal_with_a_secret(azurite: Azurite, directory: TokenServer) -> None:
    directory.accepts = lambda form: form.get("client_secret") == "right"
    azure = await described(azurite, directory, Authentication.SERVICE_PRINCIPAL, **PRINCIPAL)
    await used(azure, {"clientSecret": b"right\n"})
    assert directory.seen[0]["client_id"] == CLIENT
    assert directory.paths[0].startswith(f"/{TENANT}/")
    assert len(directory.seen) == 1, "one token serves many requests"
    with pytest.raises(AccessDenied, match="logging in") as caught:
        await used(azure, {"clientSecret": b"wrong"})
    assert "wrong" not in caught.value.message.replace("wrong secret", "")


async def test_a_service_principal_with_a_certificate(
    azurite: Azurite, directory: TokenServer
) -> None:
    directory.accepts = lambda form: form.get("client_assertion", "").count(".") == 2
    azure = await described(azurite, directory, Authentication.SERVICE_PRINCIPAL, **PRINCIPAL)
    await used(azure, {"clientCertificate": certificate()})
    with pytest.raises(InvalidSpec, match="certificate"):
        await used(azure, {"clientCertificate": b"not a certificate"})
    with pytest.raises(AccessDenied, match="clientSecret"):
        await used(azure, {})


async def test_a_managed_identity(azurite: Azurite, directory: TokenServer) -> None:
    azure = await described(azurite, directory, Authentication.MANAGED_IDENTITY, client_id=CLIENT)
    await used(azure, {})
    assert directory.seen[-1]["client_id"] == CLIENT
    assert directory.seen[-1]["resource"] == "https://storage.azure.com"


async def test_a_refreshed_token_file_is_read_without_a_restart(
    azurite: Azurite, directory: TokenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kubelet does it: the file changes, and nobody is told."""
    file = tmp_path / "token"
    file.write_text("expired")
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(file))
    monkeypatch.setenv("AZURE_CLIENT_ID", CLIENT)
    monkeypatch.setenv("AZURE_TENANT_ID", TENANT)
    monkeypatch.setattr("ararat.blob.azure._RELOAD_PAUSE", 0.0)
    directory.accepts = lambda form: form.get("client_assertion") == "fresh"
    azure = await described(azurite, directory, Authentication.WORKLOAD_IDENTITY)
    store = await open_store(BackupLocationSpec(azure=azure), {})
    with pytest.raises(AccessDenied):
        await store.get("x")
    file.write_text("fresh")
    await works(store)
    await store.close()


@pytest.mark.parametrize(
    ("cloud", "authority"),
    [
        ("AzureUSGovernment", "login.microsoftonline.us"),
        ("AzureChina", "login.chinacloudapi.cn"),
    ],
)
async def test_each_cloud_has_its_authority(
    azurite: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cloud: str, authority: str
) -> None:
    """Of all names in the world this one alone leads anywhere, whatever the pod is told."""
    async with TokenServer(names=(authority,)).running() as directory:
        only(monkeypatch, authority, directory.port)
        monkeypatch.setenv("AZURE_AUTHORITY_HOST", "login.microsoftonline.com")
        azure = await described(
            azurite, directory, Authentication.SERVICE_PRINCIPAL, **PRINCIPAL, cloud=cloud
        )
        await used(azure, {"clientSecret": b"right"})
        (tmp_path / "token").write_text("fresh")
        monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "token"))
        more = {"client_id": CLIENT, "tenant_id": TENANT, "cloud": cloud}
        azure = await described(azurite, directory, Authentication.WORKLOAD_IDENTITY, **more)
        await used(azure, {})
        assert directory.hosts == [authority] * 2


def only(monkeypatch: pytest.MonkeyPatch, name: str, port: int) -> None:
    """Have a name lead to a port of this machine, and all others nowhere."""
    really = socket.getaddrinfo

    def look(host: Any, asked: Any, *args: Any, **kwargs: Any) -> Any:
        if host == name:
            return really("127.0.0.1", port, *args, **kwargs)
        if host == "127.0.0.1":
            return really(host, asked, *args, **kwargs)
        raise socket.gaierror(f"{host} is not to be asked for")

    monkeypatch.setattr(socket, "getaddrinfo", look)


async def test_a_changed_secret_is_read_without_a_restart(
    azurite: Azurite, directory: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ararat.blob.azure._RELOAD_PAUSE", 0.0)
    directory.accepts = lambda form: form.get("client_secret") == "new"
    secret = {"clientSecret": b"old"}

    async def reload() -> Mapping[str, bytes]:
        return secret

    azure = await described(azurite, directory, Authentication.SERVICE_PRINCIPAL, **PRINCIPAL)
    store = await open_store(BackupLocationSpec(azure=azure), secret, reload=reload)
    with pytest.raises(AccessDenied):
        await store.get("x")
    secret = {"clientSecret": b"new"}
    await works(store)
    await store.close()


@pytest.mark.parametrize(
    ("cloud", "expected"),
    [
        (None, "https://prod.blob.core.windows.net"),
        ("AzureUSGovernment", "https://prod.blob.core.usgovcloudapi.net"),
        ("AzureChina", "https://prod.blob.core.chinacloudapi.cn"),
    ],
)
def test_each_cloud_has_its_endpoint(cloud: str | None, expected: str) -> None:
    azure = AzureLocation.model_validate(
        {"accountName": "prod", "container": "backups", "cloud": cloud}
    )
    assert login.endpoint(azure) == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"authentication": "ServicePrincipal", "credentialsSecret": "s"}, "clientID"),
        ({"authentication": "ServicePrincipal", "clientID": "c", "tenantID": "t"}, "credentials"),
        ({"authentication": "ManagedIdentity", "tenantID": "t"}, "no meaning"),
        ({"authentication": "SAS"}, "credentialsSecret"),
    ],
)
def test_what_a_login_lacks_is_said(fields: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AzureLocation.model_validate({"accountName": "prod", "container": "backups", **fields})
