"""The cgroups a node's kubelet works in.

Two kubelets that share a cgroup root remove each other's pods as orphans. So each node has a root
of its own, `/ararat-<cluster>-<cache>/<node>`, that exists in every cgroup v1 hierarchy.
Limits: cgroup v1 only, as on the machines this project is built and checked on.
"""

from __future__ import annotations

import contextlib
import os
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.errors import ClusterError
from tests.cluster.toolchain import cache_root

_GONE_TIMEOUT = 15.0


def hierarchies(*kinds: str) -> list[Path]:
    """The mount points of the hierarchies of these kinds (`cgroup` is v1, `cgroup2` is v2)."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] in kinds:
            found.append(Path(before.split()[4]))
    return found


def top(cluster: str) -> str:
    """The name of the cluster's directory in each hierarchy.

    Another cache on this machine may have a cluster of the same name.
    """
    return f"ararat-{cluster}-{zlib.crc32(bytes(cache_root())):08x}"


def create(cluster: str, *, node: str) -> str:
    """Make a node's cgroups; returns the kubelet's cgroupRoot."""
    mounted = hierarchies("cgroup")
    if not mounted:
        raise ClusterError(
            "this machine has no cgroup v1 hierarchy, which the local cluster needs; "
            "set KUBECONFIG to test on another"
        )
    for hierarchy in mounted:
        parent = hierarchy
        for name in (top(cluster), node):
            directory = parent / name
            directory.mkdir(exist_ok=True)
            for setting in ("cpuset.cpus", "cpuset.mems"):
                if (directory / setting).exists():
                    (directory / setting).write_text((parent / setting).read_text())
            parent = directory
    return f"/{top(cluster)}/{node}"


@contextlib.contextmanager
def memory_group(name: str) -> Iterator[Path]:
    """A cgroup of its own, without a limit yet.

    Whoever's id is written to ``cgroup.procs`` of the directory is in it, and so are its children.
    """
    found = [one for one in hierarchies("cgroup") if (one / "memory.limit_in_bytes").exists()]
    if not found:
        raise ClusterError("this machine has no cgroup v1 hierarchy for memory")
    directory = found[0] / top(name)
    directory.mkdir()
    try:
        yield directory
    finally:
        deadline = time.monotonic() + _GONE_TIMEOUT
        while True:
            try:
                directory.rmdir()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


def starve(directory: Path) -> int:
    """Limit a cgroup to what it has: who asks for more brings the kernel's killer upon it."""
    with contextlib.suppress(OSError):  # what files left in memory would be room for more
        (directory / "memory.force_empty").write_text("0")
    limit = int((directory / "memory.usage_in_bytes").read_text())
    while True:
        try:
            (directory / "memory.limit_in_bytes").write_text(str(limit))
            return limit
        except OSError:  # it has grown meanwhile
            limit += 1 << 20


def killed_for_memory(directory: Path) -> int:
    """How many processes of the cgroup the kernel has killed so far."""
    for line in (directory / "memory.oom_control").read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == "oom_kill":
            return int(value)
    raise ClusterError(f"the kernel does not count what it kills in {directory}")


def exists(cluster: str) -> bool:
    """Whether a cgroup of the cluster is left in any hierarchy."""
    return any(directory.exists() for directory in _tops(cluster))


def remove(cluster: str) -> None:
    """Remove all cgroups of a cluster whose processes are dead; waits while they still die."""
    deadline = time.monotonic() + _GONE_TIMEOUT
    while exists(cluster):
        for root in _tops(cluster):
            for directory, _, _ in os.walk(root, topdown=False):
                with contextlib.suppress(OSError):
                    Path(directory).rmdir()
        if time.monotonic() > deadline:
            raise ClusterError(
                f"the cgroup {top(cluster)} still has processes; see "
                f"/sys/fs/cgroup/*/{top(cluster)}/*/cgroup.procs"
            )
        if exists(cluster):
            time.sleep(0.1)


def _tops(cluster: str) -> list[Path]:
    # runc makes the same directories in a v2 hierarchy that is mounted beside those of v1.
    return [hierarchy / top(cluster) for hierarchy in hierarchies("cgroup", "cgroup2")]
