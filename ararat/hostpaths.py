"""Which directories of a node may be backed up, though no kubelet mounts them. Pure.

Problem: a hostPath volume is whatever somebody wrote into a pod, ``/`` and ``/etc/shadow`` among
it; but on some clusters (k3s, kind, minikube) all claims are hostPath volumes below one directory.
Decision: an administrator lists directories (chart value ``agent.hostPaths``); only what lies below
one of them is read or written. The controller plans by the same list that the agents obey.
Limits: compares names. That no link leads out is up to whoever opens the directory.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath


def parse(text: str) -> tuple[PurePosixPath, ...]:
    """Absolute directories, separated by colons. Raises ValueError naming one that will not do."""
    found = [part.strip() for part in text.split(":") if part.strip()]
    for part in found:
        path = PurePosixPath(part)
        if not path.is_absolute() or ".." in path.parts or len(path.parts) < 2:
            raise ValueError(part)
    return tuple(PurePosixPath(part) for part in found)


def prefix_of(path: str, allowed: Iterable[PurePosixPath]) -> PurePosixPath | None:
    """The listed directory that ``path`` lies in (or is); the longest of several."""
    wanted = PurePosixPath(path)
    if ".." in wanted.parts:
        return None
    fitting = [prefix for prefix in allowed if wanted.is_relative_to(prefix)]
    return max(fitting, key=lambda prefix: len(prefix.parts), default=None)
