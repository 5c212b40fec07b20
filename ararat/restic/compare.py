"""A volume's content against a snapshot's checksums, without writing anything.

Problem: ``restore --verify`` reads back what is still in memory, and everything or nothing.
Decision: a dry run of ``restore`` over what is there. restic reads each chosen file, compares it
with the checksums in the snapshot, and says which of them it would have to write again. Whoever
calls has had the files flushed and dropped from memory before.
Limits: no content is fetched, so this says nothing about what the store holds; files only.
"""

from __future__ import annotations

from collections.abc import Callable

from . import arguments, messages, sandbox
from .backup import open_directory
from .models import PATHS_KEPT, CompareRequest, CompareResult, PathError
from .runner import Runner

_WHAT = "comparing a volume with its snapshot"


async def run(
    runner: Runner, request: CompareRequest, *, on_line: Callable[[], None] | None
) -> CompareResult:
    session = runner.session
    different: list[str] = []
    failed: list[PathError] = []
    summary: messages.Message = {}
    counts = {"different": 0, "failed": 0}

    def line(text: str) -> None:
        nonlocal summary
        message = messages.parse_message(text)
        if on_line is not None:
            on_line()
        if messages.kind(message) == "summary":
            summary = message
            return
        path = messages.difference(message)
        if path is not None:
            counts["different"] += 1
            if len(different) < PATHS_KEPT:
                different.append(path)

    def error(message: messages.Message) -> None:
        found = messages.path_error(message, during="restore")
        if found is not None:
            counts["failed"] += 1
            if len(failed) < PATHS_KEPT:
                failed.append(found)

    with open_directory(request.target) as volume:
        outcome = await runner.run(
            arguments.compare(request),
            what=_WHAT,
            on_line=line,
            on_error=error,
            directory=volume,
            confined=sandbox.build(
                binary=session.binary.path,
                scratch=session.scratch,
                cache=session.cache_dir,
                source=volume,
                confinement=request.confinement,
            ),
            accept=(0, 1),
        )
    if session.blobs.fatal is not None:
        raise session.blobs.fatal
    if not summary or (outcome.end.code != 0 and not failed):
        raise runner.failure(outcome, _WHAT)
    done = messages.restore_summary(summary)
    return CompareResult(
        files_same=done["files_skipped"],
        bytes_same=done["bytes_skipped"],
        different=tuple(different),
        different_count=counts["different"],
        failed=tuple(failed),
        failed_count=counts["failed"],
        seconds=done["seconds"],
    )
