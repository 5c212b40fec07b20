"""What a controller stores of a log while the run goes on, and what the next one makes of it."""

from __future__ import annotations

import json
from gzip import decompress
from pathlib import Path

import pytest

from ararat.blob.errors import StoreUnreachable
from ararat.blob.filesystem import FilesystemStore
from controller import keptlog
from controller.keptlog import KeptLog
from controller.runlog import RunLog

BLOB = "backups/nightly/log.jsonl.gz"


def stored(place: Path) -> list[str]:
    path = place / BLOB
    lines = decompress(path.read_bytes()).splitlines() if path.exists() else []
    return [json.loads(line)["event"] for line in lines]


def begun(*events: str, uid: str = "u1") -> RunLog:
    log = RunLog(kind="Backup", name="nightly", uid=uid)
    for event in events:
        log.info(event)
    return log


@pytest.mark.parametrize(("seconds", "share"), [(60.0, 0), (0.0, 10**6)])
async def test_it_is_stored_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, share: int
) -> None:
    monkeypatch.setattr(keptlog, "KEEP_SECONDS", seconds)
    monkeypatch.setattr(keptlog, "_SHARE", share)
    store, kept, log = FilesystemStore(tmp_path), KeptLog(), begun("began")
    await kept.read(store, BLOB, log, uid="u1")
    await kept.keep(store, BLOB, log)
    assert stored(tmp_path) == ["began"]
    log.info("made")
    await kept.keep(store, BLOB, log)
    assert stored(tmp_path) == ["began"]


async def test_the_next_one_goes_on_where_the_last_one_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keptlog, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(keptlog, "_SHARE", 0)
    store, kept, log = FilesystemStore(tmp_path), KeptLog(), begun("began")
    await kept.read(store, BLOB, log, uid="u1")
    await kept.keep(store, BLOB, log)
    log.info("made")
    await kept.keep(store, BLOB, log)
    assert stored(tmp_path) == ["began", "made"]
    (tmp_path / BLOB).unlink()
    await kept.keep(store, BLOB, log)
    assert stored(tmp_path) == []  # nothing new to store
    log.info("more")
    await kept.keep(store, BLOB, log)

    kept, log = KeptLog(), begun("taken over")
    for _ in range(2):
        await kept.read(store, BLOB, log, uid="u1")
    await kept.keep(store, BLOB, log)
    assert stored(tmp_path) == ["began", "made", "more", "taken over"]

    # Another run of this name, which the first one left to it.
    kept, log = KeptLog(), begun("began anew", uid="u2")
    await kept.read(store, BLOB, log, uid="u2")
    await kept.keep(store, BLOB, log)
    assert stored(tmp_path) == ["began anew"]


async def test_what_could_not_be_read_is_not_stored_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FilesystemStore(tmp_path)
    await store.put(BLOB, begun("began").encode())

    async def away(_: str) -> bytes:
        raise StoreUnreachable("away")

    monkeypatch.setattr(keptlog, "KEEP_SECONDS", 0.0)
    kept, log = KeptLog(), begun("taken over")
    with monkeypatch.context() as outage:
        outage.setattr(store, "get", away)
        await kept.read(store, BLOB, log, uid="u1")
    await kept.keep(store, BLOB, log)
    assert stored(tmp_path) == ["began"]
    await kept.read(store, BLOB, log, uid="u1")
    await kept.keep(store, BLOB, log)
    assert stored(tmp_path) == ["began", "taken over"]
