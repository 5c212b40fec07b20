"""JSON that proves who wrote it: an HMAC under a key derived from the master key.

Problem: whoever can write to the store must not be able to have a controller do, or a restore run,
what they wrote.
Decision: canonical JSON with its HMAC-SHA256 in the field ``hmac``. The manifest, the plan and the
results of a backup are sealed so. What is sealed names its backup and differs in its fields, so
that one file cannot be put in the place of another.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from ararat.errors import Damaged

FIELD = "hmac"


def seal(body: Mapping[str, Any], key: bytes) -> bytes:
    return _canonical({**body, FIELD: _mac(body, key)})


def parse(data: bytes, *, what: str) -> dict[str, Any]:
    """The JSON object, not yet believed. Raises Damaged; ``what`` begins its sentence."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise Damaged(f"{what} is not readable JSON") from exc
    if not isinstance(body, dict):
        raise Damaged(f"{what} is not a JSON object")
    return body


def verified(body: Mapping[str, Any], *keys: bytes, what: str, reason: str) -> dict[str, Any]:
    """The body without its seal. Raises Damaged: none of these keys sealed it as it is."""
    rest = {name: value for name, value in body.items() if name != FIELD}
    stated = body.get(FIELD, "")
    if not isinstance(stated, str) or not any(_is_mac(stated, rest, key) for key in keys):
        raise Damaged(
            f"{what}'s HMAC does not match: it was changed, or made under another key",
            reason=reason,
        )
    return rest


def unseal(data: bytes, *keys: bytes, what: str, reason: str) -> dict[str, Any]:
    """Parse and verify. Raises Damaged."""
    return verified(parse(data, what=what), *keys, what=what, reason=reason)


def _is_mac(stated: str, body: Mapping[str, Any], key: bytes) -> bool:
    try:
        return hmac.compare_digest(stated.encode(), _mac(body, key).encode())
    except (UnicodeEncodeError, RecursionError):
        return False  # half a surrogate, endless nesting: nothing that seal() has written


def _canonical(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _mac(body: Mapping[str, Any], key: bytes) -> str:
    return hmac.new(key, _canonical(body), hashlib.sha256).hexdigest()
