"""Which worker runs which file, so that few API servers are started.

Problem: an API server costs seconds of processor time to start. The tests of one directory share
one, but each worker has its own, and with files dealt out one after the other every worker passes
through every directory.
Decision: a worker stays with a directory while it has files left, then takes up one that nobody
works at, and only then helps with the one that has most files left.
Limits: for `--dist loadfile`; with no workers, files run in order as ever.
"""

from __future__ import annotations

from collections import Counter

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController


class DirectoryScheduling(LoadFileScheduling):
    """Files are dealt out by directory."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        super().__init__(config, log)
        self._at: dict[WorkerController, str] = {}

    def _assign_work_unit(self, node: WorkerController) -> None:
        others = {at for worker, at in self._at.items() if worker is not node}
        directory = next_directory(
            list(map(directory_of, self.workqueue)), mine=self._at.get(node), others=others
        )
        self._at[node] = directory
        first = next(file for file in self.workqueue if directory_of(file) == directory)
        self.workqueue.move_to_end(first, last=False)
        super()._assign_work_unit(node)


def directory_of(file: str) -> str:
    """Of ``tests/component/kube/test_client.py``, all but the file's name."""
    return file.rpartition("/")[0]


def next_directory(waiting: list[str], *, mine: str | None, others: set[str]) -> str:
    """The directory to take a file from, of those of the ``waiting`` files, in their order."""
    if mine in waiting:
        return mine
    untouched = [one for one in waiting if one not in others]
    return untouched[0] if untouched else Counter(waiting).most_common(1)[0][0]
