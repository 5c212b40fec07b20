"""Objects of more than forty kinds, with everything that makes backups and restores go wrong.

Among them: custom kinds with the names of built-in ones, in groups below k8s.io and with several
versions; Secrets of nearly a megabyte; immutable ones; finalizers; owner references; names with
colons, dots and 253 characters; webhook configurations; an aggregated API that nobody serves.
``install`` makes them in a namespace of a real API server and returns them as the server answers.
"""

from __future__ import annotations

import base64
import copy
import functools
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ararat.kube import KubeApi, KubeObject, ResourceType
from ararat.kube.errors import AlreadyExists
from ararat.kube.resources import CRDS

Body = dict[str, Any]
LONG = "a" * 120 + "." + "b" * 132
BIG = base64.b64encode(bytes(range(256)) * 2700).decode()


@dataclass(frozen=True)
class Made:
    """An object of the fixture, as the API server answered its creation."""

    type: ResourceType
    obj: KubeObject

    @property
    def id(self) -> tuple[str, str, str]:
        """(``deployments.apps``, namespace or empty, name)."""
        metadata = self.obj["metadata"]
        return self.type.qualified, metadata.get("namespace", ""), metadata["name"]


async def install(
    api: KubeApi,
    namespace: str,
    *,
    settle: Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]],
) -> list[Made]:
    """Make all of them. The namespace must be there.

    Cluster-scoped names begin with the namespace's, so that two fixtures stand beside each other;
    custom resource definitions are shared. ``settle`` waits until what it is given returns True.
    """
    made = []
    for body in definitions():
        try:
            made.append(Made(CRDS, await api.create(CRDS, body)))
        except AlreadyExists:
            made.append(Made(CRDS, await api.get(CRDS, body["metadata"]["name"])))
    for body in definitions():
        await settle(functools.partial(_established, api, body["metadata"]["name"]))
    for one, content in _objects(namespace):
        body = {"apiVersion": one.api_version, "kind": one.kind, **copy.deepcopy(content)}
        _own(body, made)
        obj = await api.create(one, body, namespace=namespace if one.namespaced else None)
        made.append(Made(one, obj))
    # A definition's status and a claim's phase may have moved since; what counts is what is served.
    return [Made(m.type, await api.get(m.type, m.id[2], namespace=m.id[1] or None)) for m in made]


async def remove(api: KubeApi, made: list[Made]) -> None:
    """Cluster-scoped objects and what finalizers hold; the namespace is the caller's."""
    for one in reversed(made):
        kind, namespace, name = one.id
        if one.obj["metadata"].get("finalizers") and not kind.startswith("customresource"):
            await api.patch(
                one.type, name, {"metadata": {"finalizers": None}}, namespace=namespace or None
            )
        await api.delete(one.type, name, namespace=namespace or None, grace_seconds=0)


def kinds() -> set[str]:
    """Every kind of the fixture (``deployments.apps``)."""
    return {one.qualified for one, _ in _objects("x")} | {CRDS.qualified}


async def _established(api: KubeApi, name: str) -> bool:
    crd = await api.get(CRDS, name)
    conditions = (crd.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def _own(body: Body, made: list[Made]) -> None:
    """Owner references name kind and name; the UID is known once the owner is there."""
    for reference in body["metadata"].get("ownerReferences", ()):
        owner = next(
            m
            for m in made
            if (m.obj["kind"], m.obj["metadata"]["name"]) == (reference["kind"], reference["name"])
        )
        reference["uid"] = owner.obj["metadata"]["uid"]


# --- custom kinds -------------------------------------------------------------------------------


def definitions() -> list[Body]:
    """Custom resource definitions."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    strict = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "size": {"type": "integer", "format": "int64"},
                    "ratio": {"type": "number"},
                    "port": {"x-kubernetes-int-or-string": True},
                    "maybe": {"type": "string", "nullable": True},
                    "mode": {"type": "string", "default": "auto"},
                },
            }
        },
    }
    return [
        _crd("widgets", "Widget", "many.example.com", [("v1", strict), ("v1beta1", anything)]),
        # The plural, the kind and the short name of a built-in one.
        _crd("services", "Service", "serving.many.example.com", [("v1", anything)], short=["svc"]),
        _crd("deployments", "Deployment", "x.k8s.io.many.example.com", [("v1alpha1", anything)]),
        _crd("databases", "Database", "db.many.example.com", [("v2", anything)], status=True),
        _crd("tenants", "Tenant", "many.example.com", [("v1", anything)], namespaced=False),
        _crd("odd-plurals-es", "OddPlural", "a-very.long-group.many.example.com", [("v1", strict)]),
    ]


def _crd(
    plural: str,
    kind: str,
    group: str,
    versions: list[tuple[str, Body]],
    *,
    short: list[str] | None = None,
    namespaced: bool = True,
    status: bool = False,
) -> Body:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced" if namespaced else "Cluster",
            "names": {
                "plural": plural,
                "singular": kind.lower(),
                "kind": kind,
                "listKind": f"{kind}List",
                "shortNames": short or [],
            },
            "versions": [
                {
                    "name": name,
                    "served": True,
                    "storage": index == 0,
                    "schema": {"openAPIV3Schema": schema},
                    **({"subresources": {"status": {}}} if status else {}),
                }
                for index, (name, schema) in enumerate(versions)
            ],
        },
    }


# --- objects ------------------------------------------------------------------------------------


def _objects(ns: str) -> Iterator[tuple[ResourceType, Body]]:
    """In an order in which owners come before what they own."""
    yield from _core(ns)
    yield from _workloads()
    yield from _other_built_in()
    yield from _cluster(ns)
    yield from _custom(ns)


def _core(ns: str) -> Iterator[tuple[ResourceType, Body]]:
    yield (
        _type("configmaps", "ConfigMap"),
        _named("settings", data={"a.b-c_d": "ö" * 10, "empty": ""}),
    )
    yield (
        _type("configmaps", "ConfigMap"),
        _named(
            "finalized", meta={"finalizers": ["many.example.com/held"]}, binaryData={"b": "AAE="}
        ),
    )
    yield _type("configmaps", "ConfigMap"), _named("fixed", immutable=True, data={"a": "1"})
    yield _type("configmaps", "ConfigMap"), _named(LONG, data={"name": "as long as can be"})
    yield _type("secrets", "Secret"), _named("big", type="Opaque", data={"blob": BIG})
    yield _type("secrets", "Secret"), _named("fixed", immutable=True, data={"p": "aHVudGVyMg=="})
    yield (
        _type("secrets", "Secret"),
        _named(
            "registry", type="kubernetes.io/dockerconfigjson", data={".dockerconfigjson": "e30="}
        ),
    )
    yield (
        _type("serviceaccounts", "ServiceAccount"),
        _named("web", imagePullSecrets=[{"name": "registry"}]),
    )
    selector = {"app": "web"}
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    yield _type("services", "Service"), _named("web", spec={"selector": selector, "ports": ports})
    yield (
        _type("services", "Service"),
        _named("headless", spec={"clusterIP": "None", "selector": selector, "ports": ports}),
    )
    yield (
        _type("services", "Service"),
        _named("node", spec={"type": "NodePort", "selector": selector, "ports": ports}),
    )
    yield (
        _type("services", "Service"),
        _named("elsewhere", spec={"type": "ExternalName", "externalName": "db.example.com"}),
    )
    yield (
        _type("endpoints", "Endpoints"),
        _named(
            "by-hand", subsets=[{"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 5432}]}]
        ),
    )
    yield (
        _type("persistentvolumeclaims", "PersistentVolumeClaim"),
        _named(
            "data",
            spec={
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": f"{ns}-fast",
                "volumeName": f"{ns}-data",
                "resources": {"requests": {"storage": "1Gi"}},
            },
        ),
    )
    yield (
        _type("limitranges", "LimitRange"),
        _named("limits", spec={"limits": [{"type": "Container", "max": {"cpu": "64"}}]}),
    )
    yield (
        _type("resourcequotas", "ResourceQuota"),
        _named("quota", spec={"hard": {"count/widgets.many.example.com": "100"}}),
    )
    yield _type("podtemplates", "PodTemplate"), _named("template", template=_template("t"))
    yield (
        _type("replicationcontrollers", "ReplicationController"),
        _named(
            "old", spec={"replicas": 0, "selector": {"app": "old"}, "template": _template("old")}
        ),
    )


def _workloads() -> Iterator[tuple[ResourceType, Body]]:
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "web"}},
        "template": _template("web"),
    }
    yield _type("deployments", "Deployment", "apps"), _named("web", spec=spec)
    yield (
        _type("replicasets", "ReplicaSet", "apps"),
        _named("web-5d4f", meta=_owned("apps/v1", "Deployment", "web"), spec=spec),
    )
    yield (
        _type("pods", "Pod"),
        _named(
            "web-5d4f-x7",
            meta={**_owned("apps/v1", "ReplicaSet", "web-5d4f"), "labels": {"app": "web"}},
            spec=_template("web", claim="data")["spec"],
        ),
    )
    yield (
        _type("statefulsets", "StatefulSet", "apps"),
        _named("db", spec={**spec, "serviceName": "headless", "podManagementPolicy": "Parallel"}),
    )
    yield (
        _type("controllerrevisions", "ControllerRevision", "apps"),
        _named(
            "db-6b7",
            meta=_owned("apps/v1", "StatefulSet", "db"),
            revision=1,
            data={"spec": {"a": 1}},
        ),
    )
    yield (
        _type("daemonsets", "DaemonSet", "apps"),
        _named("logs", spec={k: v for k, v in spec.items() if k != "replicas"}),
    )
    once = _template("once")
    once["spec"]["restartPolicy"] = "Never"
    del once["metadata"]
    yield _type("jobs", "Job", "batch"), _named("once", spec={"template": once, "backoffLimit": 0})
    yield (
        _type("cronjobs", "CronJob", "batch", "v1beta1"),
        _named(
            "nightly", spec={"schedule": "7 3 * * *", "jobTemplate": {"spec": {"template": once}}}
        ),
    )


def _other_built_in() -> Iterator[tuple[ResourceType, Body]]:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    yield (
        _type("horizontalpodautoscalers", "HorizontalPodAutoscaler", "autoscaling"),
        _named("web", spec={"scaleTargetRef": target, "maxReplicas": 3}),
    )
    networking = "networking.k8s.io"
    backend = {"service": {"name": "web", "port": {"name": "http"}}}
    yield (
        _type("ingresses", "Ingress", networking),
        _named("web", spec={"defaultBackend": backend}),
    )
    yield (
        _type("networkpolicies", "NetworkPolicy", networking),
        _named("deny", spec={"podSelector": {}, "policyTypes": ["Ingress"]}),
    )
    yield (
        _type("poddisruptionbudgets", "PodDisruptionBudget", "policy", "v1beta1"),
        _named("web", spec={"minAvailable": "50%", "selector": {"matchLabels": {"app": "web"}}}),
    )
    rbac = "rbac.authorization.k8s.io"
    yield (
        _type("roles", "Role", rbac),
        _named("team:web", rules=[{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]),
    )
    yield (
        _type("rolebindings", "RoleBinding", rbac),
        _named(
            "team:web",
            roleRef={"apiGroup": rbac, "kind": "Role", "name": "team:web"},
            subjects=[{"kind": "ServiceAccount", "name": "web"}],
        ),
    )


def _cluster(ns: str) -> Iterator[tuple[ResourceType, Body]]:
    def kind(plural: str, name: str, group: str = "", version: str = "v1") -> ResourceType:
        return _type(plural, name, group, version, namespaced=False)

    storage, rbac = "storage.k8s.io", "rbac.authorization.k8s.io"
    yield (
        kind("storageclasses", "StorageClass", storage),
        _named(
            f"{ns}-fast",
            provisioner="disk.many.example.com",
            volumeBindingMode="WaitForFirstConsumer",
            parameters={"kind": "ssd"},
        ),
    )
    yield (
        kind("persistentvolumes", "PersistentVolume"),
        _named(
            f"{ns}-data",
            spec={
                "accessModes": ["ReadWriteOnce"],
                "capacity": {"storage": "1Gi"},
                "storageClassName": f"{ns}-fast",
                "csi": {"driver": "disk.many.example.com", "volumeHandle": f"{ns}/disk-1"},
                "claimRef": {"namespace": ns, "name": "data"},
            },
        ),
    )
    yield (
        kind("csidrivers", "CSIDriver", storage),
        _named(f"{ns}.disk.example.com", spec={"attachRequired": False}),
    )
    yield (
        kind("priorityclasses", "PriorityClass", "scheduling.k8s.io"),
        _named(f"{ns}-high", value=1000),
    )
    yield kind("runtimeclasses", "RuntimeClass", "node.k8s.io"), _named(f"{ns}-vm", handler="vm")
    yield (
        kind("clusterroles", "ClusterRole", rbac),
        _named(f"{ns}:of:the.Cluster", rules=[{"nonResourceURLs": ["/x"], "verbs": ["get"]}]),
    )
    yield (
        kind("clusterrolebindings", "ClusterRoleBinding", rbac),
        _named(
            f"{ns}:binding",
            roleRef={"apiGroup": rbac, "kind": "ClusterRole", "name": f"{ns}:of:the.Cluster"},
            subjects=[{"kind": "ServiceAccount", "name": "web", "namespace": ns}],
        ),
    )
    yield (
        kind("podsecuritypolicies", "PodSecurityPolicy", "policy", "v1beta1"),
        _named(
            f"{ns}-any",
            spec={
                name: {"rule": "RunAsAny"}
                for name in ("seLinux", "runAsUser", "fsGroup", "supplementalGroups")
            },
        ),
    )
    yield (
        kind("ingressclasses", "IngressClass", "networking.k8s.io"),
        _named(f"{ns}-proxy", spec={"controller": "many.example.com/proxy"}),
    )
    # Of a group that nobody serves: it is consulted never, and stored all the same.
    rule = {
        "apiGroups": ["nowhere.many.example.com"],
        "apiVersions": ["*"],
        "operations": ["*"],
        "resources": ["*"],
    }
    hook = {
        "name": "hook.many.example.com",
        "clientConfig": {"service": {"namespace": ns, "name": "web", "path": "/hook"}},
        "rules": [rule],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    registration = "admissionregistration.k8s.io"
    yield (
        kind("validatingwebhookconfigurations", "ValidatingWebhookConfiguration", registration),
        _named(f"{ns}-check", webhooks=[hook]),
    )
    yield (
        kind("mutatingwebhookconfigurations", "MutatingWebhookConfiguration", registration),
        _named(f"{ns}-change", webhooks=[{**hook, "reinvocationPolicy": "IfNeeded"}]),
    )


def _custom(ns: str) -> Iterator[tuple[ResourceType, Body]]:
    many = "many.example.com"
    yield (
        _type("widgets", "Widget", many),
        _named(
            "w-1",
            spec={"size": 2**53 + 1, "ratio": 0.1, "port": "http", "maybe": None},
            meta={"finalizers": [f"{many}/cleanup"]},
        ),
    )
    yield (
        _type("widgets", "Widget", many),
        _named("w-2", spec={"port": 80}, meta=_owned(f"{many}/v1", "Widget", "w-1")),
    )
    yield (
        _type("services", "Service", f"serving.{many}"),
        _named("web", spec={"template": {"image": "x"}, "empty": {}, "none": []}),
    )
    yield (
        _type("deployments", "Deployment", f"x.k8s.io.{many}", "v1alpha1"),
        _named("web", data={"🙂": "\u2028"}),
    )
    yield _type("databases", "Database", f"db.{many}", "v2"), _named("db", spec={"replicas": 3})
    yield (
        _type("odd-plurals-es", "OddPlural", f"a-very.long-group.{many}"),
        _named("x", spec={"size": -1}),
    )
    yield (
        _type("tenants", "Tenant", many, namespaced=False),
        _named(f"{ns}.tenant", spec={"quota": "1"}),
    )


def _type(
    plural: str, kind: str, group: str = "", version: str = "v1", *, namespaced: bool = True
) -> ResourceType:
    return ResourceType(group, version, plural, kind, namespaced)


def _named(name: str, *, meta: Body | None = None, **content: Any) -> Body:
    return {"metadata": {"name": name, **(meta or {})}, **content}


def _owned(api_version: str, kind: str, name: str) -> Body:
    reference = {"apiVersion": api_version, "kind": kind, "name": name, "controller": True}
    return {"ownerReferences": [reference]}


def _template(app: str, *, claim: str = "") -> Body:
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}] if claim else []
    container = {"name": "main", "image": "none.example.com/app:1"}
    if claim:
        container["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]  # type: ignore[assignment]
    return {
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [container], "volumes": volumes},
    }
