"""Claims that no pod mounts: read through pods of ours, which are gone in the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ararat.api.manifest import Coverage
from ararat.kube import Informer, KubeObject, ResourceType, patch_status
from ararat.kube.errors import ApiConflict, ApiNotFound
from ararat.kube.resources import PODS, PVCS, RESOURCE_QUOTAS
from controller.backup.coverage import live_coverage
from controller.coverage_metrics import CoverageMetrics

from .world import BACKUPS, Volume, World, eventually

HELPERS = "ararat.dev/helper=true"


class Kubelet:
    """Binds helpers to the world's node and says that they run, as many as it may."""

    def __init__(self, world: World, *, runs: bool = True) -> None:
        self._world = world
        self._runs = runs
        self.seen: list[KubeObject] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Kubelet]:
        informer = Informer(self._world.api, PODS, labels=HELPERS)
        async with asyncio.TaskGroup() as group:

            def on_change(change: str, pod: KubeObject, _: KubeObject | None) -> None:
                if pod["metadata"]["namespace"] != self._world.workload:
                    return
                if change == "added":
                    self.seen.append(pod)
                    if self._runs:
                        group.create_task(self._run(pod))
                elif change == "modified" and pod["metadata"].get("deletionTimestamp"):
                    group.create_task(self._end(pod))

            informer.on_change(on_change)
            following = group.create_task(informer.run())
            yield self
            following.cancel()

    async def _run(self, pod: KubeObject) -> None:
        metadata = pod["metadata"]
        binding = ResourceType("", "v1", f"pods/{metadata['name']}/binding", "Binding")
        target = {"apiVersion": "v1", "kind": "Node", "name": self._world.node}
        body = {"metadata": {"name": metadata["name"]}, "target": target}
        with contextlib.suppress(ApiNotFound, ApiConflict):
            await self._world.api.create(binding, body, namespace=metadata["namespace"])
            await patch_status(self._world.api, PODS, pod, {"phase": "Running"})

    async def _end(self, pod: KubeObject) -> None:
        """A pod with a node is gone when its kubelet says so."""
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        await self._world.api.delete(PODS, name, namespace=namespace, grace_seconds=0)


async def helpers(world: World) -> list[str]:
    found = world.api.list(PODS, namespace=world.workload, labels=HELPERS)
    return [pod["metadata"]["name"] async for pod in found]


async def no_helpers(world: World) -> None:
    async def look() -> bool:
        return not await helpers(world)

    await eventually(look, what="every helper pod is gone")


async def test_claims_that_no_pod_mounts_are_read_and_nothing_is_left(world: World) -> None:
    await world.workload_of("db")
    names = [f"spare-{n}" for n in range(7)]
    for name in names:
        await world.claim(name)
        world.volumes[name] = Volume({"file": name.encode() * 50})
    kubelet = Kubelet(world)
    async with kubelet.running(), world.running() as agents:
        await world.backup(volumes={"unmounted": "Backup"})
        backup = await world.phase("Completed")
        await world.settled()
        await no_helpers(world)
        assert len(agents.taken) == 8
    assert backup.status.coverage is not None
    assert backup.status.coverage.text == "8 backed up"
    manifest = await world.manifest()
    spare = {v.volume: v for v in manifest.volumes if not v.pod}
    assert sorted(spare) == names
    for name, volume in spare.items():
        assert volume.coverage is Coverage.BACKED_UP
        assert volume.snapshot_id
        assert volume.claim is not None
        assert volume.claim.name == name
        assert volume.host == f"{world.cluster}/{world.workload}/pvc/{name}"
    assert len(kubelet.seen) == 7
    (mount,) = kubelet.seen[0]["spec"]["containers"][0]["volumeMounts"]
    assert mount["readOnly"] is True
    # A pod of ours is no object of the user's.
    assert all("helper" not in str(v.pod) for v in manifest.volumes)


async def test_a_quota_that_leaves_no_room_is_a_failure_with_its_reason(world: World) -> None:
    await world.create(RESOURCE_QUOTAS, "none", world.workload, spec={"hard": {"pods": "0"}})

    async def enforced() -> bool:
        quota = await world.api.get(RESOURCE_QUOTAS, "none", namespace=world.workload)
        await patch_status(
            world.api,
            RESOURCE_QUOTAS,
            quota,
            {"hard": {"pods": "0"}, "used": {"pods": "0"}},
        )
        return True

    await eventually(enforced, what="the quota counts")  # its controller does not run here
    await world.claim("spare")
    async with Kubelet(world).running(), world.running():
        await world.backup(volumes={"unmounted": "Backup"}, deadlines={"noProgressSeconds": 10})
        backup = await world.phase("PartiallyFailed")
    (failure,) = backup.status.failures
    assert failure.reason == "QuotaExceeded"
    assert "exceeded quota" in failure.message


async def test_a_helper_that_does_not_start_is_a_failure_and_goes(world: World) -> None:
    await world.claim("spare")
    async with Kubelet(world, runs=False).running(), world.running():
        await world.backup(volumes={"unmounted": "Backup"}, deadlines={"noProgressSeconds": 10})
        backup = await world.phase("PartiallyFailed")
        await no_helpers(world)
    assert [f.reason for f in backup.status.failures] == ["HelperNotRunning"]


@pytest.mark.parametrize("how", ["cancel", "delete"])
async def test_whoever_goes_on_removes_what_a_killed_controller_left(
    world: World, how: str
) -> None:
    await world.claim("spare")
    held = world.volumes["spare"] = Volume({"a": b"a"}, hold=asyncio.Event())
    async with Kubelet(world).running(), world.agents() as agents:
        async with world.leader():
            await world.backup(volumes={"unmounted": "Backup"})

            async def taken() -> bool:
                return bool(agents.taken)

            await eventually(taken, what="the claim is being read")
        # Nobody leads; meanwhile somebody wants no more of it.
        assert len(await helpers(world)) == 1
        if how == "cancel":
            await world.patch(BACKUPS, "nightly", {"spec": {"cancel": True}})
        else:
            await world.api.delete(BACKUPS, "nightly", namespace=world.namespace)
        async with world.leader():
            await no_helpers(world)
    assert held.hold is not None


async def test_what_is_shown_of_the_live_cluster_is_what_a_backup_then_does(world: World) -> None:
    await world.workload_of("db")
    for name in ("skipped", "spare"):
        await world.claim(name)
    await world.pod("idle", scratch=("tmp",))
    rule = {"conditions": {"storageClasses": ["none"]}, "action": "Skip"}
    volumes = {"unmounted": "Backup", "policies": [rule], "defaultPolicy": "OptOut"}
    await world.api.patch(
        PVCS,
        "skipped",
        {"metadata": {"labels": {"ararat.dev/exclude-from-backup": "true"}}},
        namespace=world.workload,
    )
    spec = {"includedNamespaces": [world.workload], "volumes": volumes}
    shown = await live_coverage(world.config, world.api, json.dumps(spec))
    assert shown["namespaces"] == [world.workload]
    assert shown["coverage"]["text"] == "3 backed up, 1 skipped"
    async with Kubelet(world).running(), world.running():
        await world.backup(volumes=volumes)
        await world.phase("Completed")
    done = {v.id: (v.coverage.value, v.reason) for v in (await world.manifest()).volumes}
    place = world.workload
    planned = {
        f"{v['namespace']}/{v['pod'] or '-'}/{v['volume']}": (v["coverage"], v["reason"])
        for v in shown["volumes"]
    }
    assert planned == done
    assert done[f"{place}/-/spare"] == ("BackedUp", "")
    assert done[f"{place}/-/skipped"] == ("Skipped", "Excluded")


async def test_metrics_know_which_claims_no_backup_holds(world: World) -> None:
    await world.workload_of("db")
    await world.claim("spare")
    metrics = CoverageMetrics(per_claim=True)

    def numbers() -> dict[str, float]:
        return {
            sample.name: sample.value
            for metric in metrics.collect()
            for sample in metric.samples
            if sample.labels["namespace"] == world.workload
        }

    async with world.agents(), world.leader() as leader:
        await metrics.look(leader.context)
        assert numbers() == {"ararat_claims": 2, "ararat_claims_never_backed_up": 2}
        await world.backup()
        await world.phase("Completed")

        async def seen() -> bool:  # by the cache
            await metrics.look(leader.context)
            return numbers()["ararat_claims_never_backed_up"] == 1

        await eventually(seen, what="the backup counts")
    found = numbers()
    assert 0 <= found["ararat_claims_oldest_good_backup_seconds"] < 120
    assert 0 <= found["ararat_claim_last_good_backup_seconds"] < 120
