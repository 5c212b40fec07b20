"""Pods that are held by a gate, as jobs, waiting and progress look at them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ararat import gate
from ararat.api import names

from .gate import gated_volumes
from .pods import claims_of


@dataclass(frozen=True)
class GatedPod:
    """One pod with our gate in it."""

    namespace: str
    name: str
    uid: str
    #: Empty before it is scheduled.
    node: str
    created: str
    #: Volumes that its gate waits for, in their order.
    volumes: tuple[str, ...]
    #: Volume → claim, for those that are claims.
    claims: Mapping[str, str]
    #: Neither ended nor on its way out.
    alive: bool
    #: Its gate ended well: it needs nothing more.
    passed: bool
    #: What the API server returned; for what it says about itself.
    raw: Mapping[str, Any] = field(compare=False, hash=False, repr=False, default_factory=dict)

    @property
    def path(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def held(self) -> bool:
        return self.alive and not self.passed


def read_pod(raw: Mapping[str, Any]) -> GatedPod | None:
    """The pod, if it has a gate of ours."""
    volumes = gated_volumes(raw)
    if not volumes or not gate.is_gated(dict(raw)):
        return None
    metadata, spec = raw["metadata"], raw.get("spec") or {}
    phase = (raw.get("status") or {}).get("phase")
    return GatedPod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        node=spec.get("nodeName") or "",
        created=str(metadata.get("creationTimestamp") or ""),
        volumes=tuple(volumes),
        claims=claims_of(spec),
        alive=not metadata.get("deletionTimestamp") and phase not in ("Succeeded", "Failed"),
        passed=gate.gate_passed(dict(raw)),
        raw=raw,
    )


def read_pods(raws: Iterable[Mapping[str, Any]], restore_uid: str) -> list[GatedPod]:
    """The gated pods of one restore, oldest first."""
    mine = (
        read_pod(raw)
        for raw in raws
        if (raw["metadata"].get("labels") or {}).get(names.RESTORE_UID) == restore_uid
    )
    return sorted(
        (pod for pod in mine if pod is not None), key=lambda p: (p.created, p.namespace, p.name)
    )
