"""Pods of every kind of owner come back on their data, also when they are replaced on the way.

One namespace, one backup, one restore; an operator of the test's own makes pods with new names.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ararat.gate import CONTAINER as GATE
from tests.e2e.conftest import Ground, Namespaces, delete_namespace
from tests.e2e.support import kinds, replaced
from tests.e2e.support.podwatch import watch_pods
from tests.e2e.support.tools import CommandFailed, Object, Tools
from tests.e2e.support.waiting import eventually
from tests.e2e.support.walks import Walk, same, walk
from tests.e2e.support.workload import records

#: Pods by app, and the claims of their data.
_EXPECTED = {"web": 3, "shared": 3, "agents": 2, "bare": 1, "operated": 1}
_CLAIMS = ("data-web-0", "data-web-1", "data-web-2", "shared", "agents", "one", "operated")


@pytest.mark.timeout(2400)
def test_every_kind_of_pod(installed: Ground, tools: Tools, namespaces: Namespaces) -> None:
    name = namespaces.new("kinds")
    backup, restore = f"{name}-kept", f"{name}-back"
    tools.apply([kinds.definition()])
    tools.kubectl("wait", "--for=condition=Established", f"crd/databases.{kinds.GROUP}")
    tools.kubectl("create", "namespace", name)
    try:
        with _operator(tools, name, installed.image):
            _install(tools, name, installed.image)
            before = _walks(tools, name)
            what = ("--include-namespaces", name, "--include-cluster-resources", "false")
            tools.ararat("backup", "create", backup, *what, "--wait")

            listed = tools.ararat("backup", "ls", backup, f"{name}/shared").stdout
            assert " f7" in listed
            one = tools.ararat("backup", "cat", backup, f"{name}/shared", "f7")
            assert one.stdout == "7\n"

            delete_namespace(tools, name)
            with watch_pods(tools, name) as history:
                with replaced.agents_away(tools):
                    tools.ararat("restore", "create", restore, "--from-backup", backup)
                    replaced.at_their_gates(tools, name, _EXPECTED)
                    replaced.cause_is_told(tools, restore, "NoAgent")
                    replaced.replace_all(tools, name)
                with _interference(tools, name):
                    tools.ararat("restore", "wait", restore)
                    _wait_until_running(tools, name)
            _prove_equal(tools, name, before)
        filled = {*_CLAIMS, "two"}
        replaced.prove_held(tools, history, restore, claims=filled)
        replaced.prove_once(tools, restore, claims=filled)
        assert tools.exec(name, "bare", ["cat", "/records/hooks"]) == "init\npost\n"
        _prove_other_kinds(tools, name)
        found = tools.get("restores.ararat.dev", restore, namespace=tools.namespace)
        assert found is not None
        assert found["status"]["volumes"]["text"] == "9 of 9 filled"
        left = tools.get("namespace", name)
        assert left is not None
        assert "ararat.dev/restoring" not in left["metadata"]["labels"]
        _prove_in_place(tools, name, backup)
        _prove_scaled_down(tools, name, backup, before)
        _prove_without_pods(tools, name, namespaces.new("claims"), backup, installed.image, before)
    finally:
        tools.kubectl("delete", "crd", f"databases.{kinds.GROUP}", "--wait=false")


def _install(tools: Tools, name: str, image: str) -> None:
    documents = [*kinds.everything(image), kinds.instance("db")]
    for document in documents:
        document["metadata"]["namespace"] = name
    tools.apply(documents)
    _wait_until_running(tools, name)
    tools.kubectl("wait", "--for=condition=Complete", "job/once", "-n", name)
    tools.kubectl("delete", "configmap", kinds.FIRST, "-n", name)


def _running(tools: Tools, name: str) -> dict[str, list[Object]]:
    found: dict[str, list[Object]] = {}
    for pod in tools.items("pods", namespace=name, selector="app"):
        conditions = pod.get("status", {}).get("conditions", [])
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        if ready and "deletionTimestamp" not in pod["metadata"]:
            found.setdefault(pod["metadata"]["labels"]["app"], []).append(pod)
    return found


def _wait_until_running(tools: Tools, name: str) -> None:
    # As many may be ready while an old one still waits for its end: that is not the end of it.
    for owner in ("deployment/shared", "statefulset/web", "daemonset/agents"):
        tools.kubectl("rollout", "status", owner, "-n", name, "--timeout=240s", timeout=250)

    def all_there() -> bool:
        found = _running(tools, name)
        return all(len(found.get(app, ())) == count for app, count in _EXPECTED.items())

    eventually(
        all_there,
        what=f"{_EXPECTED} in {name}",
        timeout=240,
        interval=1.0,
        seen=lambda: tools.kubectl("get", "pods", "-n", name, "-o", "wide"),
    )


def _walks(tools: Tools, name: str) -> dict[str, Walk]:
    """By claim, and of the volumes of the bare pod by their own names."""
    found: dict[str, Walk] = {}
    for pods in _running(tools, name).values():
        for pod in pods:
            if _key(pod) not in found:
                pod_name = pod["metadata"]["name"]
                found[_key(pod)] = walk(tools, namespace=name, pod=pod_name, directory="/data")
    for directory in ("two", "scratch"):
        found[directory] = walk(tools, namespace=name, pod="bare", directory=f"/{directory}")
    return found


def _key(pod: Object) -> str:
    """The claim of the pod's data."""
    app = pod["metadata"]["labels"]["app"]
    if app == "web":
        return f"data-{pod['metadata']['name']}"
    return {"bare": "one"}.get(app, str(app))


def _prove_equal(tools: Tools, name: str, before: dict[str, Walk]) -> None:
    after = _walks(tools, name)
    assert set(after) == set(before) == {*_CLAIMS, "two", "scratch"}
    for key, walked in before.items():
        same(walked, after[key])
    shared = {pod["spec"]["nodeName"] for pod in _running(tools, name)["shared"]}
    assert len(shared) > 1, "the pods that share a claim are on one node"
    for pods in _running(tools, name).values():
        for pod in pods:
            pod_name = pod["metadata"]["name"]
            kept = records(tools, namespace=name, pod=pod_name)
            assert [start["empty"] for start in kept.starts] == [False], pod_name
            # What came after its volume was filled has no gate.
            gates = [c for c in pod["spec"].get("initContainers", ()) if c["name"] == GATE]
            mounts = {mount["name"] for gate in gates for mount in gate["volumeMounts"]}
            assert mounts <= {"ararat-gate"}, f"{pod_name}'s gate has a token"
            same(before[_key(pod)], kept.walk)


def _prove_in_place(tools: Tools, name: str, backup: str) -> None:
    """One file that somebody deleted comes back under a running pod; another change stays."""
    pods = [pod["metadata"]["name"] for pod in _running(tools, name)["shared"]]
    tools.exec(name, pods[0], ["sh", "-c", "rm /data/f7; echo changed > /data/f8"])
    where = ("--volumes", "in-place", "--include", f"{name}/shared", "--path", "f7", "--yes")
    tools.ararat("restore", "create", f"{name}-file", "--from-backup", backup, *where, "--wait")
    assert tools.exec(name, pods[1], ["cat", "/data/f7", "/data/f8"]) == "7\nchanged\n"


def _prove_scaled_down(tools: Tools, name: str, backup: str, before: dict[str, Walk]) -> None:
    """The volume of a StatefulSet's pod, while all of them are gone; then they come back."""
    uids = {pod["metadata"]["uid"] for pod in _running(tools, name)["web"]}
    tools.exec(name, "web-0", ["sh", "-c", "rm -rf /data/odd /data/20*; echo x > /data/more"])
    where = ("--volumes", "in-place", "--include", f"{name}/data-web-0", "--delete-extra", "--yes")
    arguments = ("--from-backup", backup, *where, "--scale-down", "--wait")
    tools.ararat("restore", "create", f"{name}-scaled", *arguments)
    _wait_until_running(tools, name)
    web = _running(tools, name)["web"]
    assert uids.isdisjoint(pod["metadata"]["uid"] for pod in web)
    same(before["data-web-0"], walk(tools, namespace=name, pod="web-0", directory="/data"))


def _prove_without_pods(
    tools: Tools, name: str, copy: str, backup: str, image: str, before: dict[str, Walk]
) -> None:
    """Claims whose workloads are not there are filled all the same."""
    where = (
        *("--include-resources", "persistentvolumeclaims"),
        *("--namespace-mappings", f"{name}:{copy}"),
    )
    tools.ararat("restore", "create", copy, "--from-backup", backup, *where, "--wait")
    found = tools.get("restores.ararat.dev", copy, namespace=tools.namespace)
    assert found is not None
    assert found["status"]["volumes"]["text"] == "8 of 8 filled"

    def helpers_gone() -> bool:
        return tools.items("pods", namespace=copy) == []

    # A kubelet under load keeps a pod whose container is dead until it next collects them: 60 s.
    eventually(
        helpers_gone,
        what="helper pods to go",
        timeout=180,
        seen=lambda: tools.kubectl("get", "pods", "-n", copy, "-o", "yaml"),
    )
    pod = kinds.looking(image, "one")
    pod["metadata"]["namespace"] = copy
    tools.apply([pod])
    tools.kubectl("wait", "--for=condition=Ready", "pod/look", "-n", copy, "--timeout=60s")
    same(before["one"], walk(tools, namespace=copy, pod="look", directory="/data"))


def _prove_other_kinds(tools: Tools, name: str) -> None:
    """Jobs are not run again; what was not backed up is empty; the rest is as it was."""
    assert tools.items("pods", namespace=name, selector="app in (once, nightly)") == []
    assert tools.get("cronjobs", "nightly", namespace=name) is not None
    assert tools.get("resourcequotas", "quota", namespace=name) is not None
    assert tools.get("limitranges", "limits", namespace=name) is not None
    database = tools.get(f"databases.{kinds.GROUP}", "db", namespace=name)
    assert database is not None
    assert database["spec"] == {"size": 3}
    assert tools.exec(name, "bare", ["ls", "/left"]).strip() == ""


@contextlib.contextmanager
def _operator(tools: Tools, name: str, image: str) -> Iterator[None]:
    """Keeps one pod for each Database, under a new name each time."""

    def look() -> None:
        pods = tools.items("pods", namespace=name, selector="app=operated")
        if any("deletionTimestamp" not in pod["metadata"] for pod in pods):
            return
        owner = tools.get(f"databases.{kinds.GROUP}", "db", namespace=name)
        if owner is None or "deletionTimestamp" in owner["metadata"]:
            return
        pod = kinds.operated(image, f"operated-{secrets.token_hex(2)}", owner)
        pod["metadata"]["namespace"] = name
        tools.apply([pod])

    with _repeating(look, pause=2.0):
        yield


@contextlib.contextmanager
def _interference(tools: Tools, name: str) -> Iterator[list[str]]:
    """Deletes one more pod of each owner as soon as it stands at its gate, while volumes are being
    filled; yields their names."""
    deleted: list[str] = []
    apps = {"web", "shared", "agents", "operated"}

    def look() -> None:
        if not apps:
            return
        for pod in tools.items("pods", namespace=name, selector="app"):
            app = pod["metadata"]["labels"]["app"]
            statuses = pod.get("status", {}).get("initContainerStatuses") or []
            if app in apps and any("running" in status["state"] for status in statuses):
                apps.discard(app)
                deleted.append(pod["metadata"]["name"])
                where = ("-n", name, "--wait=false")
                tools.kubectl("delete", "pod", pod["metadata"]["name"], *where)

    with _repeating(look, pause=0.5):
        yield deleted


@contextlib.contextmanager
def _repeating(look: Callable[[], None], *, pause: float) -> Iterator[None]:
    """Looks again and again in a thread; refusals (a namespace going away, a webhook) pass."""
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            with contextlib.suppress(CommandFailed):
                look()
            time.sleep(pause)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=60)
