"""--wait: follows a run that the test moves along, on a terminal and without one."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from typing import Any

import pytest

from controller.backup.queueing import Turn
from tests.component.cli.conftest import PROGRAM, SECONDS, Cluster, until

CREATE = ("backup", "create", "b", "--include-namespaces", "default", "-w")


def job(cluster: Cluster, uid: str, **status: Any) -> None:
    """One node job of backup b, and what its agent says."""
    if "job" not in cluster.names("podvolumebackups"):
        repository = {
            "location": "default",
            "locationID": "l",
            "directory": "d",
            "passwordSecret": "s",
        }
        spec = {
            "backup": "b",
            "backupUID": uid,
            "node": "n",
            "pod": {"namespace": "wp", "name": "mariadb-0", "uid": "p"},
            "volume": "data",
            "repository": repository,
            "host": "h",
        }
        labels = {"ararat.dev/backup-uid": uid}
        cluster.create("podvolumebackups", "job", spec, labels=labels)
    cluster.status("podvolumebackups", "job", **status)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=SECONDS)
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("phase", "code"), [("Completed", 0), ("PartiallyFailed", 3), ("Failed", 1), ("Cancelled", 1)]
)
def test_exit_code_says_how_it_went(cluster: Cluster, phase: str, code: int) -> None:
    cluster.backup("b", phase=phase, message="so it went")
    done = cluster.ararat("backup", "wait", "b")
    assert done.returncode == code, done.stderr
    assert f"backup b: {phase}" in done.stdout
    assert "so it went" in done.stdout


def test_lines_without_a_terminal(cluster: Cluster) -> None:
    cluster.location()
    process = cluster.start(*CREATE)
    uid = cluster.appears("backups", "b")["metadata"]["uid"]
    turn = Turn(2, "nightly")
    cluster.status("backups", "b", phase="Queued", message=turn.message, queuePosition=2)
    assert process.stdout is not None
    while (line := process.stdout.readline()) and "Queued" not in line:
        pass
    assert line.endswith(f"backup b: Queued: {turn.message}\n")
    assert re.search(r"^b +Queued \(2\) ", cluster.ararat("backup", "get").stdout, re.MULTILINE)
    cluster.status("backups", "b", phase="InProgress", message=None, queuePosition=None)
    cluster.status("backups", "b", startTime="2026-11-22T21:28:00Z")
    half = {"bytesDone": 512, "totalBytes": 1024, "filesDone": 1, "totalFiles": 2}
    job(cluster, uid, phase="InProgress", progress=half)
    time.sleep(1)
    full = {"bytesDone": 1024, "totalBytes": 1024, "filesDone": 2, "totalFiles": 2}
    job(cluster, uid, phase="Completed", progress=full)
    time.sleep(1)
    cluster.status(
        "backups",
        "b",
        phase="Completed",
        completionTime="2026-11-22T21:29:12Z",
        coverage={"backedUp": 1, "text": "1 backed up"},
        bytesProcessed=1024,
        bytesStored=100,
    )
    code, out, err = ended(process)
    assert (code, err) == (0, "")
    lines = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in out.splitlines()]
    assert "volume wp/mariadb-0/data: Completed, 1.0 KiB in 2 files" in lines
    assert lines[-4:] == [
        "backup b: Completed in 1m 12s",
        "  volumes:  1 backed up",
        "  data:     1.0 KiB in files, 100 B newly stored",
        f"next: ararat restore create --from-backup b --wait -n {cluster.namespace}",
    ]


def test_the_object_alone_on_stdout_for_machines(cluster: Cluster) -> None:
    cluster.backup("b")
    process = cluster.start("backup", "wait", "b", "-o", "json")
    code, out, err = ended(process)
    assert code == 0
    assert json.loads(out)["status"]["phase"] == "Completed"
    assert "backup b: Completed" in err


def test_restores_are_followed_as_well(cluster: Cluster) -> None:
    cluster.location()
    cluster.backup()
    process = cluster.start("restore", "create", "r", "--from-backup", "mybackup", "--wait")
    cluster.appears("restores", "r")
    waiting = [{"object": "pod wp/web-0", "reason": "Unschedulable", "message": "no node fits"}]
    cluster.status("restores", "r", phase="InProgress", waiting=waiting)
    time.sleep(1)
    cluster.status("restores", "r", phase="Completed", waiting=[], volumes={"text": "1 of 1"})
    code, out, err = ended(process)
    assert (code, err) == (0, "")
    assert "waiting for pod wp/web-0: no node fits" in out
    assert "  volumes:  1 of 1" in out


def test_ctrl_c_leaves_the_backup_alone_and_says_how_to_go_on(cluster: Cluster) -> None:
    cluster.location()
    process = cluster.start(*CREATE)
    cluster.appears("backups", "b")
    cluster.status("backups", "b", phase="InProgress")
    assert process.stdout is not None
    until(lambda: "InProgress" in process.stdout.readline())  # type: ignore[union-attr]
    os.killpg(process.pid, signal.SIGINT)
    code, _, err = ended(process)
    assert code == 130
    assert err == (
        f"the backup goes on; follow it with 'ararat backup wait b -n {cluster.namespace}', "
        f"end it with 'ararat backup cancel b -n {cluster.namespace}'\n"
    )
    assert cluster.get("backups", "b")["spec"]["cancel"] is False


def test_a_backup_that_is_deleted_meanwhile(cluster: Cluster) -> None:
    cluster.backup("b", phase="InProgress")
    process = cluster.start("backup", "wait", "b")
    assert process.stdout is not None
    until(lambda: "InProgress" in process.stdout.readline())  # type: ignore[union-attr]
    cluster.plane.api.delete(cluster.path("backups", "b"))
    code, _, err = ended(process)
    assert (code, err) == (1, "error: backup b was deleted while it was followed\n")


def test_a_picture_on_a_terminal(cluster: Cluster) -> None:
    uid = cluster.backup("b", phase="InProgress")["metadata"]["uid"]
    half = {
        "bytesDone": 1 << 20,
        "totalBytes": 2 << 20,
        "filesDone": 7,
        "totalFiles": 9,
        "bytesPerSecond": 1 << 18,
    }
    job(cluster, uid, phase="InProgress", progress=half)
    master, slave = pty.openpty()
    environment = {**cluster.environment, "TERM": "xterm", "COLUMNS": "110", "LINES": "30"}
    with subprocess.Popen(
        [*PROGRAM, "backup", "wait", "b"],
        env=environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    ) as process:
        os.close(slave)
        screen = read_until(master, "4s left")
        cluster.status("backups", "b", phase="Completed")
        screen += read_until(master, "next: ararat restore create")
        assert process.wait(SECONDS) == 0
    os.close(master)
    assert "wp/mariadb-0/data" in screen
    assert "1.0 MiB of 2.0 MiB (50%)" in screen
    assert "7 files" in screen
    assert "256.0 KiB/s" in screen


def read_until(descriptor: int, text: str) -> str:
    """What a program wrote to its terminal, without the escapes, until ``text`` was among it."""
    seen = ""
    deadline = time.monotonic() + SECONDS
    while text not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([descriptor], [], [], 1)[0]:
            data = os.read(descriptor, 65536).decode(errors="replace")
            seen += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data)
    return seen
