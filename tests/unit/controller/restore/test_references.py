"""Names of namespaces inside objects."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from controller.restore.references import rewrite

NAMESPACES = {"wp": "copy", "stays": "stays"}


def selector(namespace: str) -> dict[str, Any]:
    return {
        "matchLabels": {"kubernetes.io/metadata.name": namespace, "other": "wp"},
        "matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "In", "values": [namespace, "x"]},
            {"key": "other", "operator": "In", "values": ["wp"]},
        ],
    }


def affinity(namespace: str) -> dict[str, Any]:
    term = {"namespaces": [namespace, "x"], "namespaceSelector": selector(namespace)}
    return {
        "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]},
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": term}]
        },
    }


RBAC = "rbac.authorization.k8s.io"
ADMISSION = "admissionregistration.k8s.io"
CASES: list[tuple[str, Any]] = [
    (
        f"rolebindings.{RBAC}",
        lambda ns: {
            "subjects": [
                {"kind": "ServiceAccount", "name": "wp", "namespace": ns},
                {"kind": "Group", "name": f"system:serviceaccounts:{ns}"},
                {"kind": "User", "name": f"system:serviceaccount:{ns}:wp"},
                {"kind": "User", "name": "wp"},
            ]
        },
    ),
    (
        f"clusterroles.{RBAC}",
        lambda ns: {
            "rules": [
                {"resources": ["namespaces"], "resourceNames": [ns, "x"]},
                {"resources": ["configmaps"], "resourceNames": ["wp"]},
            ]
        },
    ),
    (
        "flowschemas.flowcontrol.apiserver.k8s.io",
        lambda ns: {
            "spec": {"rules": [{"subjects": [{"serviceAccount": {"name": "wp", "namespace": ns}}]}]}
        },
    ),
    (
        f"validatingwebhookconfigurations.{ADMISSION}",
        lambda ns: {
            "webhooks": [
                {
                    "clientConfig": {"service": {"name": "wp", "namespace": ns}},
                    "namespaceSelector": selector(ns),
                }
            ]
        },
    ),
    (
        f"validatingadmissionpolicybindings.{ADMISSION}",
        lambda ns: {
            "spec": {
                "paramRef": {"name": "wp", "namespace": ns},
                "matchResources": {"namespaceSelector": selector(ns)},
            }
        },
    ),
    (
        "apiservices.apiregistration.k8s.io",
        lambda ns: {"spec": {"service": {"name": "wp", "namespace": ns}}},
    ),
    (
        "customresourcedefinitions.apiextensions.k8s.io",
        lambda ns: {
            "spec": {
                "conversion": {
                    "webhook": {"clientConfig": {"service": {"name": "wp", "namespace": ns}}}
                }
            }
        },
    ),
    (
        "networkpolicies.networking.k8s.io",
        lambda ns: {
            "spec": {
                "ingress": [{"from": [{"namespaceSelector": selector(ns)}]}],
                "egress": [{"to": [{"namespaceSelector": selector(ns)}, {"podSelector": {}}]}],
            }
        },
    ),
    (
        "ingressclasses.networking.k8s.io",
        lambda ns: {"spec": {"parameters": {"name": "wp", "namespace": ns}}},
    ),
    (
        "persistentvolumes",
        lambda ns: {
            "spec": {
                "csi": {
                    "driver": "wp",
                    "nodePublishSecretRef": {"name": "wp", "namespace": ns},
                },
                "azureFile": {"secretName": "wp", "secretNamespace": ns},
                "rbd": {"secretRef": {"name": "wp", "namespace": ns}},
            }
        },
    ),
    (
        "storageclasses.storage.k8s.io",
        lambda ns: {
            "parameters": {
                "csi.storage.k8s.io/provisioner-secret-namespace": ns,
                "csi.storage.k8s.io/provisioner-secret-name": "wp",
            }
        },
    ),
    (
        "services",
        lambda ns: {"spec": {"externalName": f"wp.{ns}.svc.cluster.local"}},
    ),
    ("pods", lambda ns: {"spec": {"affinity": affinity(ns)}}),
    ("deployments.apps", lambda ns: {"spec": {"template": {"spec": {"affinity": affinity(ns)}}}}),
]


@pytest.mark.parametrize(("resource", "make"), CASES, ids=[case[0] for case in CASES])
def test_what_means_a_namespace_follows_it_and_nothing_else(resource: str, make: Any) -> None:
    body = copy.deepcopy(make("wp"))
    rewrite(resource, body, NAMESPACES)
    assert body == make("copy")
    other = copy.deepcopy(make("elsewhere"))
    rewrite(resource, other, NAMESPACES)
    assert other == make("elsewhere")


@pytest.mark.parametrize("host", ["wp.example.org", "wp.svc", "db.wp.svcs.x", "example.org"])
def test_a_host_outside_the_cluster_stays(host: str) -> None:
    body = {"spec": {"externalName": host}}
    rewrite("services", body, NAMESPACES)
    assert body == {"spec": {"externalName": host}}
