"""Packs that prune no longer needs: they go a day later than it wants.

Problem: restores in other clusters hold no lock. A pack that prune removes may be one that such a
reader, with yesterday's index, is about to read.
Decision: the REST server answers prune's delete of a pack with success and notes the pack and the
time. restic finds it again at the next prune as a pack that no index names, and asks again: only
what was first asked for long enough ago is removed then. So nothing is ever removed that restic,
with the index as it is at that moment, does not want removed. A note that is lost with a killed
process only means one more day.
Limits: for a day the store holds what was repacked twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ararat.errors import Damaged

GRACE = timedelta(hours=24)


@dataclass
class Drops:
    """The notes of one repository, for one prune. Times are the store's own clock's."""

    now: datetime
    grace: timedelta = GRACE
    #: Pack → when restic first asked to remove it.
    known: dict[str, datetime] = field(default_factory=dict)
    #: Asked for in this prune, and kept.
    kept: dict[str, datetime] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)

    def asked(self, pack: str) -> bool:
        """restic asks to remove a pack; True: it may go now."""
        since = self.known.get(pack, self.now)
        if self.now - since >= self.grace:
            self.kept.pop(pack, None)
            self.removed.append(pack)
            return True
        self.kept[pack] = since
        return False

    def encode(self) -> bytes:
        """What to keep after a prune that ended: what restic did not ask for again is needed."""
        packs = {pack: since.isoformat() for pack, since in sorted(self.kept.items())}
        return json.dumps({"formatVersion": 1, "packs": packs}).encode() + b"\n"


def decode(data: bytes) -> dict[str, datetime]:
    """The notes as they were kept. Raises Damaged."""
    try:
        packs = json.loads(data)["packs"]
        return {
            str(pack): datetime.fromisoformat(since).astimezone(UTC)
            for pack, since in packs.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise Damaged("the notes of pruned packs are not readable") from exc
