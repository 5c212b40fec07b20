from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)

from ararat.blob import azure_client
from ararat.blob.azure_errors import is_missing_blob, translate
from ararat.blob.errors import ContainerNotFound, StoreThrottled, StoreUnreachable
from ararat.errors import AccessDenied, AraratError, Conflict, InvalidSpec, NotFound


def response(status: int, code: str = "", **headers: str) -> HttpResponseError:
    exc = HttpResponseError("secret=sig")
    exc.status_code = status
    if code:
        headers["x-ms-error-code"] = code
    fake: Any = SimpleNamespace(status_code=status, headers=headers, reason="r")
    exc.response = fake
    return exc


@pytest.mark.parametrize(
    ("exc", "kind"),
    [
        (response(404, "BlobNotFound"), NotFound),
        (response(404, "ContainerNotFound"), ContainerNotFound),
        (response(409, "ContainerBeingDeleted"), ContainerNotFound),
        (response(404), StoreUnreachable),
        (response(404, "ResourceNotFound"), StoreUnreachable),
        (response(409, "BlobAlreadyExists"), Conflict),
        (response(412, "ConditionNotMet"), Conflict),
        (response(400, "InvalidBlockList"), Conflict),
        (response(400, "InvalidHeaderValue"), InvalidSpec),
        (response(401), AccessDenied),
        (response(403, "AuthenticationFailed"), AccessDenied),
        (response(403, "AuthorizationPermissionMismatch"), AccessDenied),
        (response(429), StoreThrottled),
        (response(503, "ServerBusy"), StoreThrottled),
        (response(500, "OperationTimedOut"), StoreThrottled),
        (response(500, "InternalError"), StoreUnreachable),
        (response(502), StoreUnreachable),
        (ServiceRequestError("cannot connect"), StoreUnreachable),
        (ServiceResponseError("reset"), StoreUnreachable),
        (ClientAuthenticationError("no token"), AccessDenied),
        (AzureError("?"), StoreUnreachable),
    ],
)
def test_the_table(exc: AzureError, kind: type[AraratError]) -> None:
    found = translate(exc, where="container c of a", name="x")
    assert type(found) is kind
    assert "container c of a" in found.message
    assert "secret" not in found.message


def test_when_to_come_back() -> None:
    found = translate(response(503, "ServerBusy", **{"Retry-After": "7"}), where="w", name="x")
    assert isinstance(found, StoreThrottled)
    assert found.retry_after == 7.0


def test_a_404_may_be_silent() -> None:
    assert is_missing_blob(response(404, "BlobNotFound")) is True
    assert is_missing_blob(response(404, "ContainerNotFound")) is False
    assert is_missing_blob(response(404)) is None


def test_a_url_in_a_network_error_loses_its_query() -> None:
    exc = ServiceRequestError("cannot connect to https://a.blob/c?sig=SECRET\nmore")
    assert "SECRET" not in translate(exc, where="w", name="x").message


def test_the_service_says_how_long_to_wait() -> None:
    policy = azure_client.RetryPolicy()
    settings: dict[str, Any] = {"retry_after": 20.0, "count": 1}
    assert policy.get_backoff_time(settings) == 20.0
    settings["retry_after"] = 0.0
    assert 0 <= policy.get_backoff_time(settings) <= 5
