"""What the chart, the Dockerfiles and the pins say about each other; no tool is needed for it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import ararat

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "charts" / "ararat"
PARTS = ("agent", "controller", "cli", "dev")


def pins(part: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{part}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^ ]+)", text, re.MULTILINE))


def test_versions_follow_the_package():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == ararat.__version__
    assert chart["appVersion"] == ararat.__version__


def test_every_value_is_in_the_schema():
    """Strict schema: no value without a rule, no rule without a value."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())

    def compare(value: dict[str, Any], rule: dict[str, Any], path: str) -> None:
        if "$ref" in rule:
            rule = schema["definitions"][rule["$ref"].rpartition("/")[2]]
        if "properties" not in rule:
            return
        assert rule["additionalProperties"] is False, path
        assert set(rule["properties"]) ^ set(value) <= {"global", "claims"}, path
        for name, child in rule["properties"].items():
            if isinstance(value.get(name), dict):
                compare(value[name], child, f"{path}.{name}")

    compare(values, schema, "")


@pytest.mark.parametrize("part", PARTS)
def test_requirements_are_hashed_and_name_no_host(part):
    text = (ROOT / "requirements" / f"{part}.txt").read_text()
    assert "://" not in text
    assert "--index-url" not in text
    blocks = re.split(r"\n(?=[a-z0-9])", text.strip())
    assert len(blocks) == len(pins(part)) > 10
    for block in blocks:
        assert "--hash=sha256:" in block, block


def test_parts_agree_on_versions():
    dev = pins("dev")
    for part in PARTS:
        assert pins(part).items() <= dev.items(), f"run tools/requirements.sh ({part})"


@pytest.mark.parametrize("part", ["agent", "controller"])
def test_images_hold_no_command_line_and_no_test_tools(part):
    assert not {"typer", "rich", "pytest", "mypy"} & pins(part).keys()


@pytest.mark.parametrize("part", ["agent", "controller"])
def test_dockerfile(part):
    text = (ROOT / f"Dockerfile.{part}").read_text()
    bases = set(re.findall(r"^FROM (\S+)", text, re.MULTILINE))
    assert bases == {"python:3.11-slim-bookworm", "restic/restic:0.19.1"}
    assert f'ENTRYPOINT ["/opt/ararat/bin/python", "-m", "{part}"]' in text
    assert f"requirements/{part}.txt" in text
    assert "--require-hashes" in text
    copied = set(re.findall(r"^COPY (\w+)/ ", text, re.MULTILINE))
    assert copied == {"ararat", part}
    user = re.findall(r"^USER (\d+:\d+)$", text, re.MULTILINE)
    assert user == [{"agent": "0:0", "controller": "65532:65532"}[part]]


def test_the_gate_stands_where_pods_start_it():
    from ararat import gate

    path = gate.COMMAND[-1]
    assert path in (ROOT / "Dockerfile.agent").read_text()
    assert (ROOT / "agent" / "wait.py").is_file()
