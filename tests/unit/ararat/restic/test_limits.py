"""What the container may use, and what the child is told of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ararat.restic.cgroup import Limits, limits, oom_kills
from ararat.restic.environment import child_environment, memory_share
from ararat.restic.settings import MIB, Settings


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def own(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "self-cgroup"
    path.write_text(text)
    return path


def test_version_2_in_a_container(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "fs",
        {
            "memory.max": "268435456\n",
            "cpu.max": "150000 100000\n",
            "memory.events": "low 0\noom 2\noom_kill 1\n",
        },
    )
    file = own(tmp_path, "0::/\n")
    assert limits(root, file) == Limits(memory=256 * MIB, cpu=1.5)
    assert oom_kills(root, file) == 1


def test_the_tightest_limit_above_us_counts(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "fs",
        {
            "kubepods/memory.max": "max",
            "kubepods/pod/memory.max": "1000000000",
            "kubepods/pod/c/memory.max": "max",
            "kubepods/pod/c/cpu.max": "max 100000",
            "kubepods/pod/c/memory.events": "oom_kill 0",
        },
    )
    file = own(tmp_path, "0::/kubepods/pod/c\n")
    assert limits(root, file) == Limits(memory=1_000_000_000, cpu=None)
    assert oom_kills(root, file) == 0


def test_version_1(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "fs",
        {
            "memory/memory.limit_in_bytes": "536870912",
            "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
            "cpu/cpu.cfs_quota_us": "50000",
            "cpu/cpu.cfs_period_us": "100000",
        },
    )
    # The host's path, which is not mounted in the container.
    file = own(tmp_path, "4:memory:/kubepods/x\n2:cpu,cpuacct:/kubepods/x\n")
    assert limits(root, file) == Limits(memory=512 * MIB, cpu=0.5)
    assert oom_kills(root, file) == 3


def test_version_1_without_limits(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "fs",
        {
            "memory/memory.limit_in_bytes": "9223372036854771712",
            "cpu/cpu.cfs_quota_us": "-1",
            "cpu/cpu.cfs_period_us": "100000",
        },
    )
    assert limits(root, own(tmp_path, "4:memory:/\n2:cpu:/\n")) == Limits()


def test_nothing_to_read(tmp_path: Path) -> None:
    assert limits(tmp_path / "none", tmp_path / "none") == Limits()
    assert oom_kills(tmp_path / "none", tmp_path / "none") is None


def environment(memory: int | None, cpu: float | None = None) -> dict[str, str]:
    return child_environment(
        Path("/scratch"), limits=Limits(memory, cpu), settings=Settings(concurrency=2)
    )


def test_without_limits_go_decides() -> None:
    assert environment(None) == {
        "TMPDIR": "/scratch",
        "RESTIC_PROGRESS_FPS": "1",
        "PATH": "/nonexistent",
        "TZ": "UTC",
    }


@pytest.mark.parametrize(("cpu", "procs"), [(0.1, "1"), (1.0, "1"), (1.5, "2"), (8.0, "8")])
def test_processors(cpu: float, procs: str) -> None:
    assert environment(None, cpu)["GOMAXPROCS"] == procs


def test_jobs_share_what_we_do_not_need_ourselves() -> None:
    assert memory_share(Limits(1024 * MIB), Settings(concurrency=2)) == 448 * MIB
    found = environment(1024 * MIB)
    assert found["GOMEMLIMIT"] == "380MiB"
    assert found["GOGC"] == "20"
    assert "GOGC" not in environment(4096 * MIB)


def test_a_limit_below_what_restic_needs_is_not_passed_on() -> None:
    assert environment(64 * MIB)["GOMEMLIMIT"] == "81MiB"
