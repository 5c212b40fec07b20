"""What a planning has to say beside its items; written by all of its parts, in their order."""

from __future__ import annotations

from dataclasses import dataclass, field

from ararat.api.backup import Failure
from ararat.api.plan import ClaimData, PlannedVolume

from .data import VolumeData, Want


@dataclass
class Notes:
    warnings: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    #: Claims, and volumes that live with their pod: what they come back with.
    volumes: list[PlannedVolume] = field(default_factory=list)
    #: New namespaces that data is on its way into.
    restoring: set[str] = field(default_factory=set)

    def warn_of_missing(self, where: str, data: VolumeData) -> None:
        """Somebody asked for this data, and the backup could not read it."""
        if data.want is Want.MISSING:
            self.warnings.append(
                f"{where}: {data.why_missing}; pods wait for it: restore with allowMissing to let "
                "them start"
            )


def planned_volume(name: str, data: VolumeData | None) -> PlannedVolume:
    """What a claim or slot comes back with, as far as the backup's data says."""
    if data is None:
        return PlannedVolume(volume=name, data=ClaimData.EMPTY)
    missing = data.want is Want.MISSING
    return PlannedVolume(
        volume=name,
        data=ClaimData.MISSING if missing else ClaimData.FILES,
        bytes=data.size,
        files=data.files,
    )
