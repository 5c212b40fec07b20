"""Names of namespaces inside objects, rewritten when a namespace comes back under another name.

Decision: rewritten are the references whose meaning is certain: service accounts and their groups
and users in (cluster) role bindings and flow schemas, namespaces that a role names, the services of
webhooks, aggregated APIs and conversions, selectors of namespaces by the label that holds their
name (network policies, webhooks, admission policies, pod affinities), secrets that volumes and
storage classes name, parameters of ingress classes and admission policies, and services that are
names for a service elsewhere in the cluster. Pure.
Limits: environment values, arguments and custom resources are text to us and stay; the
documentation says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .stored import Object
from .templates import pod_spec

_NAME_LABEL = "kubernetes.io/metadata.name"
_ACCOUNT_USER = "system:serviceaccount:"
_ACCOUNT_GROUP = "system:serviceaccounts:"
#: ``db.wp.svc`` and ``db.wp.svc.cluster.local``: host, namespace, rest.
_SERVICE_HOST = re.compile(r"^([^.]+)\.([^.]+)(\.svc(?:\..*)?)$")
_RBAC = "rbac.authorization.k8s.io"
_ADMISSION = "admissionregistration.k8s.io"


def rewrite(resource: str, body: Object, namespaces: Mapping[str, str]) -> None:
    """Every reference that is known to be one (in place)."""
    if all(old == new for old, new in namespaces.items()):
        return
    spec = body.get("spec") or {}
    plural, _, group = resource.partition(".")
    match plural, group:
        case ("rolebindings" | "clusterrolebindings", _) if group == _RBAC:
            _subjects(body.get("subjects"), namespaces)
        case ("roles" | "clusterroles", _) if group == _RBAC:
            _rules(body.get("rules"), namespaces)
        case "flowschemas", "flowcontrol.apiserver.k8s.io":
            for rule in spec.get("rules") or []:
                for subject in rule.get("subjects") or []:
                    _in(subject.get("serviceAccount"), "namespace", namespaces)
        case "apiservices", "apiregistration.k8s.io":
            _in(spec.get("service"), "namespace", namespaces)
        case "customresourcedefinitions", "apiextensions.k8s.io":
            webhook = (spec.get("conversion") or {}).get("webhook") or {}
            _client(webhook, namespaces)
        case (_, _) if group == _ADMISSION:
            _admission(body, namespaces)
        case "networkpolicies", "networking.k8s.io":
            for rules, peers in (("ingress", "from"), ("egress", "to")):
                for rule in spec.get(rules) or []:
                    for peer in rule.get(peers) or []:
                        _selector(peer.get("namespaceSelector"), namespaces)
        case "ingressclasses", "networking.k8s.io":
            _in(spec.get("parameters"), "namespace", namespaces)
        case "persistentvolumes", "":
            for reference in _secret_references(spec):
                _in(reference, "namespace", namespaces)
            _in(spec.get("azureFile"), "secretNamespace", namespaces)
        case "storageclasses", "storage.k8s.io":
            parameters = body.get("parameters") or {}
            for key in parameters:
                if key.endswith("-secret-namespace") or key == "secretNamespace":
                    _in(parameters, key, namespaces)
        case "services", "":
            _external_name(spec, namespaces)
    template = pod_spec(resource, body)
    if template is not None:
        _affinity(template.get("affinity") or {}, namespaces)


def _in(holder: Any, field: str, namespaces: Mapping[str, str]) -> None:
    """``holder[field]``, where it is there and means a namespace."""
    if isinstance(holder, dict) and holder.get(field) in namespaces:
        holder[field] = namespaces[holder[field]]


def _subjects(subjects: Any, namespaces: Mapping[str, str]) -> None:
    for subject in subjects or []:
        name = subject.get("name", "")
        if subject.get("kind") == "ServiceAccount":
            _in(subject, "namespace", namespaces)
        elif subject.get("kind") == "Group" and name.startswith(_ACCOUNT_GROUP):
            old = name.removeprefix(_ACCOUNT_GROUP)
            subject["name"] = _ACCOUNT_GROUP + namespaces.get(old, old)
        elif subject.get("kind") == "User" and name.startswith(_ACCOUNT_USER):
            old, _, account = name.removeprefix(_ACCOUNT_USER).partition(":")
            subject["name"] = f"{_ACCOUNT_USER}{namespaces.get(old, old)}:{account}"


def _rules(rules: Any, namespaces: Mapping[str, str]) -> None:
    """Namespaces that a role names one by one."""
    for rule in rules or []:
        if "namespaces" in (rule.get("resources") or []) and rule.get("resourceNames"):
            rule["resourceNames"] = [namespaces.get(name, name) for name in rule["resourceNames"]]


def _admission(body: Object, namespaces: Mapping[str, str]) -> None:
    for webhook in body.get("webhooks") or []:
        _client(webhook, namespaces)
        _selector(webhook.get("namespaceSelector"), namespaces)
    spec = body.get("spec") or {}
    for part in ("matchConstraints", "matchResources"):
        _selector((spec.get(part) or {}).get("namespaceSelector"), namespaces)
    _in(spec.get("paramRef"), "namespace", namespaces)


def _client(webhook: Mapping[str, Any], namespaces: Mapping[str, str]) -> None:
    _in((webhook.get("clientConfig") or {}).get("service"), "namespace", namespaces)


def _secret_references(value: Any) -> Iterator[Any]:
    """Every ``...SecretRef`` of a volume's source."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "secretRef" or key.endswith("SecretRef"):
                yield inner
            else:
                yield from _secret_references(inner)


def _external_name(spec: Object, namespaces: Mapping[str, str]) -> None:
    found = _SERVICE_HOST.match(str(spec.get("externalName") or ""))
    if found is not None and found[2] in namespaces:
        spec["externalName"] = f"{found[1]}.{namespaces[found[2]]}{found[3]}"


def _affinity(affinity: Mapping[str, Any], namespaces: Mapping[str, str]) -> None:
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(kind) or {}
        required = rules.get("requiredDuringSchedulingIgnoredDuringExecution") or []
        preferred = rules.get("preferredDuringSchedulingIgnoredDuringExecution") or []
        for term in (*required, *(item.get("podAffinityTerm") or {} for item in preferred)):
            if term.get("namespaces"):
                term["namespaces"] = [namespaces.get(name, name) for name in term["namespaces"]]
            _selector(term.get("namespaceSelector"), namespaces)


def _selector(selector: Any, namespaces: Mapping[str, str]) -> None:
    if not isinstance(selector, dict):
        return
    _in(selector.get("matchLabels"), _NAME_LABEL, namespaces)
    for expression in selector.get("matchExpressions") or []:
        if expression.get("key") == _NAME_LABEL:
            expression["values"] = [namespaces.get(v, v) for v in expression.get("values") or []]
