"""The certificates that the webhooks are served with: made, kept and renewed by ourselves.

Problem: the API server speaks to webhooks over TLS only, and a restore must not depend on another
product that makes certificates.
Decision: a CA of our own (10 years) signs a server certificate (1 year), both in one Secret that
every replica reads. The leader renews what comes to its end (the server certificate 60 days before,
the CA a year before; the old CA stays in the bundle, so that nothing breaks while replicas and the
API server learn of it) and writes the bundle into the webhook configurations. Replicas load a new
certificate into the running server. What to make is decided by a pure function of what is there.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ararat.errors import AraratError, NotFound
from ararat.kube.api import KubeApi
from ararat.kube.resources import (
    MUTATING_WEBHOOKS,
    SECRETS,
    VALIDATING_WEBHOOKS,
    ResourceType,
)

_CA_DAYS, _CA_RENEW_DAYS = 3650, 365
_SERVER_DAYS, _SERVER_RENEW_DAYS = 365, 60
#: Clocks of the API server and ours may differ by this much.
_BACKDATED = timedelta(hours=1)
_LOOK_SECONDS = 60.0
_FIELDS = ("ca.crt", "ca.key", "tls.crt", "tls.key")

_log = structlog.get_logger("certificates")


@dataclass(frozen=True)
class Certificates:
    """PEM. ``ca_bundle`` holds the current CA first and maybe the one before."""

    ca_bundle: bytes
    ca_key: bytes
    certificate: bytes
    key: bytes

    def to_data(self) -> dict[str, str]:
        """As a Secret holds them."""
        values = (self.ca_bundle, self.ca_key, self.certificate, self.key)
        return {
            field: base64.b64encode(value).decode()
            for field, value in zip(_FIELDS, values, strict=True)
        }

    @classmethod
    def from_data(cls, data: dict[str, str]) -> Certificates | None:
        """None where something is missing or no PEM."""
        try:
            values = [base64.b64decode(data[field]) for field in _FIELDS]
            made = cls(*values)
            made.server()
            made.authority()
        except (KeyError, ValueError, binascii.Error):
            return None
        return made

    def authority(self) -> x509.Certificate:
        return x509.load_pem_x509_certificates(self.ca_bundle)[0]

    def server(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate)


def service_names(service: str, namespace: str) -> list[str]:
    """The names under which the API server may call."""
    base = f"{service}.{namespace}"
    return [service, base, f"{base}.svc", f"{base}.svc.cluster.local"]


def ensured(have: Certificates | None, *, names: Sequence[str], now: datetime) -> Certificates:
    """What should be there, ``have`` itself where that is good. Pure, but for randomness."""
    if have is None:
        ca, ca_key = _make_authority(now)
        return _with_server(_pem(ca), ca_key, names=names, now=now)
    bundle, ca_key = have.ca_bundle, _load_key(have.ca_key)
    authority = have.authority()
    if authority.not_valid_after_utc - now < timedelta(days=_CA_RENEW_DAYS):
        ca, ca_key = _make_authority(now)
        return _with_server(_pem(ca) + _pem(authority), ca_key, names=names, now=now)
    server = have.server()
    left = server.not_valid_after_utc - now
    if left < timedelta(days=_SERVER_RENEW_DAYS) or _names_of(server) != list(names):
        return _with_server(bundle, ca_key, names=names, now=now)
    return have


def _with_server(
    bundle: bytes, ca_key: ec.EllipticCurvePrivateKey, *, names: Sequence[str], now: datetime
) -> Certificates:
    authority = x509.load_pem_x509_certificates(bundle)[0]
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=_SERVER_DAYS))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return Certificates(bundle, _pem_key(ca_key), _pem(certificate), _pem_key(key))


def _make_authority(now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    # A serial in the name keeps an old and a new CA apart.
    serial = x509.random_serial_number()
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"ararat-webhook-ca-{serial:x}"[:64])]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=_CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def _names_of(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return extension.value.get_values_for_type(x509.DNSName)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("the CA's key is not an elliptic-curve key")
    return key


class CertificateKeeper:
    """The leader's part: certificates exist, are fresh, and the API server trusts them."""

    def __init__(
        self,
        api: KubeApi,
        *,
        namespace: str,
        service: str,
        secret: str = "ararat-webhook-tls",  # noqa: S107 - its name
        configuration: str = "ararat-gate",
        names: Sequence[str] = (),
    ) -> None:
        """``names``: what the certificate is for, where it is not the service's own names."""
        self._api = api
        self._namespace = namespace
        self._secret = secret
        self._configuration = configuration
        self._names = list(names) or service_names(service, namespace)

    async def run(self) -> None:
        """Keep them so until cancelled. Errors are logged and tried again."""
        while True:
            try:
                await self.ensure()
            except AraratError as exc:
                _log.warning("certificates not ensured", reason=exc.reason, error=exc.message)
            await asyncio.sleep(_LOOK_SECONDS)

    async def ensure(self) -> Certificates:
        """One look. Raises AraratError."""
        made = await self._ensure_secret()
        for rt in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
            await self._trust(rt, base64.b64encode(made.ca_bundle).decode())
        return made

    async def _ensure_secret(self) -> Certificates:
        now = datetime.now(UTC)
        raw = await read_secret(self._api, self._secret, namespace=self._namespace)
        have = Certificates.from_data(raw.get("data") or {}) if raw else None
        wanted = ensured(have, names=self._names, now=now)
        if wanted is have:
            return wanted
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": self._secret, "namespace": self._namespace},
            "type": "Opaque",
            "data": wanted.to_data(),
        }
        if raw is None:
            await self._api.create(SECRETS, body, namespace=self._namespace)
        else:
            body["type"] = raw.get("type", "Opaque")
            body["metadata"]["resourceVersion"] = raw["metadata"]["resourceVersion"]
            await self._api.replace(SECRETS, self._secret, body, namespace=self._namespace)
        _log.info("certificate made", until=wanted.server().not_valid_after_utc.isoformat())
        return wanted

    async def _trust(self, rt: ResourceType, bundle: str) -> None:
        try:
            found = await self._api.get(rt, self._configuration)
        except NotFound:
            _log.warning("webhook configuration missing", kind=rt.kind, name=self._configuration)
            return
        patch = [
            {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": bundle}
            for index, webhook in enumerate(found.get("webhooks") or [])
            if (webhook.get("clientConfig") or {}).get("caBundle") != bundle
        ]
        if patch:
            version = found["metadata"]["resourceVersion"]
            guard = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
            await self._api.patch(rt, self._configuration, [guard, *patch])


class ServerCertificate:
    """A replica's part: a TLS context that follows the Secret."""

    def __init__(
        self,
        api: KubeApi,
        *,
        namespace: str,
        secret: str = "ararat-webhook-tls",  # noqa: S107 - its name
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._secret = secret
        self._loaded: Certificates | None = None
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2

    @property
    def ready(self) -> bool:
        """Whether there is a certificate to serve with."""
        return self._loaded is not None

    async def run(self) -> None:
        """Follow the Secret until cancelled."""
        while True:
            try:
                await self.refresh()
            except AraratError as exc:
                _log.warning("certificate not read", reason=exc.reason, error=exc.message)
            await asyncio.sleep(_LOOK_SECONDS if self.ready else 1.0)

    async def refresh(self) -> bool:
        """Load what the Secret holds now; new connections get it. Whether there is one."""
        raw = await read_secret(self._api, self._secret, namespace=self._namespace)
        found = Certificates.from_data(raw.get("data") or {}) if raw else None
        if found is not None and found != self._loaded:
            await asyncio.to_thread(self._load, found)
            self._loaded = found
        return self.ready

    def _load(self, certificates: Certificates) -> None:
        # The ssl module reads certificates from files only.
        with tempfile.TemporaryDirectory() as directory:
            chain = Path(directory) / "tls.pem"
            chain.touch(mode=0o600)
            chain.write_bytes(certificates.certificate + certificates.key)
            self.context.load_cert_chain(chain)


async def read_secret(api: KubeApi, name: str, *, namespace: str) -> dict[str, Any] | None:
    try:
        return await api.get(SECRETS, name, namespace=namespace)
    except NotFound:
        return None
