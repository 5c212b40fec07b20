"""More than forty kinds, compared object by object with what the API server serves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ararat.kube import KubeClient, ResourceType
from ararat.kube.resources import SECRETS
from controller.backup import objects
from controller.backup.collect import object_path
from tests.component import many_kinds
from tests.component.many_kinds import Made

from .test_complete import restic as run_restic
from .world import World, eventually

API_SERVICES = ResourceType(
    "apiregistration.k8s.io", "v1", "apiservices", "APIService", namespaced=False
)


async def _settle(look: Callable[[], Awaitable[bool]]) -> None:
    await eventually(look, what="the kinds of the fixture are served")


@pytest.fixture
async def made(world: World) -> AsyncIterator[list[Made]]:
    found = await many_kinds.install(world.api, world.workload, settle=_settle)
    yield found
    await many_kinds.remove(world.api, found)


@pytest.fixture
async def broken_api(api: KubeClient) -> AsyncIterator[str]:
    """An aggregated API whose server is not there."""
    name = "v1.broken.many.example.com"
    spec = {
        "group": "broken.many.example.com",
        "version": "v1",
        "groupPriorityMinimum": 100,
        "versionPriority": 1,
        "insecureSkipTLSVerify": True,
        "service": {"namespace": "default", "name": "nobody"},
    }
    body = {
        "apiVersion": API_SERVICES.api_version,
        "kind": API_SERVICES.kind,
        "metadata": {"name": name},
        "spec": spec,
    }
    await api.create(API_SERVICES, body)
    yield name
    await api.delete(API_SERVICES, name)


def test_there_are_forty_of_them() -> None:
    assert len(many_kinds.kinds()) >= 40


async def test_every_object_is_stored_as_it_is_served(
    world: World,
    made: list[Made],
    broken_api: str,
    restic: Path,
    work: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Small parts: what is stored must not depend on how much fits into memory at once.
    monkeypatch.setattr(objects, "PART_BYTES", 1 << 20)
    async with world.running():
        await world.backup(includeClusterResources=True)
        backup = await world.phase("Completed")
    stored = backup.status.objects
    assert stored is not None
    assert len(stored.snapshots) > 1
    assert any("broken.many.example.com" in warning for warning in backup.status.warnings)

    target = work / "restored"
    repository = stored.directory.removeprefix("repositories/")
    for snapshot in stored.snapshots:
        await run_restic(restic, world, repository, "restore", snapshot, "--target", str(target))
    differing = []
    for one in made:
        path = target / object_path(one.type, one.obj)
        assert path.is_file(), one.id
        if json.loads(path.read_text()) != _served(await _now(world, one)):
            differing.append(one.id)
    assert differing == []
    files = [path for path in target.rglob("*") if path.is_file()]
    assert len(files) == stored.count
    kinds = {path.relative_to(target / "resources").parts[0] for path in files}
    assert kinds >= many_kinds.kinds()
    assert len(kinds & many_kinds.kinds()) >= 40
    # What was laid out for restic is gone, and the Secrets with it.
    assert list((world.path / "spool").iterdir()) == []
    assert [m.id[2] for m in made if m.type == SECRETS] == ["big", "fixed", "registry"]


async def test_what_chosen_objects_need_of_the_cluster_comes_along_and_nothing_else(
    world: World, made: list[Made], restic: Path, work: Path
) -> None:
    async with world.running():
        await world.backup()
        backup = await world.phase("Completed")
    stored = backup.status.objects
    assert stored is not None
    target = work / "restored"
    repository = stored.directory.removeprefix("repositories/")
    await run_restic(
        restic, world, repository, "restore", stored.snapshot_id, "--target", str(target)
    )
    found = {
        str(path.relative_to(target / "resources").with_suffix(""))
        for path in target.rglob("*.json")
        if "/cluster/" in str(path)
    }
    ns, crd = world.workload, "customresourcedefinitions.apiextensions.k8s.io/cluster"
    rbac = "rbac.authorization.k8s.io/cluster"
    assert found == {
        f"namespaces/cluster/{ns}",
        f"persistentvolumes/cluster/{ns}-data",
        f"storageclasses.storage.k8s.io/cluster/{ns}-fast",
        f"clusterroles.{rbac}/{ns}:of:the.Cluster",
        f"clusterrolebindings.{rbac}/{ns}:binding",
        f"{crd}/widgets.many.example.com",
        f"{crd}/services.serving.many.example.com",
        f"{crd}/deployments.x.k8s.io.many.example.com",
        f"{crd}/databases.db.many.example.com",
        f"{crd}/odd-plurals-es.a-very.long-group.many.example.com",
    }
    assert len(made) > len(found)


async def _now(world: World, one: Made) -> dict[str, Any]:
    kind, namespace, name = one.id
    del kind
    return await world.api.get(one.type, name, namespace=namespace or None)


def _served(obj: dict[str, Any]) -> dict[str, Any]:
    """As it is stored; services keep what tells which node ports somebody asked for."""
    if (obj["apiVersion"], obj["kind"]) != ("v1", "Service"):
        obj["metadata"].pop("managedFields", None)
    return obj
