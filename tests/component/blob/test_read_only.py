"""What an installation that only restores tries in vain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from ararat.api.location import AccessMode, BackupLocationSpec, FilesystemLocation
from ararat.blob.open import open_store
from ararat.blob.read_only import LocationReadOnly, ReadOnlyStore
from ararat.blob.store import BlobStore

Try = Callable[[BlobStore], Awaitable[object]]


async def chunks() -> AsyncIterator[bytes]:
    yield b"forged"


TRIES: dict[str, Try] = {
    "put": lambda store: store.put("a/new", b"forged"),
    "create": lambda store: store.put("a/new", b"forged", create_only=True),
    "overwrite": lambda store: store.put("a/b", b"forged"),
    "stream": lambda store: store.put_stream("a/b", chunks()),
    "delete": lambda store: store.delete("a/b"),
    "delete nothing": lambda store: store.delete("a/none"),
}


async def content(store: BlobStore) -> dict[str, tuple[str, bytes]]:
    return {info.name: (info.etag, await store.get(info.name)) async for info in store.list("")}


@pytest.mark.parametrize("attempt", TRIES.values(), ids=TRIES.keys())
async def test_nothing_can_be_changed(store: BlobStore, attempt: Try) -> None:
    await store.put("a/b", b"kept")
    before = await content(store)
    guarded = ReadOnlyStore(store)
    with pytest.raises(LocationReadOnly):
        await attempt(guarded)
    assert await content(store) == before


async def test_everything_can_be_read(store: BlobStore) -> None:
    await store.put("a/b", b"kept", metadata={"k": "v"})
    guarded = ReadOnlyStore(store)
    assert await content(guarded) == await content(store)
    assert await guarded.head("a/b") == await store.head("a/b")
    assert b"".join([part async for part in guarded.read("a/b", offset=1, length=2)]) == b"ep"
    assert await guarded.list_directories("") == ["a"]
    assert abs((await guarded.now() - await store.now()).total_seconds()) < 60


@pytest.mark.parametrize("mode", list(AccessMode))
async def test_a_read_only_location_is_opened_so(tmp_path: Path, mode: AccessMode) -> None:
    spec = BackupLocationSpec(filesystem=FilesystemLocation(path=str(tmp_path)), access_mode=mode)
    opened = await open_store(spec, {})
    assert isinstance(opened, ReadOnlyStore) is (mode is AccessMode.READ_ONLY)
    await opened.close()
