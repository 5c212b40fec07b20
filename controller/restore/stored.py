"""An API object as a backup holds it, and how the stored tree is read.

Decision: what an object is, is told by the object itself and by the folder of its kind; names of
files are never parsed back, because long names were cut when they were written.
Limits: a file that is not a JSON object makes the whole backup's objects Damaged: a restore that
silently leaves objects out is worse than one that says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ararat.errors import Damaged
from ararat.kube.resources import ResourceType

#: The folder that a snapshot of API objects has at its root.
TREE = "resources"

Object = dict[str, Any]


@dataclass(frozen=True)
class StoredObject:
    """One object of a backup. The body is never changed: transforms copy it."""

    plural: str
    group: str
    body: Mapping[str, Any]

    @property
    def resource(self) -> str:
        """``pods``, ``deployments.apps``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def type(self) -> ResourceType:
        return ResourceType(
            group=self.group,
            version=str(self.body["apiVersion"]).rpartition("/")[2],
            plural=self.plural,
            kind=self.kind,
            namespaced=self.namespace is not None,
        )

    @property
    def kind(self) -> str:
        return str(self.body["kind"])

    @property
    def name(self) -> str:
        return str(self.metadata["name"])

    @property
    def namespace(self) -> str | None:
        return self.metadata.get("namespace") or None

    @property
    def metadata(self) -> Mapping[str, Any]:
        metadata: Mapping[str, Any] = self.body["metadata"]
        return metadata

    @property
    def labels(self) -> Mapping[str, str]:
        return self.metadata.get("labels") or {}

    @property
    def annotations(self) -> Mapping[str, str]:
        return self.metadata.get("annotations") or {}

    @property
    def spec(self) -> Mapping[str, Any]:
        return self.body.get("spec") or {}

    @property
    def controller(self) -> Mapping[str, Any] | None:
        """The owner that controls it."""
        owners = self.metadata.get("ownerReferences") or []
        return next((owner for owner in owners if owner.get("controller")), None)

    @property
    def path(self) -> str:
        """``wp/mariadb-0``, or the bare name of a cluster's object."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    def __str__(self) -> str:
        return f"{self.resource} {self.path}"


def read_tree(root: Path) -> Iterator[StoredObject]:
    """Every object below ``root/resources``, sorted by kind and path.

    Raises Damaged: the tree is missing, or a file is not an object of the folder it is in.
    """
    tree = root / TREE
    if not tree.is_dir():
        raise Damaged(f"the snapshot of API objects has no folder {TREE!r}")
    for folder in sorted(tree.iterdir()):
        plural, _, group = folder.name.partition(".")
        for file in sorted(folder.rglob("*.json")):
            yield _read(file, plural=plural, group=group, shown=str(file.relative_to(root)))


def _read(file: Path, *, plural: str, group: str, shown: str) -> StoredObject:
    try:
        body = json.loads(file.read_bytes())
        stored = StoredObject(plural=plural, group=group, body=body)
        stated_group = str(body["apiVersion"]).rpartition("/")[0]
        if not isinstance(body["kind"], str) or not stored.name:
            raise TypeError("kind or name is missing")
    except (ValueError, KeyError, TypeError) as exc:
        raise Damaged(f"{shown} of the backup is not a Kubernetes object") from exc
    if stated_group != group:
        raise Damaged(f"{shown} of the backup holds an object of group {stated_group!r}")
    return stored
