"""One command, and what it took: wall time, CPU time, memory.

Memory is the largest sum of resident sizes of the process and everything below it, looked at every
30 ms; CPU time is the kernel's account of all of them.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_EVERY = 0.03


@dataclass(frozen=True)
class Usage:
    wall: float
    cpu: float
    peak: int


class Failed(Exception):
    """The measured command did not succeed."""


def run(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, stdin: str = ""
) -> tuple[Usage, str]:
    """Run to the end; its usage and what it printed. Raises Failed."""
    began = time.monotonic()
    child = subprocess.Popen(
        list(argv),
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    peak = 0
    ended = threading.Event()

    def look() -> None:
        nonlocal peak
        while not ended.wait(_EVERY):
            peak = max(peak, sum(map(resident, _tree(child.pid))))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(stdin)
    child.stdin.close()
    printed = child.stdout.read()
    _, status, used = os.wait4(child.pid, 0)
    wall = time.monotonic() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    ended.set()
    watcher.join()
    if child.returncode != 0:
        raise Failed(f"{argv[0]} … ended with {child.returncode}:\n{printed[-2000:]}")
    return Usage(wall, used.ru_utime + used.ru_stime, peak), printed


def resident(pid: int) -> int:
    """Bytes; 0 where the process is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def _tree(pid: int) -> list[int]:
    found = [pid]
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            children = Path(f"/proc/{pid}/task/{task}/children").read_text().split()
            for child in children:
                found += _tree(int(child))
    except OSError:
        pass
    return found
