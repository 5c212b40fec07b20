"""The client against a real API server."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from ararat.errors import AraratError, InvalidSpec
from ararat.kube import (
    AlreadyExists,
    ApiConflict,
    ApiNotFound,
    Forbidden,
    Invalid,
    KindNotServed,
    KubeClient,
    PatchType,
    ResourceType,
    WatchEventType,
    connect,
    patch_status,
)
from ararat.kube.resources import (
    CLUSTER_ROLES,
    CONFIG_MAPS,
    CRDS,
    NAMESPACES,
    PODS,
    SECRETS,
)
from tests.cluster.apiserver import ControlPlane


def config(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": data}


async def served(api: KubeClient, crd: dict[str, Any]) -> ResourceType:
    """Create the CRD and wait until its kind can be used."""
    await api.create(CRDS, crd)
    rt = ResourceType(crd["spec"]["group"], "v1", "widgets", "Widget")
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(KindNotServed):
                async for _ in api.list(rt):
                    pass
                return rt
            await asyncio.sleep(0.1)


async def test_an_object_through_its_life(api: KubeClient, namespace: str):
    created = await api.create(CONFIG_MAPS, config("a", x="1"), namespace=namespace)
    assert created["metadata"]["uid"]
    read = await api.get(CONFIG_MAPS, "a", namespace=namespace)
    assert (read["apiVersion"], read["kind"]) == ("v1", "ConfigMap")
    merged = await api.patch(CONFIG_MAPS, "a", {"data": {"y": "2", "x": None}}, namespace=namespace)
    assert merged["data"] == {"y": "2"}
    patched = await api.patch(
        CONFIG_MAPS,
        "a",
        [{"op": "replace", "path": "/data/y", "value": "3"}],
        namespace=namespace,
    )
    assert patched["data"] == {"y": "3"}
    patched["data"] = {"z": "4"}
    replaced = await api.replace(CONFIG_MAPS, "a", patched, namespace=namespace)
    assert replaced["data"] == {"z": "4"}
    await api.delete(CONFIG_MAPS, "a", namespace=namespace)
    await api.delete(CONFIG_MAPS, "a", namespace=namespace)  # missing is not an error
    with pytest.raises(ApiNotFound) as caught:
        await api.get(CONFIG_MAPS, "a", namespace=namespace)
    assert caught.value.reason == "NotFound"
    assert f"get configmaps {namespace}/a" in caught.value.message


async def test_names_that_need_quoting(api: KubeClient):
    name = f"ararat:test:{uuid.uuid4().hex[:6]}"
    await api.create(CLUSTER_ROLES, {"metadata": {"name": name}, "rules": []})
    assert (await api.get(CLUSTER_ROLES, name))["metadata"]["name"] == name
    await api.delete(CLUSTER_ROLES, name)


async def test_dry_runs_leave_nothing(api: KubeClient, namespace: str):
    await api.create(CONFIG_MAPS, config("dry"), namespace=namespace, dry_run=True)
    with pytest.raises(ApiNotFound):
        await api.get(CONFIG_MAPS, "dry", namespace=namespace)
    await api.create(CONFIG_MAPS, config("wet", a="1"), namespace=namespace)
    await api.patch(CONFIG_MAPS, "wet", {"data": {"a": "2"}}, namespace=namespace, dry_run=True)
    assert (await api.get(CONFIG_MAPS, "wet", namespace=namespace))["data"] == {"a": "1"}


async def test_apply_creates_then_changes(api: KubeClient, namespace: str):
    created = await api.patch(
        CONFIG_MAPS, "a", {"data": {"x": "1"}}, namespace=namespace, kind=PatchType.APPLY
    )
    assert created["data"] == {"x": "1"}  # the server answered 201
    changed = await api.patch(
        CONFIG_MAPS, "a", {"data": {"y": "2"}}, namespace=namespace, kind=PatchType.APPLY
    )
    assert changed["data"] == {"y": "2"}  # what is no longer applied goes
    managers = {entry["manager"] for entry in changed["metadata"]["managedFields"]}
    assert managers == {"ararat"}


async def test_apply_without_force_does_not_take_fields_of_others(api: KubeClient, namespace: str):
    for manager in ("one", "two"):
        attempt = api.patch(
            CONFIG_MAPS,
            "a",
            {"data": {"x": manager}},
            namespace=namespace,
            kind=PatchType.APPLY,
            field_manager=manager,
            force=False,
        )
        if manager == "one":
            await attempt
        else:
            with pytest.raises(ApiConflict):
                await attempt


async def test_an_old_resource_version_is_a_conflict(api: KubeClient, namespace: str):
    old = await api.create(CONFIG_MAPS, config("a", x="1"), namespace=namespace)
    await api.patch(CONFIG_MAPS, "a", {"data": {"x": "2"}}, namespace=namespace)
    with pytest.raises(ApiConflict) as replaced:
        await api.replace(CONFIG_MAPS, "a", old, namespace=namespace)
    assert replaced.value.reason == "Conflict"
    guard = {"resourceVersion": old["metadata"]["resourceVersion"]}
    with pytest.raises(ApiConflict):
        await api.patch(
            CONFIG_MAPS, "a", {"metadata": guard, "data": {"x": "3"}}, namespace=namespace
        )


async def test_what_exists_cannot_be_created(api: KubeClient, namespace: str):
    await api.create(CONFIG_MAPS, config("a"), namespace=namespace)
    with pytest.raises(AlreadyExists) as caught:
        await api.create(CONFIG_MAPS, config("a"), namespace=namespace)
    assert caught.value.reason == "AlreadyExists"


async def test_a_missing_namespace_is_named(api: KubeClient):
    with pytest.raises(ApiNotFound) as caught:
        await api.create(CONFIG_MAPS, config("a"), namespace="nowhere")
    assert caught.value.reason == "NamespaceNotFound"


async def test_a_kind_that_is_not_served_is_no_missing_object(api: KubeClient, namespace: str):
    for rt in (
        ResourceType("nothing.example.org", "v1", "things", "Thing"),
        ResourceType("apps", "v1", "things", "Thing"),
        ResourceType("", "v1", "things", "Thing"),
    ):
        with pytest.raises(KindNotServed):
            await api.get(rt, "a", namespace=namespace)
        with pytest.raises(KindNotServed):
            async for _ in api.list(rt):
                pass
        with pytest.raises(KindNotServed):  # and its deletion is not believed either
            await api.delete(rt, "a", namespace=namespace)


async def test_a_refused_object_names_its_fields(api: KubeClient, namespace: str):
    pod = {"metadata": {"name": "Not A Name"}, "spec": {"containers": []}}
    with pytest.raises(Invalid) as caught:
        await api.create(PODS, pod, namespace=namespace)
    assert "metadata.name" in caught.value.fields
    assert "spec.containers" in caught.value.fields
    assert len(caught.value.message) < 350


async def test_a_refused_secret_is_not_quoted(api: KubeClient, namespace: str):
    hidden = "hunter2-" + "x" * 40
    secret = {
        "metadata": {"name": "a"},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(hidden.encode()).decode()},
    }
    with pytest.raises(Invalid) as caught:
        await api.create(SECRETS, secret, namespace=namespace)
    assert "hunter2" not in str(caught.value)
    assert caught.value.fields
    odd = {"metadata": {"name": "b"}, "data": {hidden + "/!": "eA=="}}
    with pytest.raises(Invalid) as caught:
        await api.create(SECRETS, odd, namespace=namespace)
    assert "invalid" in caught.value.message.lower()


async def test_rbac_says_no(plane: ControlPlane, namespace: str):
    async with connect(plane.user("nobody")) as stranger:
        with pytest.raises(Forbidden) as caught:
            await stranger.get(SECRETS, "a", namespace=namespace)
        with pytest.raises(Forbidden) as caught:
            await stranger.get(CONFIG_MAPS, "a", namespace=namespace)
    assert "nobody" in caught.value.message


async def test_a_terminating_namespace_is_named(api: KubeClient, namespace: str):
    await api.delete(NAMESPACES, namespace)
    with pytest.raises(Forbidden) as caught:
        await api.create(CONFIG_MAPS, config("a"), namespace=namespace)
    assert caught.value.reason == "NamespaceTerminating"


async def test_deletion_by_uid_spares_a_namesake(api: KubeClient, namespace: str):
    first = await api.create(CONFIG_MAPS, config("a"), namespace=namespace)
    await api.delete(CONFIG_MAPS, "a", namespace=namespace, uid=first["metadata"]["uid"])
    second = await api.create(CONFIG_MAPS, config("a"), namespace=namespace)
    await api.delete(CONFIG_MAPS, "a", namespace=namespace, uid=first["metadata"]["uid"])
    kept = await api.get(CONFIG_MAPS, "a", namespace=namespace)
    assert kept["metadata"]["uid"] == second["metadata"]["uid"]


async def test_lists_are_paged_complete_and_carry_their_kind(api: KubeClient, namespace: str):
    for number in range(23):
        labels = {"metadata": {"name": f"c{number:02}", "labels": {"odd": str(number % 2)}}}
        await api.create(CONFIG_MAPS, labels, namespace=namespace)
    items = [item async for item in api.list(CONFIG_MAPS, namespace=namespace, page=5)]
    assert [item["metadata"]["name"] for item in items] == [f"c{n:02}" for n in range(23)]
    assert {(item["apiVersion"], item["kind"]) for item in items} == {("v1", "ConfigMap")}
    pages = [page async for page in api.pages(CONFIG_MAPS, namespace=namespace, page=5)]
    assert [len(page.items) for page in pages] == [5, 5, 5, 5, 3]
    assert len({page.resource_version for page in pages}) == 1
    assert pages[0].remaining == 18
    odd = [i async for i in api.list(CONFIG_MAPS, namespace=namespace, labels="odd=1", page=4)]
    assert len(odd) == 11
    # Across namespaces, of which other tests have theirs on this server.
    fields = f"metadata.name=c07,metadata.namespace={namespace}"
    named = [i async for i in api.list(CONFIG_MAPS, fields=fields)]
    assert len(named) == 1
    everywhere = [i async for i in api.list(CONFIG_MAPS, labels="odd")]
    assert len(everywhere) >= 23
    cached = api.pages(CONFIG_MAPS, namespace=namespace, page=0, resource_version="0")
    assert [len(page.items) async for page in cached] == [23]


async def test_a_watch_reports_what_happens_after_its_version(api: KubeClient, namespace: str):
    first = await api.create(CONFIG_MAPS, config("a"), namespace=namespace)
    await api.create(CONFIG_MAPS, config("b"), namespace=namespace)
    seen: list[tuple[str, str]] = []
    events = api.watch(
        CONFIG_MAPS,
        resource_version=first["metadata"]["resourceVersion"],
        namespace=namespace,
        timeout_seconds=20,
    )
    async with asyncio.timeout(10), contextlib.aclosing(events):
        async for event in events:
            if event.type is WatchEventType.BOOKMARK:
                continue
            assert event.object["kind"] == "ConfigMap"
            seen.append((event.type, event.object["metadata"]["name"]))
            if seen[-1] == ("ADDED", "b"):
                await api.patch(CONFIG_MAPS, "b", {"data": {"x": "1"}}, namespace=namespace)
            elif seen[-1] == ("MODIFIED", "b"):
                await api.delete(CONFIG_MAPS, "b", namespace=namespace)
            elif seen[-1] == ("DELETED", "b"):
                break
    assert seen == [("ADDED", "b"), ("MODIFIED", "b"), ("DELETED", "b")]


async def test_a_watch_ends_cleanly_when_its_time_is_up(api: KubeClient, namespace: str):
    obj = await api.create(CONFIG_MAPS, config("a"), namespace=namespace)
    start = asyncio.get_running_loop().time()
    events = api.watch(
        CONFIG_MAPS,
        resource_version=obj["metadata"]["resourceVersion"],
        namespace=namespace,
        timeout_seconds=4,
    )
    async for event in events:
        assert event.type is WatchEventType.BOOKMARK
    assert 3 <= asyncio.get_running_loop().time() - start <= 8


async def test_objects_of_a_megabyte_pass_through_a_watch(api: KubeClient, namespace: str):
    obj = await api.create(CONFIG_MAPS, config("a"), namespace=namespace)
    big = "x" * 1_000_000
    await api.create(CONFIG_MAPS, config("big", blob=big), namespace=namespace)
    events = api.watch(
        CONFIG_MAPS, resource_version=obj["metadata"]["resourceVersion"], namespace=namespace
    )
    async with contextlib.aclosing(events):
        async for event in events:
            if event.type is WatchEventType.ADDED:
                assert event.object["data"]["blob"] == big
                break


async def test_custom_kinds_and_their_status(api: KubeClient, namespace: str, crd: dict[str, Any]):
    rt = await served(api, crd)
    obj = await api.create(
        rt,
        {"apiVersion": rt.api_version, "kind": "Widget", "metadata": {"name": "a"}, "spec": {}},
        namespace=namespace,
    )
    written = await patch_status(api, rt, obj, {"phase": "New", "old": 1})
    assert written["status"] == {"phase": "New", "old": 1}
    before = written["metadata"]["resourceVersion"]
    same = await patch_status(api, rt, written, {"phase": "New"})
    assert same["metadata"]["resourceVersion"] == before  # nothing was written
    gone = await patch_status(api, rt, written, {"old": None})
    assert gone["status"] == {"phase": "New"}
    with pytest.raises(ApiConflict) as stale:
        await patch_status(api, rt, written, {"phase": "Done"}, resource_version=before)
    assert stale.value.reason == "Conflict"
    with pytest.raises(Invalid) as refused:
        await api.patch(rt, "a", {"spec": {"size": 0}}, namespace=namespace)
    assert "spec.size" in refused.value.fields

    await api.delete(rt, "a", namespace=namespace)
    with pytest.raises(ApiNotFound):
        await patch_status(api, rt, obj, {"phase": "Done"})
    namesake = await api.create(rt, rt_object(rt, "a"), namespace=namespace)
    with pytest.raises(ApiConflict) as replaced:
        await patch_status(api, rt, obj, {"phase": "Done"})
    assert replaced.value.reason == "ObjectReplaced"
    assert "status" not in await api.get(rt, "a", namespace=namespace)
    assert namesake["metadata"]["uid"] != obj["metadata"]["uid"]


def rt_object(rt: ResourceType, name: str) -> dict[str, Any]:
    return {"apiVersion": rt.api_version, "kind": rt.kind, "metadata": {"name": name}}


async def test_discovery_prefers_and_names_what_is_broken(api: KubeClient, crd: dict[str, Any]):
    rt = await served(api, crd)
    broken = f"broken-{uuid.uuid4().hex[:6]}.example.org"
    services = ResourceType(
        "apiregistration.k8s.io", "v1", "apiservices", "APIService", namespaced=False
    )
    await api.create(
        services,
        {
            "apiVersion": services.api_version,
            "kind": services.kind,
            "metadata": {"name": f"v1.{broken}"},
            "spec": {
                "group": broken,
                "version": "v1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "service": {"name": "nobody", "namespace": "default"},
                "insecureSkipTLSVerify": True,
            },
        },
    )
    try:
        await asyncio.sleep(1)
        found = await api.discover()
    finally:
        await api.delete(services, f"v1.{broken}")
    assert found.failed_groups == [f"{broken}/v1"]
    by_name = {resource.qualified: resource for resource in found.resources}
    assert len(by_name) == len(found.resources)
    assert by_name["deployments.apps"].short_names == ("deploy",)
    assert by_name["pods"].verbs
    assert "pods/log" not in by_name
    assert by_name["cronjobs.batch"].version == "v1beta1"  # not in the preferred version of 1.20
    assert by_name["jobs.batch"].version == "v1"
    widget = by_name[rt.qualified]
    assert widget == rt
    assert (widget.singular, widget.short_names, widget.categories) == ("widget", ("wd",), ("all",))
    assert not by_name["namespaces"].namespaced


async def test_the_servers_version(api: KubeClient):
    assert (await api.server_version()).startswith("v1.")


async def test_exec_and_logs_without_a_node_are_errors_with_a_cause(
    api: KubeClient, namespace: str
):
    with pytest.raises(ApiNotFound):
        await api.exec(namespace, "nobody", "main", ["true"])
    pod = {
        "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "main", "image": "none:1"}]},
    }
    await api.create(PODS, pod, namespace=namespace)
    with pytest.raises(AraratError) as caught:
        await api.exec(namespace, "a", "main", ["true"])
    assert f"exec in {namespace}/a (main)" in str(caught.value)
    with pytest.raises(ApiNotFound):
        await api.pod_log(namespace, "nobody", "main")


async def test_connecting_needs_a_usable_kubeconfig(
    tmp_path: Path, plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
):
    for text in ("", "{}", "not: [yaml", '{"apiVersion": "v1", "current-context": "x"}'):
        path = tmp_path / "broken"
        path.write_text(text)
        with pytest.raises(InvalidSpec) as caught:
            async with connect(path):
                pass
        assert caught.value.reason == "KubeconfigInvalid"
        assert str(path) in caught.value.message
    with pytest.raises(InvalidSpec, match="nothere"):
        async with connect(tmp_path / "nothere"):
            pass
    with pytest.raises(InvalidSpec, match="other"):
        async with connect(plane.kubeconfig, context="other"):
            pass
    monkeypatch.setitem(os.environ, "KUBECONFIG", str(plane.kubeconfig))
    async with connect() as client:
        assert (await client.server_version()).startswith("v1.")
