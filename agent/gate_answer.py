"""Writes the agent's word into a pod's gate.

Problem: the gate's emptyDir lies on the node's disk below the kubelet's root; the agent writes
there as root, and the pod must be able to read a whole answer or none, never half of one.
Decision: the directory is opened component by component without following links, the answer goes
to a temporary file made with O_EXCL beside it, world-readable, and is renamed over the old one. The
directory is never made: where it is missing, the pod is not (or no longer) there. Outcomes are
synced, because a rebooted node runs the gate again and must find them.
Limits: one writer per volume; two would only replace each other's whole answers.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ararat.errors import AraratError
from ararat.gate import VOLUME, GateAnswer, GatePhase, answer_file
from ararat.naming import is_dns_label

from .directory import opened
from .volumes import EMPTY_DIR

_LASTING = (GatePhase.COMPLETED, GatePhase.FAILED, GatePhase.RELEASED, GatePhase.REFUSED)


class GateUnreachable(AraratError):
    """The gate's directory is not there (yet, or any more)."""

    default_reason = "GateUnreachable"


def write_answer(kubelet_dir: Path, pod_uid: str, answer: GateAnswer) -> None:
    """Replaces the answer for ``answer.volume``. Raises GateUnreachable."""
    if not is_dns_label(answer.volume):
        raise ValueError(f"not the name of a volume: {answer.volume!r}")
    try:
        with opened(kubelet_dir, "pods", pod_uid, "volumes", EMPTY_DIR, VOLUME) as directory:
            _replace(directory, answer)
    except OSError as error:
        raise GateUnreachable(
            f"The gate of pod {pod_uid} cannot be written: {error.strerror or error}."
        ) from error


def _replace(directory: int, answer: GateAnswer) -> None:
    name = answer_file(answer.volume)
    temporary = f".{name}.new"
    # Left over by an agent that was killed between the two steps.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o644, dir_fd=directory)
    try:
        # Whatever the umask says: the gate runs as any user.
        os.fchmod(fd, 0o644)
        content = answer.encode()
        while content:
            content = content[os.write(fd, content) :]
        if answer.phase in _LASTING:
            os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    if answer.phase in _LASTING:
        os.fsync(directory)
