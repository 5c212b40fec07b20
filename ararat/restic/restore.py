"""``restic restore`` into one volume.

Decision: restic's working directory is the volume, entered by descriptor, and the target is ``.``;
under Landlock it can create and change files nowhere else. Code 1 with a summary and failed paths
is a result: most of the tree is there, and the caller decides what the missing files mean.
Limits: the root directory's own owner, mode and times are not in the snapshot; the agent keeps
them.
"""

from __future__ import annotations

from typing import Any

import structlog

from . import arguments, messages, sandbox, tuning
from .backup import open_directory
from .models import (
    PATHS_KEPT,
    OnRestoreProgress,
    PathError,
    RestoreRequest,
    RestoreResult,
)
from .runner import Runner

_WHAT = "restoring"
log = structlog.get_logger()


async def run(
    runner: Runner, request: RestoreRequest, *, on_progress: OnRestoreProgress | None
) -> RestoreResult:
    session = runner.session
    with open_directory(request.target) as volume:
        confined = sandbox.build(
            binary=session.binary.path,
            scratch=session.scratch,
            cache=session.cache_dir,
            target=volume,
            confinement=request.confinement,
        )
        chosen = request.tuning
        if chosen is None:
            chosen, why = tuning.for_restore(request.expected, runner.machine)
            log.info("restore-tuned", why=why, connections=chosen.connections)
        seen = _Seen(on_progress)
        outcome = await runner.run(
            arguments.restore(request),
            what=_WHAT,
            on_line=seen.line,
            on_error=seen.error,
            directory=volume,
            confined=confined,
            connections=chosen.connections,
            accept=(0, 1),
        )
    if session.blobs.fatal is not None:
        raise session.blobs.fatal
    if not seen.summary or (outcome.end.code != 0 and not seen.failed_count):
        raise runner.failure(outcome, _WHAT)
    fields: dict[str, Any] = messages.restore_summary(seen.summary)
    return RestoreResult(
        failed=tuple(seen.failed),
        failed_count=seen.failed_count,
        cpu_seconds=outcome.end.cpu_seconds,
        peak_rss=outcome.end.peak_rss,
        confined=confined is not None,
        **fields,
    )


class _Seen:
    """What restic said while it ran."""

    def __init__(self, on_progress: OnRestoreProgress | None) -> None:
        self._on_progress = on_progress
        self.summary: messages.Message = {}
        self.failed: list[PathError] = []
        self.failed_count = 0

    def line(self, line: str) -> None:
        message = messages.parse_message(line)
        match messages.kind(message):
            case "status" if self._on_progress is not None:
                self._on_progress(messages.restore_progress(message))
            case "summary":
                self.summary = message

    def error(self, message: messages.Message) -> None:
        found = messages.path_error(message, during="restore")
        if found is not None:
            self.failed_count += 1
            if len(self.failed) < PATHS_KEPT:
                self.failed.append(found)
