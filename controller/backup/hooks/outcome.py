"""What the hooks of a backup came to: sums, lines of the manifest, failures, warnings. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from ararat.api.backup import BackupHooks, BackupSpec, Failure, HookCounts
from ararat.api.hooks import OnError
from ararat.api.manifest import Coverage, ManifestHooks, ManifestVolume
from ararat.hooks import When
from ararat.human import duration, plural
from controller.hooks.results import HookResult

from .plan import PlannedHooks
from .record import Record


def count(records: Iterable[Record]) -> HookCounts:
    """The sums that status shows while a backup runs."""
    found = list(records)
    return _counts(
        pods=len(found),
        attempted=sum(len(known.results) for known in found),
        failed=sum(result.failed for known in found for result in known.results),
        owed=sum(known.state.owes for known in found),
        longest=max((known.frozen_seconds or 0.0 for known in found), default=0.0),
    )


def count_lines(lines: Sequence[ManifestHooks]) -> HookCounts | None:
    """The sums that status shows in the end."""
    if not lines:
        return None
    return _counts(
        pods=len(lines),
        attempted=sum(line.attempted for line in lines),
        failed=sum(line.failed for line in lines),
        owed=0,
        longest=max(line.frozen_seconds or 0.0 for line in lines),
    )


def _counts(*, pods: int, attempted: int, failed: int, owed: int, longest: float) -> HookCounts:
    longest = round(longest, 1)
    words = [plural(pods, "pod"), f"{attempted} run"]
    if failed:
        words.append(f"{failed} failed")
    if owed:
        words.append(f"{owed} frozen now")
    if longest:
        shown = f"{longest:g}s" if longest < 60 else duration(longest)
        words.append(f"longest freeze {shown}")
    return HookCounts(
        pods=pods,
        attempted=attempted,
        failed=failed,
        owed=owed,
        longest_freeze_seconds=longest,
        text=", ".join(words),
    )


def lines(planned: Sequence[PlannedHooks], records: Iterable[Record]) -> list[ManifestHooks]:
    """One line for each pod that has hooks."""
    known = {found.pod.uid: found for found in records}
    return [_line(plan, known.get(plan.pod.uid)) for plan in planned]


def _line(plan: PlannedHooks, known: Record | None) -> ManifestHooks:
    line = ManifestHooks(
        namespace=plan.pod.namespace, pod=plan.pod.name, pre=plan.pre, post=plan.post
    )
    if known is None or not (known.results or known.failure):
        message = "its volumes had ended before it was to be frozen"
        return line.model_copy(update={"reason": "NotRun", "message": message})
    bad = [result for result in known.results if result.failed]
    reason, message = known.failure, known.message
    if not reason and known.cut:
        reason = "MaxFreeze"
    if not reason and bad:
        reason, message = _reason(bad[-1]), bad[-1].message
    began = known.frozen_at
    seconds = known.frozen_seconds
    return line.model_copy(
        update={
            "attempted": len(known.results),
            "failed": len(bad),
            "frozen_at": datetime.fromtimestamp(began, UTC) if began is not None else None,
            "frozen_seconds": round(seconds, 3) if seconds is not None else None,
            "reason": reason,
            "message": message,
        }
    )


def _reason(result: HookResult) -> str:
    if result.reason == "PodGone":
        return "PodGone"
    return "PreHookFailed" if result.when is When.PRE else "PostHookFailed"


def failures(records: Iterable[Record]) -> tuple[list[Failure], list[str]]:
    """(failures, warnings) of the hooks themselves; those of volumes are the volumes' own."""
    failed: list[Failure] = []
    warned: list[str] = []
    for known in records:
        for result in known.results:
            if not result.failed:
                continue
            excused = result.on_error is OnError.CONTINUE or result.reason == "PodGone"
            # Begun again, and then it went well.
            excused = excused or (result.when is When.PRE and result.lost and not known.failure)
            if excused:
                warned.append(result.message)
            else:
                failed.append(
                    Failure(object=known.id, reason=_reason(result), message=result.message)
                )
        told = {f.message for f in failed}
        if known.failure == "PodGone":
            warned.append(known.message)
        elif known.failure and known.message not in told:
            failed.append(Failure(object=known.id, reason=known.failure, message=known.message))
    return failed, warned


def judge(volume: ManifestVolume, job: str, records: Mapping[str, Record]) -> ManifestVolume:
    """The volume, as failed where its pods had to be let go before it was read.

    ``records``: of the jobs that were cut off, by the name of the job.
    """
    known = records.get(job)
    if known is None:
        return volume
    return volume.model_copy(
        update={
            "coverage": Coverage.FAILED,
            "reason": "MaxFreeze",
            "message": f"{known.message}, before it was read: raise hooks.maxFreezeSeconds",
            "directory": "",
            "snapshot_id": None,
            "summary": None,
            "root": None,
            "empty": False,
            "unreadable_count": 0,
            "unreadable_paths": [],
            "socket_count": 0,
            "socket_paths": [],
        }
    )


def cut_off(records: Iterable[Record]) -> dict[str, Record]:
    """Node jobs that do not count, by name."""
    return {job: known for known in records for job in known.cut}


def without_commands(spec: BackupSpec) -> BackupSpec:
    """The spec as a manifest may show it: commands may hold passwords."""
    bare = BackupHooks(max_freeze_seconds=spec.hooks.max_freeze_seconds)
    return spec.model_copy(update={"hooks": bare})
