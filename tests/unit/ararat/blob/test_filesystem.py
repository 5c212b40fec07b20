"""What only the directory store can meet; the promises of all are in tests/component/blob."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ararat.blob.errors import ContainerNotFound
from ararat.blob.filesystem import FilesystemStore
from ararat.errors import Conflict, InvalidSpec, NotFound


async def test_a_directory_that_is_gone_is_an_outage_not_an_empty_store(tmp_path: Path) -> None:
    root = tmp_path / "location"
    root.mkdir()
    store = FilesystemStore(root)
    await store.put("a/b", b"1")
    shutil.rmtree(root)
    with pytest.raises(ContainerNotFound, match="mount or create it"):
        await store.get("a/b")
    with pytest.raises(ContainerNotFound):
        await store.head("a/b")
    with pytest.raises(ContainerNotFound):
        [blob async for blob in store.list("")]
    with pytest.raises(ContainerNotFound):
        await store.list_directories("")
    with pytest.raises(ContainerNotFound):
        await store.delete("a/b")
    with pytest.raises(ContainerNotFound):
        await store.put("a/b", b"1")
    assert not root.exists(), "a location is never made by us"


async def test_our_own_folder_is_not_seen_and_not_written(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    await store.put("a", b"1", metadata={"k": "v"})
    assert [blob.name async for blob in store.list("")] == ["a"]
    assert await store.list_directories("") == []
    with pytest.raises(InvalidSpec):
        await store.put(".ararat/x", b"1")


async def test_a_loser_leaves_nothing_behind(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    await store.put("a", b"1", metadata={"k": "winner"})
    with pytest.raises(Conflict):
        await store.put("a", b"2", create_only=True, metadata={"k": "loser"})
    assert (await store.head("a")).metadata == {"k": "winner"}
    assert list((tmp_path / ".ararat" / "tmp").iterdir()) == []
    assert len(list((tmp_path / ".ararat" / "meta").iterdir())) == 1
    await store.delete("a")
    assert list((tmp_path / ".ararat" / "meta").iterdir()) == []


async def test_links_and_folders_are_not_blobs(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert [blob.name async for blob in store.list("")] == []
    with pytest.raises(NotFound):
        await store.get("folder")
    with pytest.raises(NotFound):
        await store.head("folder")
    with pytest.raises(NotFound):
        await store.get("link")


async def test_folders_go_with_their_last_blob(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    await store.put("a/b/c", b"1")
    await store.put("a/d", b"1")
    await store.delete("a/b/c")
    assert not (tmp_path / "a" / "b").exists()
    await store.delete("a/d")
    assert not (tmp_path / "a").exists()
    assert tmp_path.exists()
