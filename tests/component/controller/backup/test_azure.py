"""The same in Blob Storage, with a login that stands in a Secret."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ararat.api import BackupLocation
from ararat.api.manifest import Coverage, decode_manifest
from ararat.blob.open import open_store
from ararat.keys import manifest_mac_key
from ararat.kube import KubeClient
from ararat.kube.resources import SECRETS
from tests.cluster.azurite import Azurite

from .world import LOCATIONS, World


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with Azurite(directory=tmp_path_factory.mktemp("azurite"), memory=True) as server:
        yield server


async def in_blob(world: World, azurite: Azurite, container: str, *, key: str = "") -> None:
    """Point the world's location to a container."""
    data = {"accountKey": base64.b64encode((key or azurite.key).encode()).decode()}
    await world.create(SECRETS, "azure", world.namespace, data=data)
    spec = {
        "filesystem": None,
        "azure": {
            "accountName": azurite.account,
            "container": container,
            "prefix": "some/prefix",
            "endpoint": azurite.endpoint,
            "authentication": "AccountKey",
            "credentialsSecret": "azure",
            "caBundle": azurite.ca_pem,
        },
    }
    await world.patch(LOCATIONS, "main", {"spec": spec})


async def test_a_backup_in_blob_storage(
    world: World, azurite: Azurite, api: KubeClient, work: Path
) -> None:
    azurite.create_container("backups")
    await in_blob(world, azurite, "backups")
    await world.workload_of("db", "web")
    async with world.running():
        await world.backup()
        await world.phase("Completed")
        backup = await world.settled()
    assert backup.status.coverage is not None
    assert backup.status.coverage.text == "2 backed up"
    assert list(world.store_path.iterdir()) == []  # nothing went to the directory

    raw = await api.get(LOCATIONS, "main", namespace=world.namespace)
    spec = BackupLocation.parse(raw).spec
    store = await open_store(spec, {"accountKey": azurite.key.encode()})
    try:
        file = json.loads(await store.get("location.json"))
        data = await store.get("backups/nightly/manifest.json")
    finally:
        await store.close()
    manifest = decode_manifest(data, manifest_mac_key(await world.master(), file["locationID"]))
    assert manifest.backup_uid == backup.uid
    assert [v.coverage for v in manifest.volumes] == [Coverage.BACKED_UP] * 2


@pytest.mark.parametrize(
    ("container", "key", "reason"),
    [
        ("missing", "", "ContainerNotFound"),
        ("refused", base64.b64encode(b"x" * 64).decode(), "AccessDenied"),
    ],
)
async def test_a_location_that_cannot_be_used_says_why(
    world: World, azurite: Azurite, container: str, key: str, reason: str
) -> None:
    azurite.create_container("refused")
    await in_blob(world, azurite, container, key=key)
    async with world.leader():
        location = await world.location_phase("Unavailable")
    (condition,) = (c for c in location.status.conditions if c.type == "Available")
    assert condition.reason == reason
    assert azurite.key not in condition.message
    assert container in condition.message or azurite.account in condition.message
