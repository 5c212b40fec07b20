"""Spans of time as people write them in a spec: ``90m``, ``36h``, ``30d``, ``1w2d``."""

from __future__ import annotations

import re
from datetime import timedelta

from ararat.errors import InvalidSpec

#: For the schemas of custom resources.
PATTERN = "^([0-9]{1,5}[wdhms])+$"
_PARTS = re.compile(r"([0-9]{1,5})([wdhms])")
_SECONDS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}


def parse(text: str) -> timedelta:
    """Raises InvalidSpec. Longer than nothing: a span of zero is nobody's wish."""
    if not re.fullmatch(PATTERN, text):
        raise InvalidSpec(f"{text[:40]!r} is no span of time: write it as 36h, 30d or 1w2d")
    seconds = sum(int(count) * _SECONDS[unit] for count, unit in _PARTS.findall(text))
    if not seconds:
        raise InvalidSpec(f"{text[:40]!r} is no time at all: write it as 36h, 30d or 1w2d")
    return timedelta(seconds=seconds)
