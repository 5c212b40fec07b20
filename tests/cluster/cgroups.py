"""The cgroups a node's kubelet works in.

Two kubelets that share a cgroup root remove each other's pods as orphans. So each node has a root
of its own, `/ararat-<cluster>/<node>`, that exists in every cgroup v1 hierarchy.
Limits: cgroup v1 only, as on the machines this project is built and checked on.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from tests.cluster.errors import ClusterError

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
    """The name of the cluster's directory in each hierarchy."""
    return f"ararat-{cluster}"


def create(cluster: str, *, node: str) -> str:
    """Make a node's cgroups; returns the kubelet's cgroupRoot."""
    mounted = hierarchies("cgroup")
    if not mounted:
        raise ClusterError(
            "this machine has no cgroup v1 hierarchy, which the local cluster needs; "
            "set ARARAT_E2E_KUBECONFIG to use another"
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
