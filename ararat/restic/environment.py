"""The child's environment: empty, but for what is listed here.

Problem: restic takes options and secrets from dozens of variables; what we were started with must
neither leak into it nor change what it does.
Decision: a fresh environment: scratch, progress interval, and Go's limits worked out from the
container's real ones. Every session has its own cache setting in argv, so HOME is not needed.
Limits: Go's memory limit is soft. It makes restic collect garbage in time, not refuse work.
"""

from __future__ import annotations

import math
from pathlib import Path

from .cgroup import Limits
from .settings import MIB, Settings

#: Below this the collector would run all the time; restic needs 35 MiB to list an empty repository.
_LEAST_MEMORY = 96 * MIB
#: Go's limit leaves room for what its runtime does not count (stacks, page tables, cache pages).
_SHARE = 0.85
#: With little memory restic's own 50 costs more than it gains.
_TIGHT = 512 * MIB
_TIGHT_GOGC = 20


def child_environment(scratch: Path, *, limits: Limits, settings: Settings) -> dict[str, str]:
    """All that restic gets to see. ``limits`` are the container's, shared by all jobs."""
    environment = {
        "TMPDIR": str(scratch),
        # Status lines per second: enough for progress, no load.
        "RESTIC_PROGRESS_FPS": "1",
        # Nothing is found by PATH, but an unset one makes Go fall back to the working directory.
        "PATH": "/nonexistent",
        # Where restic prints a time without its zone, it is this one.
        "TZ": "UTC",
    }
    if limits.cpu is not None:
        environment["GOMAXPROCS"] = str(max(1, math.ceil(limits.cpu)))
    share = memory_share(limits, settings)
    if share is not None:
        environment["GOMEMLIMIT"] = f"{int(share * _SHARE) // MIB}MiB"
        if share < _TIGHT:
            environment["GOGC"] = str(_TIGHT_GOGC)
    return environment


def memory_share(limits: Limits, settings: Settings) -> int | None:
    """Bytes that one restic may take; None where there is no limit."""
    if limits.memory is None:
        return None
    free = limits.memory - settings.reserved_memory
    return max(_LEAST_MEMORY, free // max(1, settings.concurrency))
