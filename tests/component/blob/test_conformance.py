"""What every BlobStore promises (``ararat/blob/store.py``), held against each implementation."""

from __future__ import annotations

import asyncio
import hashlib
import resource
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from ararat.blob.store import BlobStore
from ararat.errors import Conflict, InvalidSpec, NotFound

from .conftest import Many

MIB = 1024 * 1024


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def names(store: BlobStore, prefix: str = "") -> list[str]:
    return sorted([blob.name async for blob in store.list(prefix)])


async def test_what_was_put_is_what_is_read(store: BlobStore) -> None:
    put = await store.put("a/b/c.json", b"hello")
    assert await store.get("a/b/c.json") == b"hello"
    found = await store.head("a/b/c.json")
    assert (found.name, found.size, found.etag) == ("a/b/c.json", 5, put.etag)
    assert abs(found.last_modified - datetime.now(UTC)) < timedelta(minutes=1)


async def test_an_empty_blob_is_a_blob(store: BlobStore) -> None:
    await store.put("empty", b"")
    await store.put_stream("empty-stream", pieces())
    assert await store.get("empty") == b""
    assert await store.get("empty-stream") == b""
    assert await names(store) == ["empty", "empty-stream"]


async def test_a_missing_blob_is_not_found_however_it_is_asked_for(store: BlobStore) -> None:
    with pytest.raises(NotFound):
        await store.get("nothing/here")
    with pytest.raises(NotFound):
        await store.head("nothing/here")
    with pytest.raises(NotFound):
        await anext(store.read("nothing/here", offset=3, length=4))


async def test_ranges(store: BlobStore) -> None:
    data = bytes(range(256)) * 100
    await store.put("range", data)

    async def part(offset: int, length: int | None) -> bytes:
        return b"".join([p async for p in store.read("range", offset=offset, length=length)])

    assert await part(0, 1) == data[:1]
    assert await part(1000, 2000) == data[1000:3000]
    assert await part(25000, None) == data[25000:]
    assert await part(25000, 10_000) == data[25000:]
    assert await part(5, 0) == b""
    assert await part(len(data), None) == b""


async def test_overwriting_changes_the_etag(store: BlobStore) -> None:
    first = await store.put("x", b"one")
    second = await store.put("x", b"two")
    assert first.etag != second.etag
    assert await store.get("x") == b"two"


async def test_create_only_never_overwrites(store: BlobStore) -> None:
    await store.put("x", b"one", create_only=True)
    with pytest.raises(Conflict):
        await store.put("x", b"two", create_only=True)
    with pytest.raises(Conflict):
        await store.put_stream("x", pieces(b"three"), create_only=True)
    assert await store.get("x") == b"one"
    assert await names(store) == ["x"]


async def test_of_many_create_only_writers_exactly_one_wins(store: BlobStore) -> None:
    async def attempt(number: int) -> int | None:
        data = f"writer {number}".encode()
        try:
            if number % 2:
                await store.put("race", data, create_only=True)
            else:
                await store.put_stream("race", pieces(data), create_only=True)
        except Conflict:
            return None
        return number

    winners = [n for n in await asyncio.gather(*map(attempt, range(10))) if n is not None]
    assert len(winners) == 1
    assert await store.get("race") == f"writer {winners[0]}".encode()


async def test_if_match(store: BlobStore) -> None:
    first = await store.put("x", b"one")
    second = await store.put("x", b"two", if_match=first.etag)
    with pytest.raises(Conflict):
        await store.put("x", b"lost", if_match=first.etag)
    await store.put_stream("x", pieces(b"three"), if_match=second.etag)
    assert await store.get("x") == b"three"
    with pytest.raises(Conflict):
        await store.put("missing", b"", if_match=first.etag)


async def test_of_many_writers_with_one_etag_exactly_one_wins(store: BlobStore) -> None:
    etag = (await store.put("x", b"start")).etag

    async def attempt(number: int) -> bool:
        try:
            await store.put("x", f"{number}".encode(), if_match=etag)
        except Conflict:
            return False
        return True

    assert sum(await asyncio.gather(*map(attempt, range(8)))) == 1


async def test_metadata_travels_with_the_blob(store: BlobStore) -> None:
    meta = {"ararat_pod": "agent-x", "ararat_job": "0a-b"}
    await store.put("locks/one", b"1", metadata=meta, create_only=True)
    await store.put_stream("locks/two", pieces(b"2"), metadata=meta)
    await store.put("locks/three", b"3")
    assert (await store.head("locks/one")).metadata == meta
    listed = {b.name: dict(b.metadata) async for b in store.list("locks/", metadata=True)}
    assert listed == {"locks/one": meta, "locks/two": meta, "locks/three": {}}
    await store.put("locks/one", b"overwritten")
    assert (await store.head("locks/one")).metadata == {}


async def test_listing_is_by_string_prefix(store: BlobStore) -> None:
    for name in ("a", "ab", "a-dir/x", "a-dir/sub/y", "b"):
        await store.put(name, b"1")
    assert await names(store) == ["a", "a-dir/sub/y", "a-dir/x", "ab", "b"]
    assert await names(store, "a") == ["a", "a-dir/sub/y", "a-dir/x", "ab"]
    assert await names(store, "a-dir/") == ["a-dir/sub/y", "a-dir/x"]
    assert await names(store, "a-dir/s") == ["a-dir/sub/y"]
    assert await names(store, "none/") == []


async def test_directories_are_those_that_hold_blobs(store: BlobStore) -> None:
    for name in ("top", "backups/one/begin.json", "backups/two/deep/x", "backups/file"):
        await store.put(name, b"1")
    assert await store.list_directories("backups") == ["one", "two"]
    assert await store.list_directories("") == ["backups"]
    assert await store.list_directories("nothing") == []
    await store.delete("backups/one/begin.json")
    assert await store.list_directories("backups") == ["two"]


async def test_deleting(store: BlobStore) -> None:
    await store.put("d/x", b"1", metadata={"k": "v"})
    await store.delete("d/x")
    await store.delete("d/x")
    await store.delete("never/was")
    with pytest.raises(NotFound):
        await store.get("d/x")
    await store.put("d/x", b"2", create_only=True)
    assert (await store.head("d/x")).metadata == {}


@pytest.mark.parametrize(
    "name",
    [
        "plain.json",
        "spaces and (brackets) [x] {y}",
        "percent%20 %2F ?query=1&b#frag",
        "ünïcode/日本語/emoji-\N{CLOUD}",
        "a'quote\"s+plus=eq,comma;semi:colon@at!$*~`^|<>",
        ".hidden/.file",
        "long/" + "x" * 255,
    ],
)
async def test_every_legal_name(store: BlobStore, name: str) -> None:
    await store.put(name, b"x", create_only=True)
    assert await names(store) == [name]
    assert await store.get(name) == b"x"
    await store.delete(name)
    assert await names(store) == []


async def test_every_legal_character(store: BlobStore) -> None:
    legal = [chr(number) for number in range(0x20, 0x7F) if chr(number) not in "/\\"]
    made = sorted(f"chars/{ord(character):02x}{character}x" for character in legal)
    await asyncio.gather(*(store.put(name, name.encode(), create_only=True) for name in made))
    assert await names(store, "chars/") == made
    for name in made:
        assert await store.get(name) == name.encode()


@pytest.mark.parametrize(
    "name",
    ["", "/a", "a/", "a//b", "a/../b", "..", "./a", "a\\b", "a.", "a\0b", "a\nb", "x" * 2000],
)
async def test_illegal_names_are_refused(store: BlobStore, name: str) -> None:
    with pytest.raises(InvalidSpec):
        await store.put(name, b"x")
    with pytest.raises(InvalidSpec):
        await store.get(name)


async def test_nothing_is_stored_when_the_source_of_a_stream_fails(store: BlobStore) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * (9 * MIB)
        raise RuntimeError("source failed")

    with pytest.raises(RuntimeError):
        await store.put_stream("broken", broken())
    assert await names(store) == []


async def test_the_store_has_a_clock(store: BlobStore) -> None:
    assert abs(await store.now() - datetime.now(UTC)) < timedelta(minutes=1)


async def test_a_listing_goes_beyond_one_page(many: Many) -> None:
    """The service's largest page is 5,000."""
    assert len(many.names) > 10_000
    assert await names(many.store) == many.names
    part = [name for name in many.names if name.startswith("many/00")]
    assert await names(many.store, "many/00") == part
    assert await many.store.list_directories("") == ["many"]


@pytest.mark.timeout(300)
async def test_a_large_stream_goes_through_in_flat_memory(store: BlobStore) -> None:
    size = 1024 * MIB
    piece = hashlib.sha256(b"seed").digest() * (MIB // 32)
    want, seen = hashlib.sha256(), hashlib.sha256()

    async def source() -> AsyncIterator[bytes]:
        for _ in range(size // MIB):
            await asyncio.to_thread(want.update, piece)
            yield piece

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    put = await store.put_stream("large", source(), create_only=True)
    async for part in store.read("large"):
        seen.update(part)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    await store.delete("large")
    assert put.size == size
    assert seen.digest() == want.digest()
    assert grown < 64 * 1024, f"memory grew by {grown // 1024} MiB"
