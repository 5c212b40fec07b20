from __future__ import annotations

from pathlib import Path

import pytest

from ararat.restic import version
from ararat.restic.errors import ResticMissing
from ararat.restic.version import Binary, Feature, find_restic, parse_version


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ('{"message_type":"version","version":"0.19.1","go_version":"go1.26"}', (0, 19, 1)),
        ('{"version":"0.19.1-dev (compiled manually)"}', (0, 19, 1)),
        ("restic 0.14.0 compiled with go1.19.8 on linux/amd64", (0, 14, 0)),
        ("warning\nrestic 0.16 compiled", (0, 16, 0)),
        ("", None),
        ("command not found", None),
        ("[]", None),
    ],
)
def test_versions(printed: str, expected: tuple[int, int, int] | None) -> None:
    assert parse_version(printed) == expected


def fake(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


async def test_one_that_is_too_old_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = fake(tmp_path / "restic", "echo restic 0.16.4 compiled with go")
    monkeypatch.setenv(version.VARIABLE, str(old))
    with pytest.raises(ResticMissing) as caught:
        await find_restic()
    assert "0.16.4" in caught.value.message
    assert "install restic 0.18 or newer" in caught.value.message
    assert "\n" not in caught.value.message


async def test_none_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(version.VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ResticMissing, match="not on PATH"):
        await find_restic()


async def test_one_that_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(version.VARIABLE, str(fake(tmp_path / "restic", "exit 3")))
    with pytest.raises(ResticMissing, match="does not work"):
        await find_restic()


async def test_it_is_asked_once_and_again_when_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    program = fake(tmp_path / "restic", f"echo x >> {log}; echo restic 0.18.1")
    monkeypatch.setenv(version.VARIABLE, str(program))
    assert (await find_restic()).version == (0, 18, 1)
    assert (await find_restic()).version_text == "0.18.1"
    assert log.read_text() == "x\n"
    program.unlink()
    fake(program, "echo restic 0.19.0")
    assert (await find_restic()).version == (0, 19, 0)


def test_features() -> None:
    assert Binary(Path("/r"), (0, 19, 0)).has(Feature.MORE_COMPRESSION_LEVELS)
    assert not Binary(Path("/r"), (0, 18, 1)).has(Feature.MORE_COMPRESSION_LEVELS)
