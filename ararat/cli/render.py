"""Tables and texts for the terminal. Pure: plain data in, text out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ararat import human

NONE = "-"
GAP = "   "


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, indent: str = "") -> str:
    """Columns as wide as their widest cell; the last one is as long as it is."""
    cells = [tuple(headers), *(tuple(cell or NONE for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    lines = []
    for row in cells:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append((indent + GAP.join(padded)).rstrip())
    return "\n".join(lines)


def fields(pairs: Iterable[tuple[str, str | None]], *, indent: str = "") -> str:
    """``Name:   value`` lines, aligned; pairs without a value are left out."""
    shown = [(f"{name}:", value) for name, value in pairs if value]
    width = max((len(name) for name, _ in shown), default=0)
    return "\n".join(f"{indent}{name.ljust(width)}  {value}" for name, value in shown)


def section(title: str, body: str) -> str:
    """A title above its body; nothing where the body is empty."""
    return f"\n{title}\n{body}" if body else ""


def bullets(items: Iterable[str], *, indent: str = "  ") -> str:
    return "\n".join(f"{indent}- {item}" for item in items)


def listing(items: Sequence[str], *, empty: str, limit: int = 6) -> str:
    """``a, b, c and 4 more``."""
    if not items:
        return empty
    shown = ", ".join(items[:limit])
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit} more"


def age(moment: datetime | None, now: datetime) -> str:
    """``45s``, ``12m``, ``7h``, ``3d``: how long ago, as kubectl puts it."""
    if moment is None:
        return NONE
    seconds = max(0, int((now - moment).total_seconds()))
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "m"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds // divisor}{unit}"
    return f"{seconds // 86400}d"


def moment(value: datetime | None, now: datetime) -> str | None:
    """``2026-11-22 21:30:45 UTC (5m ago)``."""
    if value is None:
        return None
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC ({age(value, now)} ago)"


def took(start: datetime | None, end: datetime | None) -> str:
    """How long it took; nothing where it has not ended."""
    if start is None or end is None:
        return ""
    return human.duration((end - start).total_seconds())


def size(count: int | None) -> str:
    """``212.0 MiB``, and nothing for nothing."""
    return human.size(count) if count else ""


def as_yaml(document: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
    return text.rstrip("\n")


def as_json(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False)


def documents(objects: Sequence[Mapping[str, Any]], *, single: bool) -> Any:
    """What -o json and -o yaml show: the object itself, or a List of all."""
    cleaned = [without_noise(obj) for obj in objects]
    if single and len(cleaned) == 1:
        return cleaned[0]
    return {"apiVersion": "v1", "kind": "List", "items": cleaned}


def without_noise(obj: Mapping[str, Any]) -> dict[str, Any]:
    """An object without managedFields, its parts in the usual order."""
    metadata = {k: v for k, v in obj.get("metadata", {}).items() if k != "managedFields"}
    ordered = {key: obj[key] for key in ("apiVersion", "kind") if key in obj}
    return {**ordered, "metadata": metadata, **{k: v for k, v in obj.items() if k != "metadata"}}


def log_line(line: Mapping[str, Any]) -> str:
    """``21:30:45 warning  snapshot made  volume=wp/db-0/data``: one line of a stored log."""
    rest = {k: v for k, v in line.items() if k not in ("time", "level", "event")}
    details = " ".join(f"{key}={_plain(value)}" for key, value in rest.items())
    stamp = str(line.get("time", ""))
    clock = stamp[11:19] if len(stamp) >= 19 else stamp
    level = str(line.get("level", "info"))
    return f"{clock:8} {level:8} {line.get('event', '')}{'  ' if details else ''}{details}".rstrip()


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value if value and " " not in value else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False)
