"""The chart, rendered by the real helm and checked against Kubernetes' own schemas and ours."""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

import ararat
from ararat.api import KINDS, BackupLocation, names
from tests.cluster.toolchain import kubectl
from tools import crds

CHART = Path(__file__).resolve().parents[3] / "charts" / "ararat"
Object = dict[str, Any]

AZURE: Object = {
    "location": {
        "azure": {
            "accountName": "123456",
            "container": "backups",
            "prefix": "prod/eu",
            "endpoint": "https://123456.blob.example.test:10000",
            "authentication": "AccountKey",
            "credentialsSecret": "azure",
            "accessTier": "Cool",
            "caBundle": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        }
    }
}
WORKLOAD_IDENTITY: Object = {
    "location": {
        "azure": {
            "accountName": "prodbackups",
            "container": "backups",
            "workloadIdentity": {"clientID": "c-1", "tenantID": "t-1"},
        }
    }
}
EVERYTHING: Object = {
    "location": {"name": "main", "accessMode": "ReadOnly", "syncPeriodSeconds": 3600000},
    "extraFilesystemPaths": ["/mnt/nfs", "/mnt/other"],
    "keys": {"namespace": "vault"},
    "logLevel": "debug",
    "logFormat": "text",
    "metricsPerClaim": False,
    "imagePullSecrets": [{"name": "pull"}],
    "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["acct.blob.test"]}],
    "gate": {"image": "mirror/gate:9", "pullPolicy": "Always"},
    "webhook": {"enabled": True},
    "kubeletDir": "/var/snap/microk8s/common/var/lib/kubelet",
    "agent": {
        "image": {"repository": "mirror/agent", "tag": "sha256:" + 64 * "a"},
        "concurrency": 8,
        "repositoryConcurrency": 3,
        "bandwidthKiB": 10240000,
        "outageSeconds": 600,
        "niceness": 10,
        "ioPriority": "idle",
        "hostPaths": ["/var/lib/rancher/k3s/storage", "/srv"],
        "cacheDir": "/mnt/cache",
        "cacheLimitMiB": 10000000,
        "minimumFreeMiB": 1000000,
        "resources": {"limits": {"memory": "8Gi"}},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "system-node-critical",
        "maxUnavailable": 1,
        "seLinuxOptions": {"type": "spc_t"},
        "podAnnotations": {"a": "1"},
        "podLabels": {"b": "2"},
        "serviceAccountAnnotations": {"c": "3"},
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.test:3128"}],
    },
    "controller": {
        "image": {"repository": "mirror/controller", "tag": "9", "pullPolicy": "Always"},
        "replicas": 1,
        "spoolSize": "1Gi",
        "cacheSize": "500M",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "priorityClassName": "high",
        "podAnnotations": {"a": "1"},
        "podLabels": {"b": "2"},
        "serviceAccountAnnotations": {"c": "3"},
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.test:3128"}],
    },
}
POOLS: Object = {
    "agent": {
        "bandwidthKiB": 4096,
        "niceness": 5,
        "pools": [
            {"name": "large", "nodeSelector": {"pool": "large"}, "concurrency": 8, "niceness": 0},
            {
                "name": "moved",
                "nodeSelector": {"kubelet": "moved"},
                "kubeletDir": "/mnt/kubelet",
                "bandwidthKiB": 0,
            },
        ],
    }
}
NO_LOCATION: Object = {"location": {"enabled": False}}
CASES = {
    "defaults": {},
    "azure": AZURE,
    "workload-identity": WORKLOAD_IDENTITY,
    "everything": EVERYTHING,
    "no-location": NO_LOCATION,
    "pools": POOLS,
}


@functools.cache
def helm_program() -> str:
    return str(kubectl.ensure().helm)


def helm(*arguments: str, values: Object | None = None) -> subprocess.CompletedProcess[str]:
    """Run helm; values, where there are any, go through standard input."""
    with_values = [] if values is None else ["--values", "-"]
    return subprocess.run(
        [helm_program(), *arguments, *with_values],
        input=None if values is None else json.dumps(values),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def render(
    values: Object | None = None,
    *,
    namespace: str = "ararat",
    release: str = "ararat",
    kubernetes: str = "v1.37.0",
) -> list[Object]:
    done = helm(
        "template",
        release,
        str(CHART),
        "--namespace",
        namespace,
        "--kube-version",
        kubernetes,
        values=values,
    )
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def refusal(values: Object, **options: str) -> str:
    namespace = options.get("namespace", "ararat")
    done = helm("template", "ararat", str(CHART), "--namespace", namespace, values=values)
    assert done.returncode != 0, "helm accepted it"
    return done.stderr


def one(objects: list[Object], kind: str, suffix: str = "") -> Object:
    (found,) = (o for o in objects if o["kind"] == kind and o["metadata"]["name"].endswith(suffix))
    return found


def pod_of(workload: Object) -> tuple[Object, Object, dict[str, str]]:
    """(pod spec, its one container, its environment)."""
    spec = workload["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    return spec, container, {e["name"]: e.get("value", "") for e in container["env"]}


def mounts(container: Object) -> dict[str, Object]:
    return {mount["mountPath"]: mount for mount in container["volumeMounts"]}


@pytest.mark.parametrize("values", CASES.values(), ids=CASES.keys())
def test_lint(values):
    done = helm("lint", "--strict", str(CHART), values=values)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


@pytest.mark.parametrize("kubernetes", ["1.25", "1.31", "1.37"])
@pytest.mark.parametrize("values", CASES.values(), ids=CASES.keys())
def test_objects_fit_kubernetes_schemas(values, kubernetes):
    for document in render(values, kubernetes=f"v{kubernetes}.0"):
        if document["apiVersion"].startswith("ararat.dev/"):
            continue
        kubernetes_validate.validate(document, kubernetes, strict=True)


@pytest.mark.parametrize("values", CASES.values(), ids=CASES.keys())
def test_location_fits_crd_and_model(values):
    locations = [o for o in render(values) if o["kind"] == "BackupLocation"]
    assert len(locations) == (0 if values is NO_LOCATION else 1)
    (version,) = crds.definition(BackupLocation)["spec"]["versions"]
    for location in locations:
        jsonschema.validate(location, version["schema"]["openAPIV3Schema"])
        assert BackupLocation.parse(location).spec.default


def test_crds_come_with_the_chart():
    shown = [o for o in yaml.safe_load_all(helm("show", "crds", str(CHART)).stdout) if o]
    assert {o["spec"]["names"]["kind"] for o in shown} == {kind.KIND for kind in KINDS}


@pytest.mark.parametrize(
    ("kubernetes", "expected"), [("v1.20.2", "policy/v1beta1"), ("v1.21.0", "policy/v1")]
)
def test_disruption_budget_in_the_version_the_server_has(kubernetes, expected):
    budget = one(render(kubernetes=kubernetes), "PodDisruptionBudget")
    assert budget["apiVersion"] == expected


@pytest.mark.parametrize(
    ("kubernetes", "expected", "shares"),
    [
        ("v1.20.2", "v1beta1", "assured"),
        ("v1.25.0", "v1beta2", "assured"),
        ("v1.28.0", "v1beta3", "nominal"),
        ("v1.29.0", "v1", "nominal"),
    ],
)
def test_priority_in_the_version_the_server_has(kubernetes, expected, shares):
    level = one(render(kubernetes=kubernetes), "PriorityLevelConfiguration")
    assert level["apiVersion"] == f"flowcontrol.apiserver.k8s.io/{expected}"
    assert level["spec"]["limited"][f"{shares}ConcurrencyShares"] == 10
    off = render({"apiPriority": {"enabled": False}}, kubernetes=kubernetes)
    assert not {"FlowSchema", "PriorityLevelConfiguration"} & {o["kind"] for o in off}


def test_no_disruption_budget_for_one_replica():
    assert "PodDisruptionBudget" not in {o["kind"] for o in render(EVERYTHING)}


def test_default_location_is_a_directory_both_parts_mount():
    objects = render()
    path = "/var/lib/ararat/backups"
    assert one(objects, "BackupLocation")["spec"]["filesystem"] == {"path": path}
    for workload in (one(objects, "Deployment"), one(objects, "DaemonSet")):
        spec, container, _ = pod_of(workload)
        mount = mounts(container)[path]
        volume = next(v for v in spec["volumes"] if v["name"] == mount["name"])
        assert volume["hostPath"] == {"path": path, "type": "DirectoryOrCreate"}
    spec, container, _ = pod_of(one(objects, "Deployment"))
    assert spec["securityContext"]["runAsUser"] == 0
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize(("mode", "read_only"), [("ReadOnly", True), ("ReadWrite", None)])
def test_a_directory_that_is_only_restored_from_is_mounted_so(mode, read_only):
    objects = render({"location": {"accessMode": mode}, "extraFilesystemPaths": ["/mnt/own"]})
    for workload in (one(objects, "Deployment"), one(objects, "DaemonSet")):
        _spec, container, _ = pod_of(workload)
        assert mounts(container)["/var/lib/ararat/backups"].get("readOnly") is read_only
        assert "readOnly" not in mounts(container)["/mnt/own"]


@pytest.mark.parametrize("values", [AZURE, WORKLOAD_IDENTITY])
def test_azure_needs_no_root_and_no_directory_of_the_node(values):
    objects = render(values)
    spec, _container, _ = pod_of(one(objects, "Deployment"))
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 65532
    assert not [v for v in spec["volumes"] if "hostPath" in v]
    location = one(objects, "BackupLocation")["spec"]
    assert "filesystem" not in location
    assert (
        location["azure"].items()
        >= {
            "accountName": values["location"]["azure"]["accountName"],
            "container": "backups",
        }.items()
    )


def test_workload_identity_reaches_both_parts():
    objects = render(WORKLOAD_IDENTITY)
    for part, kind in (("controller", "Deployment"), ("agent", "DaemonSet")):
        annotations = one(objects, "ServiceAccount", part)["metadata"]["annotations"]
        assert annotations == {
            "azure.workload.identity/client-id": "c-1",
            "azure.workload.identity/tenant-id": "t-1",
        }
        labels = one(objects, kind)["spec"]["template"]["metadata"]["labels"]
        assert labels["azure.workload.identity/use"] == "true"
    for part in ("controller", "agent"):
        assert "annotations" not in one(render(AZURE), "ServiceAccount", part)["metadata"]


def test_agent_sees_volumes_and_is_not_privileged():
    spec, container, env = pod_of(one(render(), "DaemonSet"))
    kubelet = mounts(container)["/var/lib/kubelet"]
    assert kubelet["mountPropagation"] == "HostToContainer"
    assert env["ARARAT_KUBELET_DIR"] == "/var/lib/kubelet"
    security = container["securityContext"]
    assert security["privileged"] is False
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"]["drop"] == ["ALL"]
    assert "SYS_ADMIN" not in security["capabilities"]["add"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        assert key not in spec
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["terminationGracePeriodSeconds"] == 90


def test_spool_is_in_memory_and_bounded():
    spec, container, env = pod_of(one(render(), "Deployment"))
    mount = mounts(container)[env["ARARAT_SPOOL_DIR"]]
    volume = next(v for v in spec["volumes"] if v["name"] == mount["name"])
    assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": "512Mi"}


def test_gate_uses_the_agents_image_unless_told_otherwise():
    objects = render()
    agent_image = pod_of(one(objects, "DaemonSet"))[1]["image"]
    env = pod_of(one(objects, "Deployment"))[2]
    assert env["ARARAT_GATE_IMAGE"] == agent_image == f"ararat-agent:{ararat.__version__}"
    assert env["ARARAT_GATE_PULL_POLICY"] == "IfNotPresent"
    env = pod_of(one(render(EVERYTHING), "Deployment"))[2]
    assert env["ARARAT_GATE_IMAGE"] == "mirror/gate:9"
    assert env["ARARAT_GATE_PULL_POLICY"] == "Always"


def test_each_claim_has_a_metric_unless_told_otherwise():
    for values, expected in (({}, "true"), (EVERYTHING, "false")):
        assert pod_of(one(render(values), "Deployment"))[2]["ARARAT_METRICS_PER_CLAIM"] == expected


def test_webhooks_are_those_the_controller_serves():
    from controller.restore.webhook import configurations

    objects = render({"webhook": {"enabled": True}}, namespace="backup")
    service = one(objects, "Service")
    name = service["metadata"]["name"]
    wanted = configurations(name="ararat-gate", namespace="backup", service=name)
    for configuration in wanted:
        found = one(objects, configuration["kind"])
        assert found["metadata"]["name"] == "ararat-gate"
        assert found["webhooks"] == configuration["webhooks"]
    _, container, env = pod_of(one(objects, "Deployment"))
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    port = {"name": "webhook", "port": 443, "targetPort": "webhook", "protocol": "TCP"}
    assert service["spec"]["ports"] == [port]
    assert env["ARARAT_WEBHOOK_SERVICE"] == name
    assert env["ARARAT_WEBHOOK_PORT"] == str(ports["webhook"])
    labels = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()


def test_every_value_arrives():
    objects = render(EVERYTHING)
    for kind in ("Deployment", "DaemonSet"):
        workload = one(objects, kind)
        spec, container, env = pod_of(workload)
        assert env["ARARAT_LOG_LEVEL"] == "DEBUG"
        assert env["ARARAT_LOG_FORMAT"] == "text"
        assert env["HTTPS_PROXY"] == "http://proxy.test:3128"
        assert spec["imagePullSecrets"] == [{"name": "pull"}]
        assert spec["hostAliases"][0]["ip"] == "10.0.0.1"
        assert spec["nodeSelector"] == {"kubernetes.io/os": "linux"}
        assert {"/mnt/nfs", "/mnt/other", "/var/lib/ararat/backups"} <= mounts(container).keys()
        template = workload["spec"]["template"]["metadata"]
        assert template["annotations"]["a"] == "1"
        assert template["labels"]["b"] == "2"
    spec, container, env = pod_of(one(objects, "DaemonSet"))
    assert container["image"] == "mirror/agent@sha256:" + 64 * "a"
    assert (env["ARARAT_CONCURRENCY"], env["ARARAT_REPOSITORY_CONCURRENCY"]) == ("8", "3")
    assert env["ARARAT_CACHE_LIMIT_MIB"] == "10000000"
    assert env["ARARAT_MINIMUM_FREE_MIB"] == "1000000"
    assert env["ARARAT_BANDWIDTH_KIB"] == "10240000"
    assert env["ARARAT_OUTAGE_SECONDS"] == "600"
    assert (env["ARARAT_NICENESS"], env["ARARAT_IO_PRIORITY"]) == ("10", "idle")
    assert env["ARARAT_HOST_PATHS"] == "/var/lib/rancher/k3s/storage:/srv"
    for path in ("/var/lib/rancher/k3s/storage", "/srv"):
        mount = mounts(container)[path]
        assert mount["mountPropagation"] == "HostToContainer"
        volume = next(v for v in spec["volumes"] if v["name"] == mount["name"])
        assert volume["hostPath"]["path"] == path
    assert env["ARARAT_CACHE_DIR"] in mounts(container)
    assert EVERYTHING["kubeletDir"] in mounts(container)
    assert container["securityContext"]["seLinuxOptions"] == {"type": "spc_t"}
    _, container, env = pod_of(one(objects, "Deployment"))
    assert container["image"] == "mirror/controller:9"
    assert env["ARARAT_HOST_PATHS"] == "/var/lib/rancher/k3s/storage:/srv"
    assert env["ARARAT_KEYS_NAMESPACE"] == "vault"
    assert one(objects, "Namespace")["metadata"]["name"] == "vault"
    assert one(objects, "BackupLocation")["spec"]["syncPeriodSeconds"] == 3600000


def test_a_pool_of_nodes_has_agents_with_settings_of_its_own():
    found = [o for o in render(POOLS) if o["kind"] == "DaemonSet"]
    assert [o["metadata"]["name"] for o in found] == [
        "ararat-agent-large",
        "ararat-agent-moved",
        "ararat-agent",
    ]
    large, moved, other = (pod_of(o) for o in found)
    assert [env["ARARAT_CONCURRENCY"] for _, _, env in (large, moved, other)] == ["8", "2", "2"]
    assert [env["ARARAT_NICENESS"] for _, _, env in (large, moved, other)] == ["0", "5", "5"]
    assert [env["ARARAT_BANDWIDTH_KIB"] for _, _, env in (large, moved, other)] == [
        "4096",
        "0",
        "4096",
    ]
    assert "/mnt/kubelet" in mounts(moved[1])
    assert moved[2]["ARARAT_KUBELET_DIR"] == "/mnt/kubelet"
    assert "/var/lib/kubelet" in mounts(other[1])
    # A node has one agent: the first pool that it fits, or the one for all others.
    assert [spec.get("nodeSelector") for spec, _, _ in (large, moved, other)] == [
        {"pool": "large"},
        {"kubelet": "moved"},
        None,
    ]
    assert "affinity" not in large[0]
    assert _kept_off(moved[0]) == [("pool", "large")]
    assert _kept_off(other[0]) == [("pool", "large"), ("kubelet", "moved")]
    selectors = [o["spec"]["selector"]["matchLabels"] for o in found]
    assert len({json.dumps(s) for s in selectors}) == 3
    for workload in found:
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert workload["spec"]["selector"]["matchLabels"].items() <= labels.items()


def _kept_off(spec: Object) -> list[tuple[str, str]]:
    required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (term,) = required["nodeSelectorTerms"]
    assert {e["operator"] for e in term["matchExpressions"]} == {"NotIn"}
    return [(e["key"], value) for e in term["matchExpressions"] for value in e["values"]]


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        ({"bandwidthKiB": 100}, "bandwidthKiB"),
        ({"repositoryConcurrency": 0}, "repositoryConcurrency"),
        ({"niceness": 20}, "niceness"),
        ({"ioPriority": "realtime"}, "ioPriority"),
        ({"hostPaths": ["/"]}, "hostPaths"),
        ({"hostPaths": ["relative"]}, "hostPaths"),
        ({"pools": [{"name": "x", "nodeSelector": {}}]}, "nodeSelector"),
        ({"pools": [{"name": "x", "nodeSelector": {"a": "b"}, "image": {}}]}, "image"),
        (
            {
                "affinity": {"nodeAffinity": {}},
                "pools": [{"name": "x", "nodeSelector": {"a": "b"}}],
            },
            "exclude each other",
        ),
    ],
)
def test_settings_of_agents_that_will_not_do(agent, said):
    assert said in refusal({"agent": agent})


def test_keys_namespace_outlives_the_release():
    namespace = one(render(namespace="backup"), "Namespace")["metadata"]
    assert namespace["name"] == "backup-keys"
    assert namespace["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert namespace["labels"][names.EXCLUDE_FROM_BACKUP] == "true"
    without = render({"keys": {"createNamespace": False}})
    assert "Namespace" not in {o["kind"] for o in without}


def test_pods_carry_the_labels_the_parts_look_for():
    objects = render()
    for kind, component in (
        ("DaemonSet", names.COMPONENT_AGENT),
        ("Deployment", names.COMPONENT_CONTROLLER),
    ):
        workload = one(objects, kind)
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert labels[names.COMPONENT] == component
        assert workload["metadata"]["labels"]["app.kubernetes.io/version"] == ararat.__version__
        selector = workload["spec"]["selector"]["matchLabels"]
        assert selector.items() <= labels.items()
        assert "app.kubernetes.io/version" not in selector


def test_agent_may_do_little():
    """Written out, so that a wider rule is a decision and not an accident."""
    objects = render()
    everywhere = one(objects, "ClusterRole", "-agent")["rules"]
    assert everywhere == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
        {
            "apiGroups": [""],
            "resources": ["persistentvolumeclaims", "persistentvolumes"],
            "verbs": ["get"],
        },
        {
            "apiGroups": [""],
            "resources": ["namespaces"],
            "resourceNames": ["kube-system"],
            "verbs": ["get"],
        },
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
    ]
    secrets = [r for r in one(objects, "Role", "-agent")["rules"] if "secrets" in r["resources"]]
    assert [rule["verbs"] for rule in secrets] == [["get"]]


def test_controller_deletes_nothing_of_others():
    rules = one(render(), "ClusterRole", "-controller")["rules"]
    # Its own pods, which mount claims that no other pod mounts: RBAC cannot tell them apart.
    pods = {"apiGroups": [""], "resources": ["pods"], "verbs": ["delete"]}
    assert pods in rules
    verbs = {verb for rule in rules if rule != pods for verb in rule["verbs"]}
    assert not verbs & {"*", "delete", "deletecollection", "update", "impersonate"}


def test_namespaces_are_deleted_only_where_pods_of_backups_may_run():
    namespaces = {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["delete"]}
    for values, allowed in ((None, False), ({"verification": {"run": {"enabled": True}}}, True)):
        objects = render(values)
        assert (namespaces in one(objects, "ClusterRole", "-controller")["rules"]) == allowed
        _, _, env = pod_of(one(objects, "Deployment"))
        assert env["ARARAT_VERIFICATION_RUN"] == str(allowed).lower()


def test_bindings_name_roles_and_accounts_that_exist():
    objects = render(release="r", namespace="backup")
    known = {(o["kind"], o["metadata"]["name"]) for o in objects}
    bindings = [o for o in objects if o["kind"].endswith("Binding")]
    assert len(bindings) == 4
    for binding in bindings:
        assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) in known
        for subject in binding["subjects"]:
            assert (subject["kind"], subject["name"]) in known
            assert subject["namespace"] == "backup"
    for workload in (one(objects, "Deployment"), one(objects, "DaemonSet")):
        account = workload["spec"]["template"]["spec"]["serviceAccountName"]
        assert ("ServiceAccount", account) in known


@pytest.mark.parametrize("namespace", ["123", "true"])
def test_names_that_look_like_other_types_stay_text(namespace):
    for document in render(namespace=namespace, release="1e3"):
        metadata = document["metadata"]
        assert isinstance(metadata["name"], str)
        assert metadata.get("namespace", namespace) == namespace
        assert metadata["labels"]["app.kubernetes.io/instance"] == "1e3"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"agent": {"concurency": 3}}, "additional properties 'concurency' not allowed"),
        ({"location": {"azure": {"accountName": "abc"}}}, "location.azure.container is not set"),
        ({"location": {"azure": {"container": "abc"}}}, "accountName is not: name the storage"),
        (
            {
                "location": {
                    "azure": {"accountName": "abc", "container": "abc", "authentication": "SAS"}
                }
            },
            "credentialsSecret is not set: authentication SAS needs a Secret in namespace ararat",
        ),
        ({"location": {"accessMode": "Readonly"}}, "/location/accessMode"),
        ({"location": {"filesystem": {"path": "backups"}}}, "/location/filesystem/path"),
        ({"location": {"name": "Default"}}, "/location/name"),
        ({"keys": {"namespace": "ararat"}}, "keys.namespace is the namespace of the release"),
        ({"agent": {"concurrency": 0}}, "/agent/concurrency"),
        ({"controller": {"replicas": "two"}}, "/controller/replicas"),
        ({"logLevel": "verbose"}, "/logLevel"),
        ({"kubeletDir": "var/lib/kubelet"}, "/kubeletDir"),
    ],
)
def test_mistakes_are_refused_and_named(values, said):
    assert said in refusal(values)


def test_notes_say_what_comes_next():
    done = helm("install", "ararat", str(CHART), "--dry-run=client", "--namespace", "backup")
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2]
    assert "ararat key export -n backup -o" in notes
    assert "export ARARAT_NAMESPACE=backup" in notes
    assert "ararat backup create mybackup --include-namespaces wp --wait" in notes
