"""`kubectl get` alone tells a person what is going on, without reading YAML."""

from __future__ import annotations

from collections.abc import Callable

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


def test_logs_and_coverage_reach_a_person_with_nothing_but_a_kubeconfig(
    tools: Tools, new_workload: Callable[..., Workload]
) -> None:
    app = new_workload("told", replicas=1, fill="--large 0 --small 20")
    backup = f"{app.namespace}-kept"
    tools.ararat("backup", "create", backup, "--include-namespaces", app.namespace, "--wait")

    log = tools.ararat("backup", "logs", backup).said
    assert "backup began" in log, log
    assert f"{app.namespace}/parts-0/data" in log, log
    described = tools.ararat("backup", "describe", backup).said
    assert "parts-0" in described, described
    assert "BackedUp" in described or "backed up" in described, described


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
