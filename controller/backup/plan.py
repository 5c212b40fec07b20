"""The plan of one backup: what the cluster has now, turned into volumes and kinds.

The plan is made once, stored in the location before anything is done, and read back by whoever
goes on after a crash: pods that come and go meanwhile do not change what was promised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ararat.api import Backup
from ararat.api.backup import BackupSpec
from ararat.api.base import Model
from ararat.api.names import EXCLUDE_FROM_BACKUP
from ararat.errors import InvalidSpec
from ararat.kinds import known_kinds, meant_by
from ararat.kube.api import KubeApi
from ararat.kube.compact import compact
from ararat.kube.resources import NAMESPACES, PODS, PVCS, PVS
from controller.context import Context
from controller.helper_pods import is_helper

from .hooks.plan import PlannedHooks, plan_hooks
from .selection import left_out, match_namespaces, match_resources, wanted
from .volumes import ClusterView, PlannedVolume, claims_of, finished, plan_volumes

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


@dataclass(frozen=True)
class Scope:
    """The namespaces that a backup means, and how to list what is in them."""

    namespaces: list[str]
    across: bool


async def make_plan(context: Context, backup: Backup) -> BackupPlan:
    """Look at the cluster and decide.

    Raises InvalidSpec (what is asked for does not fit the cluster), and the API's errors.
    """
    api, spec = context.api, backup.spec
    scope = await scope_of(api, spec, own=frozenset({context.namespace, context.keys_namespace}))
    discovery = await api.discover()
    # A misspelt kind is an error now, not later.
    known = known_kinds(match_resources(discovery.resources, spec))
    for word in spec.ordered_resources:
        if not meant_by(known, word):
            raise InvalidSpec(
                f"orderedResources: this backup holds no kind called {word!r}",
                reason="UnknownResource",
            )
    ready = frozenset(node for node, up in context.agent_readiness().items() if up)
    pods, planned = await volumes_of(
        api, spec, scope, agent_nodes=ready, host_paths=context.host_paths
    )
    hooks, volumes = plan_hooks(pods, planned, spec.hooks, unique=backup.uid)
    return BackupPlan(
        backup_uid=backup.uid,
        namespaces=scope.namespaces,
        across=scope.across,
        volumes=volumes,
        hooks=hooks,
        warnings=[
            f"API group {group} could not be reached; its objects are not in this backup"
            for group in discovery.failed_groups
        ],
    )


async def scope_of(api: KubeApi, spec: BackupSpec, *, own: frozenset[str]) -> Scope:
    """``own``: Ararat's namespaces. Raises InvalidSpec."""
    existing, opted_out = [], set()
    async for ns in api.list(NAMESPACES):
        if not ns["metadata"].get("deletionTimestamp"):
            existing.append(ns["metadata"]["name"])
            if left_out(ns):
                opted_out.add(ns["metadata"]["name"])
    for pattern in spec.included_namespaces:
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
    namespaces = match_namespaces(existing, spec, never=own | opted_out)
    # Of two requests a namespace and a kind, or one for all of them, the fewer.
    across = set(namespaces) >= set(existing) - own or (
        len(namespaces) > _ONE_BY_ONE and 2 * len(namespaces) > len(existing)
    )
    return Scope(namespaces, across)


async def volumes_of(
    api: KubeApi,
    spec: BackupSpec,
    scope: Scope,
    *,
    agent_nodes: frozenset[str],
    host_paths: tuple[PurePosixPath, ...] = (),
) -> tuple[list[dict[str, Any]], list[PlannedVolume]]:
    """The pods that are meant, and what is to become of every volume.

    Raises InvalidSpec, and the API's errors.
    """
    scopes: Sequence[str | None] = [None] if scope.across else scope.namespaces
    chosen = frozenset(scope.namespaces)
    pods, claims = [], {}
    others: set[tuple[str, str]] = set()
    for one in scopes:
        async for pod in api.list(PODS, namespace=one):
            namespace = pod["metadata"]["namespace"]
            if namespace not in chosen:
                continue
            if _pod_wanted(spec, pod):
                pods.append(compact(pod))  # ten thousand are held at once
            elif not is_helper(pod) and not finished(pod):
                others |= {(namespace, name) for name in claims_of(pod)}
        async for claim in api.list(PVCS, namespace=one):
            if claim["metadata"]["namespace"] in chosen:
                key = (claim["metadata"]["namespace"], claim["metadata"]["name"])
                claims[key] = compact(claim)
    bound = {claim["spec"].get("volumeName") for claim in claims.values()}
    volumes = {
        pv["metadata"]["name"]: compact(pv)
        async for pv in api.list(PVS)
        if pv["metadata"]["name"] in bound
    }
    view = ClusterView(
        pods=pods,
        claims=claims,
        volumes=volumes,
        agent_nodes=agent_nodes,
        mounted_by_others=frozenset(others),
        chosen_claims=frozenset(key for key, claim in claims.items() if wanted(spec, claim)),
        host_paths=host_paths,
    )
    return pods, plan_volumes(view, spec.volumes)


def _pod_wanted(spec: BackupSpec, pod: Mapping[str, Any]) -> bool:
    # A terminating pod is looked at all the same: its volume must not vanish from coverage.
    metadata = {k: v for k, v in pod["metadata"].items() if k != "deletionTimestamp"}
    return wanted(spec, {"metadata": metadata})


async def current_cluster_uid(api: KubeApi) -> str:
    """What stands for this cluster: the UID of its kube-system namespace."""
    namespace = await api.get(NAMESPACES, "kube-system")
    return str(namespace["metadata"]["uid"])
