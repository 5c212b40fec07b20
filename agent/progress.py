"""How far a running job is: from restic's words to what status, gate and watchdog need.

Decision: restic's callback only stores numbers here, without I/O. Whoever publishes them asks for
a snapshot in its own rhythm. A job *moves* when any of the numbers changes; the deadline is about
that, not about total time.
Limits: the rate is that of the last ten seconds, so that it follows what is happening now.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from ararat.api.nodejob import Progress
from ararat.human import progress_text, size

_WINDOW_SECONDS = 10.0


def finished(*, bytes_done: int, files_done: int) -> Progress:
    """The progress of a job that has ended well: everything, at no rate."""
    return Progress(
        total_bytes=bytes_done,
        bytes_done=bytes_done,
        total_files=files_done,
        files_done=files_done,
        text=size(bytes_done),
    )


class ProgressMeter:
    """Numbers of one run."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._numbers = (0, 0, 0, 0)
        self._samples: deque[tuple[float, int]] = deque()
        self.moved_at = clock()

    def update(
        self,
        *,
        bytes_done: int,
        total_bytes: int,
        files_done: int,
        total_files: int,
    ) -> None:
        """What restic said last."""
        numbers = (bytes_done, total_bytes, files_done, total_files)
        now = self._clock()
        if numbers != self._numbers:
            self._numbers = numbers
            self.moved_at = now
        self._samples.append((now, bytes_done))
        while len(self._samples) > 2 and now - self._samples[0][0] > _WINDOW_SECONDS:
            self._samples.popleft()

    def touch(self) -> None:
        """Something moved that has no number (a snapshot is being written, files are checked)."""
        self.moved_at = self._clock()

    def idle_seconds(self) -> float:
        return self._clock() - self.moved_at

    def snapshot(self) -> Progress:
        bytes_done, total_bytes, files_done, total_files = self._numbers
        return Progress(
            total_bytes=total_bytes,
            bytes_done=bytes_done,
            total_files=total_files,
            files_done=files_done,
            bytes_per_second=self._rate(),
            text=progress_text(bytes_done, total_bytes),
        )

    def _rate(self) -> int:
        if len(self._samples) < 2:
            return 0
        (start, first), (end, last) = self._samples[0], self._samples[-1]
        # Measured up to now: a job that has stopped has a falling rate, not its last good one.
        seconds = max(end, self._clock()) - start
        return max(0, int((last - first) / seconds)) if seconds > 0 else 0
