"""The chart, installed into a real API server: it is accepted, and RBAC says what we say.

No node runs here: pods stay unscheduled, and nothing depends on them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ararat.api import KINDS
from tests.cluster.apiserver import ControlPlane
from tests.cluster.toolchain import kubectl

CHART = Path(__file__).resolve().parents[3] / "charts" / "ararat"
NAMESPACE = "ararat"
AGENT = f"system:serviceaccount:{NAMESPACE}:ararat-agent"
CONTROLLER = f"system:serviceaccount:{NAMESPACE}:ararat-controller"
TOKEN_REQUEST = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}


class Release:
    def __init__(self, plane: ControlPlane, home: Path) -> None:
        self.plane = plane
        self._home = home

    def helm(self, *arguments: str, values: dict[str, Any] | None = None) -> str:
        done = subprocess.run(
            [str(kubectl.ensure().helm), *arguments, "--namespace", NAMESPACE],
            input=None if values is None else json.dumps(values),
            env={
                **os.environ,
                "KUBECONFIG": str(self.plane.kubeconfig),
                "HELM_CACHE_HOME": str(self._home),
                "HELM_CONFIG_HOME": str(self._home),
                "HELM_DATA_HOME": str(self._home),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def may(self, user: str, verb: str, resource: str, **where: str) -> bool:
        """What RBAC answers. ``resource`` is ``group/plural/subresource`` from its end."""
        plural, _, subresource = resource.partition("/")
        plural, _, group = plural.partition(".")
        attributes = {
            "verb": verb,
            "group": group,
            "resource": plural,
            "subresource": subresource,
            **where,
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": user, "resourceAttributes": attributes},
        }
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        answer = self.plane.api.create(path, review)
        return bool(answer["status"]["allowed"])


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    with ControlPlane(fair=True) as plane:
        made = Release(plane, tmp_path_factory.mktemp("helm"))
        said = made.helm("install", "ararat", str(CHART), "--create-namespace")
        assert "ararat key export -o" in said
        yield made


def test_everything_is_there(release: Release) -> None:
    api = release.plane.api
    for kind in KINDS:
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{kind.PLURAL}.ararat.dev"
        conditions = {c["type"]: c["status"] for c in api.get(path)["status"]["conditions"]}
        assert conditions["Established"] == "True"
        assert "NonStructuralSchema" not in conditions
    location = api.get(f"/apis/ararat.dev/v1alpha1/namespaces/{NAMESPACE}/backuplocations/default")
    assert location["spec"]["filesystem"] == {"path": "/var/lib/ararat/backups"}
    assert api.get(f"/api/v1/namespaces/{NAMESPACE}-keys")["metadata"]["annotations"][
        "helm.sh/resource-policy"
    ]
    apps = f"/apis/apps/v1/namespaces/{NAMESPACE}"
    assert api.get(f"{apps}/deployments/ararat-controller")["spec"]["replicas"] == 2
    assert api.get(f"{apps}/daemonsets/ararat-agent")


def test_what_it_asks_the_server_queues_apart_from_all_else(
    release: Release, tmp_path: Path
) -> None:
    """By what the server says of the requests themselves: which schema they fell under."""
    schemas = "/apis/flowcontrol.apiserver.k8s.io/v1beta1/flowschemas"
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/any"
    other = "system:serviceaccount:default:default"

    def schema_of(user: str, path: str) -> str:
        done = subprocess.run(
            [str(kubectl.ensure().kubectl), "get", "--raw", path, "--as", user, "-v=8"],
            env={**os.environ, "KUBECONFIG": str(release.plane.kubeconfig), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        found = re.search(r"x-kubernetes-pf-flowschema-uid[\"']?[:=]\s*\W*([0-9a-f-]{36})",
                          done.stderr.lower())  # fmt: skip
        assert found, done.stderr
        names = {o["metadata"]["uid"]: o["metadata"]["name"] for o in api.items(schemas)}
        return str(names[found[1]])

    api = release.plane.api
    expected = {
        (CONTROLLER, "/api/v1/configmaps?limit=1"): "ararat",
        (AGENT, "/version"): "ararat",
        (CONTROLLER, lease): "ararat-leases",
        (other, "/api/v1/configmaps?limit=1"): "service-accounts",
    }
    release.plane.apiserver.wait_until(
        lambda: schema_of(CONTROLLER, lease) == "ararat-leases",
        timeout=60,
        what="the server to know the schemas",
    )
    assert {asked: schema_of(*asked) for asked in expected} == expected


def test_definitions_are_brought_up_to_date_as_the_documents_say(
    release: Release, tmp_path: Path
) -> None:
    """An older version's were installed by Helm, which does not touch them again."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/backupverifications.ararat.dev"
    version = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties"
    older = [{"op": "remove", "path": f"{version}/run"}]
    api = release.plane.api
    new = api.get(path)["spec"]
    api.request("PATCH", path, body=older, content_type="application/json-patch+json")
    assert api.get(path)["spec"] != new
    release.helm("upgrade", "ararat", str(CHART), "--reuse-values")
    assert api.get(path)["spec"] != new, "helm upgrades definitions now: the documents are wrong"
    documented = (CHART.parents[1] / "docs" / "upgrade.md").read_text()
    command = "kubectl apply --server-side --force-conflicts -f charts/ararat/crds/"
    assert f"$ {command}" in documented
    done = subprocess.run(
        [str(kubectl.ensure().kubectl), *command.split()[1:]],
        env={**os.environ, "KUBECONFIG": str(release.plane.kubeconfig), "HOME": str(tmp_path)},
        cwd=CHART.parents[1],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert api.get(path)["spec"] == new


@pytest.mark.parametrize(
    ("verb", "resource", "where"),
    [
        ("watch", "pods", {}),
        ("get", "persistentvolumeclaims", {"namespace": "wp"}),
        ("get", "persistentvolumes", {}),
        ("create", "events", {"namespace": "wp"}),
        ("get", "namespaces", {"name": "kube-system"}),
        ("watch", "podvolumebackups.ararat.dev", {"namespace": NAMESPACE}),
        ("patch", "podvolumebackups.ararat.dev/status", {"namespace": NAMESPACE}),
        ("patch", "podvolumerestores.ararat.dev/status", {"namespace": NAMESPACE}),
        ("get", "backuplocations.ararat.dev", {"namespace": NAMESPACE}),
        ("get", "secrets", {"namespace": NAMESPACE, "name": "job"}),
    ],
)
def test_agent_may(release: Release, verb: str, resource: str, where: dict[str, str]) -> None:
    assert release.may(AGENT, verb, resource, **where)


@pytest.mark.parametrize(
    ("verb", "resource", "where"),
    [
        ("list", "secrets", {"namespace": NAMESPACE}),
        ("get", "secrets", {"namespace": f"{NAMESPACE}-keys", "name": "master-key"}),
        ("get", "secrets", {"namespace": "wp", "name": "db"}),
        ("create", "pods", {"namespace": "wp"}),
        ("delete", "pods", {"namespace": "wp"}),
        ("create", "pods/exec", {"namespace": "wp"}),
        ("patch", "persistentvolumeclaims", {"namespace": "wp"}),
        ("create", "podvolumebackups.ararat.dev", {"namespace": NAMESPACE}),
        ("delete", "podvolumebackups.ararat.dev", {"namespace": NAMESPACE}),
        ("patch", "podvolumebackups.ararat.dev", {"namespace": NAMESPACE}),
        ("patch", "podvolumerestores.ararat.dev", {"namespace": NAMESPACE}),
        ("patch", "backups.ararat.dev", {"namespace": NAMESPACE}),
        ("patch", "backuplocations.ararat.dev", {"namespace": NAMESPACE}),
        ("create", "serviceaccounts/token", {"namespace": NAMESPACE}),
        ("get", "namespaces", {"name": "wp"}),
        ("get", "nodes/proxy", {}),
    ],
)
def test_agent_may_not(release: Release, verb: str, resource: str, where: dict[str, str]) -> None:
    assert not release.may(AGENT, verb, resource, **where)


class Bearer:
    """Whoever has the token of a service account, as the kubelet mounts it."""

    def __init__(self, plane: ControlPlane, account: str) -> None:
        self._url = plane.url
        self._trust = ssl.create_default_context(cafile=str(plane.ca.certificate))
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token"
        self._token = plane.api.create(path, TOKEN_REQUEST)["status"]["token"]

    def status(self, method: str, path: str, body: Any = None, **headers: str) -> int:
        """The code of the answer to a call."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data=data, method=method)
        patch = "application/merge-patch+json" if method == "PATCH" else "application/json"
        more = {"Authorization": f"Bearer {self._token}", "Content-Type": patch, **headers}
        for name, value in more.items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, context=self._trust, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def refused(self, calls: dict[tuple[str, str], Any]) -> None:
        answers = {call: self.status(*call, body) for call, body in calls.items()}
        assert set(answers.values()) == {403}, answers


def test_the_agents_own_token_is_refused(release: Release) -> None:
    """The calls themselves, not only RBAC's opinion."""
    agent = Bearer(release.plane, "ararat-agent")
    own = f"/api/v1/namespaces/{NAMESPACE}"
    jobs = f"/apis/ararat.dev/v1alpha1/namespaces/{NAMESPACE}/podvolumebackups"
    assert agent.status("GET", "/api/v1/pods") == 200
    assert agent.status("GET", jobs) == 200
    # Allowed, and there is none of that name.
    assert agent.status("GET", f"{own}/secrets/no-such") == 404
    assert agent.status("PATCH", f"{jobs}/no-such/status", {"status": {}}) == 404
    pod = {"metadata": {"name": "x"}, "spec": {"containers": [{"name": "x", "image": "x"}]}}
    agent.refused(
        {
            ("GET", f"{own}/secrets"): None,
            ("GET", f"{own}-keys/secrets/master-key"): None,
            ("GET", "/api/v1/namespaces/default/secrets/x"): None,
            ("GET", "/api/v1/nodes"): None,
            ("POST", "/api/v1/namespaces/default/pods"): pod,
            ("DELETE", "/api/v1/namespaces/default/pods/x"): None,
            ("POST", "/api/v1/namespaces/default/pods/x/exec?command=id"): None,
            ("PATCH", "/api/v1/namespaces/default/persistentvolumeclaims/x"): {},
            ("DELETE", "/api/v1/namespaces/default/persistentvolumeclaims/x"): None,
            ("POST", "/api/v1/namespaces/default/secrets"): {"metadata": {"name": "x"}},
            ("GET", "/apis/ararat.dev/v1alpha1/podvolumebackups"): None,
            ("POST", jobs): {"metadata": {"name": "x"}, "spec": {}},
            ("PATCH", f"{jobs}/x"): {"spec": {"cancel": True}},
            ("DELETE", f"{jobs}/x"): None,
            ("DELETE", jobs): None,
            ("PATCH", f"/apis/ararat.dev/v1alpha1/namespaces/{NAMESPACE}/backups/x"): {},
            ("DELETE", f"/apis/ararat.dev/v1alpha1/namespaces/{NAMESPACE}/backups/x"): None,
            ("POST", f"{own}/serviceaccounts/ararat-agent/token"): TOKEN_REQUEST,
        }
    )


def test_the_controllers_own_token_is_refused(release: Release) -> None:
    """It reads and makes everything, so this is about what it might destroy or pretend to be."""
    controller = Bearer(release.plane, "ararat-controller")
    there = "/api/v1/namespaces/default"
    assert controller.status("GET", "/api/v1/secrets") == 200
    # Allowed, and there is none of that name.
    assert controller.status("DELETE", f"{there}/pods/no-such") == 404
    deployment = {"metadata": {"name": "x"}, "spec": {}}
    controller.refused(
        {
            ("DELETE", "/api/v1/persistentvolumes/x"): None,
            ("DELETE", "/api/v1/namespaces/default"): None,
            ("DELETE", f"{there}/persistentvolumeclaims/x"): None,
            ("DELETE", f"{there}/persistentvolumeclaims"): None,
            ("DELETE", f"{there}/secrets/x"): None,
            ("DELETE", f"{there}/secrets"): None,
            ("DELETE", f"{there}/pods"): None,
            ("DELETE", f"/api/v1/namespaces/{NAMESPACE}-keys/secrets/master-key"): None,
            ("DELETE", "/api/v1/nodes/x"): None,
            ("PUT", "/apis/apps/v1/namespaces/default/deployments/x"): deployment,
            ("PUT", f"{there}/secrets/x"): {"metadata": {"name": "x"}},
        }
    )
    for user in ("system:admin", AGENT):
        assert controller.status("GET", "/version", **{"Impersonate-User": user}) == 403


@pytest.mark.parametrize(
    ("verb", "resource", "where"),
    [
        ("list", "secrets", {}),
        ("list", "widgets.example.org", {}),
        ("create", "widgets.example.org", {"namespace": "wp"}),
        ("create", "namespaces", {}),
        ("patch", "persistentvolumeclaims", {"namespace": "wp"}),
        ("patch", "pods/status", {"namespace": "wp"}),
        ("escalate", "clusterroles.rbac.authorization.k8s.io", {}),
        ("create", "secrets", {"namespace": f"{NAMESPACE}-keys"}),
        ("delete", "secrets", {"namespace": NAMESPACE}),
        ("delete", "pods", {"namespace": "wp"}),  # its own helper pods
        ("update", "leases.coordination.k8s.io", {"namespace": NAMESPACE}),
        ("delete", "podvolumerestores.ararat.dev", {"namespace": NAMESPACE}),
        ("patch", "restores.ararat.dev/status", {"namespace": NAMESPACE}),
    ],
)
def test_controller_may(release: Release, verb: str, resource: str, where: dict[str, str]) -> None:
    assert release.may(CONTROLLER, verb, resource, **where)


@pytest.mark.parametrize(
    ("verb", "resource", "where"),
    [
        ("delete", "persistentvolumeclaims", {"namespace": "wp"}),
        ("delete", "persistentvolumes", {}),
        ("delete", "namespaces", {}),
        ("deletecollection", "secrets", {}),
        ("delete", "secrets", {"namespace": f"{NAMESPACE}-keys", "name": "master-key"}),
        ("update", "deployments.apps", {"namespace": "wp"}),
        ("impersonate", "users", {}),
    ],
)
def test_controller_may_not(
    release: Release, verb: str, resource: str, where: dict[str, str]
) -> None:
    assert not release.may(CONTROLLER, verb, resource, **where)


def test_each_node_gets_one_agent_with_its_pools_settings(release: Release) -> None:
    """By Kubernetes' own controller of DaemonSets; what it makes its pods with is what agents read.

    (tests/component/agent/test_order.py has what an agent makes of that.)
    """
    api = release.plane.api
    labels = {
        "plain": {},
        "large": {"pool": "large"},
        "both": {"pool": "large", "kubelet": "moved"},
        "moved": {"kubelet": "moved"},
    }
    pools = [
        {"name": "large", "nodeSelector": {"pool": "large"}, "concurrency": 8},
        {"name": "moved", "nodeSelector": {"kubelet": "moved"}, "repositoryConcurrency": 1},
    ]
    for name, own in labels.items():
        api.create("/api/v1/nodes", {"metadata": {"name": name, "labels": own}})
    values = {"agent": {"pools": pools, "concurrency": 3}}
    release.helm("upgrade", "ararat", str(CHART), "-f", "-", values=values)

    def agents() -> dict[str, list[tuple[str, str]]]:
        """By node, how many jobs each of its agents runs at once: in all, in one repository."""
        found: dict[str, list[tuple[str, str]]] = {}
        path = f"/api/v1/namespaces/{NAMESPACE}/pods"
        for pod in api.items(f"{path}?labelSelector=app.kubernetes.io/component%3Dagent"):
            env = {e["name"]: e.get("value") for e in pod["spec"]["containers"][0]["env"]}
            (term,) = pod["spec"]["affinity"]["nodeAffinity"][
                "requiredDuringSchedulingIgnoredDuringExecution"
            ]["nodeSelectorTerms"]
            (node,) = term["matchFields"][0]["values"]
            limits = (env["ARARAT_CONCURRENCY"], env["ARARAT_REPOSITORY_CONCURRENCY"])
            found.setdefault(node, []).append(limits)
        return found

    release.plane.controllers.start()
    try:
        release.plane.apiserver.wait_until(
            lambda: agents().keys() == labels.keys(), timeout=120, what="an agent for each node"
        )
        assert agents() == {
            "plain": [("3", "64")],
            "large": [("8", "64")],
            "both": [("8", "64")],
            "moved": [("3", "1")],
        }
    finally:
        release.plane.controllers.stop(patience=5.0)
        for name in labels:
            api.delete(f"/api/v1/nodes/{name}")
        release.helm("upgrade", "ararat", str(CHART), "--reset-values")


def test_no_upgrade_touches_a_selector(release: Release, tmp_path: Path) -> None:
    """Selectors cannot be changed: an upgrade that tries is refused by the API server."""
    apps = f"/apis/apps/v1/namespaces/{NAMESPACE}"
    api = release.plane.api

    def workloads() -> dict[str, tuple[str, Any]]:
        found = [
            api.get(f"{apps}/{path}")
            for path in ("daemonsets/ararat-agent", "deployments/ararat-controller")
        ]
        return {o["metadata"]["name"]: (o["metadata"]["uid"], o["spec"]["selector"]) for o in found}

    before = workloads()
    newer = tmp_path / "ararat"
    shutil.copytree(CHART, newer)
    for key, old in yaml.safe_load((CHART / "Chart.yaml").read_text()).items():
        if key in ("version", "appVersion"):
            text = (newer / "Chart.yaml").read_text()
            (newer / "Chart.yaml").write_text(re.sub(rf"(?m)^{key}:.*$", f"{key}: 99.0.0", text))
            assert old != "99.0.0"
    labels = {"podLabels": {"team": "a"}, "podAnnotations": {"b": "c"}}
    pools = [{"name": "large", "nodeSelector": {"pool": "large"}}]
    settings: list[tuple[Path, dict[str, Any]]] = [
        (CHART, {"agent": {**labels, "pools": pools}, "controller": labels}),
        (newer, {"agent": {"pools": [*pools, {"name": "x", "nodeSelector": {"pool": "x"}}]}}),
        (newer, {"kubeletDir": "/mnt/kubelet", "agent": {"nodeSelector": {"pool": "x"}}}),
        (CHART, {}),
    ]
    for chart, values in settings:
        release.helm("upgrade", "ararat", str(chart), "-f", "-", values=values)
        assert workloads() == before
    agents = {o["metadata"]["name"] for o in api.items(f"{apps}/daemonsets")}
    assert agents == {"ararat-agent"}


def test_upgrade_and_uninstall_leave_key_and_definitions(release: Release) -> None:
    """Last, for it takes the release away."""
    release.helm("upgrade", "ararat", str(CHART), "-f", "-", values={"agent": {"concurrency": 4}})
    api = release.plane.api
    agent = api.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/ararat-agent")
    (container,) = agent["spec"]["template"]["spec"]["containers"]
    assert {"name": "ARARAT_CONCURRENCY", "value": "4"} in container["env"]
    release.helm("uninstall", "ararat")
    assert api.items(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments") == []
    assert (
        api.get(f"/api/v1/namespaces/{NAMESPACE}-keys")["metadata"].get("deletionTimestamp") is None
    )
    assert api.items("/apis/ararat.dev/v1alpha1/restores") == []
    # The namespace that was kept is taken over by the next install of the same name.
    release.helm("install", "ararat", str(CHART))
