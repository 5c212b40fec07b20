"""A restore that only says what it would do, and the record of one that did it."""

from __future__ import annotations

import base64
from typing import Any

from ararat.api import Restore
from ararat.api.plan import KEY, PlannedObject, RestorePlan, unpack
from ararat.kube import PatchType, of
from ararat.kube.errors import ApiNotFound
from ararat.kube.resources import CONFIG_MAPS, NAMESPACES, PODS, PVCS, REPLICA_SETS, STATEFUL_SETS
from tests.component.controller.restore.scene import data, database, ended, moved
from tests.component.controller.restore.world import World, until
from tests.unit.controller.restore.make import claim, pod, stored


async def plan_of(world: World, name: str = "r1") -> RestorePlan:
    status = await world.status(name)
    found = await world.api.get(CONFIG_MAPS, status["plan"], namespace=world.namespace)
    owner = found["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["name"], owner["uid"]) == (
        "Restore",
        name,
        await world.restore_uid(name),
    )
    return unpack(base64.b64decode(found["binaryData"][KEY]))


def of_kind(plan: RestorePlan, resource: str) -> PlannedObject:
    (found,) = [item for item in plan.objects if item.resource == resource]
    return found


async def test_a_dry_run_says_what_it_would_do_and_does_nothing(world: World) -> None:
    await world.backup(*database(world), volumes=[data(world)])
    raw = await world.restore(dryRun=True)
    status = await ended(world, "Completed")
    assert status["message"] == "dry run, nothing was done: 7 objects to create"
    plan = await plan_of(world)
    assert plan.dry_run
    assert [item.resource for item in plan.objects] == [
        "namespaces",
        "persistentvolumeclaims",
        "secrets",
        "configmaps",
        "services",
        "pods",
        "statefulsets.apps",
    ]
    assert {str(item.action) for item in plan.objects} == {"Create"}
    assert of_kind(plan, "pods").gate == ["data"]
    (volume,) = plan.volumes
    assert (volume.volume, str(volume.data), volume.bytes) == (
        f"{world.wp}/data-db-0",
        "Files",
        1000,
    )
    assert [volume.old_class, volume.storage_class] == ["", "standard"]
    assert any("storage class 'standard' does not exist here" in w for w in plan.warnings)

    await until(lambda: _gone(world, world.wp), what="nothing to be made")
    latest = await world.raw_restore()
    assert "finalizers" not in latest["metadata"]
    assert not await world.jobs()
    # Its end is its end: the controller does not begin again.
    world.queue.add(f"{world.namespace}/r1")
    await world.api.delete(of(Restore), "r1", namespace=world.namespace, uid=raw["metadata"]["uid"])
    await until(lambda: _restore_gone(world), what="the dry run to go when it is deleted")


async def _gone(world: World, namespace: str) -> bool:
    try:
        await world.api.get(NAMESPACES, namespace)
    except ApiNotFound:
        return True
    return False


async def _restore_gone(world: World) -> bool:
    try:
        await world.raw_restore()
    except ApiNotFound:
        return True
    return False


async def test_a_dry_run_over_what_exists(world: World) -> None:
    objects = [
        *database(world),
        *(
            moved(obj, world.wp)
            for obj in (
                pod("web-5d-x", owner=("ReplicaSet", "web-5d")),
                stored("Widget", "w", api_version="nobody.example.org/v1"),
            )
        ),
    ]
    await world.backup(*objects, volumes=[data(world)])
    api, wp = world.api, world.wp
    await api.create(NAMESPACES, {"metadata": {"name": wp, "labels": {"theirs": "x"}}})
    await api.create(
        CONFIG_MAPS, {"metadata": {"name": "settings", "namespace": wp}, "data": {"a": "mine"}}
    )
    live = moved(claim(volume=None), wp).body
    await api.create(PVCS, {"metadata": {"name": "data-db-0"}, "spec": live["spec"]}, namespace=wp)
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    }
    selector = {"matchLabels": {"app": "web"}}
    await api.create(
        REPLICA_SETS,
        {
            "metadata": {"name": "web-5d"},
            "spec": {"replicas": 0, "selector": selector, "template": template},
        },
        namespace=wp,
    )
    await world.restore(dryRun=True, existingResourcePolicy="Update")
    status = await ended(world, "Completed")
    plan = await plan_of(world)
    settings = of_kind(plan, "configmaps")
    assert (str(settings.action), settings.differs) == ("Update", ["data.a"])
    assert str(of_kind(plan, "persistentvolumeclaims").action) == "LeaveAlone"
    web = next(item for item in plan.objects if item.name == "web-5d-x")
    assert (str(web.action), web.reason) == ("Skip", "OwnerExists")
    assert [failure.reason for failure in plan.failures] == ["KindNotServed"]
    assert status["failures"][0]["object"] == f"widgets.nobody.example.org {wp}/w"
    assert any("--volumes in-place" in warning for warning in plan.warnings)
    left = await api.get(CONFIG_MAPS, "settings", namespace=wp)
    assert left["data"] == {"a": "mine"}


async def test_what_cannot_be_planned_fails_with_its_sentence(world: World) -> None:
    await world.backup(*database(world))
    await world.restore(dryRun=True, includedNamespaces=["no-such"])
    status = await ended(world, "Failed")
    assert "no-such" in status["message"]
    assert "plan" not in status


async def test_what_was_done_is_on_record(world: World) -> None:
    await world.api.create(NAMESPACES, {"metadata": {"name": world.wp}})
    await world.api.create(
        CONFIG_MAPS, {"metadata": {"name": "settings", "namespace": world.wp}, "data": {"a": "x"}}
    )
    bad = moved(stored("ConfigMap", "bad", data={"bad key!": "x"}), world.wp)
    done = moved(pod("old", phase="Succeeded", owner=None), world.wp)
    await world.backup(*database(world), bad, done)
    await world.restore()
    await ended(world, "PartiallyFailed")
    plan = await plan_of(world)
    outcomes = {item.path: item for item in plan.objects}
    wp = world.wp
    assert outcomes[f"{wp}/settings"].outcome == "LeftAlone"
    assert outcomes[f"{wp}/settings"].differs == ["data.a"]
    assert (outcomes[f"{wp}/bad"].outcome, outcomes[f"{wp}/bad"].reason) == ("Failed", "Invalid")
    assert outcomes[f"{wp}/old"].reason == "PodFinished"
    assert outcomes[f"{wp}/password"].outcome == "Created"
    assert "eA==" not in str(plan)


async def test_update_makes_it_as_it_was(world: World) -> None:
    objects = database(world)
    await world.backup(*objects)
    await world.restore("first")
    await ended(world, "Completed", "first")
    api, wp = world.api, world.wp
    await api.patch(CONFIG_MAPS, "settings", {"data": {"a": "mine", "c": "d"}}, namespace=wp)
    await api.patch(STATEFUL_SETS, "db", {"spec": {"replicas": 3}}, namespace=wp)
    before = await api.get(PODS, "db-0", namespace=wp)
    kinds = ["configmaps", "statefulsets", "pods"]
    await world.restore("second", existingResourcePolicy="Update", includedResources=kinds)
    status = await ended(world, "Completed", "second")
    assert status["objects"]["updated"] == 2
    settings = await api.get(CONFIG_MAPS, "settings", namespace=wp)
    assert settings["data"] == {"a": "b"}
    assert settings["metadata"]["labels"]["ararat.dev/restore"] == "first"
    assert (await api.get(STATEFUL_SETS, "db", namespace=wp))["spec"]["replicas"] == 1
    after = await api.get(PODS, "db-0", namespace=wp)
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    said: list[Any] = status["warnings"]
    assert f"configmaps {wp}/settings exists and was updated in data.a, data.c" in said


async def test_rules_come_from_a_config_map_and_are_read_before_anything_is_touched(
    world: World,
) -> None:
    await world.backup(*database(world))
    await world.restore("none", resourceModifiers="rules")
    status = await ended(world, "Failed", "none")
    assert f"there is no ConfigMap {world.namespace}/rules" in status["message"]

    async def rules(path: str) -> None:
        text = (
            "version: v1\nresourceModifierRules:\n- conditions: {groupResource: cm}\n"
            f"  patches: [{{operation: replace, path: {path}, value: changed}}]"
        )
        patch = {"data": {"rules.yaml": text}}
        await world.api.patch(
            CONFIG_MAPS, "rules", patch, namespace=world.namespace, kind=PatchType.APPLY
        )

    await rules("/data/no-such")
    await world.restore("bad", resourceModifiers="rules")
    status = await ended(world, "Failed", "bad")
    assert "rule 1 (cm) does not fit ConfigMap" in status["message"]
    assert await _gone(world, world.wp)

    await rules("/data/a")
    await world.restore("good", resourceModifiers="rules")
    await ended(world, "Completed", "good")
    made = await world.api.get(CONFIG_MAPS, "settings", namespace=world.wp)
    assert made["data"] == {"a": "changed"}
    settings = of_kind(await plan_of(world, "good"), "configmaps")
    assert settings.modifiers == ["rule 1 (cm)"]
