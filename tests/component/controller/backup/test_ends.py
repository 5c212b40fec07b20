"""Backups that end otherwise than by themselves, or meet what they did not expect."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
from pathlib import Path

import pytest

from ararat.kube.errors import ApiNotFound
from ararat.kube.resources import PODS
from controller.backup import reconcile, watchdog

from .world import BACKUPS, JOBS, Volume, World, eventually


async def held_backup(world: World, *names: str) -> Volume:
    """A backup of these volumes, the first of which is being read until it is let go."""
    held = Volume({"a": b"a"}, hold=asyncio.Event())
    await world.workload_of(*names, **{names[0]: held})
    await world.backup()
    return held


async def job_phases(world: World, **expected: str) -> None:
    """Wait until the jobs of these pods are in these phases."""

    async def look() -> bool:
        jobs = await world.jobs()
        found = {j.spec.pod.name.removeprefix("pod-"): j.status.phase.value for j in jobs}
        return found == expected

    await eventually(look, what=f"jobs are {expected}")


def log_of(world: World, name: str = "nightly") -> list[str]:
    packed = (world.store_path / f"backups/{name}/log.jsonl.gz").read_bytes()
    return [json.loads(line)["event"] for line in gzip.decompress(packed).splitlines()]


async def test_cancel(world: World) -> None:
    async with world.running():
        await held_backup(world, "slow", "quick")
        await job_phases(world, slow="InProgress", quick="Completed")
        await world.patch(BACKUPS, "nightly", {"spec": {"cancel": True}})
        await world.phase("Cancelled")
        backup = await world.settled()
        await job_phases(world, slow="Cancelled", quick="Completed")
    assert backup.status.message == "cancelled; nothing of it is offered for restore"
    assert backup.status.completion_time is not None
    assert await world.secrets() == []
    assert "backups/nightly/manifest.json" not in world.files()
    assert log_of(world)[-1] == "backup ended"


async def test_cancel_before_it_began(world: World) -> None:
    await world.backup(cancel=True)
    async with world.leader():
        backup = await world.phase("Cancelled")
    assert backup.status.message == "cancelled before it began"
    assert world.files() <= {"location.json"}


async def test_deleting_a_running_backup_ends_it_and_frees_its_name(world: World) -> None:
    async with world.running():
        held = await held_backup(world, "slow")
        await job_phases(world, slow="InProgress")
        first = await world.get()
        assert first.metadata.finalizers == ["ararat.dev/running"]
        await world.api.delete(BACKUPS, "nightly", namespace=world.namespace)
        await world.gone(BACKUPS, "nightly")
        await job_phases(world, slow="Cancelled")
        assert await world.secrets() == []
        assert list((world.path / "spool").iterdir()) == []
        assert held.hold is not None
        held.hold.set()
        await world.backup()
        second = await world.phase("Completed")
    assert second.uid != first.uid
    assert (await world.manifest()).backup_uid == second.uid


async def test_backups_of_one_namespace_take_turns(world: World) -> None:
    """Also where they are asked for in the same moment; others are not held up by them."""
    held = Volume({"a": b"a"}, hold=asyncio.Event())
    await world.workload_of("db", db=held)
    names = ["a", "b", "c"]
    for name in names:
        await world.backup(name)
    async with world.running() as agents:

        async def decided() -> list[str] | None:
            found = {name: (await world.get(name)).status for name in names}
            running = [n for n, status in found.items() if status.phase == "InProgress"]
            assert len(running) <= 1, found
            waiting = [n for n, status in found.items() if status.queue_position]
            if [found[n].queue_position for n in waiting] != [1, 2] or not running:
                return None
            tail = f"waits for backup {running[0]}, which means some of the same namespaces"
            first, second = (found[n] for n in waiting)
            assert (first.phase, first.message) == ("Queued", f"next: {tail}")
            assert (second.phase, second.message) == ("Queued", f"number 2 in the queue: {tail}")
            return running + waiting

        order = await eventually(decided, what="one runs and the others wait")
        await job_phases(world, db="InProgress")
        assert len(agents.taken) == 1
        # Nobody waits for namespaces that are not its own.
        await world.backup("beside", includedNamespaces=["default"])
        await world.phase("Completed", name="beside")
        assert (await world.get(order[0])).status.phase == "InProgress"
        # Whoever leaves the queue lets the others move up.
        await world.backup("d")

        async def place(name: str, wanted: int) -> None:
            async def look() -> bool:
                return (await world.get(name)).status.queue_position == wanted

            await eventually(look, what=f"{name} is number {wanted}")

        await place("d", 3)
        await world.patch(BACKUPS, order[1], {"spec": {"cancel": True}})
        left = await world.phase("Cancelled", name=order[1])
        assert left.status.queue_position is None
        await place(order[2], 1)
        await place("d", 2)
        assert held.hold is not None
        held.hold.set()
        order = [order[0], order[2], "d"]
        done = [await world.phase("Completed", name=name) for name in order]
    for earlier, later in itertools.pairwise(done):
        assert earlier.status.completion_time is not None
        assert later.status.start_time is not None
        assert earlier.status.completion_time <= later.status.start_time
        assert later.status.queue_position is None


async def test_backups_of_different_namespaces_run_together(world: World) -> None:
    async with world.running():
        await held_backup(world, "db")
        await job_phases(world, db="InProgress")
        await world.backup("other", includedNamespaces=["default"])
        await world.phase("Completed", name="other")
        assert (await world.get()).status.phase == "InProgress"


async def test_a_node_without_agent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "NO_AGENT_SECONDS", 2.0)
    await world.workload_of("db")
    await world.pod("far", scratch=("tmp",), asked="tmp", node="nowhere")
    async with world.leader():
        await world.backup()
        await job_phases(world, db="New", far="Failed")
        async with world.agents():
            backup = await world.phase("PartiallyFailed")
    assert [(f.object, f.reason, f.message) for f in backup.status.failures] == [
        (
            f"{world.workload}/far/tmp",
            "NoAgent",
            "node nowhere has no agent: see kubectl get pods -o wide",
        )
    ]


async def test_an_agent_that_is_being_replaced_costs_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "NO_AGENT_SECONDS", 4.0)
    await world.workload_of("db")
    await world.api.delete(PODS, f"agent-{world.node}", namespace=world.namespace, grace_seconds=0)
    async with world.leader():
        await world.backup()
        await job_phases(world, db="New")
        await world.agent_pod(world.node, ready=False)
        await asyncio.sleep(5)  # longer than a node may be without any agent
        await job_phases(world, db="New")
        async with world.agents():
            await world.phase("Completed")


async def test_a_job_that_somebody_deletes_is_made_again(world: World) -> None:
    async with world.running() as agents:
        held = await held_backup(world, "db")
        await job_phases(world, db="InProgress")
        (job,) = await world.jobs()
        await world.api.delete(JOBS, job.name, namespace=world.namespace)

        async def again() -> bool:
            return any(j.uid != job.uid for j in await world.jobs())

        await eventually(again, what="the job is there again")
        assert held.hold is not None
        held.hold.set()
        await world.phase("Completed")
    assert len(agents.taken) == 2


async def test_an_outage_of_the_store_is_waited_for(world: World) -> None:
    async with world.running():
        held = await held_backup(world, "db", "web")
        await job_phases(world, db="InProgress", web="Completed")

        async def objects() -> bool:
            return (await world.get()).status.objects is not None

        await eventually(objects, what="API objects are stored")
        away = Path(f"{world.store_path}-away")
        # The job still runs, so the outage meets the end of the backup.
        raw = await world.api.get(JOBS, (await world.jobs())[0].name, namespace=world.namespace)
        world.store_path.rename(away)
        failed = {"status": {"phase": "Failed", "reason": "R", "message": "m"}}
        await world.api.patch(
            JOBS, raw["metadata"]["name"], failed, namespace=world.namespace, subresource="status"
        )

        async def waits() -> bool:
            return "will try again" in ((await world.get()).status.message or "")

        await eventually(waits, what="the backup says that it waits")
        away.rename(world.store_path)
        backup = await world.phase("PartiallyFailed")
    assert held.hold is not None
    assert [f.reason for f in backup.status.failures] == ["R"]


async def test_jobs_go_some_time_after_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "_KEEP_JOBS_SECONDS", 3.0)
    await world.workload_of("db")
    async with world.running():
        await world.backup()
        await world.phase("Completed")
        assert len(await world.jobs()) == 1

        async def none_left() -> bool:
            return await world.jobs() == []

        await eventually(none_left, what="jobs are gone")
        assert (await world.get()).status.phase == "Completed"


async def test_a_spec_made_invalid_while_it_runs_does_not_hold_the_object_for_ever(
    world: World,
) -> None:
    async with world.running():
        await held_backup(world, "db")
        await job_phases(world, db="InProgress")
        both = {"labelSelector": {"matchLabels": {"a": "b"}}, "orLabelSelectors": [{}]}
        await world.patch(BACKUPS, "nightly", {"spec": both})

        async def failed() -> bool:
            raw = await world.api.get(BACKUPS, "nightly", namespace=world.namespace)
            return bool(raw["status"]["phase"] == "Failed")

        await eventually(failed, what="the backup has failed")
        await job_phases(world, db="Cancelled")
        await world.api.delete(BACKUPS, "nightly", namespace=world.namespace)
        await world.gone(BACKUPS, "nightly")


async def test_the_finalizer_taken_away_by_force(world: World) -> None:
    """Nothing of the run goes on, and nothing of this process's memory holds the next one."""
    async with world.running() as agents:
        await held_backup(world, "db")
        await job_phases(world, db="InProgress")
        await world.api.delete(BACKUPS, "nightly", namespace=world.namespace)
        for _ in range(20):
            try:
                await world.patch(BACKUPS, "nightly", {"metadata": {"finalizers": []}})
            except ApiNotFound:
                break
        await world.gone(BACKUPS, "nightly")
        await world.backup("next")
        world.volumes["pod-db"].hold = None
        await world.phase("Completed", name="next")
    assert len(agents.taken) == 2
