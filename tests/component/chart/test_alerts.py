"""The alerts as promtool reads them: each fires when it should, and not when it should not."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.toolchain import prometheus
from tests.component.chart.test_chart import one, render

TESTS = Path(__file__).with_name("alerts_test.yaml")
ON = {"monitoring": {"alerts": {"enabled": True}}}


@pytest.fixture(scope="module")
def groups() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = one(render(ON), "PrometheusRule")["spec"]["groups"]
    return found


def promtool(work: Path, *command: str) -> tuple[int, str]:
    """Run it in ``work``. Returns the exit code and what it said."""
    program = str(prometheus.ensure().promtool)
    done = subprocess.run(
        [program, *command], cwd=work, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def write(work: Path, groups: list[dict[str, Any]]) -> str:
    """The rules, and the tests beside them. Returns the name of the tests' file."""
    (work / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    shutil.copy(TESTS, work)
    return TESTS.name


def test_each_fires_and_does_not_fire(groups: list[dict[str, Any]], tmp_path: Path) -> None:
    tests = write(tmp_path, groups)
    code, said = promtool(tmp_path, "check", "rules", "--lint-fatal", "rules.yaml")
    assert code == 0, said
    code, said = promtool(tmp_path, "test", "rules", tests)
    assert code == 0, said


def test_the_tests_notice_alerts_that_are_wrong(
    groups: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Where alerts never fire, always fire, or fire much too late, promtool names each of them."""
    for change in ({"expr": "vector(1) == 0"}, {"expr": "vector(1) > 0"}, {"for": "23h"}):
        changed = copy.deepcopy(groups)
        for rule in changed[0]["rules"]:
            rule.update(change)
        code, said = promtool(tmp_path, "test", "rules", write(tmp_path, changed))
        assert code != 0
        noticed = set(re.findall(r"alertname: (\w+)", said))
        assert noticed == {rule["alert"] for rule in groups[0]["rules"]}, change
