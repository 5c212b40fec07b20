"""What all custom resources share: group, metadata, conditions, and how models meet JSON.

Decision: frozen pydantic models with camelCase aliases. They decode what the API server returns
(unknown fields are ignored, so that a newer CRD does not break an older agent) and encode patches.
The CRD YAML in the chart is generated from them (``make crds``) and a test holds both equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "ararat.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


def _alias(name: str) -> str:
    """``snapshot_id`` → ``snapshotID``: Kubernetes writes initialisms in capitals."""
    camel = to_camel(name)
    for low, high in (("Id", "ID"), ("Uid", "UID")):
        if camel.endswith(low):
            camel = camel.removesuffix(low) + high
    return camel


class Model(BaseModel):
    """A part of a custom resource."""

    model_config = ConfigDict(
        alias_generator=_alias,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        # Most of the kinds are never met by most of the processes: an agent knows three of them.
        defer_build=True,
    )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, camelCase, without unset optional fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class OwnerReference(Model):
    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class Meta(Model):
    """The parts of ObjectMeta that Ararat reads."""

    name: str = ""
    namespace: str | None = None
    uid: str = ""
    resource_version: str | None = None
    generation: int | None = None
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: list[str] = []
    owner_references: list[OwnerReference] = []


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Model):
    """One observed fact about an object, as Kubernetes writes it."""

    type: str = Field(description="What the condition is about, in CamelCase.")
    status: ConditionStatus = Field(description="Whether it holds.")
    reason: str = Field(description="Why, in one CamelCase word that does not change.")
    message: str = Field(default="", description="Why, in one sentence, with the next step.")
    last_transition_time: datetime = Field(description="When the status last changed.")


def with_condition(
    conditions: list[Condition],
    *,
    type: str,  # noqa: A002 - Kubernetes' own name for it
    status: ConditionStatus,
    reason: str,
    message: str = "",
    now: datetime | None = None,
) -> list[Condition]:
    """The list with this condition set; its time moves only when its status does."""
    moment = now or utcnow()
    kept = [c for c in conditions if c.type != type]
    old = next((c for c in conditions if c.type == type), None)
    if old is not None and old.status is status:
        moment = old.last_transition_time
    new = Condition(
        type=type, status=status, reason=reason, message=message, last_transition_time=moment
    )
    return [*kept, new]


def utcnow() -> datetime:
    """Now, in UTC, in whole seconds: what Kubernetes stores."""
    return datetime.now(UTC).replace(microsecond=0)


class Status(Model):
    """What every status has."""

    conditions: list[Condition] = Field(default=[], description="Observed facts, newest last.")
    message: str | None = Field(
        default=None, description="One sentence for a person: what is going on, or what to do."
    )


SpecT = TypeVar("SpecT", bound=Model)
StatusT = TypeVar("StatusT", bound=Status)


class Resource(Model, Generic[SpecT, StatusT]):
    """A custom resource of Ararat's. Subclasses fix kind, plural and the two parts."""

    KIND: ClassVar[str]
    PLURAL: ClassVar[str]
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ()
    #: (name, type, JSON path, priority) of ``kubectl get``'s columns; Age is added last.
    COLUMNS: ClassVar[tuple[tuple[str, str, str, int], ...]] = ()

    metadata: Meta
    spec: SpecT
    status: StatusT

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self:
        """From what the API server returns. Raises pydantic.ValidationError."""
        return cls.model_validate({"status": {}, **raw})

    def manifest(self) -> dict[str, Any]:
        """What to send to create it: no status, no server-side metadata."""
        meta = self.metadata.model_dump(
            mode="json",
            by_alias=True,
            exclude_none=True,
            exclude_defaults=True,
            exclude={"uid", "resource_version", "generation", "creation_timestamp"},
        )
        return {
            "apiVersion": API_VERSION,
            "kind": self.KIND,
            "metadata": meta,
            "spec": self.spec.to_dict(),
        }

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def uid(self) -> str:
        return self.metadata.uid

    def owner_reference(self) -> dict[str, Any]:
        return OwnerReference(
            api_version=API_VERSION, kind=self.KIND, name=self.name, uid=self.uid, controller=True
        ).to_dict()
