"""Daemons that find no restic they can use; and what they leave behind if they crash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ararat.restic.version import VARIABLE

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "NODE_NAME": "n",
    "POD_NAME": "p",
    "POD_UID": "u",
    "ARARAT_GATE_IMAGE": "agent:test",
    "KUBECONFIG": "/nonexistent",
}

#: Says what it is as releases before 0.17 do, and what the daemon that asks may leave behind.
OLD = """#!/bin/sh
grep 'core file' /proc/$PPID/limits > "$0.limits"
echo 'restic 0.17.3 compiled with go1.23 on linux/amd64'
"""


@pytest.mark.parametrize("program", ["agent", "controller"])
def test_too_old_a_restic_ends_a_daemon_at_once(work: Path, program: str) -> None:
    restic = work / "restic"
    restic.write_text(OLD)
    restic.chmod(0o755)
    ended = subprocess.run(
        [sys.executable, "-m", program],
        env={**ENVIRONMENT, VARIABLE: str(restic), "ARARAT_KUBELET_DIR": str(work)},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert f"{restic.resolve()} is restic 0.17.3, which is too old: install restic 0.18" in line
    soft, hard = (work / "restic.limits").read_text().split()[4:6]
    assert soft == hard in ("0", "1")
