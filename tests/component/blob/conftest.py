"""One store of each kind, fresh for every test, from the function that the product uses."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ararat.api.location import BackupLocationSpec, FilesystemLocation
from ararat.blob import azure_client
from ararat.blob.open import open_store
from ararat.blob.store import BlobStore

from .azurite import Azurite


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with Azurite(tmp_path_factory.mktemp("azurite")) as server:
        yield server


async def new_container(azurite: Azurite) -> str:
    """A container that no other test uses; the product never makes one itself."""
    name = f"t{secrets.token_hex(6)}"
    location = azurite.location(name)
    connections = azure_client.transport(location)
    login = azure_client.credential(location, azurite.secret)
    async with azure_client.client(location, login, connections) as client:
        await client.create_container()
    await connections.close()
    return name


@pytest.fixture(params=["filesystem", "azure"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobStore]:
    if request.param == "filesystem":
        (tmp_path / "location").mkdir()
        spec = BackupLocationSpec(filesystem=FilesystemLocation(path=str(tmp_path / "location")))
        secret: dict[str, bytes] = {}
    else:
        azurite: Azurite = request.getfixturevalue("azurite")
        container = await new_container(azurite)
        spec = BackupLocationSpec(azure=azurite.location(container, prefix="some/prefix"))
        secret = azurite.secret
    opened = await open_store(spec, secret)
    yield opened
    await opened.close()
