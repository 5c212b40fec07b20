from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import ignorefile
from agent.backup_job import LeftOut, patterns_in_force
from ararat.api import PodVolumeBackup
from ararat.api.base import Meta
from ararat.api.nodejob import (
    PodReference,
    PodVolumeBackupSpec,
    PodVolumeBackupStatus,
    RepositoryReference,
)


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield tmp_path, descriptor
    os.close(descriptor)


def test_its_patterns_are_read(volume: tuple[Path, int]) -> None:
    path, descriptor = volume
    assert ignorefile.read(descriptor) == ((), "")
    (path / ".araratignore").write_text("*.tmp\n# no\n/cache\n")
    assert ignorefile.read(descriptor) == (("*.tmp", "/cache"), "")
    (path / ".araratignore").write_text("[\n*.tmp\n")
    patterns, wrong = ignorefile.read(descriptor)
    assert patterns == ("*.tmp",)
    assert "no pattern: '['" in wrong
    (path / ".araratignore").write_bytes(b"\xff\xfe*\n")
    assert ignorefile.read(descriptor)[1] == ""


def test_nothing_outside_the_volume_and_nothing_that_blocks(volume: tuple[Path, int]) -> None:
    path, descriptor = volume
    file = path / ".araratignore"
    file.symlink_to("/etc/passwd")
    assert ignorefile.read(descriptor)[0] == ()
    assert "cannot be read" in ignorefile.read(descriptor)[1]
    file.unlink()
    os.mkfifo(file)
    assert ignorefile.read(descriptor) == ((), ".araratignore is not a file")
    file.unlink()
    file.mkdir()
    assert ignorefile.read(descriptor) == ((), ".araratignore is not a file")
    file.rmdir()
    file.write_text("x\n" * ignorefile.LARGEST)
    assert "64 KiB" in ignorefile.read(descriptor)[1]


def test_what_was_left_out_is_in_the_status() -> None:
    job = PodVolumeBackup(
        metadata=Meta(name="j", namespace="ararat"),
        spec=PodVolumeBackupSpec(
            backup="b",
            backup_uid="u",
            node="n",
            pod=PodReference(namespace="ns", name="p", uid="u"),
            volume="v",
            repository=RepositoryReference(
                location="l", location_id="i", directory="d", password_secret="s"
            ),
            host="h",
            excludes=["*.tmp"],
            exclude_caches=True,
        ),
        status=PodVolumeBackupStatus(),
    )
    assert patterns_in_force(job, LeftOut(("/x", "*.tmp"))) == ["*.tmp", "/x", "CACHEDIR.TAG"]
