"""azure-core's exceptions, turned into what a caller can do.

Decision: the service's own error code decides, not the HTTP status: 404 is one missing blob or a
missing container (an outage), 409 is a lost race or a container that is being deleted. Messages are
ours: the service's own repeat request ids, and the library's may hold a URL with a signature.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
)

from ararat.errors import AccessDenied, AraratError, Conflict, InvalidSpec, NotFound

from .errors import ContainerNotFound, StoreThrottled, StoreUnreachable

#: learn.microsoft.com/rest/api/storageservices/blob-service-error-codes and common error codes
_CONFLICTS = {
    "BlobAlreadyExists",
    "ConditionNotMet",
    "TargetConditionNotMet",
    "BlobImmutableDueToPolicy",
    # Another writer committed the same name first, which dropped our blocks.
    "InvalidBlockList",
    "InvalidBlobOrBlock",
}
_NO_CONTAINER = {"ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled"}
_DENIED = {
    "AuthenticationFailed",
    "AuthorizationFailure",
    "AuthorizationPermissionMismatch",
    "AuthorizationServiceMismatch",
    "AuthorizationResourceTypeMismatch",
    "AuthorizationProtocolMismatch",
    "InsufficientAccountPermissions",
    "InvalidAuthenticationInfo",
    "NoAuthenticationInformation",
    "KeyBasedAuthenticationNotPermitted",
    "AccountIsDisabled",
}
_THROTTLED = {"ServerBusy", "TooManyRequests", "OperationTimedOut"}


def error_code(exc: HttpResponseError) -> str:
    """The service's error code; from the header where a body is missing (HEAD)."""
    code = getattr(exc, "error_code", None)
    if not code:
        code = _header(exc, "x-ms-error-code")
    return str(getattr(code, "value", code) or "")


def is_missing_blob(exc: HttpResponseError) -> bool | None:
    """Whether a 404 is about one blob; None where the service did not say."""
    code = error_code(exc)
    if code in _NO_CONTAINER:
        return False
    return True if code == "BlobNotFound" else None


def retry_after(exc: HttpResponseError) -> float | None:
    try:
        return max(0.0, float(_header(exc, "Retry-After")))
    except ValueError:
        return None


def _header(exc: HttpResponseError, name: str) -> str:
    headers = getattr(exc.response, "headers", None) or {}
    return str(headers.get(name, ""))


def translate(exc: AzureError, *, where: str, name: str) -> AraratError:
    """``where`` names account and container; ``name`` the blob, or what was tried."""
    if isinstance(exc, ClientAuthenticationError) and not error_code(exc):
        # No token, said by azure-identity and not by the store. Its text names files and tenants,
        # never secrets, but is long.
        return AccessDenied(f"logging in to {where} failed: {_first_line(exc)}")
    if isinstance(exc, HttpResponseError) and exc.status_code is not None:
        return _from_response(exc, exc.status_code, where=where, name=name)
    verb = "cannot be reached" if isinstance(exc, ServiceRequestError) else "does not answer"
    return StoreUnreachable(f"{where} {verb}: {_first_line(exc)}")


@contextlib.contextmanager
def errors(where: str, name: str) -> Iterator[None]:
    try:
        yield
    except AzureError as exc:
        raise translate(exc, where=where, name=name) from exc


def _from_response(exc: HttpResponseError, status: int, *, where: str, name: str) -> AraratError:
    code = error_code(exc)
    said = f"HTTP {status} {code}".strip()
    if code in _NO_CONTAINER:
        return ContainerNotFound(f"{where} does not exist: create the container")
    if status == 404 and is_missing_blob(exc):
        return NotFound(f"{name} does not exist in {where}", reason="BlobNotFound")
    if code in _CONFLICTS or status in (409, 412):
        return Conflict(f"{name} in {where} was written by somebody else ({said})")
    if code in _THROTTLED or status in (429, 503):
        return StoreThrottled(
            f"{where} asks for fewer requests ({said})", retry_after=retry_after(exc)
        )
    if code in _DENIED or status in (401, 403):
        return AccessDenied(f"{where} refuses the credentials ({said})")
    if status >= 500 or status in (404, 408):
        return StoreUnreachable(f"{where} does not work ({said})")
    return InvalidSpec(f"{where} refuses the request for {name} ({said})", reason="StoreRefused")


def _first_line(exc: AzureError) -> str:
    """The first line of a network error; none of them holds a query string."""
    text = str(exc.message or exc).strip().partition("\n")[0]
    return text.partition("?")[0][:200]
