"""What the container may use, and whether the kernel has killed in it.

Decision: the files of cgroup v2 and v1 are read directly; the tightest limit between our own group
and the root of what we can see counts. In a pod with its own cgroup namespace that is the
container's limit; on a bare machine mostly none.
Limits: None means "no limit found", also where nothing could be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: v1 writes a number near 2^63 where there is no limit.
_NO_LIMIT = 1 << 60
ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Limits:
    #: Bytes.
    memory: int | None = None
    #: Cores, as a fraction.
    cpu: float | None = None


def limits(root: Path = ROOT, own: Path = Path("/proc/self/cgroup")) -> Limits:
    paths = _own_paths(own)
    memory = [
        value
        for folder in _folders(root, paths, "memory")
        for name in ("memory.max", "memory.limit_in_bytes")
        if (value := _number(folder / name)) is not None and value < _NO_LIMIT
    ]
    cpu = [
        value
        for folder in _folders(root, paths, "cpu")
        for value in (_quota_v2(folder), _quota_v1(folder))
        if value is not None
    ]
    return Limits(memory=min(memory, default=None), cpu=min(cpu, default=None))


def oom_kills(root: Path = ROOT, own: Path = Path("/proc/self/cgroup")) -> int | None:
    """How often the kernel has killed for memory in our group; compare before and after."""
    for folder in _folders(root, _own_paths(own), "memory"):
        for name in ("memory.events", "memory.oom_control"):
            try:
                fields = dict(line.split() for line in (folder / name).read_text().splitlines())
                return int(fields["oom_kill"])
            except (OSError, ValueError, KeyError):
                continue
    return None


def _own_paths(own: Path) -> dict[str, str]:
    """Our group by controller; the unified hierarchy of v2 is under ""."""
    found: dict[str, str] = {}
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return {"": "/"}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


def _folders(root: Path, paths: dict[str, str], controller: str) -> Iterator[Path]:
    """Our group's folder and all above it, innermost first, in v1's hierarchy and in v2's."""
    for base, path in (
        (root / controller, paths.get(controller)),
        (root, paths.get("")),
    ):
        if path is None:
            continue
        # Without a namespace of its own the path is the host's, and only the root is mounted here.
        folder = base / path.strip("/")
        while folder.is_relative_to(base):
            if folder.is_dir():
                yield folder
            if folder == base:
                break
            folder = folder.parent


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None  # "max" among them


def _quota_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _quota_v1(folder: Path) -> float | None:
    quota = _number(folder / "cpu.cfs_quota_us")
    period = _number(folder / "cpu.cfs_period_us")
    return quota / period if quota is not None and quota > 0 and period else None
