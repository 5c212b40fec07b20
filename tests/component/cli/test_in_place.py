"""``restore create --volumes in-place``: it writes into what is in use, so it asks."""

from __future__ import annotations

from tests.component.cli.conftest import Cluster
from tests.component.cli.test_commands import error, ok
from tests.component.cli.test_delete import at_a_terminal

CREATE = ("restore", "create", "back", "--from-backup", "mybackup", "--volumes", "in-place")
WHAT = (*CREATE, "--include", "wp/data", "--path", "sub/dir", "--delete-extra")


def test_it_asks_unless_it_is_told_not_to(cluster: Cluster) -> None:
    cluster.location()
    cluster.backup()
    process = at_a_terminal(cluster, *WHAT, answer="n")
    said, asked = process.communicate(timeout=60)
    assert (process.returncode, said.strip()) == (1, "")
    assert "sub/dir in wp/data becomes what it was in backup mybackup, while pods run" in asked
    assert "what the backup does not have there is REMOVED" in asked
    assert asked.endswith("nothing was changed\n")
    refused = error(cluster.ararat(*WHAT), code=2)
    assert refused.startswith("nobody can be asked here: say --yes")
    assert cluster.names("restores") == []

    process = at_a_terminal(cluster, *WHAT, answer="y")
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, cluster.names("restores")) == (0, ["back"])
    volumes = cluster.get("restores", "back")["spec"]["volumes"]
    assert (volumes["mode"], volumes["include"]) == ("InPlace", ["wp/data"])
    assert (volumes["paths"], volumes["deleteExtra"]) == (["sub/dir"], True)
    ok(cluster.ararat("restore", "create", "again", *CREATE[3:], "--yes"))
    assert sorted(cluster.names("restores")) == ["again", "back"]
