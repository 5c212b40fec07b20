"""Which objects of a backup a restore means. Pure.

Decision: names are resolved against what the backup holds, and a name that matches nothing is an
error: nothing is touched for a typing mistake. What chosen objects cannot do without comes along:
their namespace, the claims of chosen pods (whatever their labels), and, where
``includeClusterResources`` is not set, the cluster's objects that they refer to. A restore without
any filter means everything that the backup holds, but for Kubernetes' own namespaces: another
cluster's network plugin or DNS must not come back because nobody thought of it. Named literally in
``includedNamespaces`` they do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ararat.api.backup import Selection
from ararat.api.manifest import Manifest
from ararat.api.restore import RestoreSpec
from ararat.errors import InvalidSpec
from ararat.kinds import chosen_kinds, known_kinds
from ararat.kube.resources import ResourceType
from ararat.naming import is_dns_label
from controller.backup.selection import (
    NeedsCollector,
    match_namespaces,
    selects,
    subjects_of,
)

from .pods import claims_of
from .stored import StoredObject

NAMESPACES = "namespaces"
CLAIMS = "persistentvolumeclaims"
#: Kubernetes' own; nothing is ever held back in it.
SYSTEM_NAMESPACE = "kube-system"
#: They describe the old cluster's machinery and come back only when they are named.
_SYSTEM_NAMESPACES = frozenset({SYSTEM_NAMESPACE, "kube-public", "kube-node-lease"})


@dataclass(frozen=True)
class Chosen:
    """What a restore means: objects as stored, and where namespaces go."""

    objects: tuple[StoredObject, ...]
    #: Every chosen namespace: old name → new name.
    namespaces: Mapping[str, str]


def choose(
    spec: RestoreSpec,
    manifest: Manifest,
    objects: Sequence[StoredObject],
    *,
    own_namespaces: frozenset[str],
    served: Iterable[ResourceType] = (),
) -> Chosen:
    """``served``: the cluster's kinds, for short names. Raises InvalidSpec."""
    in_backup = sorted({*manifest.namespaces, *(obj.namespace for obj in objects if obj.namespace)})
    namespaces = resolve_namespaces(spec, manifest.backup, in_backup, own_namespaces=own_namespaces)
    wanted_kinds = _kinds(spec, objects, served)
    namespaced = [
        obj
        for obj in objects
        if obj.namespace in namespaces and obj.resource in wanted_kinds and _selected(spec, obj)
    ]
    namespaced += _claims_of_pods(namespaced, objects, wanted_kinds)
    chosen = [
        *namespaced,
        *_namespace_objects(objects, namespaces, excluded=spec.excluded_resources),
        *_cluster_objects(spec, objects, namespaced, wanted_kinds),
    ]
    return Chosen(tuple(chosen), namespaces)


def resolve_namespaces(
    spec: RestoreSpec, backup: str, in_backup: Sequence[str], *, own_namespaces: frozenset[str]
) -> dict[str, str]:
    """The chosen namespaces: old name → new name. Raises InvalidSpec."""
    system = _SYSTEM_NAMESPACES - set(spec.included_namespaces)
    never = own_namespaces | (system & set(in_backup))
    try:
        found = match_namespaces(in_backup, spec, never=never) if in_backup else []
    except InvalidSpec as exc:
        held = ", ".join(in_backup[:10]) or "none"
        raise InvalidSpec(
            f"backup {backup}: {exc.message} (it holds: {held})", reason=exc.reason
        ) from exc
    if not in_backup and spec.included_namespaces:
        raise InvalidSpec(f"backup {backup} holds no namespace", reason="NamespaceNotFound")
    mapping = spec.namespace_mapping
    for old, new in mapping.items():
        if old not in found:
            where = "is not among the restored ones" if old in in_backup else "is not in the backup"
            raise InvalidSpec(
                f"namespaceMapping: namespace {old!r} {where}", reason="NamespaceNotFound"
            )
        if not is_dns_label(new):
            raise InvalidSpec(
                f"namespaceMapping: {new!r} is not a name for a namespace (at most 63 of a-z, 0-9 "
                "and '-')",
                reason="InvalidName",
            )
        if new in own_namespaces:
            raise InvalidSpec(
                f"namespaceMapping: {new!r} is Ararat's own namespace", reason="InvalidName"
            )
    namespaces = {old: mapping.get(old, old) for old in found}
    taken: dict[str, str] = {}
    for old, new in namespaces.items():
        if new in taken:
            raise InvalidSpec(
                f"namespaces {taken[new]!r} and {old!r} would both become {new!r}: "
                "restore them one by one, or map one of them elsewhere",
                reason="NamespacesCollide",
            )
        taken[new] = old
    return namespaces


def _kinds(
    selection: Selection, objects: Iterable[StoredObject], served: Iterable[ResourceType]
) -> frozenset[str]:
    """The kinds that are meant, by name (``deployments.apps``)."""
    in_backup = {obj.resource: obj.type for obj in objects}
    known = known_kinds((*in_backup.values(), *served))
    unknown = "neither the backup nor the cluster has a kind called"
    return chosen_kinds(known, selection, unknown=unknown) & in_backup.keys()


def _selected(spec: RestoreSpec, obj: StoredObject) -> bool:
    return selects(spec, obj.labels)


def _claims_of_pods(
    chosen: Sequence[StoredObject], objects: Iterable[StoredObject], kinds: frozenset[str]
) -> list[StoredObject]:
    """Claims that chosen pods mount and that labels alone did not choose."""
    if CLAIMS not in kinds:
        return []
    have = {(obj.namespace, obj.name) for obj in chosen if obj.resource == CLAIMS}
    needed = {
        (pod.namespace, claim)
        for pod in chosen
        if pod.resource == "pods"
        for claim in claims_of(pod.spec).values()
    }
    return [
        obj
        for obj in objects
        if obj.resource == CLAIMS and (obj.namespace, obj.name) in needed - have
    ]


def _namespace_objects(
    objects: Iterable[StoredObject], namespaces: Mapping[str, str], *, excluded: Sequence[str]
) -> list[StoredObject]:
    """The chosen namespaces as stored, or bare ones where there is none, or that is not wanted."""
    wanted = not {word.lower() for word in excluded} & {"namespaces", "namespace", "ns", "*"}
    stored = {obj.name: obj for obj in objects if obj.resource == NAMESPACES and wanted}
    return [
        stored.get(name)
        or StoredObject(
            plural=NAMESPACES,
            group="",
            body={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
        )
        for name in namespaces
    ]


def _cluster_objects(
    spec: RestoreSpec,
    objects: Sequence[StoredObject],
    namespaced: Sequence[StoredObject],
    kinds: frozenset[str],
) -> list[StoredObject]:
    if spec.include_cluster_resources is False:
        return []
    candidates = [
        obj
        for obj in objects
        if obj.namespace is None and obj.resource != NAMESPACES and obj.resource in kinds
    ]
    if spec.include_cluster_resources or _no_filter(spec):
        return [obj for obj in candidates if _selected(spec, obj)]
    collector = NeedsCollector()
    for obj in namespaced:
        collector.add(obj.type, dict(obj.body))
    needs = collector.needs()
    for obj in candidates:
        if subjects_of(obj.body) and needs.includes(obj.type, obj.body):
            collector.add_role(obj.body)
    needs = collector.needs()
    return [obj for obj in candidates if needs.includes(obj.type, obj.body)]


def _no_filter(spec: RestoreSpec) -> bool:
    return not (
        spec.included_namespaces
        or spec.excluded_namespaces
        or spec.included_resources
        or spec.excluded_resources
        or spec.label_selector
        or spec.or_label_selectors
    )
