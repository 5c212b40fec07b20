"""Scratch volumes: where a snapshot is restored to be read, and removed again.

Problem: a terabyte on a node's own disk gets the node evicted; a disk for each small volume costs
minutes and money.
Decision: up to a limit a scratch volume is an emptyDir of a pod of ours, with a limit that the
kubelet keeps; the agent looks for room before it writes. Beyond it, it is a claim of the class that
the chart names, or of the cluster's default one. Pod and claim stand in Ararat's own namespace and
belong to the verification: they go with it at the latest.
Limits: the scheduler is not told what an emptyDir will hold, because a request for
ephemeral-storage fits on no node whose kubelet does not count it; a node without room is found out
by the agent. The limit of an emptyDir is looked at by the kubelet now and then, not by the kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ararat.api import BackupVerification
from ararat.api.names import EXCLUDE_FROM_BACKUP, HELPER, OWNER_UID, VERIFIES
from ararat.errors import InvalidSpec
from ararat.quantity import parse_bytes
from controller.helper_pods import VOLUME, HelperSpec, build

from .targets import Target

_GIB = 1 << 30
PREFIX = "ARARAT_VERIFICATION_"


@dataclass(frozen=True)
class ScratchPolicy:
    """From the chart's values."""

    #: Volumes up to this size are restored to the node's own disk.
    node_limit: int = 10 * _GIB
    #: Of claims for larger ones; empty: the cluster's default class.
    storage_class: str = ""
    #: Volumes at once.
    at_once: int = 2
    #: Whether pods may be started, in namespaces that are removed again.
    run: bool = False

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> ScratchPolicy:
        """Raises InvalidSpec naming the variable."""
        own = cls()
        limit, count = env.get(PREFIX + "NODE_LIMIT", ""), env.get(PREFIX + "AT_ONCE", "")
        node_limit = parse_bytes(limit) if limit else own.node_limit
        if node_limit is None:
            raise InvalidSpec(f"{PREFIX}NODE_LIMIT is {limit!r}, which is no size")
        if count and not (count.isascii() and count.isdigit() and 0 < int(count) <= 100):
            raise InvalidSpec(f"{PREFIX}AT_ONCE is {count!r}, which is no number from 1 to 100")
        return cls(
            node_limit=node_limit,
            storage_class=env.get(PREFIX + "STORAGE_CLASS", ""),
            at_once=int(count) if count else own.at_once,
            run=env.get(PREFIX + "RUN", "") == "true",
        )

    def on_node(self, target: Target) -> bool:
        return target.room <= self.node_limit


def labels(verification: BackupVerification) -> dict[str, str]:
    return {HELPER: "true", OWNER_UID: verification.uid, EXCLUDE_FROM_BACKUP: "true"}


def build_claim(
    verification: BackupVerification, target: Target, name: str, policy: ScratchPolicy
) -> dict[str, Any]:
    gibibytes = -(-target.room * 115 // (100 * _GIB))
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": f"{gibibytes}Gi"}},
    }
    if policy.storage_class:
        spec["storageClassName"] = policy.storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "labels": labels(verification),
            "annotations": {VERIFIES: target.id},
            "ownerReferences": [verification.owner_reference()],
        },
        "spec": spec,
    }


def build_pod(
    verification: BackupVerification,
    target: Target,
    name: str,
    *,
    policy: ScratchPolicy,
    namespace: str,
    image: str,
    pull_policy: str,
) -> dict[str, Any]:
    spec = HelperSpec(
        namespace=namespace,
        claim=name,
        owner_uid=verification.uid,
        purpose="verify",
        image=image,
        pull_policy=pull_policy,
        read_only=False,
        labels=labels(verification),
    )
    pod = build(spec)
    pod["metadata"].update(
        name=name,
        annotations={VERIFIES: target.id},
        ownerReferences=[verification.owner_reference()],
    )
    if policy.on_node(target):
        pod["spec"]["volumes"] = [
            {"name": VOLUME, "emptyDir": {"sizeLimit": str(target.room * 3 // 2)}}
        ]
    return pod
