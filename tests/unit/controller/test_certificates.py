from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from controller.certificates import Certificates, ensured, service_names

NOW = datetime(2026, 11, 22, tzinfo=UTC)
NAMES = service_names("hooks", "ararat")


def made(now: datetime = NOW) -> Certificates:
    return ensured(None, names=NAMES, now=now)


def test_a_server_that_the_bundle_trusts() -> None:
    certificates = made()
    server, authority = certificates.server(), certificates.authority()
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [
        "hooks",
        "hooks.ararat",
        "hooks.ararat.svc",
        "hooks.ararat.svc.cluster.local",
    ]
    ssl.create_default_context(cadata=certificates.ca_bundle.decode())


@pytest.mark.parametrize("days", [0, 100, 300])
def test_what_is_good_stays(days: int) -> None:
    certificates = made()
    assert ensured(certificates, names=NAMES, now=NOW + timedelta(days=days)) is certificates


def test_an_old_server_certificate_is_renewed_under_the_same_authority() -> None:
    certificates = made()
    now = NOW + timedelta(days=310)
    renewed = ensured(certificates, names=NAMES, now=now)
    assert renewed.ca_bundle == certificates.ca_bundle
    assert renewed.server().not_valid_after_utc == now + timedelta(days=365)
    renewed.server().verify_directly_issued_by(certificates.authority())


def test_another_service_gets_another_certificate() -> None:
    other = ensured(made(), names=service_names("other", "ararat"), now=NOW)
    assert other.server().subject.rfc4514_string() == "CN=other"


def test_an_old_authority_is_replaced_and_still_trusted() -> None:
    certificates = made()
    renewed = ensured(certificates, names=NAMES, now=NOW + timedelta(days=3300))
    both = x509.load_pem_x509_certificates(renewed.ca_bundle)
    assert both[1] == certificates.authority()
    assert both[0] != both[1]
    renewed.server().verify_directly_issued_by(both[0])


def test_a_secret_and_back() -> None:
    certificates = made()
    assert Certificates.from_data(certificates.to_data()) == certificates


@pytest.mark.parametrize("field", ["ca.crt", "tls.crt", "tls.key"])
def test_a_damaged_secret_is_none(field: str) -> None:
    data = made().to_data()
    data.pop(field)
    assert Certificates.from_data(data) is None
    assert Certificates.from_data({**made().to_data(), "tls.crt": "eA=="}) is None
