"""What a manifest names is kept, wherever in it that stands."""

from __future__ import annotations

import pytest

from ararat.api.manifest import Manifest
from controller.deletion.manifests import Promises, promise_of
from controller.deletion.snapshots import SnapshotsMissing, check_promised

OBJECTS, WP = "repositories/objects/1", "repositories/volumes/wp/2"


def manifest(backup: str, *snapshots: str) -> Manifest:
    return Manifest.model_validate(
        {
            "backup": backup,
            "backupUID": "u",
            "clusterUID": "c",
            "locationID": "l",
            "spec": {},
            "phase": "Completed",
            "startTime": "2026-05-01T00:00:00Z",
            "completionTime": "2026-05-01T00:00:00Z",
            "objects": {
                "directory": OBJECTS,
                "snapshotID": f"{backup}-o1",
                "furtherSnapshots": [f"{backup}-o2"],
            },
            "repositories": [{"directory": OBJECTS}, {"directory": WP}],
            "volumes": [
                {
                    "namespace": "wp",
                    "pod": "db-0",
                    "volume": f"v{number}",
                    "coverage": "BackedUp",
                    "directory": WP,
                    "snapshotID": snapshot,
                }
                for number, snapshot in enumerate(snapshots)
            ],
        }
    )


def test_all_parts_are_promised():
    promise = promise_of(manifest("one", "s1", "s2"))
    assert promise.snapshots == {
        OBJECTS: {"one-o1": "objects", "one-o2": "objects"},
        WP: {"s1": "wp/db-0/v0", "s2": "wp/db-0/v1"},
    }


def test_a_repository_without_snapshots_is_needed_too():
    promises = Promises({"one": promise_of(manifest("one"))})
    assert promises.names(WP)
    assert promises.snapshots(WP) == {}


def test_shared_snapshots_and_missing_ones():
    promises = Promises(
        {b: promise_of(manifest(b, *s)) for b, s in {"one": ["s1"], "two": ["s1", "s2"]}.items()}
    )
    assert promises.snapshots(WP)["s1"] == ["one: wp/db-0/v0", "two: wp/db-0/v0"]
    check_promised(promises, WP, {"s1", "s2", "by-hand"})
    with pytest.raises(SnapshotsMissing, match="two: wp/db-0/v1") as error:
        check_promised(promises, WP, {"s1"})
    assert error.value.named == ["two: wp/db-0/v1"]
