"""A BackupLocation as people read it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from ararat.api import BackupLocation
from ararat.cli import render

HEADERS = ("NAME", "PHASE", "ACCESS", "DEFAULT", "BACKUPS", "LOOKED AT", "WHERE")


def table(locations: Iterable[BackupLocation], now: datetime) -> str:
    """One line each; why one is not Available stands below the table."""
    rows, reasons = [], []
    for location in locations:
        status, spec = location.status, location.spec
        looked = status.last_sync_time
        rows.append(
            (
                location.name,
                str(status.phase or "Unknown"),
                str(spec.access_mode),
                "yes" if spec.default else "",
                "" if status.backup_count is None else f"{status.backup_count:,}",
                f"{render.age(looked, now)} ago" if looked else "",
                where(location),
            )
        )
        if status.message and not location.available:
            reasons.append(f"{location.name}: {status.message}")
    text = render.table(HEADERS, rows)
    return "\n".join([text, "", *reasons]) if reasons else text


def checks(steps: Iterable[Mapping[str, Any]]) -> str:
    """What ``location check`` found, a line for each step."""
    words = {True: "ok", False: "FAILED", None: "-"}
    rows = [(str(s["name"]), words[s["ok"]], str(s["detail"])) for s in steps]
    return render.table(("STEP", "RESULT", "DETAIL"), rows)


def where(location: BackupLocation) -> str:
    """``azure://account/container/prefix`` or ``file:///path``."""
    spec = location.spec
    if spec.azure is not None:
        parts = (spec.azure.account_name, spec.azure.container, spec.azure.prefix.strip("/"))
        return "azure://" + "/".join(part for part in parts if part)
    if spec.filesystem is not None:
        return f"file://{spec.filesystem.path}"
    return ""
