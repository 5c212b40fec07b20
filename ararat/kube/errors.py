"""What the API server can answer, by what the caller can do about it.

Problem: a status code alone does not say what happened (409 is "it exists" or "it changed", 404 is
"no such object", "no such namespace" or "no such kind"), and the text of an answer may quote what
was sent, a Secret's data included.
Decision: ``from_response`` reads the ``Status`` object the API server sends, picks one class per
answer, and writes a sentence of its own around at most 256 characters of the server's. Bodies that
are no ``Status`` (proxies, load balancers) are dropped. For Secrets the server's text is dropped as
well; the names of the refused fields stay.
A 404 for a *kind* is retryable, never "the object does not exist": an API server that is just
starting, or an aggregated one that is away, answers so for kinds it serves a moment later.
Limits: admission webhooks write their own texts; what they quote of other kinds is shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from ararat.errors import AccessDenied, AraratError, Conflict, InvalidSpec, NotFound, Retryable

#: How much of the server's own text is shown.
TEXT_LIMIT = 256


class ApiError(AraratError):
    """Root of what ``ararat.kube`` raises. ``status`` is the HTTP code, 0 where there was none."""

    status: int = 0
    #: Seconds the server asked us to stay away, where it did.
    retry_after: float | None = None


class ApiNotFound(ApiError, NotFound):
    """The object (reason NotFound) or its namespace (NamespaceNotFound) does not exist."""


class AlreadyExists(ApiError, Conflict):
    """An object of that name is there already."""

    default_reason: ClassVar[str] = "AlreadyExists"


class ApiConflict(ApiError, Conflict):
    """The object changed since it was read, or is another one of the same name.

    The latter has reason ObjectReplaced.
    """


class Invalid(ApiError, InvalidSpec):
    """The server will never accept this request (400, 405, 406, 413, 415, 422).

    ``fields`` names the refused ones.
    """

    default_reason: ClassVar[str] = "Invalid"
    fields: tuple[str, ...] = ()


class Forbidden(ApiError, AccessDenied):
    """RBAC, quota or an admission webhook says no.

    Reason NamespaceTerminating where that is why.
    """

    default_reason: ClassVar[str] = "Forbidden"


class Unauthorized(ApiError, AccessDenied):
    """The API server does not know who we are."""

    default_reason: ClassVar[str] = "Unauthorized"


class ApiUnavailable(ApiError, Retryable):
    """5xx, a network error, or no answer in time: the request may or may not have been executed."""

    default_reason: ClassVar[str] = "ApiUnavailable"


class KindNotServed(ApiUnavailable):
    """The API server does not serve this kind, at least not now."""

    default_reason: ClassVar[str] = "KindNotServed"


class TooManyRequests(ApiError, Retryable):
    """The server sheds load; the request was not executed. ``retry_after`` says for how long."""

    default_reason: ClassVar[str] = "TooManyRequests"


class Gone(ApiError, Retryable):
    """The resource version or continue token is too old: list again.

    ``continue_token``, where the server sent one, goes on with the next key of a newer snapshot.
    """

    default_reason: ClassVar[str] = "ResourceExpired"
    continue_token: str | None = None


class ExecFailed(ApiError):
    """The command could not be run at all (no such program, no such container)."""

    default_reason: ClassVar[str] = "ExecFailed"


class ExecInterrupted(ApiUnavailable):
    """The connection ended before the command did: the command **may still be running**."""

    default_reason: ClassVar[str] = "ExecInterrupted"


def shorten(text: str) -> str:
    """One line of at most ``TEXT_LIMIT`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= TEXT_LIMIT else line[: TEXT_LIMIT - 1] + "…"


def parse_status(body: bytes | str) -> Mapping[str, Any]:
    """The Status object in an answer; empty where the body is something else."""
    try:
        status = json.loads(body)
    except ValueError:  # UnicodeDecodeError is one
        return {}
    return status if isinstance(status, dict) and status.get("kind") == "Status" else {}


def parse_retry_after(header: str | None, status: Mapping[str, Any]) -> float | None:
    """Seconds to stay away. The header's date form is never sent by an API server: ignored."""
    for value in (header, (status.get("details") or {}).get("retryAfterSeconds")):
        try:
            seconds = float(value)  # type: ignore[arg-type]  # None is a TypeError, caught
        except (TypeError, ValueError):
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    return None


def from_status(
    what: str,
    code: int,
    status: Mapping[str, Any],
    *,
    retry_after: float | None = None,
    secret: bool = False,
) -> ApiError:
    """The typed error for an answer. ``what`` is the call, e.g. ``get pods web/db-0``.

    ``secret``: the server's text may quote a Secret and is dropped.
    """
    code = int(status.get("code") or code)
    reason = str(status.get("reason") or "")
    details: Mapping[str, Any] = status.get("details") or {}
    causes: list[Mapping[str, Any]] = details.get("causes") or []
    fields = tuple(str(c["field"]) for c in causes if c.get("field"))
    text = shorten(str(status.get("message") or f"HTTP {code} {reason}"))
    if not status:
        text = f"HTTP {code} without a Kubernetes status"
    elif secret:
        text = f"HTTP {code} {reason}" + (f" ({', '.join(fields)})" if fields else "")
    error = _classify(f"{what}: {text}", code, reason=reason, status=status)
    error.status = code
    error.retry_after = retry_after
    if isinstance(error, Invalid):
        error.fields = fields
    return error


def _classify(message: str, code: int, *, reason: str, status: Mapping[str, Any]) -> ApiError:
    details: Mapping[str, Any] = status.get("details") or {}
    causes = {c.get("reason") for c in details.get("causes") or []}
    match code:
        case 401:
            return Unauthorized(message)
        case 403:
            terminating = "NamespaceTerminating" in causes
            return Forbidden(message, reason="NamespaceTerminating" if terminating else None)
        case 404 if not details.get("name"):
            return KindNotServed(message)
        case 404:
            missing_namespace = details.get("kind") == "namespaces"
            return ApiNotFound(message, reason="NamespaceNotFound" if missing_namespace else None)
        case 409 if reason == "AlreadyExists":
            return AlreadyExists(message)
        case 409:
            return ApiConflict(message)
        case 410:
            gone = Gone(message)
            gone.continue_token = (status.get("metadata") or {}).get("continue") or None
            return gone
        case 429:
            return TooManyRequests(message)
        case 408:
            return ApiUnavailable(message)
        case _ if 400 <= code < 500:
            return Invalid(message)
        case _:
            return ApiUnavailable(message)
