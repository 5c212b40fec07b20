"""The same in Blob Storage, with a login that stands in a Secret."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from ararat.api.manifest import Coverage
from ararat.kube import KubeClient
from tests.cluster.azurite import Azurite

from .blob_world import BlobWorld, in_blob
from .world import World


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with Azurite(directory=tmp_path_factory.mktemp("azurite"), memory=True) as server:
        yield server


async def test_a_backup_in_blob_storage(azurite: Azurite, api: KubeClient, work: Path) -> None:
    world = BlobWorld(api, work, azurite=azurite, container="backups")
    await world.prepare()
    await world.workload_of("db", "web")
    async with world.running():
        await world.backup()
        await world.phase("Completed")
        backup = await world.settled()
    assert backup.status.coverage is not None
    assert backup.status.coverage.text == "2 backed up"
    assert list(world.store_path.iterdir()) == []  # nothing went to the directory
    manifest = await world.manifest()
    assert manifest.backup_uid == backup.uid
    assert [v.coverage for v in manifest.volumes] == [Coverage.BACKED_UP] * 2
    await world.close()


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
