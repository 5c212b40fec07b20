"""``ararat backup delete``: what it asks, of whom, and what becomes of each answer."""

from __future__ import annotations

import os
import pty
import subprocess
from typing import Any

from tests.component.cli.conftest import PROGRAM, Cluster, until
from tests.component.cli.test_commands import error, ok


def requests(cluster: Cluster) -> list[Any]:
    return list(cluster.plane.api.items(cluster.path("deletebackuprequests")))


def at_a_terminal(cluster: Cluster, *arguments: str, answer: str) -> subprocess.Popen[str]:
    """A real one on its stdin, on which somebody has typed already."""
    ours, theirs = pty.openpty()
    os.write(ours, answer.encode() + b"\n")
    process = subprocess.Popen(
        [*PROGRAM, *arguments],
        env=cluster.environment,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    os.close(theirs)
    cluster.running.append(process)
    return process


def test_it_asks_and_no_means_no(cluster: Cluster) -> None:
    cluster.backup("keep", startTime="2026-11-23T01:30:04Z")
    cluster.backup("also")
    process = at_a_terminal(cluster, "backup", "delete", "keep", "also", answer="n")
    said, asked = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.strip() == ""
    assert "backup keep: Completed, began 2026-11-23 01:30 UTC\n" in asked
    assert "backup also: Completed" in asked
    assert "Delete, with all that is stored? [y/N]" in asked
    assert asked.endswith("nothing was changed\n")
    assert requests(cluster) == []


def test_yes_means_yes_and_the_end_is_waited_for(cluster: Cluster) -> None:
    made = cluster.backup("old")
    process = at_a_terminal(cluster, "backup", "delete", "old", answer="y")
    (request,) = until(lambda: requests(cluster))
    asked = (request["spec"]["backup"], request["spec"]["backupUID"])
    assert asked == ("old", made["metadata"]["uid"])
    assert process.poll() is None
    name = request["metadata"]["name"]
    removing = ["repositories/volumes/wp/0a"]
    cluster.status("deletebackuprequests", name, phase="Completed", removing=removing)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert said.strip() == "backup old deleted, its repository too (repositories/volumes/wp/0a)"


def test_where_nobody_can_be_asked(cluster: Cluster) -> None:
    """Neither a pipe nor an empty stdin is an answer."""
    cluster.backup("old")
    refused = error(cluster.ararat("backup", "delete", "old"), code=2)
    assert refused.startswith("nobody can be asked here: say --yes")
    assert requests(cluster) == []
    said = ok(cluster.ararat("backup", "delete", "old", "--yes", "--no-wait"))
    assert said.startswith("backup old is being deleted; see 'kubectl get deletebackuprequests")
    (request,) = requests(cluster)
    # A deletion that is under way is not asked for twice; one that was refused is asked for again.
    name = request["metadata"]["name"]
    ok(cluster.ararat("backup", "delete", "old", "--yes", "--no-wait"))
    assert [one["metadata"]["uid"] for one in requests(cluster)] == [request["metadata"]["uid"]]
    cluster.status("deletebackuprequests", name, phase="Refused", message="it is being restored")
    ok(cluster.ararat("backup", "delete", "old", "--yes", "--no-wait"))
    (again,) = requests(cluster)
    assert again["metadata"]["uid"] != request["metadata"]["uid"]


def test_what_is_not_even_asked(cluster: Cluster) -> None:
    cluster.backup("busy", phase="InProgress")
    cluster.backup("good")
    refused = error(cluster.ararat("backup", "delete", "good", "busy", "--yes"))
    assert refused.startswith("backup busy is InProgress: end it with 'ararat backup cancel busy")
    assert "there is no backup 'nothing'" in error(cluster.ararat("backup", "delete", "nothing"))
    assert requests(cluster) == [], "not even of the one that could go"
