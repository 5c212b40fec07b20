"""A world whose location is a container of a real Blob service, with a login in a Secret."""

from __future__ import annotations

import base64
from pathlib import Path

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import ContainerClient

from ararat.api import BackupLocation
from ararat.blob.open import open_store
from ararat.blob.store import BlobStore
from ararat.kube import KubeApi
from ararat.kube.resources import SECRETS
from tests.cluster.azurite import Azurite

from .world import LOCATIONS, World

PREFIX = "some/prefix"


async def in_blob(world: World, azurite: Azurite, container: str, *, key: str = "") -> None:
    """Point the world's location to a container."""
    data = {"accountKey": base64.b64encode((key or azurite.key).encode()).decode()}
    await world.create(SECRETS, "azure", world.namespace, data=data)
    spec = {
        "filesystem": None,
        "azure": {
            "accountName": azurite.account,
            "container": container,
            "prefix": PREFIX,
            "endpoint": azurite.endpoint,
            "authentication": "AccountKey",
            "credentialsSecret": "azure",
            "caBundle": azurite.ca_pem,
        },
    }
    await world.patch(LOCATIONS, "main", {"spec": spec})


class BlobWorld(World):
    """To be closed in the end."""

    def __init__(self, api: KubeApi, path: Path, *, azurite: Azurite, container: str) -> None:
        super().__init__(api, path)
        self._azurite, self._container = azurite, container
        self._client = ContainerClient(
            azurite.endpoint,
            container,
            credential=azurite.key,
            connection_verify=str(azurite.ca_file),
        )
        self._opened: BlobStore | None = None

    async def prepare(self, *, read_only: bool = False) -> None:
        self._azurite.create_container(self._container)
        await super().prepare(read_only=read_only)
        await in_blob(self, self._azurite, self._container)
        raw = await self.api.get(LOCATIONS, "main", namespace=self.namespace)
        spec = BackupLocation.parse(raw).spec
        self._opened = await open_store(spec, {"accountKey": self._azurite.key.encode()})

    async def close(self) -> None:
        self._client.close()
        if self._opened is not None:
            await self._opened.close()

    @property
    def store(self) -> BlobStore:
        assert self._opened is not None
        return self._opened

    def names(self, prefix: str = "") -> list[str]:
        found = self._client.list_blob_names(name_starts_with=f"{PREFIX}/{prefix}")
        return sorted(name.removeprefix(f"{PREFIX}/") for name in found)

    def stored(self, name: str) -> bytes:
        try:
            return self._client.download_blob(f"{PREFIX}/{name}").readall()
        except ResourceNotFoundError as error:
            raise FileNotFoundError(name) from error
