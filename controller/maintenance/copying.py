"""What a re-encryption has copied: asked for by it, done by the repository's maintenance."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ararat.layout import CurrentFile, repository_name


@dataclass(frozen=True, kw_only=True)
class Copying:
    #: Directory that is copied from.
    source: str
    target: CurrentFile
    #: Full ids of snapshots in ``source``.
    snapshots: tuple[str, ...]
    asked: datetime
    #: How far it was then.
    text: str

    @property
    def source_name(self) -> str:
        return repository_name(self.source)
