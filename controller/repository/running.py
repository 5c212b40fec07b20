"""Which runs began before a moment, and may hold what was true then. Pure."""

from __future__ import annotations

from datetime import datetime

from ararat.kube.api import KubeObject

_ENDED = ("Completed", "PartiallyFailed", "Failed", "Cancelled", "Passed", "Inconclusive")


def started_before(raws: list[KubeObject], moment: datetime) -> list[str]:
    """Runs that have not ended and may hold passwords and directories from before ``moment``."""
    found = []
    for raw in raws:
        status = raw.get("status") or {}
        if status.get("phase") in (None, "New", *_ENDED):
            continue
        began = status.get("startTime")
        if began is None or datetime.fromisoformat(began) <= moment:
            found.append(f"{raw.get('kind', 'run').lower()} {raw['metadata']['name']}")
    return sorted(found)
