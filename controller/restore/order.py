"""In which order kinds are created. Pure.

Decision: what others need comes first (definitions, namespaces, classes, claims, rights, accounts,
configuration, services and network policies), then the pods that their owners will adopt, then
those owners, then everything else, and what could reject or hijack later requests (webhooks,
admission policies, aggregated APIs) last of all. Kinds of one rank are created one after the
other, objects of one kind in parallel.
Services stand before the pods, other than in Ark: containers read the addresses of services from
their environment, which the kubelet fills in when it starts them. Network policies stand there
too, so that no restored pod runs without them.
"""

from __future__ import annotations

from collections.abc import Iterable

_RANKED: tuple[tuple[str, ...], ...] = (
    ("customresourcedefinitions.apiextensions.k8s.io",),
    ("namespaces",),
    (
        "runtimeclasses.node.k8s.io",
        "storageclasses.storage.k8s.io",
        "volumeattributesclasses.storage.k8s.io",
        "priorityclasses.scheduling.k8s.io",
        "ingressclasses.networking.k8s.io",
    ),
    ("persistentvolumes",),
    ("persistentvolumeclaims",),
    (
        "clusterroles.rbac.authorization.k8s.io",
        "roles.rbac.authorization.k8s.io",
    ),
    ("serviceaccounts",),
    (
        "clusterrolebindings.rbac.authorization.k8s.io",
        "rolebindings.rbac.authorization.k8s.io",
    ),
    ("secrets",),
    ("configmaps",),
    ("limitranges",),
    ("networkpolicies.networking.k8s.io",),
    ("services",),
    ("pods",),
    ("controllerrevisions.apps",),
    ("replicasets.apps", "replicationcontrollers"),
    ("deployments.apps", "statefulsets.apps"),
)
_LAST: tuple[str, ...] = (
    "apiservices.apiregistration.k8s.io",
    "validatingadmissionpolicies.admissionregistration.k8s.io",
    "validatingadmissionpolicybindings.admissionregistration.k8s.io",
    "mutatingadmissionpolicies.admissionregistration.k8s.io",
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io",
    "mutatingwebhookconfigurations.admissionregistration.k8s.io",
    "validatingwebhookconfigurations.admissionregistration.k8s.io",
)
_MIDDLE = len(_RANKED)
_RANK = {
    **{resource: rank for rank, kinds in enumerate(_RANKED) for resource in kinds},
    **{resource: _MIDDLE + 1 + rank for rank, resource in enumerate(_LAST)},
}


def rank(resource: str) -> int:
    """Where a kind (``deployments.apps``) stands; equal for all kinds nobody needs first."""
    return _RANK.get(resource, _MIDDLE)


def in_order(resources: Iterable[str]) -> list[str]:
    """Kinds, in the order in which they are created."""
    return sorted(set(resources), key=lambda resource: (rank(resource), resource))
