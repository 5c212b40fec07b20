"""Names of namespaces inside objects, rewritten when a namespace comes back under another name.

Decision: rewritten are the references whose meaning is certain: service accounts and their groups
and users in (cluster) role bindings, the services of webhooks, aggregated APIs and conversions, and
the ``kubernetes.io/metadata.name`` that a network policy selects namespaces by. Pure.
Limits: host names, environment values, arguments and custom resources are text to us and stay; the
documentation says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .stored import Object

_NAME_LABEL = "kubernetes.io/metadata.name"
_ACCOUNT_USER = "system:serviceaccount:"
_ACCOUNT_GROUP = "system:serviceaccounts:"


def rewrite_subjects(binding: Object, namespaces: Mapping[str, str]) -> None:
    """Subjects of a (cluster) role binding (in place)."""
    for subject in binding.get("subjects") or []:
        name = subject.get("name", "")
        if subject.get("kind") == "ServiceAccount" and "namespace" in subject:
            subject["namespace"] = namespaces.get(subject["namespace"], subject["namespace"])
        elif subject.get("kind") == "Group" and name.startswith(_ACCOUNT_GROUP):
            old = name.removeprefix(_ACCOUNT_GROUP)
            subject["name"] = _ACCOUNT_GROUP + namespaces.get(old, old)
        elif subject.get("kind") == "User" and name.startswith(_ACCOUNT_USER):
            old, _, account = name.removeprefix(_ACCOUNT_USER).partition(":")
            subject["name"] = f"{_ACCOUNT_USER}{namespaces.get(old, old)}:{account}"


def rewrite_services(body: Object, namespaces: Mapping[str, str]) -> None:
    """Services that webhooks, an aggregated API or a conversion call (in place)."""
    spec = body.get("spec") or {}
    places = [
        *((webhook.get("clientConfig") or {}) for webhook in body.get("webhooks") or []),
        spec,
        ((spec.get("conversion") or {}).get("webhook") or {}).get("clientConfig") or {},
    ]
    for place in places:
        service = place.get("service")
        if isinstance(service, dict) and "namespace" in service:
            service["namespace"] = namespaces.get(service["namespace"], service["namespace"])


def rewrite_selectors(policy: Object, namespaces: Mapping[str, str]) -> None:
    """Namespaces that a network policy selects by their names (in place)."""
    spec = policy.get("spec") or {}
    for rules, peers in (("ingress", "from"), ("egress", "to")):
        for rule in spec.get(rules) or []:
            for peer in rule.get(peers) or []:
                _rewrite_selector(peer.get("namespaceSelector") or {}, namespaces)


def _rewrite_selector(selector: Any, namespaces: Mapping[str, str]) -> None:
    labels = selector.get("matchLabels") or {}
    if _NAME_LABEL in labels:
        labels[_NAME_LABEL] = namespaces.get(labels[_NAME_LABEL], labels[_NAME_LABEL])
    for expression in selector.get("matchExpressions") or []:
        if expression.get("key") == _NAME_LABEL:
            expression["values"] = [namespaces.get(v, v) for v in expression.get("values") or []]
