"""Which snapshot of one repository is the copy of which of another. Pure.

restic notes in a copy the id of the snapshot it was first made from, and keeps that when a copy is
copied again; so an id alone does not tell, where data has been moved more than once. A copy has the
same tree, time, host, paths and tags as well: then it restores the same bytes, whichever it is.
"""

from __future__ import annotations

from collections.abc import Iterable

from .models import Snapshot


def copies(theirs: Iterable[Snapshot], ours: Iterable[Snapshot]) -> dict[str, str]:
    """Id in the one repository → id of its copy in the other, of those that have one."""
    found: dict[tuple[object, ...], str] = {}
    for one in sorted(ours, key=lambda snapshot: snapshot.id):
        if one.original is not None:
            found.setdefault((one.original, *_same(one)), one.id)
    pairs = ((one.id, found.get((one.original or one.id, *_same(one)))) for one in theirs)
    return {original: copied for original, copied in pairs if copied is not None}


def _same(snapshot: Snapshot) -> tuple[object, ...]:
    tags = tuple(sorted(snapshot.tags))
    return (snapshot.tree, snapshot.time, snapshot.hostname, snapshot.paths, tags)
