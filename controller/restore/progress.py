"""How a restore stands, as its status shows it. Pure.

Decision: everything people read in ``kubectl get restores`` is computed here from what is seen, in
one place: counts, sums, texts, failures, and whether anything is still open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ararat.api.backup import Failure
from ararat.api.nodejob import JobPhase, Progress
from ararat.api.restore import ObjectCounts, ReleaseAction, Restore, VolumeCounts
from ararat.human import plural, progress_text

from .jobs import given_up, given_up_text
from .pipeline import Tally
from .plan import NOT_RESTORED
from .units import Unit

#: What status holds at most; results.json.gz has all of them.
STATUS_LIMIT = 50
WAITING_LIMIT = 20


@dataclass(frozen=True)
class Volumes:
    """How the data of a restore stands."""

    counts: VolumeCounts
    progress: Progress
    #: What went wrong for good.
    failures: tuple[Failure, ...]
    #: Units that are neither filled nor failed, and gates that were not answered.
    open: tuple[str, ...]

    @property
    def settled(self) -> bool:
        return not self.open


def sum_volumes(
    units: Sequence[Unit], *, restore: Restore, overdue: Mapping[tuple[str, ...], Failure]
) -> Volumes:
    """``overdue``: units that did not move for the restore's deadline, and why."""
    failures: list[Failure] = []
    still_open: list[str] = []
    completed = failed = released = 0
    total_bytes = bytes_done = total_files = files_done = rate = 0
    for unit in units:
        total_bytes += unit.data.size
        total_files += unit.data.files
        if unit.completed:
            completed += 1
            bytes_done += unit.data.size
            files_done += unit.data.files
            still_open += _unanswered(unit)
            failures += _refused_answers(unit)
            continue
        failure = _failure(unit, overdue)
        action = given_up(unit, restore)
        if unit.let_go:
            failures.append(_given_up(unit, restore, "Released"))
            released += 1
        elif action is not None and (unit.active is not None or action is ReleaseAction.START):
            still_open.append(unit.id)  # given up in a moment
        elif action is not None:
            failures.append(failure or _given_up(unit, restore, "Refused"))
            failed += 1
        elif failure is not None:
            failures.append(failure)
            failed += 1
        else:
            still_open.append(unit.id)
        active = unit.active
        if active is not None:
            now = active.status.progress
            bytes_done += min(now.bytes_done, unit.data.size)
            files_done += min(now.files_done, unit.data.files)
            if active.status.phase is JobPhase.IN_PROGRESS:
                rate += now.bytes_per_second
    progress = Progress(
        total_bytes=total_bytes,
        bytes_done=bytes_done,
        total_files=total_files,
        files_done=files_done,
        bytes_per_second=rate,
        text=progress_text(bytes_done, total_bytes),
    )
    counts = VolumeCounts(
        total=len(units),
        completed=completed,
        failed=failed,
        released=released,
        text=volumes_text(total=len(units), completed=completed, failed=failed, released=released),
    )
    return Volumes(counts, progress, tuple(failures), tuple(still_open))


def volumes_text(*, total: int, completed: int, failed: int, released: int = 0) -> str:
    """``2 of 4 filled, 1 failed, 1 released``."""
    if total == 0:
        return "none"
    counts = ((failed, "failed"), (released, "released"))
    more = [f"{count} {word}" for count, word in counts if count]
    return ", ".join([f"{completed} of {total} filled", *more])


def count_objects(tally: Tally) -> ObjectCounts:
    words = [
        (tally.created, "created"),
        (tally.updated, "updated"),
        (tally.left_alone, "left alone"),
        (tally.failed, "failed"),
    ]
    text = ", ".join(f"{count} {word}" for count, word in words if count) or "none"
    if tally.done < tally.total:
        text = f"{tally.done} of {tally.total}: {text}"
    return ObjectCounts(
        created=tally.created,
        updated=tally.updated,
        left_alone=tally.left_alone,
        failed=tally.failed,
        total=tally.total,
        text=text,
    )


def running_message(volumes: Volumes, waiting: Sequence[Failure]) -> str:
    """One sentence while volumes are being filled."""
    if waiting:
        first = waiting[0]
        more = f" (and {len(waiting) - 1} more)" if len(waiting) > 1 else ""
        return f"waiting: {first.object}: {first.message}{more}"
    left = len(volumes.open)
    return f"filling {plural(left, 'volume')}" if left else ""


def final_message(failures: Sequence[Failure], warnings: Sequence[str]) -> str:
    """One sentence when it is over: the worst first."""
    if failures:
        more = f" (and {len(failures) - 1} more failures)" if len(failures) > 1 else ""
        return f"{failures[0].object}: {failures[0].message}{more}"
    unfilled = [warning for warning in warnings if NOT_RESTORED in warning]
    if unfilled:
        more = f" (and {len(unfilled) - 1} more)" if len(unfilled) > 1 else ""
        return f"{unfilled[0]}{more}"
    if warnings:
        return f"{plural(len(warnings), 'warning')}: see `ararat restore describe`"
    return ""


def unique(failures: Iterable[Failure]) -> list[Failure]:
    """The last word on each object and reason, in the order in which they first came up."""
    return list({(f.object, f.reason): f for f in failures}.values())


def _failure(unit: Unit, overdue: Mapping[tuple[str, ...], Failure]) -> Failure | None:
    if unit.missing:
        return Failure(object=unit.id, reason="NoDataInBackup", message=unit.data.why_missing)
    job = unit.failed
    if job is not None:
        return Failure(
            object=unit.id,
            reason=job.status.reason or "Failed",
            message=job.status.message or "its node job failed",
        )
    return overdue.get(unit.key)


def _given_up(unit: Unit, restore: Restore, reason: str) -> Failure:
    return Failure(object=unit.id, reason=reason, message=given_up_text(unit, restore))


def _unanswered(unit: Unit) -> list[str]:
    """Gates that wait for a volume which is filled, and have no last word yet."""
    if unit.done is None:
        return []
    found = []
    for holder in unit.holders:
        own = unit.jobs_of(holder)
        if not own or not own[-1].status.phase.terminal:
            found.append(f"{holder.pod.path}/{holder.volume}")
    return found


def _refused_answers(unit: Unit) -> list[Failure]:
    """Gates whose own job failed although the volume is filled."""
    if unit.done is None:
        return []
    found = []
    for holder in unit.holders:
        own = unit.jobs_of(holder)
        if own and own[-1].status.phase in (JobPhase.FAILED, JobPhase.CANCELLED):
            if own[-1].spec.follows != unit.done.name:
                continue  # another answer is on its way
            found.append(
                Failure(
                    object=f"{holder.pod.path}/{holder.volume}",
                    reason=own[-1].status.reason or "Failed",
                    message=own[-1].status.message or "its gate was not answered",
                )
            )
    return found
