"""The plan of one backup: what the cluster has now, turned into volumes and kinds.

The plan is made once, stored in the location before anything is done, and read back by whoever
goes on after a crash: pods that come and go meanwhile do not change what was promised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ararat.api import Backup
from ararat.api.base import Model
from ararat.api.names import EXCLUDE_FROM_BACKUP
from ararat.errors import InvalidSpec
from ararat.kube.api import KubeApi
from ararat.kube.resources import NAMESPACES, PODS, PVCS, PVS
from controller.context import Context

from .hooks.plan import PlannedHooks, plan_hooks
from .selection import left_out, match_namespaces, match_resources, wanted
from .volumes import ClusterView, PlannedVolume, plan_volumes

#: Up to so many namespaces are always listed one by one.
_ONE_BY_ONE = 10


class BackupPlan(Model):
    backup_uid: str
    namespaces: list[str]
    #: Objects are listed across all namespaces in one go, because most of them are meant.
    across: bool
    volumes: list[PlannedVolume]
    hooks: list[PlannedHooks] = []
    warnings: list[str]


async def make_plan(context: Context, backup: Backup) -> BackupPlan:
    """Look at the cluster and decide.

    Raises InvalidSpec (what is asked for does not fit the cluster), and the API's errors.
    """
    api = context.api
    own = frozenset({context.namespace, context.keys_namespace})
    existing, opted_out = [], set()
    async for ns in api.list(NAMESPACES):
        if not ns["metadata"].get("deletionTimestamp"):
            existing.append(ns["metadata"]["name"])
            if left_out(ns):
                opted_out.add(ns["metadata"]["name"])
    for pattern in backup.spec.included_namespaces:
        if pattern in own:
            raise InvalidSpec(
                f"includedNamespaces: {pattern} is Ararat's own, which a backup does not hold: "
                "keep its key with `ararat key export`",
                reason="OwnNamespace",
            )
        if pattern in opted_out:
            raise InvalidSpec(
                f"includedNamespaces: namespace {pattern} has the label "
                f"{EXCLUDE_FROM_BACKUP}=true, which keeps all of it out of backups: remove one or "
                "the other",
                reason="NamespaceOptedOut",
            )
    namespaces = match_namespaces(existing, backup.spec, never=own | opted_out)
    discovery = await api.discover()
    match_resources(discovery.resources, backup.spec)  # a misspelt kind is an error now, not later
    # Of two requests a namespace and a kind, or one for all of them, the fewer.
    across = set(namespaces) >= set(existing) - own or (
        len(namespaces) > _ONE_BY_ONE and 2 * len(namespaces) > len(existing)
    )
    hooks, volumes = await _volumes(context, backup, namespaces, across=across)
    return BackupPlan(
        backup_uid=backup.uid,
        namespaces=namespaces,
        across=across,
        volumes=volumes,
        hooks=hooks,
        warnings=[
            f"API group {group} could not be reached; its objects are not in this backup"
            for group in discovery.failed_groups
        ],
    )


async def _volumes(
    context: Context, backup: Backup, namespaces: Sequence[str], *, across: bool
) -> tuple[list[PlannedHooks], list[PlannedVolume]]:
    api = context.api
    scopes: Sequence[str | None] = [None] if across else namespaces
    chosen = frozenset(namespaces)
    pods, claims = [], {}
    for scope in scopes:
        pods += [
            pod
            async for pod in api.list(PODS, namespace=scope)
            if pod["metadata"]["namespace"] in chosen and _pod_wanted(backup, pod)
        ]
        async for claim in api.list(PVCS, namespace=scope):
            if claim["metadata"]["namespace"] in chosen:
                claims[(claim["metadata"]["namespace"], claim["metadata"]["name"])] = claim
    bound = {claim["spec"].get("volumeName") for claim in claims.values()}
    volumes = {
        pv["metadata"]["name"]: pv async for pv in api.list(PVS) if pv["metadata"]["name"] in bound
    }
    ready = frozenset(node for node, up in context.agent_readiness().items() if up)
    view = ClusterView(pods=pods, claims=claims, volumes=volumes, agent_nodes=ready)
    volumes_found = plan_volumes(view, backup.spec.volumes.default_policy)
    return plan_hooks(pods, volumes_found, backup.spec.hooks, unique=backup.uid)


def _pod_wanted(backup: Backup, pod: Mapping[str, Any]) -> bool:
    # A terminating pod is looked at all the same: its volume must not vanish from coverage.
    metadata = {k: v for k, v in pod["metadata"].items() if k != "deletionTimestamp"}
    return wanted(backup.spec, {"metadata": metadata})


async def current_cluster_uid(api: KubeApi) -> str:
    """What stands for this cluster: the UID of its kube-system namespace."""
    namespace = await api.get(NAMESPACES, "kube-system")
    return str(namespace["metadata"]["uid"])
