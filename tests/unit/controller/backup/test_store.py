"""What a backup writes besides repositories, on a directory."""

from __future__ import annotations

import asyncio
import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ararat import layout
from ararat.api import BackupLocation
from ararat.api.backup import BackupPhase, BackupSpec, Failure, ObjectsResult
from ararat.api.manifest import Manifest
from ararat.blob.filesystem import FilesystemStore
from ararat.errors import Conflict, Damaged
from controller.backup import store
from controller.backup.plan import BackupPlan
from controller.location.open import OpenLocation

from .samples import backup, planned

NOBODY: frozenset[str] = frozenset()
BEGIN = "backups/nightly/begin.json"


@pytest.fixture
def location(tmp_path: Path) -> OpenLocation:
    resource = BackupLocation.parse(
        {"metadata": {"name": "main"}, "spec": {"filesystem": {"path": str(tmp_path)}}}
    )
    return OpenLocation(
        resource=resource,
        store=FilesystemStore(tmp_path),
        location_id="l1",
        owner="cl",
        master=b"m" * 32,
        writable=True,
    )


async def claim(
    location: OpenLocation, uid: str, *, cluster: str = "cl", live: frozenset[str] = NOBODY
) -> str | None:
    """The reason why the name could not be claimed."""
    try:
        await store.claim_name(location, backup(uid=uid), cluster_uid=cluster, live_uids=live)
    except Conflict as exc:
        return exc.reason
    return None


async def test_a_name_is_claimed_once_and_by_the_same_backup_as_often_as_it_likes(
    location: OpenLocation,
) -> None:
    assert await claim(location, "u1") is None
    assert await claim(location, "u1") is None
    assert json.loads(await location.store.get(BEGIN)) == {"uid": "u1", "cluster": "cl"}


@pytest.mark.parametrize(
    ("cluster", "live", "manifest", "expected"),
    [
        ("cl", NOBODY, False, None),
        ("cl", frozenset({"u1"}), False, "BackupExists"),
        ("cl", NOBODY, True, "BackupExists"),
        ("other", NOBODY, False, "BackupExists"),
    ],
)
async def test_a_name_that_was_left_behind(
    location: OpenLocation,
    cluster: str,
    live: frozenset[str],
    manifest: bool,
    expected: str | None,
) -> None:
    await claim(location, "u1")
    if manifest:
        await location.store.put(layout.backup_manifest("nightly"), b"{}")
    assert await claim(location, "u2", cluster=cluster, live=live) == expected
    holder = json.loads(await location.store.get(BEGIN))["uid"]
    assert holder == ("u1" if expected else "u2")


async def test_of_many_who_claim_a_name_one_has_it(location: OpenLocation) -> None:
    uids = [f"u{n}" for n in range(8)]
    results = await asyncio.gather(*(claim(location, u, live=frozenset(uids)) for u in uids))
    assert results.count(None) == 1
    winner = uids[results.index(None)]
    assert json.loads(await location.store.get(BEGIN))["uid"] == winner


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b"17", b"null"])
async def test_a_claim_that_cannot_be_read_is_somebodys(
    location: OpenLocation, content: bytes
) -> None:
    await location.store.put(BEGIN, content)
    assert await claim(location, "u1") == "BackupExists"
    assert await location.store.get(BEGIN) == content


def plan(uid: str = "uid-nightly", **more: Any) -> BackupPlan:
    values: dict[str, Any] = {
        "namespaces": ["wp"],
        "across": False,
        "volumes": [planned("a"), planned("b", capacity="1Gi", access_modes=("ReadWriteOnce",))],
        "warnings": ["w"],
        **more,
    }
    return BackupPlan(backup_uid=uid, **values)


async def test_the_first_plan_stands(location: OpenLocation) -> None:
    assert await store.read_plan(location, backup()) is None
    assert await store.write_plan(location, backup(), plan()) == plan()
    assert await store.write_plan(location, backup(), plan(namespaces=["other"])) == plan()
    assert await store.read_plan(location, backup()) == plan()


async def test_the_plan_of_a_former_backup_of_that_name_does_not(location: OpenLocation) -> None:
    await store.write_plan(location, backup(uid="old"), plan("old"))
    assert await store.read_plan(location, backup()) is None
    assert await store.write_plan(location, backup(), plan()) == plan()


# Without a time: every worker of a parallel run must collect the same tests.
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        gzip.compress(b"{", mtime=0),
        gzip.compress(b"{}", mtime=0),
        gzip.compress(b"{}", mtime=0)[:-6],
    ],
)
async def test_a_plan_that_cannot_be_read(location: OpenLocation, content: bytes) -> None:
    await location.store.put("backups/nightly/plan.json.gz", content)
    with pytest.raises(Damaged, match="the plan of backup nightly in location main"):
        await store.read_plan(location, backup())


async def test_a_plan_that_somebody_else_wrote_is_not_followed(location: OpenLocation) -> None:
    await store.write_plan(location, backup(), plan())
    name = "backups/nightly/plan.json.gz"
    body = json.loads(gzip.decompress(await location.store.get(name)))
    body["namespaces"] = ["kube-system"]
    await location.store.put(name, gzip.compress(json.dumps(body).encode()))
    with pytest.raises(Damaged, match="HMAC") as caught:
        await store.read_plan(location, backup())
    assert caught.value.reason == "PlanForged"


async def test_what_went_wrong_is_kept_in_full(location: OpenLocation) -> None:
    assert await store.read_findings(location, backup()) is None
    found = store.Findings(
        backup_uid="uid-nightly",
        failures=[Failure(object=f"kind-{n}", reason="R") for n in range(70)],
        warnings=["w"],
    )
    await store.write_findings(location, backup(), found)
    assert await store.read_findings(location, backup()) == found
    assert await store.read_findings(location, backup(uid="other")) is None
    # A run that wrote its results and was killed before its manifest has not lost them.
    results: dict[str, object] = {"findings": found.to_dict(), "manifest": {}}
    await store.write_run(location, backup(), log=b"", results=results)
    assert await store.read_findings(location, backup()) == found
    await store.write_run(location, backup(), log=b"", results={"phase": "Failed"})
    assert await store.read_findings(location, backup()) is None


def manifest(uid: str = "uid-nightly", **more: Any) -> Manifest:
    values: dict[str, Any] = {
        "backup": "nightly",
        "cluster_uid": "cl",
        "location_id": "l1",
        "spec": BackupSpec(),
        "phase": BackupPhase.COMPLETED,
        "start_time": datetime(2026, 1, 1, tzinfo=UTC),
        "completion_time": datetime(2026, 1, 2, tzinfo=UTC),
        "objects": ObjectsResult(directory="d", snapshot_id="s", count=1),
        **more,
    }
    return Manifest(backup_uid=uid, **values)


async def test_the_manifest_that_was_committed_first_stands(location: OpenLocation) -> None:
    assert await store.committed(location, backup()) is None
    assert await store.commit(location, manifest()) == manifest()
    assert await store.commit(location, manifest(namespaces=["later"])) == manifest()
    assert await store.committed(location, backup()) == manifest()


async def test_the_manifest_of_another_backup_is_not_ours(location: OpenLocation) -> None:
    await store.commit(location, manifest("u9"))
    assert await store.committed(location, backup()) is None
    with pytest.raises(Conflict) as caught:
        await store.commit(location, manifest())
    assert caught.value.reason == "BackupExists"


async def test_a_manifest_that_was_changed_is_not_believed(location: OpenLocation) -> None:
    await store.commit(location, manifest())
    name = layout.backup_manifest("nightly")
    changed = (await location.store.get(name)).replace(b'"Completed"', b'"Failed"')
    await location.store.put(name, changed)
    with pytest.raises(Damaged) as caught:
        await store.committed(location, backup())
    assert caught.value.reason == "ManifestForged"


async def test_a_manifest_that_reads_back_differently_is_damage(
    location: OpenLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def get(_: FilesystemStore, name: str) -> bytes:
        return name.encode()

    monkeypatch.setattr(FilesystemStore, "get", get)
    with pytest.raises(Damaged, match="reads back differently"):
        await store.commit(location, manifest())


async def test_log_and_results(location: OpenLocation) -> None:
    await store.write_run(location, backup(), log=b"log", results={"a": "ä"})
    assert await location.store.get(layout.backup_log("nightly")) == b"log"
    results = await location.store.get(layout.backup_results("nightly"))
    stored = json.loads(gzip.decompress(results))
    assert len(stored.pop("hmac")) == 64
    assert stored == {"a": "ä"}
