"""Repository: one restic repository in a location."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from .base import Model, Resource, Status


class RepositoryKind(StrEnum):
    VOLUMES = "Volumes"
    OBJECTS = "Objects"


class RepositorySpec(Model):
    location: str = Field(description="BackupLocation that holds it.")
    kind: RepositoryKind = Field(description="Files of volumes, or API objects.")
    namespace: str | None = Field(
        default=None, description="Workload namespace; unset for API objects."
    )


class RepositoryPhase(StrEnum):
    READY = "Ready"
    NOT_READY = "NotReady"
    DAMAGED = "Damaged"


class RepositoryStatus(Status):
    phase: RepositoryPhase | None = Field(default=None, description="Whether it can be used.")
    directory: str | None = Field(
        default=None, description="Where it stands, below the location's prefix."
    )
    repository_id: str | None = Field(default=None, description="restic's repository ID.")
    key_id: str | None = Field(default=None, description="restic key that opens it.")


class Repository(Resource[RepositorySpec, RepositoryStatus]):
    """One restic repository in a location; made and kept by the controller."""

    KIND: ClassVar[str] = "Repository"
    PLURAL: ClassVar[str] = "repositories"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("repo",)
    COLUMNS: ClassVar[tuple[tuple[str, str, str, int], ...]] = (
        ("Phase", "string", ".status.phase", 0),
        ("Kind", "string", ".spec.kind", 0),
        ("Namespace", "string", ".spec.namespace", 0),
        ("Location", "string", ".spec.location", 0),
        ("Message", "string", ".status.message", 1),
    )
