"""Forgetting snapshots: by full ID, only when everything that is promised is there.

Decision: forgetting removes one small file, ``snapshots/<id>``, and no data; so it is done through
the store, and restic is not started (docs/decisions). What it must not do is run beside a check of
the same repository, which would take the file for lost: callers ask for that first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import structlog

from ararat.errors import Damaged, InvalidSpec
from controller.deletion.manifests import Promises
from controller.location.open import OpenLocation

_ID_LENGTH = 64
log = structlog.get_logger("controller.deletion")


class SnapshotsMissing(Damaged):
    """A repository lacks snapshots that manifests name."""

    default_reason = "SnapshotsMissing"

    def __init__(self, directory: str, lost: dict[str, list[str]]) -> None:
        named = sorted({who for names in lost.values() for who in names})
        more = f" and {len(named) - 5} more" if len(named) > 5 else ""
        super().__init__(
            f"repository {directory} lacks {len(lost)} snapshots that backups name "
            f"({'; '.join(named[:5])}{more}): nothing of it is deleted; see docs/maintenance.md"
        )
        self.named = named


async def listed(location: OpenLocation, directory: str) -> frozenset[str]:
    """Full IDs of all snapshots of a repository, as the store lists them. Complete or an error."""
    prefix = f"{directory}/snapshots/"
    return frozenset(
        [
            name
            async for blob in location.store.list(prefix)
            if len(name := blob.name.removeprefix(prefix)) == _ID_LENGTH
        ]
    )


def check_promised(promises: Promises, directory: str, found: Collection[str]) -> None:
    """Raises SnapshotsMissing."""
    lost = {s: who for s, who in promises.snapshots(directory).items() if s not in found}
    if lost:
        raise SnapshotsMissing(directory, lost)


async def forget(location: OpenLocation, directory: str, snapshots: Iterable[str]) -> int:
    """Remove snapshots; those that are gone already are not an error. Returns how many."""
    count = 0
    for snapshot in sorted(snapshots):
        if len(snapshot) != _ID_LENGTH or not all(c in "0123456789abcdef" for c in snapshot):
            raise InvalidSpec(f"{snapshot[:80]!r} is not the full ID of a snapshot")
        await location.store.delete(f"{directory}/snapshots/{snapshot}")
        log.info("snapshot forgotten", directory=directory, snapshot=snapshot)
        count += 1
    return count
