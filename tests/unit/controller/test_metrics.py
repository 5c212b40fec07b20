"""Series follow the objects, and are gone with them."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from controller.maintenance.planner import Plan
from controller.metrics import ObjectsCollector, exported
from controller.restore.gate import GateSettings, add_gate

NOW = datetime(2026, 5, 10, tzinfo=UTC)

#: Read whole an hour ago; its pods ran a day ago.
VERIFIED = {
    "verifySince": "2026-05-01T00:00:00Z",
    "verification": {
        "phase": "Passed",
        "time": "2026-05-09T23:00:00Z",
        "lastPassedTime": "2026-05-09T23:00:00Z",
        "lastRunTime": "2026-05-09T00:00:00Z",
    },
}
READ_ONLY_YET = {
    "verifySince": "2026-05-08T00:00:00Z",
    "verification": {
        "phase": "Passed",
        "time": "2026-05-09T23:00:00Z",
        "lastPassedTime": "2026-05-09T23:00:00Z",
    },
}


class Cache:
    def __init__(self, *raws: dict[str, Any]) -> None:
        self.raws = list(raws)

    def items(self) -> list[dict[str, Any]]:
        return self.raws


def raw(name: str, spec: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "uid": f"{name}-uid", "creationTimestamp": "2026-05-01T00:00:00Z"}
    return {"metadata": metadata, "spec": spec, "status": status}


def held(name: str, restore: str, *, phase: str = "Pending") -> dict[str, Any]:
    """A pod behind the gate of a restore."""
    pod: dict[str, Any] = {
        "metadata": {"name": name, "namespace": "wp", "uid": name},
        "spec": {"containers": [{"name": "app"}]},
        "status": {"phase": phase},
    }
    add_gate(pod, ["data"], GateSettings("image", restore, f"{restore}-uid"))
    return pod


def context() -> Any:
    coverage = {"unprotected": 2}
    return SimpleNamespace(
        now=lambda: NOW,
        owns=lambda location: location == "main",
        maintenance_template={},
        maintenance_plan=Plan(),
        locations_informer=Cache(
            raw("main", {"filesystem": {"path": "/b"}}, {"phase": "Available"}),
            raw("broken", {}, {}),
        ),
        backups=Cache(
            raw("n-1", {"schedule": "n"}, {"phase": "Completed", "coverage": coverage}),
            raw("hand", {}, {"phase": "Failed"}),
        ),
        schedules=Cache(
            raw("n", {"cron": "@daily"}, {"intervalSeconds": 86400, "missed": 3}),
            raw("read", {"cron": "@daily", "verify": {"every": "7d"}}, VERIFIED),
            raw("run", {"cron": "@daily", "verify": {"every": "7d", "run": {}}}, VERIFIED),
            raw("new", {"cron": "@daily", "verify": {"every": "1d", "run": {}}}, READ_ONLY_YET),
        ),
        repositories_informer=Cache(
            raw(
                "main-wp",
                {"location": "main", "kind": "Volumes", "namespace": "wp"},
                {
                    "phase": "Damaged",
                    "maintenance": {
                        "sizeBytes": 10,
                        "reclaimedBytes": 7,
                        "lastCheckTime": "2026-05-09T00:00:00Z",
                        "orphans": [{"snapshot": "s", "since": "2026-05-09T00:00:00Z"}],
                    },
                },
            ),
            raw("other-wp", {"location": "other", "kind": "Objects"}, {}),
            raw(
                "new-wp", {"location": "main", "kind": "Volumes"}, {"maintenance": {"snapshots": 2}}
            ),
        ),
        restores=Cache(
            raw(
                "back",
                {"backup": "b"},
                {
                    "phase": "InProgress",
                    "startTime": "2026-05-09T23:00:00Z",
                    "waiting": [{"object": "o", "reason": "r"}],
                },
            ),
            # It began an hour ago, and has waited for five minutes.
            raw(
                "slow",
                {"backup": "b"},
                {
                    "phase": "InProgress",
                    "startTime": "2026-05-09T23:00:00Z",
                    "waiting": [{"object": "o", "reason": "r"}],
                    "conditions": [
                        {
                            "type": "Progressing",
                            "status": "False",
                            "reason": "r",
                            "lastTransitionTime": "2026-05-09T23:55:00Z",
                        }
                    ],
                },
            ),
            raw("over", {"backup": "b"}, {"phase": "PartiallyFailed"}),
        ),
        gated_pods=Cache(
            held("one", "over"), held("two", "over"), held("gone", "over", phase="Failed")
        ),
    )


def lines(made: Any) -> set[str]:
    registry = CollectorRegistry()
    with exported(ObjectsCollector(made), registry):
        text = generate_latest(registry).decode()
    assert generate_latest(registry) == b""  # whoever leads no longer says nothing
    return {line for line in text.splitlines() if not line.startswith("#")}


def test_series():
    assert lines(context()) >= {
        'ararat_location_available{location="main"} 1.0',
        'ararat_backups{phase="Completed"} 1.0',
        'ararat_unprotected_volumes{schedule="n"} 2.0',
        'ararat_schedule_interval_seconds{schedule="n"} 86400.0',
        'ararat_schedule_missed_runs{schedule="n"} 3.0',
        'ararat_repository_damaged{repository="main-wp"} 1.0',
        'ararat_repository_orphans{repository="main-wp"} 1.0',
        'ararat_repository_size_bytes{repository="main-wp"} 10.0',
        'ararat_repository_reclaimed_bytes{repository="main-wp"} 7.0',
        'ararat_repository_maintenance_overdue{repository="main-wp"} 0.0',
        'ararat_restore_waiting_seconds{restore="back"} 3600.0',
        'ararat_restore_waiting_seconds{restore="slow"} 300.0',
        'ararat_restore_held_pods{ended="true",restore="over"} 2.0',
    }


def test_a_size_that_nobody_has_measured_is_not_zero():
    found = {line for line in lines(context()) if "new-wp" in line}
    assert 'ararat_repository_snapshots{repository="new-wp"} 2.0' in found
    assert not any("size_bytes" in line or "used_bytes" in line for line in found)


def test_a_schedule_that_starts_pods_is_verified_when_they_ran():
    name = "ararat_schedule_last_verified_timestamp_seconds"
    found = {
        line.partition('"')[2].partition('"')[0]: float(line.rpartition(" ")[2])
        for line in lines(context())
        if line.startswith(name)
    }
    assert found == {
        "read": datetime(2026, 5, 9, 23, tzinfo=UTC).timestamp(),
        "run": datetime(2026, 5, 9, tzinfo=UTC).timestamp(),
        # Since when it is asked for: no pods have run yet, whatever was read.
        "new": datetime(2026, 5, 8, tzinfo=UTC).timestamp(),
    }


def test_what_is_gone_leaves_nothing():
    made = context()
    for cache in vars(made).values():
        if isinstance(cache, Cache):
            cache.raws.clear()
    assert lines(made) == set()
