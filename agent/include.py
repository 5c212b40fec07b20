"""Paths of a volume as restic's patterns."""

from __future__ import annotations

import re

from ararat.errors import InvalidSpec

_SPECIAL = re.compile(r"([*?\[\]\\])")


def pattern(path: str) -> str:
    """restic's pattern for exactly this path and what is below it. Raises InvalidSpec."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise InvalidSpec(f"{path!r} is no path within the volume")
    return "/" + _SPECIAL.sub(r"\\\1", "/".join(parts))
