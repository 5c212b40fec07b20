"""What our processes in a cluster do before anything else.

Problem: a daemon without a restic that it can use would find out job by job, and one that crashes
would leave keys and passwords in a core dump on its node.
Decision: restic is asked for its version first, and a daemon that cannot use it does not start; no
process of ours, nor a child, leaves a core dump.
Limits: a restic that was killed while it was asked (a node short of memory) is asked again by the
first job.
"""

from __future__ import annotations

import contextlib

from ararat.errors import Retryable
from ararat.restic import launch
from ararat.restic.version import find_restic


def prepare() -> None:
    """For every process of ours that gets to know a key or a password."""
    launch.leave_no_core_dump()


async def need_restic() -> None:
    """Raises ResticMissing with one sentence that says what to install."""
    with contextlib.suppress(Retryable):
        await find_restic()
