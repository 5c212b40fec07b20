"""How Ararat logs in to a storage account: from a location and its Secret to a credential.

Decision: each way is chosen explicitly. The SDK's chain of guesses would find somebody else's login
sooner or later, and takes a minute to find none. Data plane only: no management-plane call is ever
made, so no role beyond the blobs' own is needed. Tokens are fetched over connections of their own,
which trust what the location trusts.
Limits: whether the directory accepts a login is known at the first request only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.pipeline.transport import AsyncHttpTransport

from ararat.api.location import Authentication, AzureLocation, Cloud
from ararat.errors import AccessDenied, InvalidSpec

Credential = AzureNamedKeyCredential | AzureSasCredential | AsyncTokenCredential
#: Makes connections that a credential may close.
Connect = Callable[[], AsyncHttpTransport[Any, Any]]

#: Domain of the Blob service, authority to log in at (azure.identity.AzureAuthorityHosts).
_CLOUDS = {
    Cloud.PUBLIC: ("blob.core.windows.net", "login.microsoftonline.com"),
    Cloud.US_GOVERNMENT: ("blob.core.usgovcloudapi.net", "login.microsoftonline.us"),
    Cloud.CHINA: ("blob.core.chinacloudapi.cn", "login.chinacloudapi.cn"),
}
#: Credentials that ask for tokens: they hold one in memory and may have to be made anew.
BY_TOKEN = frozenset(
    {
        Authentication.WORKLOAD_IDENTITY,
        Authentication.MANAGED_IDENTITY,
        Authentication.SERVICE_PRINCIPAL,
    }
)


def endpoint(location: AzureLocation) -> str:
    """The Blob service's URL, without a slash at its end."""
    if location.endpoint:
        return location.endpoint.rstrip("/")
    domain, _ = _CLOUDS[location.cloud or Cloud.PUBLIC]
    return f"https://{location.account_name}.{domain}"


def credential(
    location: AzureLocation, secret: Mapping[str, bytes], connect: Connect
) -> Credential:
    """Raises InvalidSpec or AccessDenied with what is missing."""
    match location.authentication:
        case Authentication.WORKLOAD_IDENTITY:
            return _workload_identity(location, connect)
        case Authentication.MANAGED_IDENTITY:
            from azure.identity.aio import ManagedIdentityCredential

            # Its endpoint is on this machine, without TLS: connections of its own will do.
            return ManagedIdentityCredential(client_id=location.client_id)
        case Authentication.SERVICE_PRINCIPAL:
            return _service_principal(location, secret, connect)
        case Authentication.ACCOUNT_KEY:
            key = _text(location, secret, "accountKey")
            return AzureNamedKeyCredential(location.account_name, key)
        case Authentication.SAS:
            return AzureSasCredential(_text(location, secret, "sas").removeprefix("?"))


def _authority(location: AzureLocation) -> dict[str, str]:
    """Nothing where no cloud is named: then AZURE_AUTHORITY_HOST counts, or the public one."""
    return {"authority": _CLOUDS[location.cloud][1]} if location.cloud else {}


def _workload_identity(location: AzureLocation, connect: Connect) -> AsyncTokenCredential:
    from azure.identity.aio import WorkloadIdentityCredential

    try:
        return WorkloadIdentityCredential(
            client_id=location.client_id,
            tenant_id=location.tenant_id,
            transport=connect(),
            **_authority(location),
        )
    except ValueError as exc:
        raise InvalidSpec(
            "this pod has no workload identity (AZURE_CLIENT_ID, AZURE_TENANT_ID and "
            "AZURE_FEDERATED_TOKEN_FILE are set by its webhook): see docs/azure.md, or choose "
            "another authentication",
            reason="NoWorkloadIdentity",
        ) from exc


def _service_principal(
    location: AzureLocation, secret: Mapping[str, bytes], connect: Connect
) -> AsyncTokenCredential:
    from azure.identity.aio import CertificateCredential, ClientSecretCredential

    assert location.tenant_id is not None, "the model has checked that there is one"
    assert location.client_id is not None, "the model has checked that there is one"
    common: dict[str, Any] = {"transport": connect(), **_authority(location)}
    try:
        if "clientCertificate" not in secret:
            return ClientSecretCredential(
                location.tenant_id,
                location.client_id,
                _text(location, secret, "clientSecret"),
                **common,
            )
        return CertificateCredential(
            location.tenant_id,
            location.client_id,
            certificate_data=secret["clientCertificate"],
            password=secret.get("clientCertificatePassword"),
            **common,
        )
    except ValueError as exc:
        raise InvalidSpec(
            f"the login of service principal {location.client_id} cannot be made: tenantID or the "
            f"certificate in {location.credentials_secret} is not readable"
        ) from exc


def _text(location: AzureLocation, secret: Mapping[str, bytes], name: str) -> str:
    try:
        return secret[name].decode("ascii").strip()
    except KeyError:
        raise AccessDenied(
            f"the Secret {location.credentials_secret} has no key {name!r}"
        ) from None
    except UnicodeDecodeError:
        raise AccessDenied(f"{name} in {location.credentials_secret} is not text") from None
