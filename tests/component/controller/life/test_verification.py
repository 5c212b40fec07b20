"""Backups are verified by restoring them for real: scratch volumes, a real agent, real damage."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from agent.app import Agent
from agent.config import AgentConfig
from ararat.api import BackupVerification, PodVolumeRestore
from ararat.api.verification import VerificationPhase
from ararat.kube import Informer, KubeClient, KubeObject, of, patch_status
from ararat.kube.errors import ApiConflict, ApiNotFound
from ararat.kube.resources import PODS, PVCS, PVS
from controller.config import Config
from controller.metrics import ObjectsCollector
from tests.component.agent.kubelet import FakeKubelet
from tests.component.controller.backup.world import BACKUPS, Volume, World, eventually
from tests.component.controller.life.time_machine import (
    SCHEDULES,
    Clock,
    nudge,
    outcome,
    request,
    schedule,
)
from tests.component.controller.location.test_sync import give_key

VERIFICATIONS, JOBS = of(BackupVerification), of(PodVolumeRestore)
VERDICT = "backups/nightly/verification.json"
pytestmark = pytest.mark.timeout(600)


class ScratchNode:
    """A node with a real agent, whose scheduler and kubelet are the test's."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.kubelet = FakeKubelet(world.path)
        self.name = f"scratch-{world.node}"
        self.pods: list[str] = []
        self.claims: list[KubeObject] = []
        #: What a claim's disk is made with.
        self.disk = "size=64m"
        #: Pods wait for a node until this is set.
        self.room = asyncio.Event()
        self.room.set()
        self._config = AgentConfig(
            node=self.name,
            namespace=world.namespace,
            pod_name=f"agent-{self.name}",
            pod_uid=f"agent-uid-{self.name}",
            kubelet_dir=self.kubelet.root,
            cache_dir=world.path / "cache-scratch",
            scratch_dir=world.path / "scratch",
            port=0,
            mount_wait_seconds=5.0,
            retry_seconds=0.2,
            progress_seconds=0.2,
            shutdown_seconds=10.0,
            minimum_free_bytes=0,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ScratchNode]:
        with contextlib.suppress(ApiConflict):
            await self._world.agent_pod(self.name)
        agent = Agent(self._config, self._world.api, registry=CollectorRegistry())
        informer = Informer(
            self._world.api, PODS, namespace=self._world.namespace, labels="ararat.dev/helper"
        )
        tasks: set[asyncio.Task[Any]] = set()

        def on_change(change: str, pod: KubeObject, _: KubeObject | None) -> None:
            name = pod["metadata"]["uid"]
            if change != "deleted" and name not in self.pods:
                self.pods.append(name)
                tasks.add(asyncio.create_task(self._start(pod)))

        informer.on_change(on_change)
        tasks.add(asyncio.create_task(agent.run(serve=False)))
        tasks.add(asyncio.create_task(informer.run()))
        try:
            yield self
        finally:
            agent.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.kubelet.close()

    async def _start(self, pod: KubeObject) -> None:
        await self.room.wait()
        meta, (volume,) = pod["metadata"], pod["spec"]["volumes"]
        if "emptyDir" in volume:
            self.kubelet.empty_dir(meta["uid"], volume["name"])
        else:
            await self._disk(meta, volume["persistentVolumeClaim"]["claimName"])
        target = {"apiVersion": "v1", "kind": "Node", "name": self.name}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": meta["name"]}}
        binding = replace(PODS, plural=f"pods/{meta['name']}/binding", kind="Binding")
        await self._world.api.create(
            binding, {**body, "target": target}, namespace=meta["namespace"]
        )
        raw = await self._world.api.get(PODS, meta["name"], namespace=meta["namespace"])
        with contextlib.suppress(ApiNotFound):
            await patch_status(self._world.api, PODS, raw, {"phase": "Running"})

    async def _disk(self, meta: dict[str, Any], claim: str) -> None:
        world, pv = self._world, f"pv-{meta['uid']}"
        raw = await world.api.get(PVCS, claim, namespace=meta["namespace"])
        self.claims.append(raw)
        spec = {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"},
            "csi": {"driver": "test", "volumeHandle": pv},
        }
        await world.create(PVS, pv, None, spec=spec)
        patch = {"spec": {"volumeName": pv}}
        await world.api.patch(PVCS, claim, patch, namespace=meta["namespace"])
        path = self.kubelet.csi(meta["uid"], pv, mount=False)
        self.kubelet.tmpfs(path, options=self.disk)


async def verify(world: World, name: str, backup: str = "nightly") -> None:
    await world.create(VERIFICATIONS, name, world.namespace, spec={"backup": backup})


async def found(world: World, name: str) -> BackupVerification:
    raw = await world.api.get(VERIFICATIONS, name, namespace=world.namespace)
    return BackupVerification.parse(raw)


async def until(
    world: World, name: str, fits: Callable[[BackupVerification], object], *, what: str
) -> BackupVerification:
    async def look() -> BackupVerification | None:
        one = await found(world, name)
        return one if fits(one) else None

    try:
        return await eventually(look, what=what)
    except AssertionError as error:
        error.add_note(str(await found(world, name)))
        raise


async def ended(world: World, name: str) -> BackupVerification:
    """Once it is over, and the Backup says so."""
    one = await until(world, name, lambda v: v.status.phase.terminal, what=f"{name} has ended")
    if one.status.phase is not VerificationPhase.CANCELLED:

        async def noted() -> bool:
            last = (await world.get(one.spec.backup)).status.verification
            return last is not None and last.name == name

        await eventually(noted, what=f"the backup shows {name}")
    return one


async def nothing_is_left(world: World) -> None:
    async def look() -> bool:
        for kind, labels in ((JOBS, ""), (PODS, "ararat.dev/helper"), (PVCS, "")):
            async for one in world.api.list(kind, namespace=world.namespace, labels=labels or None):
                if not one["metadata"].get("deletionTimestamp"):
                    return False
        return await world.secrets() == []

    await eventually(look, what="jobs, pods, claims and passwords are gone")


def stored(world: World) -> dict[str, bytes]:
    return {
        str(path.relative_to(world.store_path)): path.read_bytes()
        for path in world.store_path.rglob("*")
        if path.is_file() and path.name != "verification.json"
    }


def largest_pack(world: World) -> Path:
    packs = world.store_path.glob("repositories/volumes/*/*/data/*/*")
    return max(packs, key=lambda path: path.stat().st_size)


async def test_a_backup_is_read_whole_and_damage_is_named(
    world: World, api: KubeClient, work: Path
) -> None:
    big, small = secrets.token_bytes(3_000_000), secrets.token_bytes(10_000)
    await world.workload_of("db", "web", "new", db=Volume({"a/b": big, "c": small}), new=Volume({}))
    world.volumes["pod-web"] = Volume({"index": small * 2})
    async with world.running():
        await world.backup()
        backup = await world.settled()
        assert backup.status.phase == "Completed"
        before = stored(world)
        node = ScratchNode(world)
        async with node.running():
            await verify(world, "first")
            one = await ended(world, "first")
            assert one.status.phase is VerificationPhase.PASSED, one.status
            assert one.status.volumes.text == "3 of 3 passed"
            assert one.status.progress.bytes_done == len(big) + 3 * len(small)
            assert one.status.objects == backup.status.objects.count  # type: ignore[union-attr]
            assert len(node.pods) == 2  # the volume that was empty needs none
            await nothing_is_left(world)
            # No lock, no byte: nothing in the location is other than before.
            assert stored(world) == before
            last = (await world.get()).status.verification
            assert last is not None
            assert (last.phase, last.last_passed_time) == ("Passed", one.status.completion_time)

            # A pack that the db's content is in is lost.
            pack = largest_pack(world)
            pack.rename(world.path / "lost")
            await verify(world, "second")
            two = await ended(world, "second")
            assert two.status.phase is VerificationPhase.FAILED, two.status
            (failure,) = two.status.failures
            assert failure.object == f"{world.workload}/pod-db/data"
            assert "could not be restored" in failure.message
            assert two.status.volumes.text == "2 of 3 passed, 1 failed"
            assert await world.events("VerificationFailed")

            # It is back with one byte changed.
            data = bytearray((world.path / "lost").read_bytes())
            data[1_000_000] ^= 1
            pack.write_bytes(data)
            await verify(world, "third")
            three = await ended(world, "third")
            assert three.status.phase is VerificationPhase.FAILED, three.status
            assert three.status.failures[0].object == f"{world.workload}/pod-db/data"
            last = (await world.get()).status.verification
            assert last is not None
            assert (last.phase, last.last_passed_time) == ("Failed", one.status.completion_time)

            # The object is made again by sync, and knows what was found.
            await world.api.delete(BACKUPS, "nightly", namespace=world.namespace)

            async def again() -> bool:
                with contextlib.suppress(ApiNotFound):
                    known = (await world.get()).status.verification
                    return known is not None and known.name == "third"
                return False

            await eventually(again, what="the result came back with the backup")
    pack.write_bytes((world.path / "lost").read_bytes())
    before = stored(world) | {"verdict": (world.store_path / VERDICT).read_bytes()}
    # A cluster that may only read sees the owner's result, verifies for itself, and writes nothing.
    reader = World(api, work, store=world.store_path)
    await reader.prepare(read_only=True)
    await give_key(reader, await world.master())
    node = ScratchNode(reader)
    async with reader.leader(), node.running():

        async def seen() -> bool:
            with contextlib.suppress(ApiNotFound):
                known = (await reader.get()).status.verification
                return known is not None and known.phase == "Failed"
            return False

        await eventually(seen, what="the other cluster sees the owner's result")
        await verify(reader, "there")
        assert (await ended(reader, "there")).status.phase is VerificationPhase.PASSED
        await nothing_is_left(reader)
    assert stored(world) | {"verdict": (world.store_path / VERDICT).read_bytes()} == before


async def test_a_scratch_volume_that_is_too_small_is_no_verdict(world: World) -> None:
    values = {**world.config.__dict__, "verification": {"ARARAT_VERIFICATION_NODE_LIMIT": "1"}}
    world.config = Config(**values)
    await world.workload_of("db", db=Volume({"file": secrets.token_bytes(3_000_000)}))
    async with world.running():
        await world.backup()
        await world.settled()
        node = ScratchNode(world)
        node.disk = "size=1m"
        async with node.running():
            await verify(world, "first")
            one = await ended(world, "first")
            assert one.status.phase is VerificationPhase.INCONCLUSIVE, one.status
            (failure,) = one.status.failures
            assert failure.reason == "ScratchTooSmall"
            assert "2.9 MiB are needed" in failure.message
            assert one.status.volumes.text == "0 of 1 passed, 1 not tried"
            (claim,) = node.claims
            assert claim["spec"]["resources"]["requests"]["storage"] == "1Gi"
            await nothing_is_left(world)
            node.disk = "size=16m"
            await verify(world, "second")
            assert (await ended(world, "second")).status.phase is VerificationPhase.PASSED


async def test_it_waits_its_turn_and_survives_the_controller(world: World) -> None:
    await world.workload_of("db")
    node = ScratchNode(world)
    node.room.clear()
    async with world.agents(), node.running():
        async with world.leader() as leader:
            await world.backup()
            await world.settled()
            directory = (await world.manifest()).volumes[0].directory
            leader.context.maintaining.add(directory)
            await verify(world, "first")
            waiting = await until(
                world, "first", lambda v: v.status.waiting, what="it says what it waits for"
            )
            assert "waits for maintenance" in waiting.status.waiting[0].message
            leader.context.maintaining.discard(directory)
            await until(
                world,
                "first",
                lambda v: any("scratch pod" in w.message for w in v.status.waiting),
                what="it waits for its pod",
            )
            await verify(world, "second")
            await until(
                world,
                "second",
                lambda v: v.status.waiting and "verification first" in v.status.waiting[0].message,
                what="the second waits for the first",
            )
        # That controller is gone; its successor knows nothing but the objects.
        async with world.leader():
            node.room.set()
            assert (await ended(world, "first")).status.phase is VerificationPhase.PASSED
            assert (await ended(world, "second")).status.phase is VerificationPhase.PASSED
            assert len(node.pods) == 2

            node.room.clear()
            await verify(world, "third")
            await until(world, "third", lambda v: v.status.waiting, what="it waits")
            await world.patch(VERIFICATIONS, "third", {"spec": {"cancel": True}})
            await ended(world, "third")
            await nothing_is_left(world)

            # A backup that is deleted is not held by those who read it.
            await verify(world, "fourth")
            await until(world, "fourth", lambda v: v.status.waiting, what="it waits")
            deleted = await outcome(world, await request(world, "nightly"))
            assert deleted.status.phase == "Completed", deleted.status
            fourth = await ended(world, "fourth")
            assert (fourth.status.phase, fourth.status.reason) == ("Cancelled", "BackupDeleted")
            await nothing_is_left(world)


async def test_a_schedule_has_its_newest_backup_verified(world: World) -> None:
    clock = Clock(world)
    await world.workload_of("db")
    spec = {
        "cron": "@yearly",
        "template": {"includedNamespaces": [world.workload]},
        "verify": {"every": "5d"},
    }

    async def verified() -> list[BackupVerification]:
        listing = world.api.list(VERIFICATIONS, namespace=world.namespace)
        return [BackupVerification.parse(raw) async for raw in listing]

    async with world.agents(), ScratchNode(world).running(), world.leader() as leader:
        await world.create(SCHEDULES, "yearly", world.namespace, spec=spec)
        await world.backup("one", schedule="yearly")
        await world.settled("one")

        async def passed(times: int) -> bool:
            await nudge(world, SCHEDULES, "yearly", clock)
            found = [v for v in await verified() if v.status.phase is VerificationPhase.PASSED]
            last = (await schedule(world, "yearly")).status.verification
            shown = last is not None and last.last_passed_time == clock.now
            return len(found) == times and shown

        await eventually(lambda: passed(1), what="the first backup is verified at once")
        (first,) = await verified()
        assert (first.spec.backup, first.spec.cause) == ("one", "Scheduled")
        clock.move(days=4)
        await world.backup("two", schedule="yearly")
        await world.settled("two")
        await nudge(world, SCHEDULES, "yearly", clock)
        assert len(await verified()) == 1
        clock.move(days=1)
        await eventually(lambda: passed(2), what="the newest is verified five days later")
        assert {v.spec.backup for v in await verified()} == {"one", "two"}

        registry = CollectorRegistry()
        registry.register(ObjectsCollector(leader.context))
        label = {"schedule": "yearly"}

        async def measured() -> bool:  # from caches, which are a moment behind
            name = "ararat_schedule_last_verified_timestamp_seconds"
            return registry.get_sample_value(name, label) == clock.now.timestamp()

        await eventually(measured, what="the metric says when it was last verified")
        every = registry.get_sample_value("ararat_schedule_verify_interval_seconds", label)
        assert every == 5 * 86400
        assert registry.get_sample_value("ararat_backups_verification_failed", label) == 0
