"""restic's JSON, parsed by pure functions.

Decision: lenient in everything restic may change: unknown types and fields are ignored, missing
numbers are 0 (restic leaves zeros out), and lines that are not JSON are not messages. Strict where
a wrong belief would lose data: a snapshot's id must be there and whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from .models import (
    BackupProgress,
    Change,
    CheckResult,
    DiffCounts,
    DiffResult,
    Found,
    KeyInfo,
    LockContent,
    Node,
    PathError,
    RepositoryConfig,
    RepositoryStats,
    RestoreProgress,
    Snapshot,
    SnapshotStats,
    SnapshotSummary,
)

Message = Mapping[str, Any]
_KEY_ID = re.compile(r"\b[0-9a-f]{64}\b")


def parse(line: str) -> Any:
    """The line's JSON, or None where it is none."""
    if not line.startswith(("{", "[", "null")):
        return None
    try:
        return json.loads(line)
    except ValueError:
        return None


def parse_message(line: str) -> Message:
    """A message, or an empty one."""
    found = parse(line)
    return found if isinstance(found, dict) else {}


def kind(message: Message) -> str:
    return str(message.get("message_type", ""))


def backup_progress(message: Message) -> BackupProgress:
    return BackupProgress(
        seconds=_float(message, "seconds_elapsed"),
        total_files=_int(message, "total_files"),
        files_done=_int(message, "files_done"),
        total_bytes=_int(message, "total_bytes"),
        bytes_done=_int(message, "bytes_done"),
        errors=_int(message, "error_count"),
        current_files=tuple(map(str, message.get("current_files") or ())),
    )


def backup_summary(message: Message) -> dict[str, Any]:
    """The fields of BackupResult that restic's summary has."""
    new, changed, same = (
        _int(message, f"files_{state}") for state in ("new", "changed", "unmodified")
    )
    return {
        "files_new": new,
        "files_changed": changed,
        "files_unmodified": same,
        "files_total": _int(message, "total_files_processed"),
        "directories_new": _int(message, "dirs_new"),
        "directories_changed": _int(message, "dirs_changed"),
        "directories_unmodified": _int(message, "dirs_unmodified"),
        "bytes_processed": _int(message, "total_bytes_processed"),
        "bytes_added": _int(message, "data_added"),
        "bytes_stored": _int(message, "data_added_packed"),
        "seconds": _float(message, "total_duration"),
    }


def restore_progress(message: Message) -> RestoreProgress:
    """restic's totals leave out what it skips because it is there already; ours do not."""
    skipped, bytes_skipped = _int(message, "files_skipped"), _int(message, "bytes_skipped")
    return RestoreProgress(
        seconds=_float(message, "seconds_elapsed"),
        total_files=_int(message, "total_files") + skipped,
        files_done=_int(message, "files_restored") + skipped,
        total_bytes=_int(message, "total_bytes") + bytes_skipped,
        bytes_done=_int(message, "bytes_restored") + bytes_skipped,
    )


def restore_summary(message: Message) -> dict[str, Any]:
    """The fields of RestoreResult that restic's summary has; totals as in ``restore_progress``."""
    return {
        "files_total": _int(message, "total_files") + _int(message, "files_skipped"),
        "files_restored": _int(message, "files_restored"),
        "files_skipped": _int(message, "files_skipped"),
        "files_deleted": _int(message, "files_deleted"),
        "bytes_total": _int(message, "total_bytes") + _int(message, "bytes_skipped"),
        "bytes_restored": _int(message, "bytes_restored"),
        "bytes_skipped": _int(message, "bytes_skipped"),
        "seconds": _float(message, "seconds_elapsed"),
    }


def difference(message: Message) -> str | None:
    """A file that a dry run of ``restore`` would have to write.

    restic reports directories, links and further names of a file as restored, too, with size 0.
    """
    if kind(message) != "verbose_status":
        return None
    changed = message.get("action") == "updated"
    missing = message.get("action") == "restored" and _int(message, "size") > 0
    return str(message.get("item", "")) if changed or missing else None


def path_error(message: Message, *, during: str) -> PathError | None:
    """An item that failed. The scan reports the same path again, so one phase is counted."""
    if kind(message) != "error" or message.get("during") != during:
        return None
    return PathError(str(message.get("item", "")), _error_text(message))


def exit_error(message: Message) -> str | None:
    """What restic says about its own end."""
    return str(message.get("message", "")) if kind(message) == "exit_error" else None


def snapshots(found: Any) -> list[Snapshot]:
    return [_snapshot(entry) for entry in found or () if isinstance(entry, dict)]


def repository_config(found: Message) -> RepositoryConfig:
    return RepositoryConfig(
        id=str(found["id"]),
        version=int(found["version"]),
        chunker_polynomial=str(found["chunker_polynomial"]),
    )


def node(message: Message) -> Node | None:
    if kind(message) != "node" and message.get("struct_type") != "node":
        return None
    return _node(message)


def found(answer: Any) -> list[Found]:
    """Of ``find``; snapshots without a match are not in it."""
    return [
        Found(
            str(entry.get("snapshot", "")),
            tuple(_node(match) for match in entry.get("matches") or () if isinstance(match, dict)),
        )
        for entry in answer or ()
        if isinstance(entry, dict)
    ]


def change(message: Message) -> Change | None:
    if kind(message) != "change":
        return None
    return Change(str(message.get("path", "")), str(message.get("modifier", "")))


def diff_counts(message: Message) -> DiffCounts:
    return DiffCounts(
        files=_int(message, "files"),
        directories=_int(message, "dirs"),
        others=_int(message, "others"),
        data_blobs=_int(message, "data_blobs"),
        tree_blobs=_int(message, "tree_blobs"),
        bytes=_int(message, "bytes"),
    )


def diff_result(statistics: Message, changes: list[Change], *, count: int) -> DiffResult:
    return DiffResult(
        changed_files=_int(statistics, "changed_files"),
        added=diff_counts(statistics.get("added") or {}),
        removed=diff_counts(statistics.get("removed") or {}),
        changes=tuple(changes),
        change_count=count,
    )


def new_key_id(lines: list[str]) -> str | None:
    """``key add`` answers in words, with the id among them; also with ``--json``."""
    ids = [match[0] for line in lines for match in _KEY_ID.finditer(line)]
    return ids[-1] if ids else None


def lock_content(answer: Message) -> LockContent:
    return LockContent(
        time=_time(answer.get("time")),
        exclusive=bool(answer.get("exclusive")),
        hostname=str(answer.get("hostname", "")),
        username=str(answer.get("username", "")),
        pid=_int(answer, "pid"),
    )


def _node(message: Message) -> Node:
    return Node(
        path=str(message.get("path", "")),
        type=str(message.get("type", "")),
        size=_int(message, "size"),
        mode=_int(message, "mode"),
        uid=_int(message, "uid"),
        gid=_int(message, "gid"),
        modified=_time(message.get("mtime")),
    )


def repository_stats(found: Message) -> RepositoryStats:
    return RepositoryStats(
        total_size=_int(found, "total_size"),
        total_uncompressed_size=_int(found, "total_uncompressed_size"),
        blobs=_int(found, "total_blob_count"),
        snapshots=_int(found, "snapshots_count"),
    )


def snapshot_stats(found: Message) -> SnapshotStats:
    return SnapshotStats(
        total_size=_int(found, "total_size"), files=_int(found, "total_file_count")
    )


def check_result(summary: Message, errors: list[str]) -> CheckResult:
    return CheckResult(
        errors=_int(summary, "num_errors"),
        messages=tuple(errors),
        broken_packs=tuple(map(str, summary.get("broken_packs") or ())),
        suggest_repair_index=bool(summary.get("suggest_repair_index")),
        suggest_prune=bool(summary.get("suggest_prune")),
    )


def keys(found: Any) -> list[KeyInfo]:
    return [
        KeyInfo(
            id=str(entry.get("id", "")),
            current=bool(entry.get("current")),
            user=str(entry.get("userName", "")),
            host=str(entry.get("hostName", "")),
            created=_time(entry.get("created")),
        )
        for entry in found or ()
        if isinstance(entry, dict)
    ]


def _snapshot(entry: Message) -> Snapshot:
    summary = entry.get("summary")
    time = _time(entry["time"])
    assert time is not None, "restic writes every snapshot's time"
    return Snapshot(
        id=str(entry["id"]),
        time=time,
        hostname=str(entry.get("hostname", "")),
        tags=tuple(map(str, entry.get("tags") or ())),
        parent=entry.get("parent"),
        original=entry.get("original"),
        paths=tuple(map(str, entry.get("paths") or ())),
        tree=str(entry.get("tree", "")),
        program_version=str(entry.get("program_version", "")),
        excludes=tuple(map(str, entry.get("excludes") or ())),
        summary=_summary(summary) if isinstance(summary, dict) else None,
    )


def _summary(found: Message) -> SnapshotSummary:
    return SnapshotSummary(
        files_new=_int(found, "files_new"),
        files_changed=_int(found, "files_changed"),
        files_unmodified=_int(found, "files_unmodified"),
        bytes_processed=_int(found, "total_bytes_processed"),
        files_processed=_int(found, "total_files_processed"),
        bytes_added=_int(found, "data_added"),
        bytes_stored=_int(found, "data_added_packed"),
        backup_start=_time(found.get("backup_start")),
        backup_end=_time(found.get("backup_end")),
    )


def _error_text(message: Message) -> str:
    error = message.get("error")
    text = error.get("message") if isinstance(error, dict) else error
    return str(text or message.get("message") or "unknown error")


def _int(message: Message, key: str) -> int:
    value = message.get(key)
    return int(value) if isinstance(value, int | float) else 0


def _float(message: Message, key: str) -> float:
    value = message.get(key)
    return float(value) if isinstance(value, int | float) else 0.0


def _time(text: Any) -> datetime | None:
    """Go writes up to nine decimals; Python drops those after the sixth.

    Without a zone (``key list``) it is the child's, which is UTC.
    """
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
