"""A Backup as people read it: a row, a description, a summary at its end. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from ararat import human
from ararat.api import Backup
from ararat.api.backup import BackupPhase, BackupSpec
from ararat.api.manifest import ManifestHooks
from ararat.cli import coverage, render, sections, verification_view
from ararat.cli.coverage import Row

HEADERS = ("NAME", "PHASE", "VOLUMES", "SIZE", "NEW", "TOOK", "AGE", "VERIFIED", "LOCATION")


def table(backups: Iterable[Backup], now: datetime) -> str:
    rows = []
    for backup in backups:
        status = backup.status
        ended = status.completion_time
        rows.append(
            (
                backup.name,
                _phase(backup),
                status.coverage.text if status.coverage else "",
                render.size(status.bytes_processed or status.progress.total_bytes),
                render.size(status.bytes_stored),
                render.took(status.start_time, ended) or ("" if ended else status.progress.text),
                render.age(status.start_time or backup.metadata.creation_timestamp, now),
                verification_view.last(status.verification, now),
                status.location or backup.spec.location or "",
            )
        )
    return render.table(HEADERS, rows)


def describe(
    backup: Backup, rows: Sequence[Row], now: datetime, *, hooks: Sequence[ManifestHooks] = ()
) -> str:
    """Everything a person may want to know, the outcome first."""
    status, spec = backup.status, backup.spec
    took = render.took(status.start_time, status.completion_time)
    head = render.fields(
        [
            ("Name", backup.name),
            ("Phase", _phase(backup)),
            ("Message", status.message),
            ("Location", status.location or spec.location),
            ("Started", render.moment(status.start_time, now)),
            ("Ended", render.moment(status.completion_time, now)),
            ("Took", took),
            ("Progress", "" if status.phase.terminal else status.progress.text),
            ("Volumes", status.coverage.text if status.coverage else None),
            ("Hooks", status.hooks.text if status.hooks else None),
            ("Size", _sizes(backup)),
            ("Objects", f"{status.objects.count:,}" if status.objects else None),
            ("Namespaces", _namespaces(backup)),
            ("Verified", verification_view.last(status.verification, now)),
            ("Found", status.verification.message if status.verification else None),
        ]
    )
    parts = [
        head,
        render.section("Asked for:", render.fields(asked_for(spec), indent="  ")),
        render.section("Volumes:", coverage.backup_table(rows)),
        render.section("Hooks:", _hooks(hooks)),
        sections.failures(status.failures, status.failure_count),
        sections.warnings(status.warnings, len(status.warnings)),
        sections.conditions(status.conditions, now),
    ]
    return "\n".join(part for part in parts if part)


def summary(backup: Backup, *, flags: str = "") -> str:
    """What --wait ends with."""
    status, phase = backup.status, backup.status.phase
    took = render.took(status.start_time, status.completion_time)
    title = f"backup {backup.name}: {phase}" + (f" in {took}" if took else "")
    body = render.fields(
        [
            ("message", status.message),
            ("volumes", status.coverage.text if status.coverage else None),
            ("data", _sizes(backup)),
            ("objects", f"{status.objects.count:,}" if status.objects else None),
            ("failures", str(status.failure_count) if status.failure_count else None),
            ("warnings", str(len(status.warnings)) if status.warnings else None),
        ],
        indent="  ",
    )
    troubles = [*(sections.failure(f) for f in status.failures[:5]), *status.warnings[:5]]
    if phase.restorable:
        following = f"next: ararat restore create --from-backup {backup.name} --wait{flags}"
    else:
        following = f"more: ararat backup logs {backup.name}{flags}"
    if phase is BackupPhase.PARTIALLY_FAILED:
        following = f"more: ararat backup describe {backup.name}{flags}"
    return "\n".join(part for part in (title, body, render.bullets(troubles), following) if part)


def asked_for(spec: BackupSpec) -> list[tuple[str, str | None]]:
    policy = {
        "OptIn": "those that pods name in ararat.dev/backup-volumes",
        "OptOut": "all but those in ararat.dev/backup-volumes-excludes",
    }
    volumes = spec.volumes
    return [
        *sections.selection(spec),
        ("First", ", ".join(spec.ordered_resources)),
        ("Volumes", policy[str(volumes.default_policy)]),
        ("Policies", str(len(volumes.policies)) if volumes.policies else None),
        ("Unmounted", "read as well" if volumes.unmounted == "Backup" else None),
    ]


def _phase(backup: Backup) -> str:
    """With the place in the queue, where there is one."""
    place = backup.status.queue_position
    return f"{backup.status.phase} ({place})" if place else str(backup.status.phase)


def _hooks(hooks: Sequence[ManifestHooks]) -> str:
    """How long each pod was frozen: from its first pre hook to the end of its last post hook."""
    if not hooks:
        return ""
    headers = ("POD", "PRE", "POST", "FAILED", "FROZEN FOR", "RESULT")
    rows = [
        (
            hook.id,
            str(hook.pre or ""),
            str(hook.post or ""),
            str(hook.failed or ""),
            _span(hook.frozen_seconds),
            f"{hook.reason}: {hook.message}" if hook.reason else "ok",
        )
        for hook in hooks
    ]
    return render.table(headers, rows, indent="  ")


def _span(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.1f}s" if seconds < 60 else human.duration(seconds)


def _namespaces(backup: Backup) -> str:
    text = render.listing(backup.status.namespaces, empty="")
    count = backup.status.namespace_count
    return f"{text} ({count} in all)" if count > len(backup.status.namespaces) else text


def _sizes(backup: Backup) -> str:
    status = backup.status
    if not status.bytes_processed:
        return ""
    return (
        f"{human.size(status.bytes_processed)} in files, "
        f"{human.size(status.bytes_stored)} newly stored"
    )
