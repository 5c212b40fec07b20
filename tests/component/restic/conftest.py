"""A repository in a store of each kind, and the sessions on it, as an agent opens them."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ararat import keys, layout
from ararat.api.location import BackupLocationSpec, FilesystemLocation
from ararat.blob.open import open_store
from ararat.blob.store import BlobStore
from ararat.layout import CurrentFile
from ararat.restic.commands import Restic
from ararat.restic.create import create_repository
from ararat.restic.models import Access, LockOwner
from ararat.restic.session import open_repository
from ararat.restic.settings import Settings
from ararat.restic.version import VARIABLE
from tests.cluster.azurite import Azurite
from tests.cluster.toolchain import restic as toolchain
from tests.component.blob.conftest import azurite
from tests.component.blob.locations import account_key, location, new_container

__all__ = ["azurite"]

LOCATION_ID = "0d1f7a52-0000-4000-8000-000000000001"
HOST = "cluster-uid/shop/pvc/data"
OWNER = LockOwner("cluster-uid", "pod-uid", "2026-11-22T10:00:00Z", "job-uid")
#: Impatient where a test has to wait for it.
SETTINGS = Settings(grace=20, outage_patience=4, start_patience=2)


@pytest.fixture(scope="session", autouse=True)
def restic() -> Path:
    """The program under test; fails with the toolchain's reason where it cannot be had."""
    path = Path(os.environ.get(VARIABLE) or toolchain.ensure())
    os.environ[VARIABLE] = str(path)
    return path


@pytest.fixture
def work() -> Iterator[Path]:
    """A short path: sockets stand below it."""
    path = Path(tempfile.mkdtemp(prefix="ar", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@dataclass
class Repository:
    """A repository and how to open it."""

    store: BlobStore
    work: Path
    master: bytes
    current: CurrentFile
    settings: Settings = SETTINGS
    owner: LockOwner = OWNER
    volume: Path = field(init=False)

    def __post_init__(self) -> None:
        self.volume = self.directory("volume")

    @property
    def password(self) -> str:
        return keys.repository_password(self.master, LOCATION_ID, self.current.repository_name)

    def directory(self, name: str) -> Path:
        path = self.work / name
        path.mkdir(exist_ok=True)
        return path

    def with_store(self, store: BlobStore, **settings: float) -> Repository:
        other = replace(self, store=store)
        other.settings = replace(self.settings, **settings)  # type: ignore[arg-type]
        return other

    def open(
        self,
        access: Access = Access.APPEND_ONLY,
        *,
        password: str | None = None,
        owner: LockOwner | None = None,
    ) -> AbstractAsyncContextManager[Restic]:
        return open_repository(
            store=self.store,
            directory=self.current.directory,
            password=password or self.password,
            key_id=self.current.key_id,
            access=access,
            owner=owner or self.owner,
            cache_dir=self.work / "cache",
            scratch_dir=self.directory("scratch"),
            settings=self.settings,
        )

    async def files(self, prefix: str = "") -> list[str]:
        start = f"{self.current.directory}/"
        return sorted([b.name.removeprefix(start) async for b in self.store.list(start + prefix)])


@dataclass(frozen=True)
class Template:
    """A fresh repository, made once by the product (it takes seconds) and copied for each test."""

    master: bytes
    current: CurrentFile
    files: dict[str, bytes]

    async def copy_to(self, store: BlobStore, work: Path) -> Repository:
        for name, data in self.files.items():
            await store.put(name, data)
        return Repository(store, work, self.master, self.current)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    async def make() -> Template:
        work = tmp_path_factory.mktemp("template")
        (work / "scratch").mkdir()
        async with directory_store(work) as store:
            master = keys.new_master_key()
            current = await create_repository(
                store,
                folder=layout.volumes_repository("shop"),
                master=master,
                location_id=LOCATION_ID,
                owner=OWNER,
                scratch_dir=work / "scratch",
                settings=SETTINGS,
            )
            files = {blob.name: await store.get(blob.name) async for blob in store.list("")}
        return Template(master, current, files)

    return asyncio.run(make())


@asynccontextmanager
async def directory_store(work: Path) -> AsyncIterator[BlobStore]:
    (work / "location").mkdir()
    spec = BackupLocationSpec(filesystem=FilesystemLocation(path=str(work / "location")))
    opened = await open_store(spec, {})
    yield opened
    await opened.close()


@asynccontextmanager
async def azure_store(azurite: Azurite) -> AsyncIterator[BlobStore]:
    container = await new_container(azurite)
    spec = BackupLocationSpec(azure=location(azurite, container, prefix="cluster-a"))
    opened = await open_store(spec, account_key(azurite))
    yield opened
    await opened.close()


@pytest.fixture
async def repository(work: Path, template: Template) -> AsyncIterator[Repository]:
    async with directory_store(work) as store:
        yield await template.copy_to(store, work)


@pytest.fixture(params=["filesystem", "azure"])
async def any_repository(
    request: pytest.FixtureRequest, work: Path, template: Template
) -> AsyncIterator[Repository]:
    if request.param == "filesystem":
        opened = directory_store(work)
    else:
        opened = azure_store(request.getfixturevalue("azurite"))
    async with opened as store:
        yield await template.copy_to(store, work)
