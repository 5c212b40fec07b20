from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ararat.cli import coverage_now, main, remote, session

FOUND = {
    "namespaces": ["wp"],
    "coverage": {"text": "1 backed up, 1 unprotected"},
    "volumes": [
        {
            "namespace": "wp",
            "pod": "db-0",
            "volume": "data",
            "claim": {"name": "data-db-0"},
            "coverage": "BackedUp",
            "storageClass": "fast",
            "capacity": "2Gi",
        },
        {
            "namespace": "wp",
            "pod": "",
            "volume": "spare",
            "claim": {"name": "spare"},
            "coverage": "Unprotected",
            "reason": "NotMounted",
            "message": "no pod mounts claim spare",
        },
    ],
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the controller was asked for."""
    specs: list[dict[str, Any]] = []

    async def show(api: object, settings: object, what: str, name: str) -> bytes:
        assert what == "coverage"
        specs.append(json.loads(name))
        return json.dumps(FOUND).encode()

    def run(settings: object, body: Any) -> Any:
        import asyncio

        return asyncio.run(body(None))

    monkeypatch.setattr(remote, "show", show)
    monkeypatch.setattr(session, "run", run)
    return specs


def test_every_volume_and_why(
    asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["coverage", "wp", "--default-volumes-to-fs-backup"]) == 0
    captured = capsys.readouterr()
    rows = [line.split() for line in captured.out.splitlines()]
    assert rows[1][:5] == ["wp/-/spare", "spare", "-", "-", "Unprotected"]
    assert rows[2] == ["wp/db-0/data", "data-db-0", "fast", "2Gi", "Read", "-"]
    assert "no pod mounts claim spare" in captured.out
    assert "1 would be read, 1 unprotected; namespaces: wp" in captured.err
    (spec,) = asked
    assert spec["includedNamespaces"] == ["wp"]
    assert spec["volumes"]["defaultPolicy"] == "OptOut"
    assert spec["volumes"]["unmounted"] == "Skip"


def test_only_what_is_not_read_for_machines(
    asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["coverage", "--unprotected", "-o", "json"]) == 0
    assert [v["volume"] for v in json.loads(capsys.readouterr().out)["volumes"]] == ["spare"]
    assert len(asked) == 1


POLICIES = """
policies:
  - conditions:
      storageClasses: [nfs-*]
      size: {max: 10Gi}
    action: Skip
  - action: Backup
"""


def test_policies_from_a_file(tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text(POLICIES)
    arguments = ["coverage", "--volume-policies", str(file), "--include-unmounted-claims"]
    assert main.run(arguments) == 0
    volumes = asked[0]["volumes"]
    assert volumes["unmounted"] == "Backup"
    assert [p["action"] for p in volumes["policies"]] == ["Skip", "Backup"]
    assert volumes["policies"][0]["conditions"]["size"] == {"max": "10Gi"}
    backup = ["backup", "create", "b", "--volume-policies", str(file), "--dry-run"]
    assert main.run(backup) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "is not YAML"),
        ("- action: Snapshot", "0.action: Input should be 'Skip' or 'Backup'"),
        ("- conditions: {size: {min: 2Gi, max: 1Gi}}\n  action: Skip", "min 2Gi is more than max"),
        ("just text", "valid list"),
    ],
)
def test_a_file_that_says_nothing_sensible_is_wrong_usage(
    tmp_path: Path, content: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text(content)
    assert main.run(["coverage", "--volume-policies", str(file)]) == 2
    assert message in capsys.readouterr().err


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["coverage", "--volume-policies", "/nowhere"]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert coverage_now.volumes(every=False, policies=None, unmounted=False).policies == []
