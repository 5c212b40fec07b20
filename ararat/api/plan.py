"""What a restore will do, or did, as it is kept in the cluster and shown to people.

Problem: ``--dry-run`` and ``describe`` show a plan that the controller made; an installation that
only reads its location has no place for it there, and a ConfigMap takes a MiB at most.
Decision: one small document without any object's content, compressed into a ConfigMap that belongs
to the Restore and goes with it. Where it would grow too large, objects that are simply created are
left out first, from the end, and counted; what a person has to look at stays.
Limits: where the location may be written, it holds the whole of it (``results.json.gz``).
"""

from __future__ import annotations

import base64
import gzip
import json
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import Field, ValidationError

from ararat.errors import Damaged

from .backup import Failure
from .base import Model

#: Key in the ConfigMap's binaryData.
KEY = "plan.json.gz"
#: Bytes, compressed. The API server's limit is a MiB for all of a ConfigMap.
LIMIT = 700_000


class Action(StrEnum):
    CREATE = "Create"
    UPDATE = "Update"
    LEAVE = "LeaveAlone"
    SKIP = "Skip"


class ClaimData(StrEnum):
    """What a claim, or a volume that lives with its pod, comes back with."""

    FILES = "Files"
    EMPTY = "Empty"
    MISSING = "Missing"
    OWN_VOLUME = "OwnVolume"


class PlannedVolume(Model):
    """One claim, or one volume that lives with its pod."""

    volume: str
    data: ClaimData
    bytes: int = 0
    files: int = 0
    size: str = ""
    storage_class: str = ""
    #: The class in the backup, where it is another one.
    old_class: str = ""
    #: PersistentVolume that it gets back.
    own_volume: str = ""


class PlannedObject(Model):
    resource: str
    namespace: str = ""
    name: str
    action: Action
    reason: str = ""
    message: str = ""
    #: Fields in which the existing object differs from the backup's.
    differs: list[str] = []
    #: Volumes that the pod is held for.
    gate: list[str] = []
    #: Hooks that run in the pod after its volumes were filled.
    hooks: str = ""
    #: Rules that changed it.
    modifiers: list[str] = []
    #: How it went: Created, Updated, LeftAlone, Failed; empty before.
    outcome: str = ""

    @property
    def path(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @property
    def notable(self) -> bool:
        """There is more to say about it than its name."""
        said = self.message or self.differs or self.gate or self.modifiers or self.hooks
        return bool(said) or self.outcome == "Failed"


class RestorePlan(Model):
    backup: str = ""
    dry_run: bool = False
    #: Old namespace to new namespace.
    namespaces: dict[str, str] = {}
    #: In the order in which they are made; what is skipped stands first.
    objects: list[PlannedObject] = []
    volumes: list[PlannedVolume] = []
    warnings: list[str] = []
    failures: list[Failure] = Field(default=[])
    #: Objects that are created and did not find room in ``objects``, by kind.
    omitted: dict[str, int] = {}

    def pack(self, limit: int = LIMIT) -> bytes:
        """At most ``limit`` bytes."""
        plan = self
        while len(packed := gzip.compress(plan._encode(), mtime=0)) > limit:
            plan, before = plan._smaller(), plan
            if plan == before:
                raise ValueError(f"a plan does not fit into {limit} bytes")
        return packed

    def _encode(self) -> bytes:
        document = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()

    def _smaller(self) -> RestorePlan:
        """Half of what matters least is left out."""
        plain = [o for o in self.objects if o.action is Action.CREATE and not o.notable]
        least = plain or self.objects
        if not least:
            rest = {
                "warnings": self.warnings[: len(self.warnings) // 2],
                "failures": self.failures[: len(self.failures) // 2],
                "volumes": self.volumes[: len(self.volumes) // 2],
            }
            return self.model_copy(update=rest)
        dropped = least[len(least) // 2 :]
        gone = {id(item) for item in dropped}
        omitted = Counter(self.omitted) + Counter(item.resource for item in dropped)
        kept = [item for item in self.objects if id(item) not in gone]
        return self.model_copy(update={"objects": kept, "omitted": dict(omitted)})


def in_config_map(found: Mapping[str, Any]) -> RestorePlan | None:
    """The plan that a ConfigMap holds, if it holds one. Raises Damaged."""
    data = (found.get("binaryData") or {}).get(KEY)
    return unpack(base64.b64decode(data)) if data else None


def unpack(data: bytes) -> RestorePlan:
    """Raises Damaged."""
    try:
        return RestorePlan.model_validate(json.loads(gzip.decompress(data)))
    except (OSError, EOFError, ValueError, ValidationError) as error:
        raise Damaged("the stored plan of the restore cannot be read") from error
