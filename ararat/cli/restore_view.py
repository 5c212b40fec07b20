"""A Restore as people read it: a row, a description, a summary at its end. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from ararat.api import Restore
from ararat.api.nodejob import ExistingData
from ararat.api.plan import RestorePlan
from ararat.api.restore import RestorePhase, RestoreSpec
from ararat.cli import coverage, plan_view, render, sections
from ararat.cli.coverage import Row

HEADERS = ("NAME", "PHASE", "BACKUP", "OBJECTS", "VOLUMES", "TOOK", "AGE")


def table(restores: Iterable[Restore], now: datetime) -> str:
    rows = []
    for restore in restores:
        status = restore.status
        ended = status.completion_time
        rows.append(
            (
                restore.name,
                str(status.phase),
                restore.backup or f"(schedule {restore.spec.schedule})",
                status.objects.text,
                status.volumes.text,
                render.took(status.start_time, ended) or ("" if ended else status.progress.text),
                render.age(status.start_time or restore.metadata.creation_timestamp, now),
            )
        )
    return render.table(HEADERS, rows)


def describe(
    restore: Restore, rows: Sequence[Row], now: datetime, plan: RestorePlan | None = None
) -> str:
    """Everything a person may want to know, the outcome first."""
    status, spec = restore.status, restore.spec
    head = render.fields(
        [
            ("Name", restore.name),
            ("Phase", str(status.phase)),
            ("Message", status.message),
            ("Backup", restore.backup),
            ("Of schedule", spec.schedule or None),
            ("Started", render.moment(status.start_time, now)),
            ("Ended", render.moment(status.completion_time, now)),
            ("Took", render.took(status.start_time, status.completion_time)),
            ("Progress", "" if status.phase.terminal else status.progress.text),
            ("Objects", status.objects.text),
            ("Volumes", status.volumes.text),
            ("Hooks", status.hooks.text if status.hooks and status.hooks.pods else None),
        ]
    )
    waiting = [sections.failure(item) for item in status.waiting]
    parts = [
        head,
        render.section("Asked for:", render.fields(_spec(spec), indent="  ")),
        render.section("Waiting for:", render.bullets(waiting)),
        render.section("Volumes:", coverage.restore_table(rows)),
        plan_view.executed(plan) if plan else "",
        sections.failures(status.failures, status.failure_count),
        sections.warnings(status.warnings, status.warning_count),
        sections.conditions(status.conditions, now),
    ]
    return "\n".join(part for part in parts if part)


def summary(restore: Restore, *, flags: str = "") -> str:
    """What --wait ends with."""
    status = restore.status
    took = render.took(status.start_time, status.completion_time)
    title = f"restore {restore.name}: {status.phase}" + (f" in {took}" if took else "")
    body = render.fields(
        [
            ("message", status.message),
            ("objects", status.objects.text),
            ("volumes", status.volumes.text),
            ("data", status.progress.text),
            ("hooks", status.hooks.text if status.hooks and status.hooks.pods else None),
            ("failures", str(status.failure_count) if status.failure_count else None),
            ("warnings", str(status.warning_count) if status.warning_count else None),
        ],
        indent="  ",
    )
    troubles = [sections.failure(item) for item in status.failures[:5]]
    troubles += status.warnings[:5]
    following = ""
    if status.phase is not RestorePhase.COMPLETED or troubles:
        following = f"more: ararat restore describe {restore.name}{flags}"
    return "\n".join(part for part in (title, body, render.bullets(troubles), following) if part)


def _spec(spec: RestoreSpec) -> list[tuple[str, str | None]]:
    return [
        *sections.selection(spec),
        ("Namespaces mapped", _mapping(spec.namespace_mapping)),
        ("Classes mapped", _mapping(spec.storage_class_mapping)),
        ("Images mapped", _mapping(spec.image_mapping)),
        ("Modifiers", f"ConfigMap {spec.resource_modifiers}" if spec.resource_modifiers else None),
        ("Existing objects", "updated" if spec.existing_resource_policy == "Update" else None),
        ("Old disks", "attached again" if spec.volumes.reuse else None),
        ("Volumes", _where(spec)),
        ("Data in new volumes", _EXISTING_DATA[spec.volumes.existing_data]),
        ("Missing data", "pods start all the same" if spec.volumes.allow_missing else None),
        ("Released", _released(spec)),
        ("Hooks", "none are run" if spec.hooks.skip else None),
        ("On failure", f"pods {'stay held' if spec.gate.on_failure == 'Block' else 'start'}"),
    ]


_EXISTING_DATA = {
    ExistingData.REFUSE: None,
    ExistingData.MERGE: "merged with the backup's",
    ExistingData.REPLACE: "replaced by the backup's",
}


def _where(spec: RestoreSpec) -> str:
    volumes = spec.volumes
    if volumes.mode == "None":
        return "objects only"
    if volumes.mode == "NewPod":
        return "into new pods"
    parts = ["in place", *volumes.include, *volumes.paths]
    parts += ["workloads scaled to zero meanwhile"] if volumes.scale_down else []
    return ", ".join([*parts, "the rest is removed"] if volumes.delete_extra else parts)


def _released(spec: RestoreSpec) -> str | None:
    words = [f"{e.volume or 'every volume'} ({e.action.lower()})" for e in spec.released]
    return ", ".join(words) or None


def _mapping(mapping: Mapping[str, str]) -> str:
    return ", ".join(f"{old} to {new}" for old, new in mapping.items())
