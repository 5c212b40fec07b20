"""Pods of a backup are started beside the original, asked, and removed, whatever is killed when."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ararat.api import Restore
from ararat.api.names import RUN_OF
from ararat.api.verification import VerificationPhase
from ararat.kube import KubeClient, of
from ararat.kube.resources import (
    DEPLOYMENTS,
    NAMESPACES,
    NETWORK_POLICIES,
    PODS,
    PVS,
    SERVICES,
)
from controller.config import Config
from tests.cluster.apiserver import ControlPlane
from tests.component import kubelet
from tests.component.controller.backup.kills import Killed, Killer
from tests.component.controller.backup.world import World, eventually
from tests.component.controller.life.copies_player import Copies
from tests.component.controller.life.test_verification import (
    VERIFICATIONS,
    ScratchNode,
    ended,
    found,
    nothing_is_left,
    until,
)
from tests.component.controller.life.time_machine import outcome, request

RESTORES = of(Restore)
pytestmark = pytest.mark.timeout(600)
#: Reads what only the pod's own directory has.
PROBE = {"command": ["sh", "-c", "cat there && echo pg is away >&2 && test -e ready"]}


async def prepared(world: World) -> None:
    """A workload with everything that must not come along."""
    values = {**world.config.__dict__, "verification": {"ARARAT_VERIFICATION_RUN": "true"}}
    world.config = Config(**values)
    await world.workload_of("db", "web")
    labels = {"app": "api"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "main", "image": "none"}]},
    }
    spec = {"selector": {"matchLabels": labels}, "template": template}
    await world.create(DEPLOYMENTS, "api", world.workload, spec=spec)
    spec = {"type": "NodePort", "ports": [{"port": 80}], "externalIPs": ["192.0.2.7"]}
    await world.create(SERVICES, "api", world.workload, spec=spec)
    spec = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}
    await world.create(NETWORK_POLICIES, "open", world.workload, spec=spec)
    host = {"name": "host", "hostPath": {"path": "/"}}
    container = {"name": "main", "image": "none"}
    await world.create(
        PODS, "driver", world.workload, spec={"containers": [container], "volumes": [host]}
    )


async def run(world: World, name: str, **settings: Any) -> None:
    spec = {"backup": "nightly", "run": settings}
    await world.create(VERIFICATIONS, name, world.namespace, spec=spec)


async def original(world: World) -> dict[str, str]:
    """Every object of the workload, with what changes when it is touched."""
    kinds = [k for k in (await world.api.discover()).resources if k.namespaced]
    return {
        f"{kind.plural}/{one['metadata']['name']}": one["metadata"]["resourceVersion"]
        for kind in kinds
        if "list" in kind.verbs and kind.plural != "events"
        async for one in world.api.list(kind, namespace=world.workload)
    }


async def gone(world: World, copies: Copies) -> None:
    """Namespaces, restores, and what keeps the verification."""

    async def look() -> bool:
        restores = [raw async for raw in world.api.list(RESTORES, namespace=world.namespace)]
        held = [
            raw
            async for raw in world.api.list(VERIFICATIONS, namespace=world.namespace)
            if raw["metadata"].get("finalizers")
        ]
        return not restores and not held and not await copies.namespaces()

    await eventually(look, what="copies, restores and finalizers are gone")
    await nothing_is_left(world)


async def test_pods_start_apart_and_everything_is_removed(
    world: World, api: KubeClient, control_plane: ControlPlane, work: Path
) -> None:
    await prepared(world)
    copies, node = Copies(world, control_plane), ScratchNode(world)
    pods = work / "pods"
    async with (
        world.agents(),
        world.leader() as leader,
        node.running(),
        copies.running(),
        kubelet.running(control_plane, api, node=copies.node, root=pods),
    ):
        await world.backup()
        await world.settled()
        before = await original(world)
        allowed = leader.context.scratch_policy
        leader.context.scratch_policy = replace(allowed, run=False)
        await run(world, "refused")
        none = await ended(world, "refused")
        assert (none.status.phase, none.status.reason) == ("Inconclusive", "RunNotAllowed")
        assert "verification.run.enabled" in (none.status.message or "")
        leader.context.scratch_policy = allowed

        probe = {**PROBE, "namespace": world.workload, "container": "main"}
        copies.sick["pod-web"] = {"phase": "Running"}
        await run(world, "first", probes=[probe])
        waiting = await until(
            world,
            "first",
            lambda v: any("pod-web" in w.message for w in v.status.waiting),
            what="it waits for a pod that is not ready",
        )
        assert waiting.status.run is not None
        copy = waiting.status.run.namespaces[world.workload]
        namespace = await api.get(NAMESPACES, copy)
        assert namespace["metadata"]["labels"][RUN_OF] == waiting.uid
        pod = await api.get(PODS, "pod-web", namespace=copy)
        for name in ("pod-db", "pod-web"):
            (pods / copy / name).mkdir(parents=True, exist_ok=True)
            (pods / copy / name / "there").write_text("data")
        ready = [{"type": "Ready", "status": "True"}]
        await world.api.patch(
            PODS,
            "pod-web",
            {"status": {"conditions": ready}},
            namespace=pod["metadata"]["namespace"],
            subresource="status",
        )
        said = await until(
            world,
            "first",
            lambda v: any("pg is away" in w.message for w in v.status.waiting),
            what="it says what the probe said",
        )
        assert "ended with exit code 1" in said.status.waiting[0].message
        for name in ("pod-db", "pod-web"):
            (pods / copy / name / "ready").touch()
        one = await ended(world, "first")
        assert one.status.phase is VerificationPhase.PASSED, one.status
        assert one.status.run is not None
        assert (one.status.run.outcome, one.status.run.removed) == ("Passed", True)
        assert "2 pods started, 1 probe succeeded" in (one.status.message or "")
        assert one.status.volumes.text == "2 of 2 passed"
        assert node.pods == []  # what was filled and read back is not read again
        await gone(world, copies)
        last = (await world.get()).status.verification
        assert last is not None
        assert last.last_run_time == one.status.completion_time

        held = copies.buried[copy]
        assert {key.partition("/")[0] for key in held} == {
            *("configmaps", "secrets", "persistentvolumeclaims", "pods", "deployments"),
            *("services", "networkpolicies", "endpoints", "endpointslices"),
        } - {kind for kind in ("endpoints", "endpointslices") if f"{kind}/api" not in held}
        assert [k for k in held if k.startswith("networkpolicies/")] == [
            "networkpolicies/ararat-verification"
        ]
        service = held["services/api"]["spec"]
        assert service["type"] == "ClusterIP"
        assert "externalIPs" not in service
        assert "pods/driver" not in held
        for name in copies.volumes:
            volume = await api.get(PVS, name)
            assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
        assert await original(world) == before

        # Its pods start and a probe never succeeds: a bad backup, and nothing of it is left.
        del copies.sick["pod-web"]
        await run(world, "probed", probes=[probe])
        named = await until(
            world,
            "probed",
            lambda v: v.status.run is not None and world.workload in v.status.run.namespaces,
            what="its namespace is named",
        )
        assert named.status.run is not None
        for name in ("pod-db", "pod-web"):
            place = pods / named.status.run.namespaces[world.workload] / name
            place.mkdir(parents=True, exist_ok=True)
            (place / "there").write_text("data")
        await until(
            world,
            "probed",
            lambda v: any("pg is away" in w.message for w in v.status.waiting),
            what="the probe fails",
        )
        await world.patch(VERIFICATIONS, "probed", {"spec": {"run": {"timeout": "1s"}}})
        probed = await ended(world, "probed")
        assert (probed.status.phase, probed.status.reason) == ("Failed", "ProbeFailed")
        assert "pg is away" in (probed.status.message or "")
        await gone(world, copies)
        assert await original(world) == before

        # It starts, and falls over: that is a bad backup. The time is over at once.
        crash = {"terminated": {"exitCode": 7, "message": "corrupt page"}}
        status = {"name": "main", "image": "x", "imageID": "", "ready": False, "restartCount": 1}
        copies.sick["pod-web"] = {
            "phase": "Running",
            "containerStatuses": [{**status, "state": crash}],
        }
        await run(world, "second")
        await until(
            world,
            "second",
            lambda v: any("exit code 7" in w.message for w in v.status.waiting),
            what="it sees the pod end",
        )
        await world.patch(VERIFICATIONS, "second", {"spec": {"run": {"timeout": "1s"}}})
        two = await ended(world, "second")
        assert (two.status.phase, two.status.reason) == ("Failed", "PodsNotReady"), two.status
        assert "container main ended with exit code 7: corrupt page" in (two.status.message or "")
        assert two.status.volumes.text == "2 of 2 passed"
        await gone(world, copies)

        # Volumes that are never filled say nothing about it; they are read by themselves.
        copies.filling.clear()
        await run(world, "third", timeout="1s")
        three = await ended(world, "third")
        assert (three.status.phase, three.status.reason) == ("Inconclusive", "RunTimedOut")
        assert three.status.volumes.text == "2 of 2 passed"
        assert len(node.pods) == 2
        await gone(world, copies)

        # Deleting the backup ends it, and nothing of it is left; what somebody else made stays.
        await run(world, "fourth")

        async def begun() -> bool:
            return bool(await copies.namespaces())

        await eventually(begun, what="the copies are made")
        labels = {RUN_OF: (await found(world, "fourth")).uid}
        other = f"{world.workload}-other"
        await api.create(NAMESPACES, {"metadata": {"name": other, "labels": labels}})
        deleted = await outcome(world, await request(world, "nightly"))
        assert deleted.status.phase == "Completed", deleted.status
        four = await ended(world, "fourth")
        assert (four.status.phase, four.status.reason) == ("Cancelled", "BackupDeleted")
        await gone(world, copies)
        assert not (await api.get(NAMESPACES, other))["metadata"].get("deletionTimestamp")
        assert await original(world) == before


@dataclass
class At(Killer):
    """Ends the leader at the first call that begins with this."""

    call: str = ""

    async def around(self, name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        self.at = len(self.calls) + 1 if name.startswith(self.call) else None
        if self.fired.is_set():
            self.at = None
        return await super().around(name, work)


#: In the order in which a verification gets there.
STEPS = (
    ("api create namespaces verify-", True),
    ("api create networkpolicies", True),
    ("api create restores", False),
    ("api create restores", True),
    ("api create pods pod-", True),
    ("api delete restores", False),
    ("api delete restores", True),
    ("api delete namespaces", False),
    ("api delete namespaces", True),
    ("api list", False),
)


async def test_the_controller_is_killed_at_each_step(
    world: World, control_plane: ControlPlane
) -> None:
    await prepared(world)
    copies, node = Copies(world, control_plane), ScratchNode(world)
    async with world.agents(), node.running(), copies.running():
        async with world.leader():
            await world.backup()
            await world.settled()
        before = await original(world)
        await run(world, "first")
        for call, after in STEPS:
            killer = At(call=call, after=after)
            async with world.leader(Killed(world.api, killer, what="api")):

                async def fired(killer: Killer = killer) -> bool:
                    return killer.fired.is_set()

                await eventually(fired, what=f"a leader is killed at: {call}")
        async with world.leader():
            one = await ended(world, "first")
            assert one.status.phase is VerificationPhase.PASSED, one.status
            await gone(world, copies)
        assert len(copies.buried) == 1
        assert await original(world) == before
