"""What a restore will do, as data: printed, stored, carried out.

One immutable Plan is made by ``planner``; the pipeline only carries it out. An item is one object
of the backup: created, left alone or updated because it exists, or skipped for a reason that is
shown. ``ararat.api.plan`` is how it is kept and shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ararat.api.backup import Failure
from ararat.api.plan import Action, PlannedObject, PlannedVolume, RestorePlan
from ararat.kube.resources import ResourceType

from .stored import Object, StoredObject

_DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
#: What every warning about data that was wanted, and had no place to go, says.
NOT_RESTORED = "not restored"


@dataclass(frozen=True, kw_only=True)
class Item:
    """One object of the backup, and what becomes of it."""

    stored: StoredObject
    action: Action
    name: str
    namespace: str | None
    reason: str = ""
    message: str = ""
    #: What to create; for LEAVE and UPDATE what would have been created.
    body: Object | None = None
    #: Volumes that its gate waits for (pods).
    gated: tuple[str, ...] = ()
    #: Hooks that run in it after its volumes were filled (pods).
    hooks: str = ""
    #: Fields in which what exists differs from it; known before only in a dry run.
    differs: tuple[str, ...] = ()
    #: Rules of the user that changed it.
    modifiers: tuple[str, ...] = ()

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

    def described(self) -> PlannedObject:
        """For people and for the stored plan; without the object."""
        return PlannedObject(
            resource=self.resource,
            namespace=self.namespace or "",
            name=self.name,
            action=self.action,
            reason=self.reason,
            message=self.message,
            differs=list(self.differs),
            gate=list(self.gated),
            hooks=self.hooks,
            modifiers=list(self.modifiers),
        )


@dataclass(frozen=True)
class Plan:
    items: tuple[Item, ...] = ()
    #: Old namespace → new namespace.
    namespaces: Mapping[str, str] = field(default_factory=dict)
    #: New namespaces that are labelled while data is on its way into them.
    restoring: frozenset[str] = frozenset()
    #: Claims, and volumes that live with their pod: what they come back with.
    volumes: tuple[PlannedVolume, ...] = ()
    warnings: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()

    @property
    def total(self) -> int:
        return sum(1 for item in self.items if item.action is not Action.SKIP)

    def brings(self, rt: ResourceType) -> bool:
        """Whether the plan defines this kind. Aggregated APIs come last, after their objects."""
        return rt.qualified in self._defined

    @cached_property
    def _defined(self) -> frozenset[str]:
        return frozenset(
            item.name
            for item in self.items
            if item.resource == _DEFINITIONS and item.action is not Action.SKIP
        )

    def steps(self) -> list[tuple[str, list[Item]]]:
        """Kind by kind, what is to be created or compared."""
        found: dict[str, list[Item]] = {}
        for item in self.items:
            if item.action is not Action.SKIP:
                found.setdefault(item.resource, []).append(item)
        return list(found.items())

    def document(self, *, backup: str, dry_run: bool = False) -> RestorePlan:
        """The plan without any object's content."""
        return RestorePlan(
            backup=backup,
            dry_run=dry_run,
            namespaces=dict(self.namespaces),
            objects=[item.described() for item in self.items],
            volumes=list(self.volumes),
            warnings=list(self.warnings),
            failures=list(self.failures),
        )
