"""The agent's program in another time: every time that a store says is moved.

``python -m tests.component.controller.life.moved maintain``, by ``ARARAT_TEST_MOVED`` seconds.

With ``ARARAT_TEST_CGROUP``, the directory of its cgroup, it comes to harm as soon as restic's lock
is stored, while restic still waits for the answer: with ``ARARAT_TEST_HARM`` ``starve`` the cgroup
gets no more memory than it has, with ``kill`` everything in it is killed.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from agent.__main__ import main
from ararat.blob import directory
from ararat.blob.filesystem import FilesystemStore
from tests.cluster.cgroups import starve

VARIABLE = "ARARAT_TEST_MOVED"
CGROUP = "ARARAT_TEST_CGROUP"
HARM = "ARARAT_TEST_HARM"
_really = directory._time
_really_put = FilesystemStore.put
_by = timedelta(seconds=float(os.environ[VARIABLE]))


def _time(found: os.stat_result) -> datetime:
    return _really(found) + _by


async def _put(self: FilesystemStore, name: str, *args: Any, **kwargs: Any) -> Any:
    made = await _really_put(self, name, *args, **kwargs)
    if "/locks/" in name:
        harm(Path(os.environ[CGROUP]))
    return made


def harm(group: Path) -> None:
    if os.environ[HARM] == "starve":
        starve(group)
        return
    for pid in sorted(int(one) for one in (group / "cgroup.procs").read_text().split()):
        if pid != os.getpid():
            os.kill(pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    directory._time = _time
    if CGROUP in os.environ:
        FilesystemStore.put = _put  # type: ignore[method-assign]
    sys.exit(main())
