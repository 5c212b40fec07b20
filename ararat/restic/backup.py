"""``restic backup`` of one volume.

Problem: restic's exit codes do not tell an empty volume from a failure (1), and name nothing that
was unreadable; a summary can also come without a snapshot.
Decision: restic's working directory is the volume, entered by descriptor, and the source is ``.``.
Whether a volume is empty is looked up before restic runs. Where restic then says that there was
nothing to store (sockets and excluded files only, or everything vanished meanwhile) and complained
of no path, it is asked once more before the volume is called empty. A result needs the full
snapshot id of the summary.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import structlog

from ararat.errors import NotFound

from . import arguments, messages, sandbox, tuning
from .errors import ResticFailed
from .models import (
    PATHS_KEPT,
    BackupProgress,
    BackupRequest,
    BackupResult,
    OnBackupProgress,
    PathError,
    Tuning,
)
from .runner import Outcome, Runner

log = structlog.get_logger()

_WHAT = "backing up"
_INCOMPLETE = 3
_ATTEMPTS = 2
_SNAPSHOT_ID = re.compile(r"[0-9a-f]{64}")


async def run(
    runner: Runner, request: BackupRequest, *, on_progress: OnBackupProgress | None
) -> BackupResult:
    session = runner.session
    with open_directory(request.source) as volume:
        if await _is_empty(volume):
            log.info("backup-empty", host=request.host)
            return BackupResult(snapshot_id=None, empty=True)
        confined = sandbox.build(
            binary=session.binary.path,
            scratch=session.scratch,
            cache=session.cache_dir,
            source=volume,
            confinement=request.confinement,
        )
        if request.tuning is None:
            chosen, why = tuning.for_backup(request.last, runner.machine)
            request = replace(request, tuning=chosen)
            log.info("backup-tuned", host=request.host, why=why, **_set(chosen))
        command = arguments.backup(
            request, root=os.readlink(f"/proc/self/fd/{volume}"), binary=session.binary
        )
        for attempt in range(_ATTEMPTS):
            seen = _Seen(on_progress)
            outcome = await runner.run(
                command,
                what=_WHAT,
                on_line=seen.line,
                on_error=seen.error,
                directory=volume,
                confined=confined,
                connections=request.tuning.connections if request.tuning else None,
                accept=(0, 1, _INCOMPLETE),
            )
            if outcome.end.code != 1:
                break
            if session.blobs.fatal is not None or not _stored_nothing(seen, outcome):
                raise runner.failure(outcome, _WHAT)
            if await _is_empty(volume) or attempt == _ATTEMPTS - 1:
                log.info("backup-empty", host=request.host)
                return BackupResult(snapshot_id=None, empty=True, confined=confined is not None)
    return _result(request, seen, outcome, confined=confined is not None)


def _set(chosen: Tuning) -> dict[str, object]:
    """What is not restic's default, for the log."""
    return {name: value for name, value in asdict(chosen).items() if value is not None}


@contextlib.contextmanager
def open_directory(place: Path | int) -> Iterator[int]:
    """A descriptor of our own for a directory that was given by path or by descriptor."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        if isinstance(place, int):
            descriptor = os.open(".", flags, dir_fd=place)
        else:
            descriptor = os.open(place, flags)
    except OSError as exc:
        raise NotFound(
            f"the volume's directory cannot be opened ({exc.strerror})", reason="VolumeNotFound"
        ) from exc
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class _Seen:
    """What restic said while it ran."""

    def __init__(self, on_progress: OnBackupProgress | None) -> None:
        self._on_progress = on_progress
        self._last = BackupProgress()
        self.summary: messages.Message = {}
        self.unreadable: list[PathError] = []
        self.unreadable_count = 0

    def line(self, line: str) -> None:
        message = messages.parse_message(line)
        match messages.kind(message):
            case "status":
                self._last = messages.backup_progress(message)
                self._report()
            case "summary":
                self.summary = message

    def error(self, message: messages.Message) -> None:
        found = messages.path_error(message, during="archival")
        if found is not None:
            self.unreadable_count += 1
            if len(self.unreadable) < PATHS_KEPT:
                self.unreadable.append(found)
            self._report()

    def _report(self) -> None:
        """Errors as they come: whoever must know of them cannot wait for the next status."""
        if self._on_progress is not None:
            self._on_progress(replace(self._last, errors=self.unreadable_count))


async def _is_empty(volume: int) -> bool:
    def look() -> bool:
        with os.scandir(volume) as entries:
            return all(entry.name == arguments.LOST_AND_FOUND for entry in entries)

    return await asyncio.to_thread(look)


def _stored_nothing(seen: _Seen, outcome: Outcome) -> bool:
    """Whether code 1 only means that there was nothing to store."""
    said = outcome.said or ""
    return not seen.unreadable_count and not seen.summary and "snapshot is empty" in said


def _result(
    request: BackupRequest, seen: _Seen, outcome: Outcome, *, confined: bool
) -> BackupResult:
    snapshot = str(seen.summary.get("snapshot_id", ""))
    if not _SNAPSHOT_ID.fullmatch(snapshot):
        raise ResticFailed(
            f"{_WHAT}: restic ended without naming its snapshot",
            tail=outcome.end.tail,
            code=outcome.end.code,
        )
    fields: dict[str, Any] = messages.backup_summary(seen.summary)
    return BackupResult(
        snapshot_id=snapshot,
        incomplete=outcome.end.code == _INCOMPLETE,
        unreadable=tuple(seen.unreadable),
        unreadable_count=seen.unreadable_count,
        parent=None if request.force else request.parent,
        cpu_seconds=outcome.end.cpu_seconds,
        peak_rss=outcome.end.peak_rss,
        bytes_read=outcome.end.bytes_read,
        confined=confined,
        **fields,
    )
