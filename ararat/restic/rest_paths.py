"""restic's REST protocol as plain data: what a request names, and how it is stored.

Decision: a path is taken only if it is exactly one that restic sends (restic's doc/
REST_backend: version 2); everything else is refused before anything looks at the store. Blobs are
stored in restic's standard layout, so that plain restic opens the same repository by hand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

#: All requests of a session start with this.
ROOT = "/r/"
CONTENT_TYPE_V2 = "application/vnd.x.restic.rest.v2"
_PATH = re.compile(r"/r/(?:(config)|(data|index|keys|locks|snapshots)/([0-9a-f]{64})?)")
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{1,18})?")


class Kind(StrEnum):
    CONFIG = "config"
    DATA = "data"
    INDEX = "index"
    KEY = "keys"
    LOCK = "locks"
    SNAPSHOT = "snapshots"


#: Small, and what others wait for: never held up by the limits on data.
URGENT = frozenset({Kind.CONFIG, Kind.KEY, Kind.LOCK})


@dataclass(frozen=True)
class Target:
    """What a path names: one file, or (``id`` is None and not the config) all of a kind."""

    kind: Kind
    id: str | None = None

    @property
    def is_listing(self) -> bool:
        return self.id is None and self.kind is not Kind.CONFIG

    @property
    def name(self) -> str:
        """The blob's name below the repository's directory; a listing's prefix."""
        if self.kind is Kind.CONFIG:
            return "config"
        if self.id is None:
            return f"{self.kind}/"
        if self.kind is Kind.DATA:
            return f"data/{self.id[:2]}/{self.id}"
        return f"{self.kind}/{self.id}"


@dataclass(frozen=True)
class Range:
    offset: int = 0
    #: None: to the end.
    length: int | None = None


def parse_path(raw: str) -> Target | None:
    """None where it is nothing that restic asks for. ``raw`` is not percent-decoded."""
    match = _PATH.fullmatch(raw)
    if match is None:
        return None
    return Target(Kind.CONFIG) if match[1] else Target(Kind(match[2]), match[3])


def parse_range(header: str | None) -> Range | None:
    """None where the header is there but is not one that restic sends."""
    if header is None:
        return Range()
    match = _RANGE.fullmatch(header)
    if match is None:
        return None
    first = int(match[1])
    if match[2] is None:
        return Range(first)
    last = int(match[2])
    return Range(first, last - first + 1) if last >= first else None


def is_id(text: str) -> bool:
    """Whether this is the name of one of restic's files: a SHA-256 in hexadecimal."""
    return re.fullmatch(r"[0-9a-f]{64}", text) is not None
