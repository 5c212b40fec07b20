"""What is known of a verification between two looks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ararat.api import PodVolumeRestore
from ararat.api.backup import Failure
from ararat.api.manifest import Manifest

from .run import RunMemory
from .steps import Ended
from .targets import Target


@dataclass
class Memory:
    """What this process knows of one verification; another finds it out again."""

    manifest: Manifest | None = None
    targets: list[Target] = field(default_factory=list)
    objects_failure: Failure | None = None
    #: Of the manifest and of the store's listing.
    broken: list[Failure] = field(default_factory=list)
    listed: bool = False
    #: By the target's snapshot: what has ended.
    ended: dict[tuple[str, str], Ended] = field(default_factory=dict)
    running: dict[tuple[str, str], PodVolumeRestore] = field(default_factory=dict)
    said: float = 0.0
    shown: dict[str, Any] = field(default_factory=dict)
    run: RunMemory = field(default_factory=RunMemory)
    #: Since when (monotonic) what ran is being removed.
    removing: float | None = None


def key(target: Target) -> tuple[str, str]:
    return (target.volume.directory, target.snapshot)
