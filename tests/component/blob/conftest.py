"""One store of each kind, fresh for every test, from the function that the product uses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ararat.api.location import BackupLocationSpec, FilesystemLocation
from ararat.blob.open import open_store
from ararat.blob.store import BlobStore
from tests.cluster.azurite import Azurite

from .locations import account_key, location, new_container


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with Azurite(directory=tmp_path_factory.mktemp("azurite"), memory=True) as server:
        yield server


@pytest.fixture(params=["filesystem", "azure"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobStore]:
    if request.param == "filesystem":
        (tmp_path / "location").mkdir()
        spec = BackupLocationSpec(filesystem=FilesystemLocation(path=str(tmp_path / "location")))
        secret: dict[str, bytes] = {}
    else:
        azurite: Azurite = request.getfixturevalue("azurite")
        container = await new_container(azurite)
        spec = BackupLocationSpec(azure=location(azurite, container, prefix="some/prefix"))
        secret = account_key(azurite)
    opened = await open_store(spec, secret)
    yield opened
    await opened.close()


@dataclass(frozen=True)
class Many:
    store: BlobStore
    #: In order.
    names: list[str]


@pytest.fixture(params=["filesystem", "azure"])
async def many(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Many]:
    """A store with more blobs than a test has time to put."""
    made = [f"many/{number:05d}" for number in range(10_001)]
    if request.param == "filesystem":
        (tmp_path / "many").mkdir()
        for name in made:
            (tmp_path / name).touch()
        spec = BackupLocationSpec(filesystem=FilesystemLocation(path=str(tmp_path)))
        opened = await open_store(spec, {})
        yield Many(opened, made)
    else:
        with Azurite(directory=tmp_path) as azurite:
            container = await new_container(azurite)
            azure = location(azurite, container, prefix="some/prefix")
            opened = await open_store(BackupLocationSpec(azure=azure), account_key(azurite))
            await opened.put(made[0], b"x")
            azurite.stop_server()
            prefixed = [f"some/prefix/{name}" for name in made]
            azurite.multiply(container, prefixed[0], prefixed[1:])
            azurite.start()
            yield Many(opened, made)
    await opened.close()
