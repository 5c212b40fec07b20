"""The proof must be able to fail: a walk sees every kind of change, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.support import walker
from tests.e2e.support.walks import Walk, same

_SUPPORT = Path(walker.__file__).parent


def walk(root: Path) -> Walk:
    return Walk.parse("\n".join(json.dumps(entry) for entry in walker.walk(str(root))))


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    root = tmp_path / "volume"
    (root / "folder").mkdir(parents=True)
    (root / "folder/file").write_bytes(b"content")
    (root / "other").write_bytes(b"")
    os.link(root / "folder/file", root / "second name")
    (root / "link").symlink_to("folder/file")
    return root


def test_two_walks_of_one_tree_are_the_same(volume: Path) -> None:
    before = walk(volume)
    same(before, walk(volume))
    assert before.files == 3
    assert before.bytes == len(b"content"), "an inode with two names counts once"


def _rewrite(root: Path) -> None:
    times = os.stat(root / "folder/file")
    (root / "folder/file").write_bytes(b"CONTENT")
    os.utime(root / "folder/file", ns=(times.st_atime_ns, times.st_mtime_ns))


def _touch(root: Path) -> None:
    moment = os.stat(root / "other").st_mtime_ns + 1
    os.utime(root / "other", ns=(moment, moment))


def _split(root: Path) -> None:
    times, folder = os.stat(root / "folder/file"), os.stat(root)
    (root / "second name").unlink()
    (root / "second name").write_bytes(b"content")
    os.utime(root / "second name", ns=(times.st_atime_ns, times.st_mtime_ns))
    os.utime(root, ns=(folder.st_atime_ns, folder.st_mtime_ns))


def _redirect(root: Path) -> None:
    (root / "link").unlink()
    (root / "link").symlink_to("other")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_rewrite, "'folder/file': sha256"),
        (_touch, "'other': mtime_ns"),
        (lambda root: (root / "other").chmod(0o4711), "'other': mode"),
        (lambda root: (root / "other").unlink(), "'other' is missing"),
        (lambda root: (root / "new").touch(), "'new' was not there before"),
        (_split, "'second name': same_as"),
        (_redirect, "'link': target"),
        (lambda root: os.utime(root, ns=(1, 1)), "'.': mtime_ns"),
    ],
)
def test_every_change_is_named(volume: Path, change: Callable[[Path], object], named: str) -> None:
    before = walk(volume)
    change(volume)
    assert any(line.startswith(named) for line in before.differences(walk(volume)))


def test_names_that_are_not_utf8_survive_the_way_through_json(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/\xff\xfe\n"
    Path(os.fsdecode(raw)).write_bytes(b"x")
    printed = subprocess.run(
        [sys.executable, str(_SUPPORT / "walker.py"), str(tmp_path)],
        capture_output=True,
        check=True,
    ).stdout.decode()
    assert os.fsdecode(b"\xff\xfe\n") in Walk.parse(printed).entries


class TestGuard:
    def run(self, volume: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        command = ["--volume", str(volume), "--first", f"touch {volume}/made", "--", "echo", "UP"]
        return subprocess.run(
            [sys.executable, str(_SUPPORT / "guard.py"), *command],
            env={"PATH": os.environ["PATH"], **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def test_refuses_an_empty_volume(self, tmp_path: Path) -> None:
        done = self.run(tmp_path)
        assert done.returncode == 1
        assert "EMPTY VOLUME" in done.stdout
        assert "UP" not in done.stdout.splitlines()

    def test_fills_an_empty_volume_at_the_first_installation(self, tmp_path: Path) -> None:
        done = self.run(tmp_path, FIRST_INSTALL="yes")
        assert done.stdout.splitlines()[-1] == "UP"
        assert (tmp_path / "made").exists()

    def test_keeps_what_it_saw_and_becomes_the_server(self, volume: Path, tmp_path: Path) -> None:
        kept = tmp_path / "records"
        kept.mkdir()
        before = walk(volume)
        done = self.run(volume, GUARD_RECORDS=str(kept))
        assert done.stdout.splitlines()[-1] == "UP"
        same(before, Walk.parse((kept / "start-1.jsonl").read_text()))
