"""What the plan must know of the target cluster beforehand, and how it is read.

Decision: only what the plan *decides* by is read: namespaces, claims and pods of the target
namespaces, volumes, storage classes and drivers, and the kinds that are served. Whether any other
object exists is learnt when it is created.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ararat.errors import NotFound
from ararat.kube.api import KubeApi
from ararat.kube.resources import (
    CSI_DRIVERS,
    NAMESPACES,
    PODS,
    PVCS,
    PVS,
    STORAGE_CLASSES,
    ResourceType,
)

from .owners import OwnerKey
from .stored import Object


@dataclass(frozen=True)
class Existing:
    cluster_uid: str = ""
    #: By name.
    namespaces: Mapping[str, Object] = field(default_factory=dict)
    #: By (namespace, name).
    claims: Mapping[tuple[str, str], Object] = field(default_factory=dict)
    pods: Mapping[tuple[str, str], Object] = field(default_factory=dict)
    #: PersistentVolumes by name.
    volumes: Mapping[str, Object] = field(default_factory=dict)
    storage_classes: Mapping[str, Object] = field(default_factory=dict)
    csi_drivers: frozenset[str] = frozenset()
    #: Whatever makes objects that the backup holds, too.
    owners: Mapping[OwnerKey, Object] = field(default_factory=dict)
    #: Each kind once, in the version its group prefers.
    served: Sequence[ResourceType] = ()

    def terminating(self) -> list[Object]:
        """Namespaces that are on their way out."""
        return [ns for ns in self.namespaces.values() if ns["metadata"].get("deletionTimestamp")]


async def read_existing(
    api: KubeApi,
    *,
    cluster_uid: str,
    namespaces: Iterable[str],
    served: Sequence[ResourceType] = (),
    owner_kinds: Iterable[tuple[str, str]] = (),
) -> Existing:
    """One look at the target cluster. ``namespaces``: those that the restore goes to."""
    found: dict[str, Object] = {}
    owners: dict[OwnerKey, Object] = {}
    makers = [rt for rt in served if (rt.group, rt.kind) in {*owner_kinds} and rt.namespaced]
    claims: dict[tuple[str, str], Object] = {}
    pods: dict[tuple[str, str], Object] = {}
    for name in sorted(set(namespaces)):
        try:
            found[name] = await api.get(NAMESPACES, name)
        except NotFound:
            continue
        claims |= {(name, _name(obj)): obj async for obj in api.list(PVCS, namespace=name)}
        pods |= {(name, _name(obj)): obj async for obj in api.list(PODS, namespace=name)}
        for rt in makers:
            async for obj in api.list(rt, namespace=name):
                owners[(rt.group, rt.kind, name, _name(obj))] = obj
    return Existing(
        cluster_uid=cluster_uid,
        namespaces=found,
        claims=claims,
        pods=pods,
        volumes={_name(obj): obj async for obj in api.list(PVS)},
        storage_classes={_name(obj): obj async for obj in api.list(STORAGE_CLASSES)},
        csi_drivers=frozenset([_name(obj) async for obj in api.list(CSI_DRIVERS)]),
        served=served,
        owners=owners,
    )


def _name(obj: Mapping[str, Any]) -> str:
    return str(obj["metadata"]["name"])
