"""`kubectl get` alone tells a person what is going on, without reading YAML."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from tests.e2e.support.tools import Tools
from tests.e2e.support.workload import Workload

_KINDS = "backups,restores,podvolumebackups"


def test_the_columns_say_phase_and_progress(
    tools: Tools, new_workload: Callable[..., Workload]
) -> None:
    app = new_workload("shown", replicas=1, fill="--large 1 --large-mib 2 --small 50")
    backup = f"{app.namespace}-kept"
    tools.ararat("backup", "create", backup, "--include-namespaces", app.namespace, "--wait")

    printed = tools.kubectl("get", _KINDS, "-n", tools.namespace)
    rows = {row.get("NAME", ""): row for row in _tables(printed)}
    shown = rows[f"backup.ararat.dev/{backup}"]
    assert shown["PHASE"] == "Completed"
    assert shown["LOCATION"] == "default"
    assert "2" in shown["VOLUMES"], "both volumes are counted"
    assert shown["PROGRESS"], printed
    jobs = [row for name, row in rows.items() if name.startswith("podvolumebackup.")]
    mine = [row for row in jobs if row["BACKUP"] == backup]
    assert {row["POD"].partition("-")[0] for row in mine} == {"files", "parts"}, printed
    for row in mine:
        assert (row["PHASE"], row["NAMESPACE"]) == ("Completed", app.namespace)
        assert row["VOLUME"] == "data"
        assert row["NODE"]
        assert any(unit in row["PROGRESS"] for unit in ("B", "%")), row


def test_logs_coverage_and_files_reach_a_person_with_nothing_but_a_kubeconfig(
    tools: Tools, new_workload: Callable[..., Workload]
) -> None:
    app = new_workload("told", replicas=1, fill="--large 0 --small 20")
    backup = f"{app.namespace}-kept"
    leave_out_some(tools, app)
    what = ("--include-namespaces", app.namespace)
    dry = tools.ararat("backup", "create", backup, *what, "--dry-run", "-o", "json")
    wanted = json.loads(dry.stdout)
    wanted["spec"].setdefault("volumes", {})["excludes"] = ["*.swp"]
    tools.apply([wanted])
    tools.ararat("backup", "wait", backup)

    log = tools.ararat("backup", "logs", backup).said
    assert "backup began" in log, log
    assert f"{app.namespace}/parts-0/data" in log, log
    described = tools.ararat("backup", "describe", backup).said
    assert "parts-0" in described, described
    assert "BackedUp" in described or "backed up" in described, described

    # What was left out is not there, and the manifest says by which patterns.
    claim = f"{app.namespace}/data-parts-0"
    found = tools.ararat("backup", "ls", backup, claim, "/excludes").stdout
    names = set(re.findall(r"kept|x\.tmp|y\.swp|cache|scratch", found))
    assert names == {"kept", "cache"}, found
    cache = tools.ararat("backup", "ls", backup, claim, "/excludes/cache").stdout
    assert "CACHEDIR.TAG" in cache, cache
    assert "inside" not in cache, cache
    manifest = stored_manifest(tools, backup)
    said = {(v["pod"], v["volume"]): v.get("excludes") for v in manifest["volumes"]}
    assert said["parts-0", "data"] == ["*.swp", "*.tmp", "scratch/", "CACHEDIR.TAG"]


def test_a_location_is_tried_out_from_where_it_is_used(tools: Tools, blob_location: str) -> None:
    for name, kind in (("default", "filesystem"), (blob_location, "azure")):
        steps = json.loads(tools.ararat("location", "check", name, "-o", "json").stdout)["steps"]
        assert all(step["ok"] for step in steps), steps
        restic = next(step for step in steps if step["name"] == "restic")
        assert restic["detail"].endswith(f"through Ararat's server to {kind}")
    table = tools.ararat("location", "check", "default").said
    assert "upload rate" in table, table


def leave_out_some(tools: Tools, app: Workload) -> None:
    """Files that are left out for a different reason each, and one that is not."""
    signature = "Signature: 8a477f597d28d172789f06886806bc55"
    lines = (
        "mkdir -p excludes/cache excludes/scratch && cd excludes && touch kept x.tmp y.swp",
        f"echo '{signature}' > cache/CACHEDIR.TAG && touch cache/inside scratch/inside",
        "echo scratch/ > ../.araratignore",
    )
    where = (app.namespace, "parts-0")
    tools.exec(*where, ["sh", "-c", f"cd /data && {' && '.join(lines)}"], container="app")
    note = ("ararat.dev/exclude=*.tmp", "--overwrite")
    tools.kubectl("annotate", "pod", "parts-0", "-n", app.namespace, *note)


def stored_manifest(tools: Tools, backup: str) -> Any:
    """As it stands in the location."""
    pods = tools.items("pods", namespace=tools.namespace)
    (controller, *_) = [
        pod["metadata"]["name"]
        for pod in pods
        if pod["metadata"]["labels"].get("app.kubernetes.io/component") == "controller"
    ]
    command = ["python", "-m", "controller", "show", "manifest", backup]
    return json.loads(tools.exec(tools.namespace, controller, command, container="controller"))


def _tables(printed: str) -> list[dict[str, str]]:
    """The rows of kubectl's tables, cut at the columns of their headers."""
    rows: list[dict[str, str]] = []
    columns: list[tuple[str, int]] = []
    for line in printed.splitlines():
        if line.startswith("NAME "):
            columns = [(name, line.index(f" {name}") + 1 if i else 0) for i, name in _words(line)]
        elif line.strip():
            ends = [start for _, start in columns[1:]] + [None]
            rows.append(
                {
                    name: line[start:end].strip()
                    for (name, start), end in zip(columns, ends, strict=True)
                }
            )
    return rows


def _words(line: str) -> list[tuple[int, str]]:
    return list(enumerate(line.split()))
