"""Gates that a person opens, and what that does to marks and labels, against a real API server."""

from __future__ import annotations

import functools
from typing import Any

from ararat.api import PodVolumeRestore, Restore
from ararat.api.nodejob import Answer, ClaimReference, Role
from ararat.api.restore import ReleaseAction
from ararat.cli import release as releasing
from ararat.cli.settings import Settings
from ararat.kube import of
from ararat.kube.resources import EVENTS, NAMESPACES
from tests.component.controller.restore.scene import data, database, ended, job_of, moved
from tests.component.controller.restore.world import World, until
from tests.unit.controller.restore.make import claim as stored_claim
from tests.unit.controller.restore.make import pod as stored_pod
from tests.unit.controller.restore.make import stored


async def release(
    world: World, *volumes: str, action: ReleaseAction = ReleaseAction.START
) -> list[str]:
    """As the command line does it."""
    settings = Settings(kubeconfig=None, context=None, namespace=world.namespace)
    held = await releasing.held_back(world.api, settings, "r1")
    meant = releasing.chosen(held, volumes)
    await releasing.release(world.api, settings, held, volumes=volumes, action=action)
    return meant


async def failing(world: World, **spec: Any) -> PodVolumeRestore:
    """A restore whose only volume fails half-way."""
    await world.backup(*database(world), volumes=[data(world)])
    await world.restore(**spec)
    await until(lambda: world.pod("db-0"), what="pod db-0")
    await world.schedule("db-0")
    job = await job_of(world, "db-0")
    await world.set_job(
        job,
        phase="Failed",
        reason="OutOfSpace",
        message="The volume is full.",
        wrote=True,
        progress={"filesDone": 3, "bytesDone": 300},
    )
    return job


async def answered(world: World, *, besides: int = 1) -> PodVolumeRestore:
    """The controller's word to the gate, said by the agent."""
    job = await job_of(world, "db-0", besides=besides)
    assert job.spec.role is Role.ANSWER
    await world.set_job(job, phase="Completed")
    return job


async def notes_on_claim(world: World) -> dict[str, str]:
    return dict((await world.claim("data-db-0"))["metadata"].get("annotations") or {})


async def until_unlabelled(world: World) -> None:
    async def gone() -> Any:
        namespace = await world.api.get(NAMESPACES, world.wp)
        return "ararat.dev/restoring" not in (namespace["metadata"].get("labels") or {})

    await until(gone, seconds=60, what="the namespace's label to go")


async def condition(world: World, pod: str = "db-0") -> dict[str, Any]:
    conditions = (await world.pod(pod))["status"].get("conditions") or []
    return next((c for c in conditions if c["type"] == "ararat.dev/volumes-restored"), {})


async def test_after_a_failure(world: World) -> None:
    await failing(world)
    await ended(world, "PartiallyFailed")

    async def told() -> Any:
        return (await condition(world)).get("reason") == "OutOfSpace"

    await until(told, what="the pod's condition")
    assert await release(world) == [f"{world.wp}/data-db-0"]
    job = await answered(world)
    assert (job.spec.answer, job.spec.attempt) == (Answer.RELEASED, 1)
    assert "3 of 10 files" in job.spec.cause or "were restored" in job.spec.cause

    async def unmarked() -> Any:
        return (await notes_on_claim(world)) == {"ararat.dev/released": await world.restore_uid()}

    await until(unmarked, what="the mark to go")

    async def counted() -> Any:
        return (await world.status())["volumes"]["text"] == "0 of 1 filled, 1 released"

    await until(counted, what="the count")
    await world.pass_gate("db-0")
    await until_unlabelled(world)
    assert len(await world.jobs()) == 2

    async def lifted() -> Any:
        found = await condition(world)
        return (found["status"], found["reason"]) == ("True", "Released")

    await until(lifted, what="the pod's condition to be lifted")


async def test_while_it_is_being_filled(world: World) -> None:
    await world.backup(*database(world), volumes=[data(world)])
    await world.restore()
    await until(lambda: world.pod("db-0"), what="pod db-0")
    await world.schedule("db-0")
    fill = await job_of(world, "db-0")
    await world.set_job(fill, phase="InProgress", wrote=True)
    await release(world, f"{world.wp}/data-db-0")

    async def stopping() -> Any:
        return (await job_of(world, "db-0")).spec.cancel

    await until(stopping, what="the job to be stopped")
    # As long as somebody may be writing, nobody starts.
    assert "ararat.dev/restore-pending" in await notes_on_claim(world)
    assert len(await world.jobs()) == 1
    await world.set_job(fill, phase="Cancelled")
    await answered(world)
    status = await ended(world, "PartiallyFailed")
    assert [f["reason"] for f in status["failures"]] == ["Released"]
    assert status["volumes"]["released"] == 1
    assert "ararat.dev/restore-pending" not in await notes_on_claim(world)


async def test_of_a_cancelled_restore_without_its_backup(world: World) -> None:
    await world.backup(*database(world), volumes=[data(world)])
    await world.restore()
    await until(lambda: world.pod("db-0"), what="pod db-0")
    await world.schedule("db-0")
    await world.set_job(await job_of(world, "db-0"), phase="InProgress")
    await world.api.patch(of(Restore), "r1", {"spec": {"cancel": True}}, namespace=world.namespace)

    async def stopping() -> Any:
        return (await job_of(world, "db-0")).spec.cancel

    await until(stopping, what="the job to be stopped")
    await world.set_job(await job_of(world, "db-0"), phase="Cancelled")
    status = await ended(world, "Cancelled")
    assert "ararat restore release r1" in status["message"]
    (world.store_path / "backups/b1/manifest.json").unlink()
    await world.kill_controller()
    world.start_controller()
    await release(world)
    await answered(world)

    async def unmarked() -> Any:
        return "ararat.dev/restore-pending" not in await notes_on_claim(world)

    await until(unmarked, what="the mark to go")
    await world.pass_gate("db-0")
    await until_unlabelled(world)


async def test_fail_keeps_the_claim_marked_and_a_retry_still_fills_it(world: World) -> None:
    first = await failing(world)
    await ended(world, "PartiallyFailed")
    await release(world, action=ReleaseAction.FAIL)
    job = await answered(world)
    assert job.spec.answer is Answer.REFUSED
    assert "ararat.dev/restore-pending" in await notes_on_claim(world)
    patch = {
        "metadata": {"annotations": {"ararat.dev/retry": "now"}},
        "spec": {"released": []},
    }
    await world.api.patch(of(Restore), "r1", patch, namespace=world.namespace)
    again = await job_of(world, "db-0", besides=2)
    assert (again.spec.role, again.spec.takes_over) == (Role.FILL, first.name)
    await world.set_job(again, phase="Completed")
    await ended(world, "Completed")
    assert await notes_on_claim(world) == {}


async def test_policy_start(world: World) -> None:
    await failing(world, gate={"onFailure": "Start"})
    job = await answered(world)
    assert job.spec.answer is Answer.RELEASED
    assert job.spec.cause.startswith("gate.onFailure is Start: 3 of 10 files")
    status = await ended(world, "PartiallyFailed")
    assert status["volumes"]["text"] == "0 of 1 filled, 1 released"
    assert "ararat.dev/released" in await notes_on_claim(world)

    async def told() -> Any:
        events = world.api.list(EVENTS, namespace=world.wp)
        return [e["message"] async for e in events if e["reason"] == "RestoreReleased"]

    assert "gate.onFailure is Start" in (await until(told, what="an event"))[0]


async def test_pods_of_a_stateful_set_start_in_order(world: World) -> None:
    names = ("db-0", "db-1")
    owner = ("StatefulSet", "db")
    objects = [
        moved(obj, world.wp)
        for name in names
        for obj in (
            stored_pod(name, claims={"data": f"data-{name}"}, owner=owner, labels={"app": "db"}),
            stored_claim(f"data-{name}"),
        )
    ]
    spec = {
        "serviceName": "db",
        "replicas": 2,
        "selector": {"matchLabels": {"app": "db"}},
        "template": {
            "metadata": {"labels": {"app": "db"}},
            "spec": {"containers": [{"name": "app", "image": "app:1"}]},
        },
    }
    stateful = moved(stored("StatefulSet", "db", api_version="apps/v1", spec=spec), world.wp)
    volumes = [
        data(world, pod=name, claim=ClaimReference(name=f"data-{name}", uid="old"))
        for name in names
    ]
    await world.backup(*objects, stateful, volumes=volumes)
    await world.restore()
    for name in names:
        await until(functools.partial(world.pod, name), what=name)
        await world.schedule(name)
        await world.set_job(await job_of(world, name), phase="Completed")
    # All data is there: the restore is over, and the second pod still waits for the first.
    await ended(world, "Completed")
    assert (await condition(world, "db-1"))["status"] == "True"
    second = await world.pod("db-1")
    assert second["metadata"]["annotations"]["ararat.dev/gate-volumes"] == "data,ararat-turn"
    assert len(await world.jobs()) == 2
    settings = Settings(kubeconfig=None, context=None, namespace=world.namespace)
    held = await releasing.held_back(world.api, settings, "r1")
    assert f"{world.wp}/db-1/ararat-turn" in held.volumes
    await world.pass_gate("db-0", ready=True)
    turn = await job_of(world, "db-1", besides=1)
    assert (turn.spec.volume, turn.spec.answer) == ("ararat-turn", Answer.RELEASED)
    assert turn.spec.cause == "db-0 is ready"
