"""Hooks after a restore, run for real: through the API server, by a node, as processes."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ararat.api import Restore
from ararat.api.base import utcnow
from ararat.api.nodejob import ClaimReference
from ararat.kube import KubeApi, of
from ararat.kube.resources import PODS, SECRETS
from ararat.kube.status import patch_status
from controller.restore.stored import StoredObject
from tests.cluster.apiserver import ControlPlane
from tests.component.controller.backup.kills import Killed, Killer
from tests.component.controller.restore.scene import data, moved
from tests.component.controller.restore.world import World, until
from tests.component.kubelet import Kubelet, running
from tests.containers import ended_state
from tests.unit.controller.restore.make import claim as stored_claim
from tests.unit.controller.restore.make import pod as stored_pod

POST = "post.hook.restore.ararat.dev/"
INIT = "init.hook.restore.ararat.dev/"


def sh(script: str) -> str:
    return json.dumps(["sh", "-c", script])


def annotated(script: str, **settings: str) -> dict[str, str]:
    found = {POST + key.replace("_", "-"): value for key, value in settings.items()}
    return {POST + "command": sh(f"echo ran >> journal; {script}"), **found}


@pytest.fixture
async def kubelet(
    control_plane: ControlPlane, api: KubeApi, world: World, tmp_path: Path
) -> AsyncIterator[Kubelet]:
    async with running(control_plane, api, node=world.node, root=tmp_path / "pods") as kubelet:
        yield kubelet


def bare(world: World, name: str, annotations: dict[str, str]) -> list[StoredObject]:
    """A pod with one claim of its own."""
    pod = stored_pod(
        name,
        owner=None,
        claims={"data": name},
        annotations=annotations,
        labels={"app": name},
        restartPolicy="Always",
    )
    return [moved(pod, world.wp), moved(stored_claim(name), world.wp)]


async def restored(world: World, pods: dict[str, dict[str, str]], **spec: Any) -> None:
    objects = [obj for name, texts in pods.items() for obj in bare(world, name, texts)]
    volumes = [
        data(world, pod=name, claim=ClaimReference(name=name, uid=f"old-{name}")) for name in pods
    ]
    await world.backup(*objects, volumes=volumes)
    await world.restore(**spec)
    for name in pods:
        await until(functools.partial(world.pod, name), what=f"pod {name}")
        await world.schedule(name)


async def fill(world: World, name: str) -> None:
    """The agent fills the pod's volume and opens its gate."""

    async def job() -> Any:
        return next((job for job in await world.jobs() if job.spec.pod.name == name), None)

    await world.set_job(await until(job, what=f"a job of {name}"), phase="Completed")


async def start(world: World, name: str, *, ready: bool = True, inits: bool = True) -> None:
    """The kubelet goes on: gate, init containers, the app."""
    raw = await world.pod(name)
    done = ended_state()
    blank = {"restartCount": 0, "image": "x", "imageID": ""}
    first, *others = [c["name"] for c in raw["spec"]["initContainers"]]
    waits: dict[str, Any] = {"waiting": {}}
    states = {first: done, **dict.fromkeys(others, done if inits else waits)}
    app = {"running": {"startedAt": utcnow().isoformat()}} if inits else waits
    status = {
        "phase": "Running" if inits else "Pending",
        "initContainerStatuses": [
            {**blank, "name": each, "ready": True, "state": state} for each, state in states.items()
        ],
        "containerStatuses": [{**blank, "name": "app", "ready": ready and inits, "state": app}],
    }
    await patch_status(world.api, PODS, raw, status)


def journal(kubelet: Kubelet, world: World, name: str) -> list[str]:
    path = kubelet.directory(world.wp, name) / "journal"
    return path.read_text().split() if path.exists() else []


async def ended(world: World) -> dict[str, Any]:
    async def over() -> Any:
        status = await world.status()
        return status if status.get("completionTime") else None

    found: dict[str, Any] = await until(over, seconds=60, what="the end")
    return found


async def test_a_hook_runs_when_its_pod_is_ready(world: World, kubelet: Kubelet) -> None:
    texts = {
        **annotated("echo sesame", wait_for_ready="true"),
        INIT + "container-image": "old.example.org/tools:1",
        INIT + "command": '["fix", "/data"]',
    }
    await restored(world, {"db": texts}, imageMapping={"old.example.org": "new.example.org"})
    pod = await world.pod("db")
    names = [container["name"] for container in pod["spec"]["initContainers"]]
    assert names == ["restore-wait", "restore-init"]
    init = pod["spec"]["initContainers"][1]
    assert (init["image"], init["command"]) == ("new.example.org/tools:1", ["fix", "/data"])
    assert init["volumeMounts"][0]["name"] == "data"
    await fill(world, "db")

    async def waits(words: str) -> None:
        async def said() -> Any:
            return words in str((await world.status()).get("message"))

        await until(said, what=words)

    await waits("init container restore-init")
    await start(world, "db", inits=False)
    await waits("init container restore-init has not started")
    await start(world, "db", ready=False)
    await waits("container app is not ready: it runs, and is not ready")
    assert journal(kubelet, world, "db") == []
    await start(world, "db")
    status = await ended(world)
    assert status["phase"] == "Completed", status
    assert journal(kubelet, world, "db") == ["ran"]
    assert status["hooks"]["text"] == "1 pod, 2 run"
    # What it printed is nowhere but in its record, which goes with the restore.
    assert "sesame" not in json.dumps(await world.raw_restore())
    labels = f"ararat.dev/restore-hooks-of={await world.restore_uid()}"
    (secret,) = [s async for s in world.api.list(SECRETS, namespace=world.namespace, labels=labels)]
    assert secret["metadata"]["ownerReferences"][0]["kind"] == "Restore"


async def test_what_goes_wrong_with_hooks(world: World, kubelet: Kubelet) -> None:
    pods = {
        "fails": annotated("exit 3"),
        "excused": annotated("exit 4", on_error="Continue"),
        "slow": annotated("sleep 100", exec_timeout="1s"),
        "unready": annotated("true", wait_for_ready="true", wait_timeout="2s"),
        "mistaken": annotated("true", exec_timeout="30"),
        "gone": annotated("true", wait_for_ready="true"),
    }
    await restored(world, pods)
    for name in pods:
        await fill(world, name)
    for name in pods:
        await start(world, name, ready=name not in ("unready", "gone"))

    async def waits() -> Any:
        hooks = (await world.status()).get("hooks") or {}
        return hooks.get("waiting") == 1 and hooks.get("pods") == 6

    await until(waits, seconds=60, what="the other hooks to end")
    await world.remove_pod("gone")
    status = await ended(world)
    assert status["phase"] == "PartiallyFailed"
    assert {(f["object"].partition("/")[2], f["reason"]) for f in status["failures"]} == {
        ("fails", "RestoreHookFailed"),
        ("slow", "RestoreHookFailed"),
        ("unready", "HookWaitTimeout"),
        ("mistaken", "InvalidHook"),
        ("gone", "HookNotRun"),
    }
    assert any("excused (container app) ended with exit code 4" in w for w in status["warnings"])
    assert status["hooks"]["failed"] == 6
    ran = {name for name in pods if journal(kubelet, world, name) == ["ran"]}
    assert ran == {"fails", "excused", "slow"}

    # What was waited for in vain is waited for again, what failed is not run again.
    await start(world, "unready")
    raw = await world.raw_restore()
    patch = {"metadata": {"annotations": {"ararat.dev/retry": "now"}}}
    await world.api.patch(of(Restore), raw["metadata"]["name"], patch, namespace=world.namespace)

    async def again() -> Any:
        return journal(kubelet, world, "unready") == ["ran"]

    await until(again, seconds=60, what="the hook that was waited for")
    status = await ended(world)
    assert {f["reason"] for f in status["failures"]} == {
        "RestoreHookFailed",
        "InvalidHook",
        "HookNotRun",
    }
    assert all(journal(kubelet, world, name) in (["ran"], []) for name in pods)


async def test_a_spec_names_hooks_and_all_can_be_left_out(world: World, kubelet: Kubelet) -> None:
    container = {"name": "fix", "image": "fix:1", "env": [{"name": "A", "value": "b"}]}
    hooks = [
        {"init": {"initContainers": [container], "timeout": "0s"}},
        {"exec": {"command": ["sh", "-c", "echo one >> journal"]}},
        {"exec": {"command": ["sh", "-c", "echo two >> journal; exit 1"]}},
        {"exec": {"command": ["sh", "-c", "echo three >> journal"]}},
    ]
    resource = {"labelSelector": {"matchLabels": {"app": "db"}}, "postHooks": hooks}
    await restored(world, {"db": {}, "web": {}}, hooks={"resources": [resource]})
    spec = (await world.pod("db"))["spec"]
    assert [c["name"] for c in spec["initContainers"]] == ["restore-wait", "fix"]
    assert spec["initContainers"][1]["env"] == container["env"]
    assert len((await world.pod("web"))["spec"]["initContainers"]) == 1
    for name in ("db", "web"):
        await fill(world, name)
        await start(world, name)
    status = await ended(world)
    # One after the other; one that fails is the last.
    assert journal(kubelet, world, "db") == ["one", "two"]
    assert journal(kubelet, world, "web") == []
    assert status["phase"] == "PartiallyFailed"
    assert status["hooks"]["pods"] == 1


async def test_no_hooks(world: World, kubelet: Kubelet) -> None:
    texts = {**annotated("true"), INIT + "command": "fix"}
    await restored(world, {"db": texts}, hooks={"skip": True})
    assert len((await world.pod("db"))["spec"]["initContainers"]) == 1
    await fill(world, "db")
    await start(world, "db")
    assert (await ended(world))["phase"] == "Completed"
    assert journal(kubelet, world, "db") == []


@pytest.mark.parametrize("seed", range(int(os.environ.get("ARARAT_HOOK_KILL_SEEDS", "3"))))
async def test_a_killed_controller_runs_no_hook_twice(
    world: World, kubelet: Kubelet, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr("controller.hooks.execute.GRACE_SECONDS", 1.0)
    chance = random.Random(f"restore-hooks-{seed}")
    names = ("a", "b", "c")
    await restored(world, {n: annotated("sleep 0.2", exec_timeout="2s") for n in names})
    for name in names:
        await fill(world, name)
        await start(world, name)
    whole = world.context
    story = []
    for _ in range(8):
        await world.kill_controller()
        # A pod's hook takes about six calls: read, ask, record, run, record, finish.
        killer = Killer(at=chance.randint(5, 40), after=chance.random() < 0.5)
        killed: Any = Killed(world.api, killer, what="api")
        world.context = dataclasses.replace(whole, api=killed)
        world.start_controller()

        async def over(killer: Killer = killer) -> Any:
            return killer.fired.is_set() or (await world.status()).get("completionTime")

        await until(over, seconds=60, what="the end, of the restore or the controller")
        if not killer.fired.is_set():
            break
        story.append(killer.last)
    await world.kill_controller()
    world.context = whole
    world.start_controller()
    status = await ended(world)
    print(f"seed {seed} was killed at {'; '.join(story) or 'nothing'}")
    try:
        failed = {f["object"].partition("/")[2] for f in status.get("failures", [])}
        assert {f["reason"] for f in status.get("failures", [])} <= {"HookInterrupted"}
        for name in names:
            ran = journal(kubelet, world, name)
            assert len(ran) <= 1, f"{name} ran {len(ran)} times"
            assert name in failed or ran == ["ran"], f"{name} was not run, and nobody says so"
        assert kubelet.processes == set()
    except AssertionError as exc:
        exc.add_note(f"seed {seed} was killed at {'; '.join(story) or 'nothing'}")
        raise
