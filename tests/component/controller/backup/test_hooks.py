"""Commands before and after, run for real: through the API server, by a node, as processes.

The pod's directory stands for what is frozen: the pre hook makes ``flag``, the post hook removes
it. Each time a volume is looked at, the flag must be there; in the end it must not.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ararat.api.manifest import Coverage
from ararat.kube import KubeClient
from ararat.kube.resources import EVENTS, PODS, SECRETS
from controller.backup.hooks.output import read_output
from tests.cluster.apiserver import ControlPlane
from tests.component.kubelet import Kubelet, running

from .world import BACKUPS, JOBS, Volume, World, eventually

PRE = "pre.hook.backup.ararat.dev/"
POST = "post.hook.backup.ararat.dev/"


def sh(script: str) -> str:
    return json.dumps(["sh", "-c", script])


def freezing(pre: str = "", post: str = "", **settings: str) -> dict[str, str]:
    """Annotations of a pod whose pre hook leaves a flag that its post hook removes."""
    found = {
        PRE + "command": sh(f"echo pre >> journal; {pre} touch flag"),
        POST + "command": sh(f"echo post >> journal; rm -f flag; {post} true"),
        PRE + "timeout": "30s",
        POST + "timeout": "30s",
    }
    return found | {PRE + key.replace("_", "-"): value for key, value in settings.items()}


class Frozen:
    """What is seen of a pod's flag while its volumes are read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.seen: list[bool] = []

    @property
    def flag(self) -> bool:
        return (self.directory / "flag").exists()

    def look(self) -> None:
        self.seen.append(self.flag)

    def journal(self) -> list[str]:
        path = self.directory / "journal"
        return path.read_text().split() if path.exists() else []


@pytest.fixture
async def kubelet(
    control_plane: ControlPlane, api: KubeClient, world: World, work: Path
) -> AsyncIterator[Kubelet]:
    async with running(control_plane, api, node=world.node, root=work / "pods") as kubelet:
        yield kubelet


async def hooked(
    world: World, kubelet: Kubelet, name: str = "db", *, volume: Volume | None = None, **pod: Any
) -> Frozen:
    """A pod with a volume and hooks, and what is seen of it."""
    frozen = Frozen(kubelet.directory(world.workload, f"pod-{name}"))
    await world.claim(name)
    pod = {"annotations": freezing(), "claims": {"data": name}, "asked": "data", **pod}
    await world.pod(f"pod-{name}", **pod)
    found = volume or Volume({"file": name.encode() * 100})
    found.look = frozen.look
    world.volumes[f"pod-{name}"] = found
    return frozen


async def records(world: World) -> list[str]:
    found = world.api.list(SECRETS, namespace=world.namespace, labels="ararat.dev/hooks-of")
    return [secret["metadata"]["name"] async for secret in found]


async def test_a_volume_is_read_between_its_hooks(world: World, kubelet: Kubelet) -> None:
    frozen = await hooked(world, kubelet, annotations=freezing(pre="echo sesame;"))
    await world.workload_of("plain")
    async with world.agents(), world.leader() as leader:
        await world.backup()
        backup = await world.settled()
        location = await leader.context.location("main")
        manifest = await world.manifest()
        shown = await read_output(location, manifest, scratch_dir=world.path / "scratch")
    assert [result["stdout"] for pod in shown for result in pod["results"]] == ["sesame\n", ""]
    assert backup.status.phase == "Completed", backup.status.message
    assert frozen.seen == [True, True]
    assert not frozen.flag
    assert frozen.journal() == ["pre", "post"]
    counts = backup.status.hooks
    assert counts is not None
    assert (counts.pods, counts.attempted, counts.failed, counts.owed) == (1, 2, 0, 0)
    assert 0 < counts.longest_freeze_seconds < 60
    line = manifest.hooks[0]
    assert (line.pod, line.pre, line.post, line.failed, line.reason) == ("pod-db", 1, 1, 0, "")
    assert line.frozen_at is not None
    assert backup.status.start_time is not None
    assert backup.status.completion_time is not None
    assert backup.status.start_time <= line.frozen_at <= backup.status.completion_time
    assert await records(world) == []
    assert kubelet.processes == set()
    await _check_secrecy(world)


async def _check_secrecy(world: World) -> None:
    """Neither commands nor output are anywhere but in the encrypted repository."""
    manifest = await world.manifest()
    assert manifest.hooks_output is not None
    assert manifest.hooks_output.count == 1
    stored = b"".join(
        gzip.decompress(data) if name.endswith(".gz") else data
        for name in world.files()
        for data in [(world.store_path / name).read_bytes()]
    )
    assert b"hook ended" in stored  # the log
    raw = json.dumps(await world.api.get(BACKUPS, "nightly", namespace=world.namespace))
    for word in ("sesame", "journal"):
        assert word.encode() not in stored
        assert word not in raw
    output = await _dump(world, f"/hooks/{world.workload}/pod-db.json")
    pre, post = output["results"]
    assert (pre["when"], pre["exitCode"], pre["stdout"]) == ("pre", 0, "sesame\n")
    assert (post["when"], post["exitCode"], post["stdout"]) == ("post", 0, "")


async def _dump(world: World, path: str) -> dict[str, Any]:
    """By plain restic, with the derived password."""
    manifest = await world.manifest()
    assert manifest.hooks_output is not None
    repository = manifest.objects.directory.removeprefix("repositories/")
    process = await asyncio.create_subprocess_exec(
        os.environ["ARARAT_RESTIC"],
        "--repo",
        world.store_path / "repositories" / repository,
        "--no-cache",
        "dump",
        manifest.hooks_output.snapshot_id,
        path,
        env={**os.environ, "RESTIC_PASSWORD": await world.password(repository)},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(out)
    return found


async def test_what_goes_wrong_with_hooks(world: World, kubelet: Kubelet) -> None:
    """Six pods in one backup, each of which fares as it must."""
    fails = await hooked(world, kubelet, "fails", annotations=freezing(pre="touch flag; exit 3;"))
    excused = await hooked(
        world,
        kubelet,
        "excused",
        annotations=freezing(pre="touch flag; echo secret; exit 4;", on_error="Continue"),
    )
    slow = await hooked(
        world, kubelet, "slow", annotations=freezing(pre="touch flag; sleep 100;", timeout="1s")
    )
    unbound = await hooked(world, kubelet, "post", annotations=freezing(post="exit 5;"))
    # No volume of its own: its hooks are run all the same.
    alone = Frozen(kubelet.directory(world.workload, "alone"))
    await world.pod("alone", annotations=freezing())
    # No shell, so nothing ends what takes too long, and nothing but a missing program fails.
    await world.pod(
        "bare",
        containers=("bare",),
        annotations={PRE + "command": "/bin/true", POST + "command": '["nothing"]'},
    )
    async with world.running():
        await world.backup()
        backup = await world.settled()
    assert backup.status.phase == "PartiallyFailed"
    place = world.workload
    assert {(f.object, f.reason) for f in backup.status.failures} == {
        (f"{place}/pod-fails/data", "PreHookFailed"),
        (f"{place}/pod-fails", "PreHookFailed"),
        (f"{place}/pod-slow/data", "PreHookFailed"),
        (f"{place}/pod-slow", "PreHookFailed"),
        (f"{place}/pod-post", "PostHookFailed"),
        (f"{place}/bare", "PostHookFailed"),
    }
    messages = {f.object: f.message for f in backup.status.failures}
    assert messages[f"{place}/pod-fails"] == (
        f"pre hook of {place}/pod-fails (container main) ended with exit code 3"
    )
    assert messages[f"{place}/pod-fails/data"] == messages[f"{place}/pod-fails"]
    assert "was ended after 1 s" in messages[f"{place}/pod-slow"]
    assert "could not be started" in messages[f"{place}/bare"]
    assert "secret" not in json.dumps(backup.status.to_dict())
    assert [w for w in backup.status.warnings if "pod-excused" in w] == [
        f"pre hook of {place}/pod-excused (container main) ended with exit code 4"
    ]
    # Whatever became of the others: those that could be read were, and none is left frozen.
    assert (fails.seen, slow.seen) == ([], [])
    assert (excused.seen, unbound.seen) == ([True, True], [True, True])
    for frozen in (fails, excused, slow, unbound, alone):
        assert not frozen.flag
        assert frozen.journal() == ["pre", "post"]
    assert kubelet.processes == set()
    coverage = {v.pod: v.coverage for v in (await world.manifest()).volumes}
    assert coverage == {
        "pod-fails": Coverage.FAILED,
        "pod-slow": Coverage.FAILED,
        "pod-excused": Coverage.BACKED_UP,
        "pod-post": Coverage.BACKED_UP,
    }
    assert await records(world) == []
    assert {e["involvedObject"]["name"] for e in await pod_events(world)} == {"pod-post", "bare"}


async def pod_events(world: World) -> list[dict[str, Any]]:
    found = world.api.list(EVENTS, namespace=world.workload)
    return [event async for event in found if event["reason"] == "PostHookFailed"]


async def test_the_longest_freeze(world: World, kubelet: Kubelet) -> None:
    """Whoever takes too long is cut off, and what it brings later does not count."""
    held = Volume({"a": b"a"}, hold=asyncio.Event())
    frozen = await hooked(world, kubelet, volume=held, annotations=freezing(timeout="12s"))
    await world.workload_of("other")
    hooks = {"maxFreezeSeconds": 12}
    async with world.running():
        await world.backup(hooks=hooks)
        backup = await world.settled()
    assert backup.status.phase == "PartiallyFailed"
    assert [(f.object, f.reason) for f in backup.status.failures] == [
        (f"{world.workload}/pod-db/data", "MaxFreeze")
    ]
    assert frozen.journal() == ["pre", "post"]
    assert not frozen.flag
    line = (await world.manifest()).hooks[0]
    assert line.reason == "MaxFreeze"
    assert line.frozen_seconds is not None
    assert line.frozen_seconds >= 12


@pytest.mark.parametrize("how", ["cancel", "delete", "tear out"])
async def test_ended_while_frozen(world: World, kubelet: Kubelet, how: str) -> None:
    frozen = await hooked(world, kubelet, volume=Volume(hold=asyncio.Event()))
    monkey = pytest.MonkeyPatch()
    monkey.setattr("controller.backup.hooks.driver.SWEEP_SECONDS", 1.0)
    with monkey.context():
        async with world.running():
            await world.backup()

            async def reading() -> bool:
                return frozen.seen == [True]

            await eventually(reading, what="the volume is being read")
            if how == "cancel":
                await world.patch(BACKUPS, "nightly", {"spec": {"cancel": True}})
                backup = await world.settled()
                assert backup.status.phase == "Cancelled"
            else:
                await world.api.delete(BACKUPS, "nightly", namespace=world.namespace)
                if how == "tear out":
                    await world.patch(BACKUPS, "nightly", {"metadata": {"finalizers": None}})
                await world.gone(BACKUPS, "nightly")

            async def let_go() -> bool:
                return not frozen.flag and not await records(world)

            await eventually(let_go, what="the pod is let go of")
    monkey.undo()
    assert frozen.journal() == ["pre", "post"]
    assert "backups/nightly/manifest.json" not in world.files()


async def test_a_pod_that_is_gone_meanwhile(world: World, kubelet: Kubelet) -> None:
    """One goes while it is frozen, another before: nothing hangs, and both are told."""
    held = asyncio.Event()
    frozen = await hooked(world, kubelet, volume=Volume({"a": b"a"}, hold=held))
    late = await hooked(world, kubelet, "late")
    async with world.agents() as agents, world.leader():
        agents.reserve = False
        await world.backup()

        async def waiting() -> bool:
            return len(await world.jobs()) == 2

        await eventually(waiting, what="jobs are held")
        await asyncio.sleep(1)
        assert kubelet.started == []  # nothing is frozen while it queues
        await world.api.delete(PODS, "pod-late", namespace=world.workload, grace_seconds=0)
        agents.reserve = True
        for job in await world.jobs():
            await world.patch(JOBS, job.name, {"metadata": {"labels": {"poke": "1"}}})

        async def reading() -> bool:
            return frozen.seen == [True]

        await eventually(reading, what="the volume is being read")
        await world.api.delete(PODS, "pod-db", namespace=world.workload, grace_seconds=0)
        await world.pod("pod-db", annotations=freezing())
        held.set()
        backup = await world.settled()
    assert backup.status.phase == "PartiallyFailed"
    assert [(f.object, f.reason) for f in backup.status.failures] == [
        (f"{world.workload}/pod-late/data", "PodGone")
    ]
    assert late.journal() == []
    assert frozen.journal() == ["pre"]  # the other pod of that name is left alone
    assert any("replaced by another" in w for w in backup.status.warnings)
    assert {line.reason for line in (await world.manifest()).hooks} == {"PodGone"}


async def test_pods_that_share_a_claim_are_frozen_together(world: World, kubelet: Kubelet) -> None:
    """Whichever of them it is read through; hooks of the spec, for those that it selects."""
    one = await hooked(world, kubelet, "one", annotations={})
    other = Frozen(kubelet.directory(world.workload, "other"))
    await world.pod("other", claims={"data": "one"})
    action = {"exec": {"command": ["sh", "-c", "echo pre >> journal; touch flag"]}}
    undo = {"exec": {"command": ["sh", "-c", "echo post >> journal; rm flag"], "timeout": "30s"}}
    resource = {"name": "all", "includedNamespaces": ["wp-*"], "pre": [action], "post": [undo]}
    seen: list[bool] = []
    volume = world.volumes["other"] = world.volumes["pod-one"]
    volume.look = lambda: seen.append(one.flag and other.flag)
    async with world.running():
        await world.backup(hooks={"resources": [resource]})
        backup = await world.settled()
    assert backup.status.phase == "Completed", backup.status.message
    assert seen == [True, True]
    assert one.journal() == other.journal() == ["pre", "post"]
    assert (await world.manifest()).spec.hooks.resources == []


async def test_a_mistake_is_an_error_before_anything_runs(world: World, kubelet: Kubelet) -> None:
    await hooked(world, kubelet)
    await hooked(world, kubelet, "bad", annotations=freezing(timeout="soon"))
    async with world.running():
        await world.backup()
        backup = await world.settled()
    assert backup.status.phase == "Failed"
    assert backup.status.message == (
        f"pod {world.workload}/pod-bad: annotation {PRE}timeout: 'soon' is no span of time: "
        "write it as 30s or 1m30s"
    )
    assert kubelet.started == []
    assert await world.jobs() == []
