"""restic's command lines, built by pure functions.

Decision: values are passed as ``--flag=value``, so that none can be taken for a flag; ids are
checked to be ids. Nothing secret is ever an argument.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ararat.errors import InvalidSpec

from .models import (
    Access,
    BackupRequest,
    CompareRequest,
    CopySource,
    FindRequest,
    PruneRequest,
    RestoreRequest,
    Tuning,
)
from .version import Binary, Feature

#: A request is held while the store is away for at most a few minutes (settings.py); restic's own
#: watchdog cuts it after 5 by default, which would only repeat the upload.
_STUCK = "15m"
LOST_AND_FOUND = "lost+found"
_ID = re.compile(r"[0-9a-f]{8,64}")


def common(
    binary: Path,
    *,
    url: str,
    password_file: str,
    key_id: str,
    access: Access,
    cache_dir: Path | None,
    connections: int | None = None,
) -> list[str]:
    """What every command that opens a repository starts with."""
    arguments = [
        str(binary),
        "--json",
        f"--repo={url}",
        f"--password-file={password_file}",
        # Without either 0.19.1 fails where HOME is not set, which it never is here.
        f"--cache-dir={cache_dir}" if cache_dir is not None else "--no-cache",
        f"--stuck-request-timeout={_STUCK}",
    ]
    if key_id:
        arguments.append(f"--key-hint={check_id(key_id)}")
    if access is Access.READ_ONLY:
        arguments.append("--no-lock")
    if connections is not None:
        arguments.append(f"--option=rest.connections={connections}")
    return arguments


def backup(request: BackupRequest, *, root: str, binary: Binary) -> list[str]:
    """``root`` is the volume's absolute path, which restic matches exclude patterns against."""
    arguments = ["backup", f"--host={request.host}", "--group-by=host"]
    arguments += [f"--tag={check_tag(tag)}" for tag in request.tags]
    if request.force:
        arguments.append("--force")
    elif request.parent is not None:
        arguments.append(f"--parent={check_id(request.parent)}")
    if request.ignore_ctime:
        arguments.append("--ignore-ctime")
    if request.ignore_inode:
        arguments.append("--ignore-inode")
    if request.one_file_system:
        arguments.append("--one-file-system")
    if request.exclude_caches:
        arguments.append("--exclude-caches")
    anchored = [f"/{LOST_AND_FOUND}", *request.excludes]
    arguments += [f"--exclude={anchor(pattern, root)}" for pattern in anchored]
    arguments += tuning(request.tuning or Tuning(), binary=binary)
    return [*arguments, "."]


def tuning(chosen: Tuning, *, binary: Binary) -> list[str]:
    """Flags of ``backup`` only; the number of connections is a common one."""
    arguments = [] if chosen.scan else ["--no-scan"]
    if chosen.read_concurrency is not None:
        arguments.append(f"--read-concurrency={chosen.read_concurrency}")
    if chosen.pack_size is not None:
        arguments.append(f"--pack-size={chosen.pack_size}")
    if chosen.compression is not None:
        level = chosen.compression
        if level in ("fastest", "better") and not binary.has(Feature.MORE_COMPRESSION_LEVELS):
            level = "auto"
        arguments.append(f"--compression={level}")
    return arguments


def restore(request: RestoreRequest) -> list[str]:
    arguments = ["restore", check_id(request.snapshot_id), "--target=."]
    # XFS shows an ACL once more under this name to whoever has SYS_ADMIN; restic would remove that
    # as not in the snapshot, and the ACL with it.
    arguments.append("--exclude-xattr=trusted.SGI_ACL*")
    if request.sparse:
        arguments.append("--sparse")
    if request.verify:
        arguments.append("--verify")
    if request.replace:
        arguments.append("--delete")
    arguments += [f"--include={pattern}" for pattern in request.include]
    # restic takes either; with includes nothing else is touched anyway, lost+found among it.
    if not request.include:
        excludes = (f"/{LOST_AND_FOUND}", *request.exclude)
        arguments += [f"--exclude={pattern}" for pattern in excludes]
    elif request.exclude:
        raise InvalidSpec("a restore takes paths to include or to exclude, not both")
    return arguments


def compare(request: CompareRequest) -> list[str]:
    """What a restore over the volume would have to write, which is what differs."""
    arguments = ["restore", check_id(request.snapshot_id), "--target=.", "--dry-run", "-vv"]
    if not request.lock:
        arguments.append("--no-lock")
    return [*arguments, *(f"--include={pattern}" for pattern in request.include)]


def snapshots(*, host: str | None, tags: Sequence[str]) -> list[str]:
    """All tags must be there: within one ``--tag`` they are joined by "and"."""
    arguments = ["snapshots"]
    if host is not None:
        arguments.append(f"--host={host}")
    if tags:
        arguments.append(f"--tag={','.join(map(check_tag, tags))}")
    return arguments


def ls(snapshot_id: str, path: str | Sequence[str] | None, *, recursive: bool = True) -> list[str]:
    arguments = ["ls", check_id(snapshot_id)]
    if path is None:
        return arguments
    paths = [path] if isinstance(path, str) else path
    return [*arguments, *(["--recursive"] if recursive else []), *map(_absolute, paths)]


def dump(snapshot_id: str, path: str) -> list[str]:
    return ["dump", check_id(snapshot_id), _absolute(path)]


def forget(snapshot_ids: Sequence[str]) -> list[str]:
    if not snapshot_ids:
        raise InvalidSpec("no snapshot was named")
    return ["forget", *map(check_id, snapshot_ids)]


def prune(request: PruneRequest) -> list[str]:
    arguments = ["prune"]
    if request.max_unused is not None:
        arguments.append(f"--max-unused={request.max_unused}")
    if request.max_repack_size is not None:
        arguments.append(f"--max-repack-size={request.max_repack_size}")
    return [*arguments, "--dry-run"] if request.dry_run else arguments


def check(*, read_data_subset: str | None) -> list[str]:
    arguments = ["check"]
    if read_data_subset is not None:
        arguments.append(f"--read-data-subset={read_data_subset}")
    return arguments


def find(request: FindRequest) -> list[str]:
    if not request.patterns:
        raise InvalidSpec("no pattern was given to look for")
    arguments = ["find"]
    if request.host is not None:
        arguments.append(f"--host={request.host}")
    arguments += [f"--snapshot={check_id(snapshot)}" for snapshot in request.snapshot_ids]
    if request.ignore_case:
        arguments.append("--ignore-case")
    return [*arguments, "--", *request.patterns]


def diff(before: str, after: str, *, metadata: bool) -> list[str]:
    flags = ["--metadata"] if metadata else []
    return ["diff", *flags, check_id(before), check_id(after)]


def repair_index(*, read_all_packs: bool) -> list[str]:
    return ["repair", "index", *(["--read-all-packs"] if read_all_packs else [])]


def repair_snapshots(snapshot_ids: Sequence[str], *, forget: bool, dry_run: bool) -> list[str]:
    """``forget`` removes the damaged originals; no ids means all snapshots."""
    flags = ["--forget"] if forget else []
    flags += ["--dry-run"] if dry_run else []
    return ["repair", "snapshots", *flags, *map(check_id, snapshot_ids)]


def repair_packs(pack_ids: Sequence[str]) -> list[str]:
    if not pack_ids:
        raise InvalidSpec("no pack was named")
    return ["repair", "packs", *map(check_id, pack_ids)]


def copy(snapshot_ids: Sequence[str], *, source: CopySource, password_file: str) -> list[str]:
    """Into the session's repository. Named ids only: "all" is the caller's to spell out."""
    if not snapshot_ids:
        raise InvalidSpec("no snapshot was named")
    arguments = ["copy", f"--from-repo={source.url}", f"--from-password-file={password_file}"]
    if source.key_id:
        arguments.append(f"--from-key-hint={check_id(source.key_id)}")
    if source.read_only:
        arguments.append("--no-lock")  # restic locks the destination all the same
    return [*arguments, *map(check_id, snapshot_ids)]


def key_add(*, password_file: str, host: str, user: str) -> list[str]:
    arguments = ["key", "add", f"--new-password-file={password_file}"]
    arguments += [f"--host={host}"] if host else []
    return [*arguments, f"--user={user}"] if user else arguments


def key_remove(key_id: str) -> list[str]:
    return ["key", "remove", check_id(key_id)]


def cat_lock(lock_id: str) -> list[str]:
    """It takes no lock of its own: it is asked while another one is in the way."""
    return ["cat", "lock", "--no-lock", check_id(lock_id)]


def stats(mode: str, snapshot_id: str | None = None) -> list[str]:
    arguments = ["stats", f"--mode={mode}"]
    return arguments if snapshot_id is None else [*arguments, check_id(snapshot_id)]


def anchor(pattern: str, root: str) -> str:
    """A pattern that starts with ``/`` is meant from the volume's root; others match anywhere."""
    mark, rest = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
    if not rest.startswith("/"):
        return pattern
    return mark + re.sub(r"([*?\[\]\\])", r"\\\1", root.rstrip("/")) + rest


def check_id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise InvalidSpec(f"{text[:80]!r} is not one of restic's ids")
    return text


def check_tag(text: str) -> str:
    if not text or "," in text:
        raise InvalidSpec(f"{text[:80]!r} cannot be a tag: commas separate tags")
    return text


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"
