"""Pods that go away while they are read: their volumes are read again, or it is said why not."""

from __future__ import annotations

from ararat.api.manifest import Coverage
from ararat.api.nodejob import JobPhase
from ararat.kube import KubeObject
from ararat.kube.resources import PODS, STATEFUL_SETS

from .world import Volume, World, eventually

FILES = {"file": b"content" * 100}


def going(reason: str = "PodTerminating") -> Volume:
    """Its pod begins to terminate when it is read."""
    return Volume(FILES, fail=reason)


async def stateful(world: World, replicas: int = 1) -> KubeObject:
    labels = {"app": "db"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "main", "image": "none"}]},
    }
    spec = {
        "replicas": replicas,
        "serviceName": "db",
        "selector": {"matchLabels": labels},
        "template": template,
    }
    return await world.create(STATEFUL_SETS, "db", world.workload, spec=spec)


async def member(world: World, owner: KubeObject, **more: object) -> KubeObject:
    """``db-0`` with a claim and a scratch volume."""
    return await world.pod(
        "db-0",
        claims={"data": "data-db-0"},
        scratch=("tmp",),
        asked="data,tmp",
        owner=owner,
        **more,  # type: ignore[arg-type]
    )


async def waits(world: World) -> None:
    async def look() -> bool:
        return "in place of" in ((await world.get()).status.message or "")

    await eventually(look, what="the backup waits for a pod")


async def test_both_are_read_through_the_pod_in_its_place_whoever_leads(world: World) -> None:
    owner = await stateful(world)
    await world.claim("data-db-0")
    old = await member(world, owner)
    world.volumes["db-0"] = going()
    async with world.agents() as agents:
        async with world.leader():
            await world.backup()
            await waits(world)
            assert len(agents.taken) == 2
        await world.api.delete(PODS, "db-0", namespace=world.workload, grace_seconds=0)
        world.volumes["db-0"] = Volume(FILES)
        async with world.leader():
            new = await member(world, owner, running=False)
            await world._run(new)
            backup = await world.phase("Completed")
            await world.settled()
    assert backup.status.coverage is not None
    assert backup.status.coverage.text == "2 backed up"
    jobs = await world.jobs()
    for pod in (old, new):
        uid = pod["metadata"]["uid"]
        assert {j.spec.volume for j in jobs if j.spec.pod.uid == uid} == {"data", "tmp"}
    first = {j.name: j for j in jobs if not j.spec.replaces}
    again = [j for j in jobs if j.spec.replaces]
    assert {j.status.phase for j in first.values()} == {JobPhase.FAILED}
    assert {j.status.phase for j in again} == {JobPhase.COMPLETED}
    for job in again:
        assert job.spec.host == first[job.spec.replaces].spec.host
    manifest = await world.manifest()
    assert {v.volume: v.snapshot_id for v in manifest.volumes} == {
        j.spec.volume: j.status.snapshot_id for j in again
    }


async def test_a_claim_is_read_through_another_pod_that_has_it(world: World) -> None:
    await world.claim("shared")
    for name in ("a", "b"):
        await world.pod(name, claims={f"of-{name}": "shared"}, asked=f"of-{name}")
    world.volumes |= {"a": going("PodReplaced"), "b": Volume(FILES)}
    async with world.running():
        await world.backup()
        await world.phase("Completed")
    (volume,) = (await world.manifest()).volumes
    assert volume.coverage is Coverage.BACKED_UP
    assert {j.spec.volume for j in await world.jobs()} == {"of-a", "of-b"}


async def test_where_nobody_comes_the_failure_stands_and_says_so(world: World) -> None:
    owner = await stateful(world, replicas=0)
    for name in ("data-db-0", "alone"):
        await world.claim(name)
    await member(world, owner)
    await world.pod("bare", claims={"data": "alone"}, asked="data")
    world.volumes |= {"db-0": going(), "bare": going("PodEnded")}
    async with world.running():
        await world.backup()
        backup = await world.phase("PartiallyFailed")
    said = {f.object.split("/", 1)[1]: (f.reason, f.message) for f in backup.status.failures}
    assert set(said) == {"db-0/data", "db-0/tmp", "bare/data"}
    assert said["bare/data"][0] == "PodEnded"
    assert "nobody makes such a pod anew" in said["bare/data"][1]
    for volume in ("data", "tmp"):
        assert said[f"db-0/{volume}"][0] == "PodTerminating"
        assert "StatefulSet db was scaled to 0" in said[f"db-0/{volume}"][1]
    assert len(await world.jobs()) == 3


async def test_a_pod_that_does_not_come_back_is_waited_for_as_long_as_was_said(
    world: World,
) -> None:
    owner = await stateful(world)
    await world.claim("data-db-0")
    await member(world, owner)
    world.volumes["db-0"] = going()
    async with world.running():
        await world.backup(deadlines={"noProgressSeconds": 10})
        await waits(world)
        await world.api.delete(PODS, "db-0", namespace=world.workload, grace_seconds=0)
        backup = await world.phase("PartiallyFailed")
    assert {f.reason for f in backup.status.failures} == {"PodTerminating"}
    assert "within 10 s" in backup.status.failures[0].message
