"""A BackupVerification as people read it: a row, a description, a summary at its end. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from ararat.api import BackupVerification
from ararat.api.backup import LastVerification
from ararat.api.verification import RunStatus, VerificationPhase
from ararat.cli import render, sections

HEADERS = ("NAME", "PHASE", "BACKUP", "VOLUMES", "TOOK", "AGE", "MESSAGE")


def table(verifications: Iterable[BackupVerification], now: datetime) -> str:
    rows = []
    for one in verifications:
        status = one.status
        ended = status.completion_time
        rows.append(
            (
                one.name,
                str(status.phase),
                one.spec.backup,
                status.volumes.text,
                render.took(status.start_time, ended) or ("" if ended else status.progress.text),
                render.age(status.start_time or one.metadata.creation_timestamp, now),
                status.message or "",
            )
        )
    return render.table(HEADERS, rows)


def describe(verification: BackupVerification, now: datetime) -> str:
    status = verification.status
    waiting = [sections.failure(item) for item in status.waiting]
    parts = [
        render.fields(
            [
                ("Name", verification.name),
                ("Phase", str(status.phase)),
                ("Message", status.message),
                ("Backup", verification.spec.backup),
                ("Cause", str(verification.spec.cause)),
                ("Location", status.location),
                ("Started", render.moment(status.start_time, now)),
                ("Ended", render.moment(status.completion_time, now)),
                ("Took", render.took(status.start_time, status.completion_time)),
                ("Progress", "" if status.phase.terminal else status.progress.text),
                ("Volumes", status.volumes.text),
                ("Objects", f"{status.objects:,} read" if status.objects is not None else None),
                ("Pods", _pods(status.run)),
            ]
        ),
        render.section("Waiting for:", render.bullets(waiting)),
        sections.failures(status.failures, status.failure_count),
        sections.conditions(status.conditions, now),
    ]
    return "\n".join(part for part in parts if part)


def _pods(run: RunStatus | None) -> str | None:
    if run is None:
        return None
    text = f"{run.outcome or 'under way'}{': ' if run.message else ''}{run.message}"
    return text if run.removed else f"{text} (in {', '.join(sorted(run.namespaces.values()))})"


def summary(verification: BackupVerification, *, flags: str = "") -> str:
    """What --wait ends with."""
    status = verification.status
    took = render.took(status.start_time, status.completion_time)
    title = f"verification of {verification.spec.backup}: {status.phase}"
    body = render.fields(
        [
            ("message", status.message),
            ("volumes", status.volumes.text),
            ("objects", f"{status.objects:,} read" if status.objects is not None else None),
            ("pods", _pods(status.run)),
        ],
        indent="  ",
    )
    troubles = render.bullets([sections.failure(failure) for failure in status.failures[:10]])
    more = ""
    if status.phase not in (VerificationPhase.PASSED, VerificationPhase.CANCELLED):
        more = f"more: ararat verification describe {verification.name}{flags}"
    head = title + (f" in {took}" if took else "")
    return "\n".join(part for part in (head, body, troubles, more) if part)


def last(found: LastVerification | None, now: datetime) -> str:
    """``Passed, 3d ago``; with the last good one where that was another."""
    if found is None:
        return ""
    text = f"{found.phase}, {render.age(found.time, now)} ago"
    passed = found.last_passed_time
    if found.phase != "Passed" and passed is not None:
        text += f" (last passed {render.age(passed, now)} ago)"
    if found.last_run_time is not None:
        text += f", pods ran {render.age(found.last_run_time, now)} ago"
    return text
