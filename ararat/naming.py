"""Names that Kubernetes accepts and that do not collide.

Kubernetes' limits: an object name is a DNS subdomain of at most 253 characters, a label value has
at most 63. Where a text does not fit it is cut and ends in ten hex digits of its SHA-256.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

LABEL_LIMIT = 63
NAME_LIMIT = 253
_HASH = 10

_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_DNS_SUBDOMAIN = re.compile(rf"{_DNS_LABEL.pattern}(\.{_DNS_LABEL.pattern})*")


def digest(*parts: str) -> str:
    """Ten hex digits that stand for the parts; no two lists of parts share an encoding."""
    encoded = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(encoded.encode()).hexdigest()[:_HASH]


def label_value(text: str) -> str:
    """``text`` itself where it is a legal label value, else a readable start and a digest."""
    if len(text) <= LABEL_LIMIT and _LABEL_VALUE.fullmatch(text):
        return text
    start = re.sub(r"[^A-Za-z0-9._-]", "-", text)[: LABEL_LIMIT - _HASH - 1].strip("-._")
    return f"{start}-{digest(text)}" if start else digest(text)


def object_name(*parts: str, unique: Sequence[str] = (), limit: int = LABEL_LIMIT) -> str:
    """A DNS label from readable parts, always ending in the digest of all of them in full.

    ``unique`` goes into the digest only: what tells namesakes apart and means nothing to people.
    """
    readable = re.sub(r"[^a-z0-9-]", "-", "-".join(part for part in parts if part).lower())
    end = digest(*parts, *unique)
    return f"{readable[: limit - _HASH - 1].strip('-') or 'x'}-{end}"


def is_dns_label(text: str) -> bool:
    """Whether ``text`` is a DNS label (RFC 1123): what a namespace is called."""
    return len(text) <= LABEL_LIMIT and bool(_DNS_LABEL.fullmatch(text))


def is_object_name(text: str) -> bool:
    """Whether ``text`` is a DNS subdomain (RFC 1123): what most objects may be called."""
    return len(text) <= NAME_LIMIT and bool(_DNS_SUBDOMAIN.fullmatch(text))
