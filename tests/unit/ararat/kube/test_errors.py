from __future__ import annotations

from typing import Any

import pytest

from ararat.errors import AccessDenied, AraratError, Conflict, InvalidSpec, NotFound, Retryable
from ararat.kube import errors
from ararat.kube.errors import from_status, parse_retry_after, parse_status, shorten


def status(code: int, reason: str = "", **more: Any) -> dict[str, Any]:
    return {"kind": "Status", "code": code, "reason": reason, "message": "said", **more}


NAMED = {"name": "a", "kind": "pods"}


@pytest.mark.parametrize(
    ("answer", "kind", "family", "reason"),
    [
        (status(400), errors.Invalid, InvalidSpec, "Invalid"),
        (status(401), errors.Unauthorized, AccessDenied, "Unauthorized"),
        (status(403), errors.Forbidden, AccessDenied, "Forbidden"),
        (
            status(403, details={"causes": [{"reason": "NamespaceTerminating"}]}),
            errors.Forbidden,
            AccessDenied,
            "NamespaceTerminating",
        ),
        (status(404, details=NAMED), errors.ApiNotFound, NotFound, "NotFound"),
        (
            status(404, details={"name": "a", "kind": "namespaces"}),
            errors.ApiNotFound,
            NotFound,
            "NamespaceNotFound",
        ),
        (status(404, details={}), errors.KindNotServed, Retryable, "KindNotServed"),
        (status(404), errors.KindNotServed, Retryable, "KindNotServed"),
        (status(409, "AlreadyExists"), errors.AlreadyExists, Conflict, "AlreadyExists"),
        (status(409, "Conflict"), errors.ApiConflict, Conflict, "Conflict"),
        (status(410, "Expired"), errors.Gone, Retryable, "ResourceExpired"),
        (status(413), errors.Invalid, InvalidSpec, "Invalid"),
        (status(422, "Invalid"), errors.Invalid, InvalidSpec, "Invalid"),
        (status(429), errors.TooManyRequests, Retryable, "TooManyRequests"),
        (status(500), errors.ApiUnavailable, Retryable, "ApiUnavailable"),
        (status(504, "Timeout"), errors.ApiUnavailable, Retryable, "ApiUnavailable"),
    ],
)
def test_every_answer_has_its_class(
    answer: dict[str, Any], kind: type[AraratError], family: type[AraratError], reason: str
):
    error = from_status("get pods web/a", answer["code"], answer)
    assert type(error) is kind
    assert isinstance(error, family)
    assert error.reason == reason
    assert error.status == answer["code"]
    assert error.message == "get pods web/a: said"


def test_a_body_that_is_no_status_is_dropped():
    assert parse_status(b"<html>password</html>") == {}
    assert parse_status(b'["Status"]') == {}
    assert parse_status(b'{"kind": "Secret", "data": {}}') == {}
    assert parse_status(b"\xff\xfe") == {}
    error = from_status("get pods web/a", 404, {})
    assert isinstance(error, errors.KindNotServed)
    assert error.message == "get pods web/a: HTTP 404 without a Kubernetes status"


def test_the_servers_text_about_a_secret_is_dropped():
    answer = status(
        422,
        "Invalid",
        message='Secret "a" is invalid: data[x]: Invalid value: "hunter2"',
        details={"causes": [{"field": "data[x]", "message": 'Invalid value: "hunter2"'}]},
    )
    error = from_status("create secrets web/a", 422, answer, secret=True)
    assert error.message == "create secrets web/a: HTTP 422 Invalid (data[x])"
    assert isinstance(error, errors.Invalid)
    assert error.fields == ("data[x]",)


def test_a_gone_page_keeps_its_new_token():
    answer = status(410, "Expired", metadata={"continue": "token"})
    error = from_status("list pods", 410, answer)
    assert isinstance(error, errors.Gone)
    assert error.continue_token == "token"


def test_when_to_come_back():
    assert parse_retry_after("3", {}) == 3
    assert parse_retry_after(None, {"details": {"retryAfterSeconds": 7}}) == 7
    assert parse_retry_after("Wed, 21 Oct 2026 07:28:00 GMT", {}) is None
    for nonsense in ("-1", "nan", "inf", ""):
        assert parse_retry_after(nonsense, {}) is None


def test_texts_are_one_short_line():
    assert shorten("a\n  b\tc") == "a b c"
    assert len(shorten("x" * 1000)) == errors.TEXT_LIMIT
