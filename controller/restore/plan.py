"""What a restore will do, as data: printed, stored, carried out.

One immutable Plan is made by ``planner``; the pipeline only carries it out. An item is one object
of the backup: created, left alone because it exists, or skipped for a reason that is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ararat.api.backup import Failure
from ararat.kube.resources import ResourceType

from .stored import Object, StoredObject

#: What every warning about data that was wanted, and had no place to go, says.
NOT_RESTORED = "not restored"


class Action(StrEnum):
    CREATE = "Create"
    LEAVE = "LeaveAlone"
    SKIP = "Skip"


@dataclass(frozen=True, kw_only=True)
class Item:
    """One object of the backup, and what becomes of it."""

    stored: StoredObject
    action: Action
    name: str
    namespace: str | None
    reason: str = ""
    message: str = ""
    #: What to create; for LEAVE what would have been created.
    body: Object | None = None
    #: Volumes that its gate waits for (pods).
    gated: tuple[str, ...] = ()

    @property
    def type(self) -> ResourceType:
        return self.stored.type

    @property
    def resource(self) -> str:
        return self.stored.resource

    @property
    def path(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @property
    def id(self) -> str:
        """``deployments.apps wp/mariadb``."""
        return f"{self.resource} {self.path}"

    def summary(self) -> dict[str, Any]:
        """For people and for the stored plan; without the object."""
        made: dict[str, Any] = {
            "resource": self.resource,
            "namespace": self.namespace,
            "name": self.name,
            "action": str(self.action),
            "reason": self.reason,
            "message": self.message,
            "gate": list(self.gated),
        }
        return {key: value for key, value in made.items() if value}


@dataclass(frozen=True)
class Plan:
    items: tuple[Item, ...] = ()
    #: Old namespace → new namespace.
    namespaces: Mapping[str, str] = field(default_factory=dict)
    #: New namespaces that are labelled while data is on its way into them.
    restoring: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()

    @property
    def total(self) -> int:
        return sum(1 for item in self.items if item.action is not Action.SKIP)

    def steps(self) -> list[tuple[str, list[Item]]]:
        """Kind by kind, what is to be created or compared."""
        found: dict[str, list[Item]] = {}
        for item in self.items:
            if item.action is not Action.SKIP:
                found.setdefault(item.resource, []).append(item)
        return list(found.items())

    def summary(self) -> dict[str, Any]:
        return {
            "namespaces": dict(self.namespaces),
            "items": [item.summary() for item in self.items],
            "warnings": list(self.warnings),
            "failures": [failure.to_dict() for failure in self.failures],
        }
