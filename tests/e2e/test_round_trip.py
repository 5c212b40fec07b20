"""A workload is backed up, its namespace deleted, and everything comes back as it was.

Twice: to the default location of a plain `helm install` with no values (a directory of the nodes),
and to Blob Storage.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import pytest

from tests.e2e.conftest import Ground, Namespaces, delete_namespace
from tests.e2e.support.passed import seconds_of_the_kubelet, seconds_to_start
from tests.e2e.support.podwatch import watch_pods
from tests.e2e.support.tools import Tools
from tests.e2e.support.workload import Workload


@pytest.fixture(params=["filesystem", "blob"])
def location(request: pytest.FixtureRequest) -> str:
    """Where the backup goes."""
    if request.param == "blob":
        name: str = request.getfixturevalue("blob_location")
        return name
    return "default"


def test_nothing_is_missing_after_the_namespace_was_deleted(
    location: str, installed: Ground, tools: Tools, new_workload: Callable[..., Workload]
) -> None:
    app = new_workload("trip")
    if installed.cluster is not None:
        assert len(app.nodes()) > 1, "the claims should lie on both nodes"
    before = app.walks()
    backup, restore = f"{app.namespace}-kept", f"{app.namespace}-back"

    what = ("--include-namespaces", app.namespace, "--location", location)
    tools.ararat("backup", "create", backup, *what, "--wait")
    delete_namespace(tools, app.namespace)
    with watch_pods(tools, app.namespace) as history:
        tools.ararat("restore", "create", restore, "--from-backup", backup, "--wait")
        app.wait_until_running()

    app.prove_equal(before)
    assert len(history.pods()) == 1 + app.replicas, "owners adopted the restored pods"
    assert history.violations() == []
    prove_prompt(app)
    assert_completed(tools, "backup", backup)
    assert_completed(tools, "restore", restore)


def prove_prompt(app: Workload) -> None:
    """An application starts when its gate has opened as it does after any init container."""
    waited = seconds_to_start(app)
    plain = seconds_of_the_kubelet(app)
    for what, found in (("its gate's", waited), ("any init container's", plain)):
        print(f"seconds from {what} last word to an application's first line:", found)
    ours = statistics.median(waited.values()) - statistics.median(plain.values())
    print(f"{ours:.2f} s more than the kubelet itself needs")
    # A kubelet looks once a second; the rest is for a machine with too much to do.
    assert ours < 20, (waited, plain)


def test_the_same_backup_comes_back_under_another_name_and_class(
    tools: Tools,
    installed: Ground,
    new_workload: Callable[..., Workload],
    namespaces: Namespaces,
) -> None:
    classes = {c["metadata"]["name"] for c in tools.items("storageclasses")}
    app = new_workload("source", replicas=1)
    (old,) = {
        claim["spec"]["storageClassName"]
        for claim in tools.items("persistentvolumeclaims", namespace=app.namespace)
    }
    if not classes - {old}:
        pytest.fail(f"the cluster has no storage class but {old}: make one more", pytrace=False)
    new = min(classes - {old})
    before = app.walks()
    backup, copy = f"{app.namespace}-kept", namespaces.new("copy")
    tools.ararat("backup", "create", backup, "--include-namespaces", app.namespace, "--wait")

    mappings = (
        *("--namespace-mappings", f"{app.namespace}:{copy}"),
        *("--storage-class-mappings", f"{old}:{new}"),
    )
    with watch_pods(tools, copy) as history:
        tools.ararat("restore", "create", copy, "--from-backup", backup, *mappings, "--wait")
        elsewhere = app.in_namespace(copy)
        elsewhere.wait_until_running()

    elsewhere.prove_equal(before)
    assert history.violations() == []
    claims = tools.items("persistentvolumeclaims", namespace=copy)
    assert {claim["spec"]["storageClassName"] for claim in claims} == {new}
    assert not any(walk.differences(app.walks()[claim]) for claim, walk in before.items()), (
        "the original is untouched"
    )


def assert_completed(tools: Tools, kind: str, name: str) -> None:
    """Assert that the object says Completed and that nothing went wrong."""
    found = tools.get(f"{kind}s.ararat.dev", name, namespace=tools.namespace)
    assert found is not None
    status = found["status"]
    assert (status["phase"], status.get("failures", [])) == ("Completed", [])
