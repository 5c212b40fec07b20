from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from ararat.api import KINDS, Backup, BackupLocation, PodVolumeBackup, Restore
from ararat.api.backup import BackupPhase, BackupSpec, BackupStatus
from ararat.api.base import Condition, ConditionStatus, Meta, utcnow, with_condition
from ararat.api.location import AccessMode
from ararat.api.nodejob import JobPhase
from ararat.api.restore import RestorePhase

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_initialisms_are_in_capitals() -> None:
    status = {"snapshotID": "s", "unreadablePaths": [], "bytesPerSecond": 1}
    raw = {
        "metadata": {"name": "j", "uid": "u", "resourceVersion": "3", "ownerReferences": []},
        "spec": {
            "backup": "b",
            "backupUID": "bu",
            "node": "n",
            "pod": {"namespace": "ns", "name": "p", "uid": "pu"},
            "volume": "v",
            "claim": {"name": "c", "uid": "cu", "volumeName": "pv"},
            "repository": {
                "location": "l",
                "locationID": "li",
                "directory": "d",
                "keyID": "k",
                "passwordSecret": "s",
            },
            "host": "h",
        },
        "status": status,
    }
    job = PodVolumeBackup.parse(raw)
    assert (job.spec.backup_uid, job.spec.repository.location_id) == ("bu", "li")
    assert (job.spec.repository.key_id, job.status.snapshot_id) == ("k", "s")
    encoded = job.manifest()["spec"]
    assert encoded["backupUID"] == "bu"
    assert encoded["repository"]["keyID"] == "k"
    assert PodVolumeBackup.parse({"metadata": {}, "spec": encoded}).spec == job.spec


def test_unknown_fields_of_a_newer_version_are_ignored() -> None:
    backup = Backup.parse(
        {"metadata": {"name": "b", "selfLink": "x"}, "spec": {"newer": 1}, "status": {"newer": []}}
    )
    assert (backup.spec, backup.status) == (BackupSpec(), BackupStatus())


def test_a_fresh_object_has_no_status() -> None:
    assert Backup.parse({"metadata": {"name": "b"}, "spec": {}}).status.phase is BackupPhase.NEW


def test_what_is_sent_to_create_an_object() -> None:
    backup = Backup(
        metadata=Meta(
            name="b",
            namespace="ararat",
            uid="u",
            resource_version="3",
            generation=2,
            creation_timestamp=NOW,
            labels={"a": "b"},
        ),
        spec=BackupSpec(included_namespaces=["wp"]),
        status=BackupStatus(phase=BackupPhase.COMPLETED),
    )
    made = backup.manifest()
    assert made["metadata"] == {"name": "b", "namespace": "ararat", "labels": {"a": "b"}}
    assert made["spec"]["includedNamespaces"] == ["wp"]
    assert "location" not in made["spec"]
    assert set(made) == {"apiVersion", "kind", "metadata", "spec"}
    assert backup.owner_reference() == {
        "apiVersion": "ararat.dev/v1alpha1",
        "kind": "Backup",
        "name": "b",
        "uid": "u",
        "controller": True,
    }


def test_a_status_says_its_lists_also_where_they_are_empty() -> None:
    """A merge patch with them clears what an earlier one left."""
    status = BackupStatus(phase=BackupPhase.COMPLETED, message=None).to_dict()
    assert status["failures"] == []
    assert status["warnings"] == []
    assert status["conditions"] == []
    assert "message" not in status
    assert status["phase"] == "Completed"


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"filesystem": {"path": "/a"}, "azure": {"accountName": "abc", "container": "def"}},
        {"filesystem": {"path": "a"}},
        {"azure": {"accountName": "abc", "container": "def", "authentication": "AccountKey"}},
        {"azure": {"accountName": "abc", "container": "def", "authentication": "SAS"}},
        {"filesystem": {"path": "/a"}, "accessMode": "Both"},
    ],
)
def test_locations_that_are_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        BackupLocation.parse({"metadata": {}, "spec": spec})


def test_locations_that_are_not() -> None:
    location = BackupLocation.parse(
        {
            "metadata": {},
            "spec": {
                "azure": {"accountName": "abc", "container": "def"},
                "accessMode": "ReadOnly",
            },
            "status": {"phase": "Available"},
        }
    )
    assert location.spec.access_mode is AccessMode.READ_ONLY
    assert (location.read_only, location.available) == (True, True)


@pytest.mark.parametrize(
    ("phases", "terminal"),
    [
        (BackupPhase, {"Completed", "PartiallyFailed", "Failed", "Cancelled", "Deleting"}),
        (RestorePhase, {"Completed", "PartiallyFailed", "Failed", "Cancelled"}),
        (JobPhase, {"Completed", "Failed", "Cancelled"}),
    ],
)
def test_phases_that_end(phases: Any, terminal: set[str]) -> None:
    assert {phase.value for phase in phases if phase.terminal} == terminal


def test_backups_that_can_be_restored() -> None:
    assert {p.value for p in BackupPhase if p.restorable} == {"Completed", "PartiallyFailed"}


def condition(status: ConditionStatus, at: datetime, **more: Any) -> Condition:
    values: dict[str, Any] = {"type": "Available", "reason": "R", **more}
    return Condition(status=status, last_transition_time=at, **values)


def test_a_condition_moves_its_time_only_with_its_status() -> None:
    later = NOW + timedelta(hours=1)
    other = condition(ConditionStatus.TRUE, NOW, type="Other")
    first = with_condition(
        [other], type="Available", status=ConditionStatus.TRUE, reason="R", now=NOW
    )
    assert first == [other, condition(ConditionStatus.TRUE, NOW)]
    same = with_condition(
        first, type="Available", status=ConditionStatus.TRUE, reason="S", message="m", now=later
    )
    assert same == [other, condition(ConditionStatus.TRUE, NOW, reason="S", message="m")]
    moved = with_condition(
        same, type="Available", status=ConditionStatus.FALSE, reason="R", now=later
    )
    assert moved == [other, condition(ConditionStatus.FALSE, later)]


def test_now_is_in_whole_seconds_of_utc() -> None:
    assert (utcnow().microsecond, utcnow().tzinfo) == (0, UTC)


def test_every_kind_has_a_name_of_its_own() -> None:
    assert len({kind.KIND for kind in KINDS}) == len(KINDS) == len({k.PLURAL for k in KINDS})
    short = [name for kind in KINDS for name in kind.SHORT_NAMES]
    assert len(short) == len(set(short))
    assert Restore.PLURAL == "restores"
