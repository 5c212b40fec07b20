"""What of a cluster is still on this machine: to prove that nothing is."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cluster import cgroups
from tests.cluster.process import run
from tests.cluster.toolchain import cache_root


def leftovers(cluster: str, *, link: str) -> list[str]:
    """Processes, mounts, interfaces, routes, cgroups and files that name the cluster."""
    directory = str(cache_root() / "clusters" / cluster)
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        if _read(process / "stat").rpartition(")")[2].split()[:1] == ["Z"]:
            continue
        if f"{directory}/" in _read(process / "cmdline"):
            found.append(f"process {process.name}: {_read(process / 'cmdline')[:80]}")
        if f"/{cgroups.top(cluster)}/" in _read(process / "cgroup"):
            found.append(f"process {process.name} in its cgroup")
        if f"{directory}/" in _read(process / "mountinfo"):
            found.append(f"a mount that process {process.name} sees")
    links = json.loads(run(["ip", "-json", "link"]))
    found += [f"interface {link}" for interface in links if interface["ifname"] == link]
    if link in run(["ip", "route"]).split():
        found.append(f"a route over {link}")
    if cgroups.exists(cluster):
        found.append("a cgroup")
    if Path(directory).exists():
        found.append(directory)
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").replace("\0", " ")
    except OSError:
        return ""
