"""One store of each kind, fresh for every test, from the function that the product uses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
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
