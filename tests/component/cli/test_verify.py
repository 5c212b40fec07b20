"""``ararat backup verify``: made, followed to its end, and shown with the backup."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.component.cli.conftest import SECONDS, Cluster, until

PLURAL = "backupverifications"


def begun(cluster: Cluster) -> tuple[Any, Any]:
    """``verify --wait`` of backup b, and the object that it made."""
    cluster.backup("b")
    process = cluster.start("backup", "verify", "b", "--wait")
    (name,) = until(lambda: cluster.names(PLURAL))
    return process, cluster.get(PLURAL, name)


def read(cluster: Cluster, verification: Any) -> None:
    """One volume of it, as its node job shows it."""
    uid = verification["metadata"]["uid"]
    spec = {
        "restore": "v",
        "restoreUID": uid,
        "node": "n",
        "pod": {"namespace": "ararat", "name": "scratch", "uid": "p"},
        "volume": "data",
        "repository": {
            "location": "default",
            "locationID": "l",
            "directory": "d",
            "passwordSecret": "s",
        },
    }
    made = cluster.create("podvolumerestores", "j", spec, labels={"ararat.dev/restore-uid": uid})
    path = cluster.path("podvolumerestores", made["metadata"]["name"])
    patch = {"metadata": {"annotations": {"ararat.dev/verifies": "wp/db-0/data"}}}
    kind = "application/merge-patch+json"
    cluster.plane.api.request("PATCH", path, body=patch, content_type=kind)
    progress = {"bytesDone": 2048, "totalBytes": 2048, "filesDone": 3, "totalFiles": 3}
    cluster.status("podvolumerestores", "j", phase="Completed", progress=progress)


@pytest.mark.parametrize(("phase", "code"), [("Passed", 0), ("Inconclusive", 3), ("Failed", 1)])
def test_followed_to_its_end(cluster: Cluster, phase: str, code: int) -> None:
    process, made = begun(cluster)
    assert made["spec"]["backup"] == "b"
    read(cluster, made)
    failures = [{"object": "wp/db-0/data", "reason": "Why", "message": "so it is"}]
    cluster.status(
        PLURAL,
        made["metadata"]["name"],
        phase=phase,
        message="that is what was found",
        objects=7,
        volumes={"text": "1 of 1"},
        failures=[] if phase == "Passed" else failures,
    )
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == code, err
    assert f"verification of b: {phase}" in out
    assert "that is what was found" in out
    assert ("wp/db-0/data: so it is" in out) is (phase != "Passed")


def test_what_was_found_is_shown_with_the_backup(cluster: Cluster) -> None:
    cluster.backup(
        "b",
        verification={
            "name": "v",
            "phase": "Failed",
            "time": "2026-01-09T00:00:00Z",
            "lastPassedTime": "2026-01-01T00:00:00Z",
            "message": "1 part not as promised",
        },
    )
    assert "Failed, " in cluster.ararat("backup", "get").stdout
    described = cluster.ararat("backup", "describe", "b").stdout
    assert "(last passed " in described
    assert "1 part not as promised" in described
    shown = json.loads(cluster.ararat("backup", "get", "b", "-o", "json").stdout)
    assert shown["status"]["verification"]["phase"] == "Failed"


def test_a_backup_that_holds_nothing_is_refused(cluster: Cluster) -> None:
    cluster.backup("b", phase="Failed")
    done = cluster.ararat("backup", "verify", "b")
    assert done.returncode == 1
    assert "holds nothing to verify" in done.stderr
    done = cluster.ararat("backup", "verify", "nix")
    assert done.returncode == 1
    assert "there is no backup 'nix'" in done.stderr
    assert cluster.names(PLURAL) == []
