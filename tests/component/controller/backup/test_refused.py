"""What cannot be done: one clear sentence, and nothing touched."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from ararat import keys
from ararat.api import Backup
from ararat.kube.resources import SECRETS
from controller.backup import reconcile

from .world import BACKUPS, LOCATIONS, World, eventually


async def refused(world: World, name: str, **spec: Any) -> Backup:
    await world.backup(name, **spec)
    return await world.phase("Failed", name=name)


def reason(backup: Backup) -> str:
    (condition,) = backup.status.conditions
    assert (condition.type, condition.status) == ("Succeeded", "False")
    assert condition.message == backup.status.message
    return condition.reason


@pytest.mark.parametrize(
    ("spec", "why", "text"),
    [
        (
            {"includedNamespaces": ["wq"]},
            "NamespaceNotFound",
            "includedNamespaces: 'wq' matches no namespace",
        ),
        ({"includedNamespaces": ["OWN"]}, "OwnNamespace", "is Ararat's own"),
        ({"includedResources": ["pdos"]}, "UnknownResource", "has no kind called 'pdos'"),
        (
            {"includedResources": ["pods"], "orderedResources": ["pods", "deploy"]},
            "UnknownResource",
            "orderedResources: this backup holds no kind called 'deploy'",
        ),
        ({"location": "elsewhere"}, "LocationNotFound", "there is no BackupLocation 'elsewhere'"),
        (
            {},
            "UnknownVolume",
            "annotation ararat.dev/backup-volumes names volume 'dta', which the pod does not have "
            "(it has: data)",
        ),
    ],
)
async def test_what_does_not_fit_the_cluster(
    world: World, spec: dict[str, Any], why: str, text: str
) -> None:
    await world.claim("db")
    await world.pod("pod-db", claims={"data": "db"}, asked="dta")
    if spec.get("includedNamespaces") == ["OWN"]:
        spec = {"includedNamespaces": [world.namespace]}
    async with world.leader():
        await world.location_phase("Available")
        backup = await refused(world, "nightly", **spec)
    assert reason(backup) == why
    assert text in (backup.status.message or "")
    assert world.files() == {"location.json"}
    assert await world.jobs() == []
    assert backup.metadata.finalizers == []


async def test_a_spec_that_contradicts_itself(world: World) -> None:
    both = {"labelSelector": {"matchLabels": {"a": "b"}}, "orLabelSelectors": [{}]}
    async with world.leader():
        backup = await _raw_failed(world, both)
    assert "labelSelector and orLabelSelectors exclude each other" in backup["status"]["message"]


async def _raw_failed(world: World, spec: dict[str, Any]) -> dict[str, Any]:
    await world.backup(**spec)

    async def look() -> dict[str, Any] | None:
        raw = await world.api.get(BACKUPS, "nightly", namespace=world.namespace)
        return raw if (raw.get("status") or {}).get("phase") == "Failed" else None

    return await eventually(look, what="the backup has failed")


async def test_which_location_is_meant(world: World) -> None:
    async with world.leader():
        await world.patch(LOCATIONS, "main", {"spec": {"default": False}})
        await world.location("other")
        backup = await refused(world, "none")
        assert reason(backup) == "LocationNotFound"
        for name in ("main", "other"):
            await world.patch(LOCATIONS, name, {"spec": {"default": True}})
        await world.location_phase("Available")
        backup = await refused(world, "both")
    assert reason(backup) == "AmbiguousLocation"
    assert backup.status.message == (
        "several locations are default (main, other): name one in spec.location"
    )


async def test_a_reader_may_not_write(world: World) -> None:
    async with world.leader():
        await world.location_phase("Available")
        await world.patch(LOCATIONS, "main", {"spec": {"accessMode": "ReadOnly"}})
        backup = await refused(world, "nightly")
    assert reason(backup) == "LocationReadOnly"
    assert backup.status.message == (
        "location main is ReadOnly: backups can only be restored from it"
    )
    assert world.files() == {"location.json"}


async def test_a_name_that_is_taken(world: World) -> None:
    taken = world.store_path / "backups/nightly/begin.json"
    async with world.leader():
        await world.location_phase("Available")
        taken.parent.mkdir(parents=True)
        taken.write_text(json.dumps({"uid": "somebody", "cluster": "another"}))
        backup = await refused(world, "nightly")
        assert reason(backup) == "BackupExists"
        assert world.files() == {"location.json", "backups/nightly/begin.json"}
        assert json.loads(taken.read_text())["uid"] == "somebody"
        # What this cluster began and nobody goes on with can be had.
        taken.write_text(json.dumps({"uid": "gone", "cluster": world.cluster}))
        await world.api.delete(BACKUPS, "nightly", namespace=world.namespace, grace_seconds=0)
        await world.gone(BACKUPS, "nightly")
        await world.backup("nightly")
        backup = await world.phase("Completed")
    assert json.loads(taken.read_text())["uid"] == backup.uid


async def test_another_key(world: World) -> None:
    async with world.leader():
        await world.location_phase("Available")
    other = base64.b64encode(keys.new_master_key().hex().encode()).decode()
    await world.api.patch(
        SECRETS,
        "master-key",
        {"data": {"key": other}},
        namespace=world.config.keys_namespace,
    )
    async with world.leader():
        await world.location_phase("Unavailable", message="another master key")
        backup = await refused(world, "nightly")
    assert reason(backup) == "WrongKey"
    assert "ararat key import" in (backup.status.message or "")
    assert world.files() == {"location.json"}


async def test_a_store_that_cannot_be_reached(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for a little while; then the backup says why."""
    monkeypatch.setattr(reconcile, "_BEGIN_SECONDS", 2.0)
    away = Path(f"{world.store_path}-away")
    async with world.leader():
        await world.location_phase("Available")
    world.store_path.rename(away)
    async with world.leader():
        await world.location_phase("Unavailable")
        backup = await refused(world, "nightly")
        assert reason(backup) == "ContainerNotFound"
        monkeypatch.setattr(reconcile, "_BEGIN_SECONDS", 60.0)
        await world.backup("later")
        await _waits(world, "later")
        away.rename(world.store_path)
        later = await world.phase("Completed", name="later")
    assert later.status.message is not None
    assert "will try again" not in later.status.message


async def _waits(world: World, name: str) -> None:
    async def look() -> bool:
        message = (await world.get(name)).status.message or ""
        return message.startswith("will try again: ")

    await eventually(look, what=f"{name} says that it waits")
