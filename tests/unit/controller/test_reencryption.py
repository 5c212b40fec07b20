"""What is the copy of what, and what a manifest says when its snapshots have moved."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from ararat.api.repository import Maintenance, MaintenanceAction, MaintenanceRun, RepositoryPhase
from ararat.layout import CurrentFile, FollowingFile
from ararat.restic.copies import copies
from ararat.restic.models import Snapshot
from controller.maintenance.planner import Plan, Situation, decide
from controller.repository.readdress import Move, readdressed

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
FORMER, FOLDER = "repositories/volumes/db/old", "repositories/volumes/db"
SUCCESSOR = CurrentFile(
    directory=f"{FOLDER}/new", repository_name="volumes/db/new", key_id="k2", made_under="f"
)


def snapshot(
    id_: str, *, original: str | None = None, tree: str = "t", host: str = "h"
) -> Snapshot:
    return Snapshot(
        id=id_,
        time=NOW,
        hostname=host,
        tree=tree,
        original=original,
        tags=("ararat", "b"),
    )


def test_a_copy_is_told_by_what_it_was_made_from() -> None:
    theirs = [snapshot("1"), snapshot("2", tree="u"), snapshot("3", original="0")]
    ours = [
        snapshot("a", original="1"),
        snapshot("c", original="0"),
        snapshot("d"),
        snapshot("e", original="2", tree="another"),
    ]
    assert copies(theirs, ours) == {"1": "a", "3": "c"}
    # One that was tagged anew by hand has the same origin, and is another snapshot.
    assert copies([replace(theirs[0], tags=("mine",))], ours) == {}
    assert copies(theirs, []) == {}


def body() -> dict[str, Any]:
    return {
        "backup": "b",
        "unknown": {"later": [1, {"directory": FORMER, "snapshotID": "1"}]},
        "objects": {"directory": "repositories/objects/o", "snapshotID": "9"},
        "hooksOutput": {"directory": FORMER, "snapshotID": "1", "furtherSnapshots": ["2"]},
        "repositories": [
            {"directory": "repositories/objects/o", "keyID": "k0", "repositoryName": "objects/o"},
            {"directory": FORMER, "keyID": "k1", "repositoryName": "volumes/db/old"},
        ],
        "volumes": [
            {"volume": "a", "directory": FORMER, "snapshotID": "1"},
            {"volume": "a", "directory": FORMER, "snapshotID": "1"},
            {"volume": "empty", "directory": FORMER},
            {"volume": "none", "directory": ""},
        ],
    }


def test_a_manifest_names_the_successor_wherever_it_named_the_former() -> None:
    move = Move(FORMER, SUCCESSOR, {"1": "11", "2": "22"})
    before = body()
    found = readdressed(before, move)
    assert before == body()
    assert FORMER not in str(found)
    assert found["objects"] == before["objects"]
    assert found["unknown"]["later"][1] == {"directory": SUCCESSOR.directory, "snapshotID": "11"}
    assert found["hooksOutput"]["furtherSnapshots"] == ["22"]
    assert found["repositories"][1] == {
        "directory": SUCCESSOR.directory,
        "keyID": "k2",
        "repositoryName": "volumes/db/new",
    }
    # Two volumes that look alike are two; nothing else is lost either.
    assert [v["volume"] for v in found["volumes"]] == ["a", "a", "empty", "none"]
    assert "snapshotID" not in found["volumes"][2]
    assert readdressed(found, move) == found


def test_a_repository_that_is_named_already_is_named_once() -> None:
    move = Move(FORMER, SUCCESSOR, {"1": "11", "2": "22"})
    before = body()
    before["repositories"].append(
        {"directory": SUCCESSOR.directory, "keyID": "k2", "repositoryName": "volumes/db/new"}
    )
    assert len(readdressed(before, move)["repositories"]) == 2


def test_what_has_not_been_moved_cannot_be_named() -> None:
    with pytest.raises(KeyError):
        readdressed(body(), Move(FORMER, SUCCESSOR, {"1": "11"}))


def test_copying_is_in_nobodys_way_and_goes_first() -> None:
    plan = Plan()
    overdue = datetime(2026, 10, 1, tzinfo=UTC)
    busy = Situation(
        phase=RepositoryPhase.READY,
        maintenance=Maintenance(),
        made=overdue,
        holders=["job"],
        waiting=["backup"],
        deleting=True,
        to_copy=3,
    )
    run = decide(busy, plan, now=NOW).run
    assert run is not None
    assert run.action is MaintenanceAction.REENCRYPT
    assert decide(replace(busy, to_copy=0), plan, now=NOW).run is None
    # A damaged repository is copied as far as it goes; it is not pruned.
    assert decide(replace(busy, phase=RepositoryPhase.DAMAGED), plan, now=NOW).run == run
    assert decide(replace(busy, others=plan.at_once), plan, now=NOW).run is None
    failed = MaintenanceRun(action=MaintenanceAction.REENCRYPT, completion_time=NOW)
    paused = replace(busy, maintenance=Maintenance(last=failed, failures=1))
    assert decide(paused, plan, now=NOW) == decide(replace(paused, to_copy=0), plan, now=NOW)
    full = decide(replace(busy, full=True, holders=(), waiting=(), deleting=False), plan, now=NOW)
    assert full.run is not None
    assert full.run.action is MaintenanceAction.PRUNE


def test_next_json_reads_back_as_it_was_written() -> None:
    chosen = FollowingFile(former=FORMER, successor=SUCCESSOR)
    assert FollowingFile.decode(chosen.encode()) == chosen
    marked = chosen.model_copy(update={"switched_at": NOW, "released_at": NOW})
    assert FollowingFile.decode(marked.encode()) == marked
