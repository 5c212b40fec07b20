from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ararat.api import Backup
from ararat.api.backup import (
    BackupPhase,
    BackupSpec,
    BackupStatus,
    CoverageCounts,
    Failure,
    ObjectsResult,
)
from ararat.api.manifest import Coverage, Manifest, ManifestVolume
from ararat.api.nodejob import BackupSummary
from controller.location.sync import (
    SyncPlan,
    awaits_status,
    backup_from_manifest,
    plan_sync,
    stored_backups,
)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], set()),
        (["backups/a/manifest.json", "backups/a/begin.json"], {"a"}),
        (["backups/a/begin.json", "backups/a/plan.json.gz"], set()),
        (["backups/a/manifest.json", "backups/a/deleting.json"], set()),
        (["backups/a/x/manifest.json", "backups/manifest.json"], set()),
        (["backups/a/manifest.json", "backups/b/manifest.json", "restores/c/x"], {"a", "b"}),
    ],
)
def test_which_backups_exist(names: list[str], expected: set[str]) -> None:
    assert stored_backups(names) == expected


def backup(
    name: str,
    phase: str = "Completed",
    location: str | None = "here",
    *,
    synced: str | None = None,
    deleting: bool = False,
) -> Backup:
    metadata: dict[str, Any] = {"name": name, "namespace": "ararat", "uid": f"uid-{name}"}
    if synced:
        metadata["labels"] = {"ararat.dev/synced": "true", "ararat.dev/location": synced}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return Backup.parse(
        {"metadata": metadata, "spec": {}, "status": {"phase": phase, "location": location}}
    )


@pytest.mark.parametrize(
    ("objects", "stored", "add", "remove", "shadowed"),
    [
        ([], {"b", "a"}, ("a", "b"), (), ()),
        ([backup("a")], {"a"}, (), (), ()),
        ([backup("a")], set(), (), ("a",), ()),
        ([backup("a", "PartiallyFailed")], set(), (), ("a",), ()),
        ([backup("a", deleting=True)], set(), (), (), ()),
        # What has not ended, or ended without a manifest, is none of sync's business.
        ([backup("a", phase) for phase in ("New", "Queued")], set(), (), (), ()),
        ([backup("a", "InProgress")], set(), (), (), ()),
        ([backup("a", "Finalizing")], {"a"}, (), (), ()),
        ([backup("a", "Failed")], set(), (), (), ()),
        ([backup("a", "Cancelled")], set(), (), (), ()),
        # Of another location.
        ([backup("a", location="there")], set(), (), (), ()),
        ([backup("a", location="there")], {"a"}, (), (), ("a",)),
        # Asked for a moment ago, and its name is taken: its own reconciler says so.
        ([backup("a", "New", None)], {"a"}, (), (), ()),
        # Made by sync, and killed before it had a status.
        ([backup("a", "New", None, synced="here")], {"a"}, ("a",), (), ()),
        ([backup("a", "New", None, synced="here")], set(), (), ("a",), ()),
        ([backup("a", "New", None, synced="there")], {"a"}, (), (), ()),
        ([backup("a", "New", None, synced="there")], set(), (), (), ()),
    ],
)
def test_plans(
    objects: list[Backup],
    stored: set[str],
    add: tuple[str, ...],
    remove: tuple[str, ...],
    shadowed: tuple[str, ...],
) -> None:
    plan = plan_sync("here", stored, objects)
    found = (plan.add, tuple(b.name for b in plan.remove), plan.shadowed)
    assert found == (add, remove, shadowed)


@pytest.mark.parametrize(
    ("given_backup", "expected"),
    [
        (backup("a", "New", synced="here"), True),
        (backup("a", "Completed", synced="here"), False),
        (backup("a", "New"), False),
    ],
)
def test_an_object_that_waits_for_its_status(given_backup: Backup, expected: bool) -> None:
    assert awaits_status(given_backup) is expected


_names = st.sampled_from(["a", "b", "c", "d", "e"])
_backups = st.builds(
    backup,
    _names,
    st.sampled_from([phase.value for phase in BackupPhase]),
    st.sampled_from([None, "here", "there"]),
    synced=st.sampled_from([None, "here", "there"]),
    deleting=st.booleans(),
)


@given(st.sets(_names), st.lists(_backups, max_size=5, unique_by=lambda b: b.name))
def test_objects_follow_the_location_and_nothing_else_is_touched(
    stored: set[str], objects: list[Backup]
) -> None:
    plan = plan_sync("here", stored, objects)
    by_name = {b.name: b for b in objects}
    removed = {b.name for b in plan.remove}
    assert not removed & stored
    assert set(plan.add) | set(plan.shadowed) <= stored
    assert not set(plan.add) & set(plan.shadowed)
    for name in stored:  # whatever is stored is shown, or is about to be, or something has its name
        assert name in by_name or name in plan.add
    for backup_ in plan.remove:
        assert backup_.status.location == "here" or awaits_status(backup_)
        assert backup_.status.phase.restorable or awaits_status(backup_)
    # Once done, there is nothing more to do.
    made = [backup(name, "Completed", "here", synced="here") for name in plan.add]
    rest = [b for b in objects if b.name not in removed and b.name not in plan.add]
    assert plan_sync("here", stored, made + rest) == SyncPlan((), (), plan.shadowed)


def test_an_object_made_from_a_manifest() -> None:
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    failures = [Failure(object=f"o{n}", reason="R") for n in range(60)]
    manifest = Manifest(
        backup="nightly",
        backup_uid="u1",
        cluster_uid="c1",
        location_id="l1",
        spec=BackupSpec(included_namespaces=["wp"], location="theirs", cancel=True),
        phase=BackupPhase.PARTIALLY_FAILED,
        start_time=start,
        completion_time=end,
        namespaces=[f"n{n}" for n in range(120)],
        objects=ObjectsResult(directory="d", snapshot_id="s", count=3),
        volumes=[
            ManifestVolume(
                namespace="wp",
                pod="p",
                volume=name,
                coverage=Coverage.BACKED_UP,
                summary=BackupSummary(bytes_processed=10, bytes_stored=4),
            )
            for name in ("a", "b")
        ],
        coverage=CoverageCounts(backed_up=2, text="2 backed up"),
        failures=failures,
        warnings=["w"],
    )
    body, status = backup_from_manifest(manifest, location="L" * 70, namespace="ararat")
    metadata: Any = body["metadata"]
    assert metadata["name"] == "nightly"
    assert metadata["labels"]["ararat.dev/synced"] == "true"
    assert len(metadata["labels"]["ararat.dev/location"]) == 63
    assert Backup.parse(body).spec == BackupSpec(included_namespaces=["wp"], location="L" * 70)
    assert status == BackupStatus(
        phase=BackupPhase.PARTIALLY_FAILED,
        start_time=start,
        completion_time=end,
        location="L" * 70,
        namespaces=[f"n{n}" for n in range(100)],
        namespace_count=120,
        coverage=CoverageCounts(backed_up=2, text="2 backed up"),
        objects=ObjectsResult(directory="d", snapshot_id="s", count=3),
        bytes_processed=20,
        bytes_stored=8,
        failures=failures[:50],
        failure_count=60,
        warnings=["w"],
    )
