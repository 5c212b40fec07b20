"""Restores against a real API server."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest

from ararat import layout
from ararat.api import Backup, Restore
from ararat.api.manifest import Coverage
from ararat.api.nodejob import Answer, ClaimReference, Role
from ararat.kube import of
from ararat.kube.errors import ApiNotFound
from ararat.kube.resources import (
    CONFIG_MAPS,
    CRDS,
    EVENTS,
    NAMESPACES,
    PODS,
    PVCS,
    SERVICES,
    ResourceType,
)
from tests.component.controller.restore.scene import data, database, ended, job_of, moved
from tests.component.controller.restore.world import World, until
from tests.unit.controller.restore.make import claim as stored_claim
from tests.unit.controller.restore.make import pod as stored_pod
from tests.unit.controller.restore.make import stored


async def test_from_backup_to_running_pod(world: World) -> None:
    await world.backup(*database(world), volumes=[data(world)])
    await world.restore()

    pod = await until(lambda: world.pod("db-0"), what="pod db-0")
    assert [c["name"] for c in pod["spec"]["initContainers"]] == ["restore-wait"]
    assert "nodeName" not in pod["spec"]
    claim = await world.claim("data-db-0")
    assert "ararat.dev/restore-pending" in claim["metadata"]["annotations"]
    namespace = await world.api.get(NAMESPACES, world.wp)
    assert namespace["metadata"]["labels"]["ararat.dev/restoring"] == "r1"

    async def in_volumes() -> Any:
        status = await world.status()
        return status if status.get("objectsDone") and status.get("volumes") else None

    status = await until(in_volumes, what="volumes stage")
    assert status["phase"] == "InProgress"
    assert status["objects"]["text"] == "7 created"
    assert await world.jobs() == []

    await world.schedule("db-0")
    (job,) = await until(world.jobs, what="a job")
    assert job.spec.to_dict() == {
        "restore": "r1",
        "restoreUID": (await world.restore_uid()),
        "node": world.node,
        "pod": {"namespace": world.wp, "name": "db-0", "uid": pod["metadata"]["uid"]},
        "volume": "data",
        "claim": {"name": "data-db-0", "uid": claim["metadata"]["uid"], "volumeName": ""},
        "repository": {
            "location": "default",
            "locationID": "loc-restore",
            "directory": world.directory,
            "keyID": "k",
            "passwordSecret": job.spec.repository.password_secret,
            "readOnly": True,
        },
        "snapshotID": "5" * 64,
        "role": "Fill",
        "cause": "",
        "mode": "NewPod",
        "paths": [],
        "deleteExtra": False,
        "attempt": 0,
        "expectedBytes": 1000,
        "expectedFiles": 10,
        "existingData": "Refuse",
        "verify": "Sample",
        "noProgressSeconds": 900,
        "cancel": False,
    }
    await world.set_job(
        job,
        phase="InProgress",
        progress={"bytesDone": 500, "filesDone": 5, "bytesPerSecond": 50},
    )

    async def half() -> Any:
        return (await world.status()).get("progress", {}).get("bytesDone") == 500

    await until(half, what="progress")
    await world.set_job(job, phase="Completed")

    async def over() -> Any:
        status = await world.status()
        return status if status.get("phase") == "Completed" else None

    status = await until(over, what="the end")
    assert status["volumes"] == {
        "total": 1,
        "completed": 1,
        "failed": 0,
        "released": 0,
        "text": "1 of 1 filled",
    }
    assert status["progress"]["text"] == "1000 B"
    assert status.get("failures", []) == []
    assert "annotations" not in (await world.claim("data-db-0"))["metadata"]
    namespace = await world.api.get(NAMESPACES, world.wp)
    assert "ararat.dev/restoring" not in namespace["metadata"]["labels"]

    async def let_go() -> Any:
        return not (await world.raw_restore())["metadata"].get("finalizers")

    await until(let_go, what="the finalizer to go")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"backup": "nope"}, "there is no backup 'nope'"),
        ({"includedNamespaces": ["nope-*"]}, "'nope-*' matches no namespace"),
        ({"namespaceMapping": {"nope": "x"}}, "is not in the backup"),
        ({"includedResources": ["wdgets"]}, "a kind called 'wdgets'"),
        ({"storageClassMapping": {"a": "nope"}}, "storage class 'nope'"),
        ({"gate": {"noProgressSeconds": 10, "onFailure": "Block"}, "backup": "b2"}, "is Failed"),
    ],
)
async def test_what_cannot_work_fails_with_one_sentence(
    world: World, spec: dict[str, Any], words: str
) -> None:
    await world.backup(*database(world))
    await world.create(Backup, "b2", {}, {"phase": "Failed"})
    await world.restore(**spec)
    status = await ended(world, "Failed")
    assert words in status["message"]
    assert (await world.raw_restore())["metadata"].get("finalizers") is None
    with pytest.raises(ApiNotFound):
        await world.api.get(NAMESPACES, world.wp)


async def test_a_manifest_that_somebody_changed_is_refused(world: World) -> None:
    await world.backup(*database(world))
    file = world.store_path / "backups/b1/manifest.json"
    file.write_text(file.read_text().replace("Completed", "PartiallyFailed"))
    await world.restore()
    status = await ended(world, "Failed")
    assert "HMAC" in status["message"]


async def test_over_a_namespace_that_exists(world: World) -> None:
    await world.backup(*database(world), volumes=[data(world)])
    await world.api.create(NAMESPACES, {"metadata": {"name": world.wp}})
    await world.api.create(
        CONFIG_MAPS,
        {"metadata": {"name": "settings", "namespace": world.wp}, "data": {"a": "changed"}},
    )
    claim = moved(stored_claim(volume=None), world.wp).body
    body = {"metadata": {"name": "data-db-0", "namespace": world.wp}, "spec": claim["spec"]}
    await world.api.create(PVCS, body)
    await world.restore()
    status = await ended(world, "Completed")
    assert status["objects"]["text"] == "4 created, 3 left alone"
    assert status["volumes"]["text"] == "none"
    warnings = "\n".join(status["warnings"])
    assert f"claim {world.wp}/data-db-0 exists and was left alone: its data was" in warnings
    assert (
        f"configmaps {world.wp}/settings exists and was left alone; it differs in data" in warnings
    )
    assert "its data was not restored" in status["message"]
    # Nothing was changed, and nobody is held.
    assert (await world.api.get(CONFIG_MAPS, "settings", namespace=world.wp))["data"] == {
        "a": "changed"
    }
    assert "annotations" not in (await world.claim("data-db-0"))["metadata"]
    assert "initContainers" not in (await world.pod("db-0"))["spec"]


async def test_under_another_name_and_again_into_the_first(world: World) -> None:
    await world.backup(*database(world))
    await world.restore("r1", namespaceMapping={world.wp: world.other})
    status = await ended(world, "Completed", "r1")
    assert status["objects"]["text"] == "7 created"
    service = await world.api.get(SERVICES, "db", namespace=world.other)
    assert service["spec"]["clusterIP"] != "10.9.9.9"
    with pytest.raises(ApiNotFound):
        await world.api.get(NAMESPACES, world.wp)


async def test_a_killed_controller_changes_nothing(world: World) -> None:
    extra = [
        moved(stored("ConfigMap", f"c-{n:03}", data={"n": str(n)}), world.wp) for n in range(150)
    ]
    await world.own_location()
    await world.backup(*database(world), *extra, volumes=[data(world)])
    await world.restore()
    for _ in range(3):
        await asyncio.sleep(0.3)
        await world.kill_controller()
        world.start_controller()
        world.queue.add(f"{world.namespace}/r1")
    await until(lambda: world.pod("db-0"), what="pod db-0")
    await world.kill_controller()
    await world.schedule("db-0")
    world.start_controller()
    world.queue.add(f"{world.namespace}/r1")
    job = await job_of(world, "db-0")
    await world.kill_controller()
    await world.set_job(job, phase="Completed")
    world.start_controller()
    world.queue.add(f"{world.namespace}/r1")
    status = await ended(world, "Completed")
    assert status["objects"]["text"] == "157 created"
    packed = (world.store_path / layout.restore_log("r1")).read_bytes()
    lines = [json.loads(line) for line in gzip.decompress(packed).splitlines()]
    # What those wrote that were killed, the last one kept: each begins with the run's name.
    assert sum("run" in line for line in lines) >= 2, [line["event"] for line in lines]
    assert not [text for text in status["warnings"] if "left alone" in text]
    assert len(await world.jobs()) == 1


async def test_an_api_server_that_goes_away_in_the_middle(world: World) -> None:
    extra = [
        moved(stored("ConfigMap", f"c-{n:03}", data={"n": str(n)}), world.wp) for n in range(400)
    ]
    await world.backup(*database(world), *extra, volumes=[data(world)])
    await world.restore()
    await until(
        lambda: world.api.get(CONFIG_MAPS, "c-010", namespace=world.wp), what="some objects"
    )
    await asyncio.to_thread(world.plane.stop_apiserver)
    await asyncio.sleep(2)
    await asyncio.to_thread(world.plane.start_apiserver)
    await until(lambda: world.pod("db-0"), seconds=60, what="pod db-0")
    await world.schedule("db-0")
    await world.set_job(await job_of(world, "db-0"), phase="Completed")
    status = await ended(world, "Completed")
    assert status["objects"]["text"] == "407 created"
    assert len(await world.jobs()) == 1


async def test_a_pod_that_is_replaced_while_its_claim_is_filled(world: World) -> None:
    await world.backup(*database(world), volumes=[data(world)])
    await world.restore()
    first = await until(lambda: world.pod("db-0"), what="pod db-0")
    await world.schedule("db-0")
    job = await job_of(world, "db-0")
    await world.set_job(job, phase="InProgress", wrote=True)
    await world.remove_pod("db-0")
    # Its owner makes another; the webhook would hold it.
    metadata = {
        key: first["metadata"][key] for key in ("name", "namespace", "labels", "annotations")
    }
    spec = {**first["spec"]}
    await world.api.create(PODS, {"metadata": metadata, "spec": spec})
    await world.schedule("db-0")
    follow = await job_of(world, "db-0", besides=1)
    assert (follow.spec.role, follow.spec.follows) == (Role.FOLLOW, job.name)
    await world.set_job(job, phase="Failed", reason="PodTerminating", message="gone")
    await world.set_job(follow, phase="Failed", reason="PodTerminating", message="gone")
    third = await job_of(world, "db-0", besides=2)
    assert (third.spec.role, third.spec.takes_over) == (Role.FILL, job.name)
    await world.set_job(third, phase="Completed")
    await ended(world, "Completed")


async def test_a_claim_that_two_pods_share(world: World) -> None:
    pods = [
        moved(stored_pod(name, claims={"shared": "data"}, owner=("ReplicaSet", "web")), world.wp)
        for name in ("web-1", "web-2")
    ]
    shared = data(world, pod="web-1", volume="shared", claim=ClaimReference(name="data", uid="old"))
    await world.backup(*pods, moved(stored_claim("data"), world.wp), volumes=[shared])
    await world.restore()
    await until(lambda: world.pod("web-2"), what="pod web-2")
    await world.schedule("web-2")
    fill = await job_of(world, "web-2")
    assert fill.spec.role is Role.FILL
    await world.schedule("web-1")
    follow = await job_of(world, "web-1")
    assert (follow.spec.role, follow.spec.follows) == (Role.FOLLOW, fill.name)
    await world.set_job(fill, phase="Completed")
    await asyncio.sleep(2)
    assert (await world.status())["phase"] == "InProgress"
    await world.set_job(follow, phase="Completed")
    status = await ended(world, "Completed")
    assert status["volumes"]["text"] == "1 of 1 filled"


async def test_a_volume_that_lives_with_its_pod(world: World) -> None:
    scratch = data(world, volume="scratch", volume_type="emptyDir", claim=None)
    pod = moved(stored_pod(empty=("scratch",)), world.wp)
    await world.backup(pod, volumes=[scratch])
    await world.restore()
    await until(lambda: world.pod("db-0"), what="pod db-0")
    await asyncio.sleep(2)
    assert (await world.status())["phase"] == "InProgress"
    await world.schedule("db-0")
    job = await job_of(world, "db-0")
    assert job.spec.claim is None
    await world.set_job(job, phase="Completed")
    status = await ended(world, "Completed")
    assert status["volumes"]["text"] == "1 of 1 filled"


async def test_a_volume_that_fails_and_is_filled_later_after_all(world: World) -> None:
    await world.backup(*database(world), volumes=[data(world)])
    await world.restore()
    first = await until(lambda: world.pod("db-0"), what="pod db-0")
    await world.schedule("db-0")
    job = await job_of(world, "db-0")
    await world.set_job(job, phase="Failed", reason="OutOfSpace", message="The volume is full.")
    status = await ended(world, "PartiallyFailed")
    assert status["failures"] == [
        {
            "object": f"{world.wp}/data-db-0",
            "reason": "OutOfSpace",
            "message": "The volume is full.",
        }
    ]
    assert status["message"] == f"{world.wp}/data-db-0: The volume is full."
    assert status["volumes"]["text"] == "0 of 1 filled, 1 failed"
    # Claim and namespace stay marked: nothing starts on partial data.
    assert "annotations" in (await world.claim("data-db-0"))["metadata"]
    namespace = await world.api.get(NAMESPACES, world.wp)
    assert "ararat.dev/restoring" in namespace["metadata"]["labels"]

    async def told() -> Any:
        events = world.api.list(EVENTS, namespace=world.wp)
        return [e["message"] async for e in events if e["reason"] == "RestoreBlocked"]

    assert "The volume is full." in (await until(told, what="an event"))[0]
    # A new pod of the claim is another chance.
    await world.remove_pod("db-0")
    metadata = {
        key: first["metadata"][key] for key in ("name", "namespace", "labels", "annotations")
    }
    await world.api.create(PODS, {"metadata": metadata, "spec": first["spec"]})
    await world.schedule("db-0")
    again = await job_of(world, "db-0", besides=1)
    await world.set_job(again, phase="Completed")

    async def released() -> Any:
        return "annotations" not in (await world.claim("data-db-0"))["metadata"]

    await until(released, what="the mark to go")


async def test_retry(world: World) -> None:
    await world.backup(*database(world), volumes=[data(world)])
    await world.restore()
    await until(lambda: world.pod("db-0"), what="pod db-0")
    await world.schedule("db-0")
    job = await job_of(world, "db-0")
    await world.set_job(job, phase="Failed", reason="OutOfSpace", message="full", wrote=True)
    await ended(world, "PartiallyFailed")
    patch = {"metadata": {"annotations": {"ararat.dev/retry": "now"}}}
    await world.api.patch(of(Restore), "r1", patch, namespace=world.namespace)
    again = await job_of(world, "db-0", besides=1)
    assert (again.spec.role, again.spec.takes_over) == (Role.FILL, job.name)
    assert (await world.status())["phase"] == "InProgress"
    await world.set_job(again, phase="Completed")
    status = await ended(world, "Completed")
    assert status["failures"] == []
    assert "annotations" not in (await world.claim("data-db-0"))["metadata"]


async def test_deleted_while_it_runs(world: World) -> None:
    await world.backup(*database(world), volumes=[data(world)])
    await world.restore()
    await until(lambda: world.pod("db-0"), what="pod db-0")
    await world.schedule("db-0")
    job = await job_of(world, "db-0")
    await world.api.delete(of(Restore), "r1", namespace=world.namespace)
    await asyncio.sleep(1)
    assert (await world.raw_restore())["metadata"]["finalizers"]
    await world.set_job(job, phase="Cancelled")

    async def gone() -> bool:
        try:
            await world.raw_restore()
        except ApiNotFound:
            return True
        return False

    await until(gone, what="the restore to go")


async def test_data_that_the_backup_does_not_have(world: World) -> None:
    failed = data(
        world, coverage=Coverage.FAILED, snapshot_id=None, directory="", message="disk on fire"
    )
    await world.backup(*database(world), volumes=[failed])
    await world.restore()
    status = await ended(world, "PartiallyFailed")
    assert [f["reason"] for f in status["failures"]] == ["NoDataInBackup"]
    assert "disk on fire" in status["message"]
    await world.schedule("db-0")
    job = await job_of(world, "db-0")
    assert (job.spec.role, job.spec.answer) == (Role.ANSWER, Answer.FAILED)
    assert "disk on fire" in job.spec.cause
    assert "annotations" in (await world.claim("data-db-0"))["metadata"]


async def test_a_namespace_on_its_way_out_is_waited_for(world: World) -> None:
    await world.api.create(NAMESPACES, {"metadata": {"name": world.wp}})
    # Nothing finalizes namespaces here, so it stays on its way out until we let it go.
    await world.api.delete(NAMESPACES, world.wp)
    await world.backup(*database(world))
    await world.restore()

    async def said() -> Any:
        status = await world.status()
        return status if status.get("waiting") else None

    status = await until(said, what="the cause")
    assert status["waiting"][0]["reason"] == "NamespaceTerminating"
    assert f"namespace {world.wp} is still being deleted" in status["message"]
    raw = await world.api.get(NAMESPACES, world.wp)
    raw["spec"]["finalizers"] = []
    await world.api.replace(NAMESPACES, world.wp, raw, subresource="finalize")
    await ended(world, "Completed")


async def test_definitions_come_before_their_objects(world: World) -> None:
    group = f"g{world.namespace}.example.org"
    crd = stored(
        "CustomResourceDefinition",
        f"widgets.{group}",
        namespace=None,
        api_version="apiextensions.k8s.io/v1",
        spec={
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "x-kubernetes-preserve-unknown-fields": True,
                        }
                    },
                }
            ],
        },
        status={"conditions": [{"type": "Established", "status": "True"}]},
    )
    widgets = [
        moved(stored("Widget", f"w{n}", api_version=f"{group}/v1", spec={"n": n}), world.wp)
        for n in range(30)
    ]
    unknown = moved(stored("Gadget", "g", api_version="nobody.example.org/v1"), world.wp)
    await world.backup(crd, *widgets, unknown)
    await world.restore()
    status = await until_ended(world)
    assert status["phase"] == "PartiallyFailed"
    assert status["objects"]["text"] == "32 created, 1 failed"
    assert [f["reason"] for f in status["failures"]] == ["KindNotServed"]
    rt = ResourceType(group, "v1", "widgets", "Widget")
    assert (await world.api.get(rt, "w7", namespace=world.wp))["spec"] == {"n": 7}
    assert await world.api.get(CRDS, f"widgets.{group}")


async def until_ended(world: World) -> dict[str, Any]:
    async def look() -> Any:
        status = await world.status()
        return status if status.get("completionTime") else None

    status: dict[str, Any] = await until(look, seconds=60, what="the end")
    return status


async def test_two_restores_into_one_namespace(world: World) -> None:
    objects = [
        moved(stored_pod("db-0", claims={"data": "one"}, labels={"app": "db"}), world.wp),
        moved(stored_pod("web-0", claims={"data": "two"}, labels={"app": "web"}), world.wp),
        moved(stored_claim("one"), world.wp),
        moved(stored_claim("two"), world.wp),
    ]
    volumes = [
        data(world, pod=pod, claim=ClaimReference(name=claim, uid="old"))
        for pod, claim in (("db-0", "one"), ("web-0", "two"))
    ]
    await world.backup(*objects, volumes=volumes)
    await world.restore("r1", labelSelector={"matchLabels": {"app": "db"}})
    await until(lambda: world.pod("db-0"), what="pod db-0")
    await world.restore("r2", labelSelector={"matchLabels": {"app": "web"}})
    await until(lambda: world.pod("web-0"), what="pod web-0")

    async def label() -> Any:
        namespace = await world.api.get(NAMESPACES, world.wp)
        return (namespace["metadata"].get("labels") or {}).get("ararat.dev/restoring")

    assert await label() == "r2"
    await world.schedule("db-0")
    await world.set_job(await job_of(world, "db-0"), phase="Completed")
    await ended(world, "Completed", "r1")
    assert await label() == "r2"
    await world.schedule("web-0")
    await world.set_job(await job_of(world, "web-0"), phase="Completed")
    await ended(world, "Completed", "r2")
    assert await label() is None
