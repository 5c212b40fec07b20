from __future__ import annotations

from pathlib import Path

import pytest

from ararat.errors import InvalidSpec
from ararat.restic import arguments
from ararat.restic.models import (
    Access,
    BackupRequest,
    CopySource,
    FindRequest,
    PruneRequest,
    RestoreRequest,
    Tuning,
)
from ararat.restic.version import Binary

ID = "ab" * 32
NEW = Binary(Path("/usr/bin/restic"), (0, 19, 1))
OLD = Binary(Path("/usr/bin/restic"), (0, 18, 0))


def common(**more: object) -> list[str]:
    fields: dict[str, object] = {
        "url": "rest:http+unix:///s:/r/",
        "password_file": "/dev/fd/5",
        "key_id": ID,
        "access": Access.APPEND_ONLY,
        "cache_dir": Path("/cache"),
        **more,
    }
    return arguments.common(Path("/usr/bin/restic"), **fields)  # type: ignore[arg-type]


def test_every_command_is_told_repository_password_key_and_cache() -> None:
    assert common() == [
        "/usr/bin/restic",
        "--json",
        "--repo=rest:http+unix:///s:/r/",
        "--password-file=/dev/fd/5",
        "--cache-dir=/cache",
        "--stuck-request-timeout=15m",
        f"--key-hint={ID}",
    ]


def test_without_a_cache_that_is_said_too() -> None:
    assert "--no-cache" in common(cache_dir=None)


def test_only_a_reader_takes_no_lock() -> None:
    assert "--no-lock" in common(access=Access.READ_ONLY)
    assert "--no-lock" not in common(access=Access.MAINTENANCE)


def test_connections() -> None:
    assert "--option=rest.connections=3" in common(connections=3)


def backup(**more: object) -> list[str]:
    fields: dict[str, object] = {"source": Path("/v"), "host": "c/ns/pvc/data", **more}
    request = BackupRequest(**fields)  # type: ignore[arg-type]
    return arguments.backup(request, root="/var/lib/kubelet/pods/uid/v", binary=NEW)


def test_a_backup_is_of_the_working_directory_under_our_own_identity() -> None:
    assert backup(tags=("ararat", "job=1"), parent=ID, ignore_ctime=True) == [
        "backup",
        "--host=c/ns/pvc/data",
        "--group-by=host",
        "--tag=ararat",
        "--tag=job=1",
        f"--parent={ID}",
        "--ignore-ctime",
        "--one-file-system",
        "--exclude=/var/lib/kubelet/pods/uid/v/lost+found",
        "--compression=fastest",
        ".",
    ]


def test_force_reads_everything_whatever_the_parent() -> None:
    flags = backup(force=True, parent=ID)
    assert "--force" in flags
    assert not any(flag.startswith("--parent") for flag in flags)


def test_tuning() -> None:
    chosen = Tuning(read_concurrency=8, pack_size=32, compression="better", scan=False)
    assert arguments.tuning(chosen, binary=NEW) == [
        "--no-scan",
        "--read-concurrency=8",
        "--pack-size=32",
        "--compression=better",
    ]
    assert "--compression=auto" in arguments.tuning(chosen, binary=OLD)
    assert arguments.tuning(Tuning(), binary=NEW) == ["--compression=fastest"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.tmp", "*.tmp"),
        ("cache/", "cache/"),
        ("/cache", "/v[1]".replace("[", r"\[").replace("]", r"\]") + "/cache"),
        ("!/keep", "!" + r"/v\[1\]" + "/keep"),
        ("!keep", "!keep"),
    ],
)
def test_patterns_are_anchored_at_the_volume(pattern: str, expected: str) -> None:
    assert arguments.anchor(pattern, "/v[1]/") == expected


def test_a_restore_is_into_the_working_directory() -> None:
    request = RestoreRequest(snapshot_id=ID, target=Path("/v"))
    assert arguments.restore(request) == [
        "restore",
        ID,
        "--target=.",
        "--exclude-xattr=trusted.SGI_ACL*",
        "--sparse",
        "--exclude=/lost+found",
    ]


def test_replacing_protects_what_the_file_system_made() -> None:
    flags = arguments.restore(RestoreRequest(snapshot_id=ID, target=Path("/v"), replace=True))
    assert "--delete" in flags
    assert "--exclude=/lost+found" in flags


def test_a_restore_of_paths() -> None:
    request = RestoreRequest(snapshot_id=ID, target=Path("/v"), include=("/a", "/b"), sparse=False)
    assert arguments.restore(request)[4:] == ["--include=/a", "--include=/b"]
    both = RestoreRequest(snapshot_id=ID, target=Path("/v"), include=("/a",), exclude=("/b",))
    with pytest.raises(InvalidSpec):
        arguments.restore(both)


def test_all_tags_must_match() -> None:
    assert arguments.snapshots(host="h", tags=["a", "b"]) == ["snapshots", "--host=h", "--tag=a,b"]


@pytest.mark.parametrize("text", ["", "latest", "-x", "ab", "AB" * 32, f"{ID}0", f"{ID}\n"])
def test_only_ids_are_ids(text: str) -> None:
    for build in (
        arguments.check_id,
        lambda t: arguments.forget([t]),
        lambda t: arguments.dump(t, "/x"),
    ):
        with pytest.raises(InvalidSpec):
            build(text)


def test_nothing_to_forget_is_a_mistake() -> None:
    """``forget`` without ids and policy keeps everything; with a policy it would not."""
    with pytest.raises(InvalidSpec):
        arguments.forget([])


@pytest.mark.parametrize("tag", ["", "a,b"])
def test_tags_cannot_hold_commas(tag: str) -> None:
    with pytest.raises(InvalidSpec):
        arguments.check_tag(tag)


def test_maintenance() -> None:
    request = PruneRequest(max_unused="5%", max_repack_size="10G", dry_run=True)
    assert arguments.prune(request) == [
        "prune",
        "--max-unused=5%",
        "--max-repack-size=10G",
        "--dry-run",
    ]
    assert arguments.check(read_data_subset="1/10") == ["check", "--read-data-subset=1/10"]
    assert arguments.stats("restore-size", ID) == ["stats", "--mode=restore-size", ID]
    assert arguments.dump(ID, "a/b") == ["dump", ID, "/a/b"]
    assert arguments.ls(ID, "a") == ["ls", ID, "--recursive", "/a"]


def test_find_takes_no_pattern_for_a_flag() -> None:
    request = FindRequest(patterns=("-rf", "*.sql"), host="h", snapshot_ids=(ID,))
    assert arguments.find(request) == [
        "find",
        "--host=h",
        f"--snapshot={ID}",
        "--",
        "-rf",
        "*.sql",
    ]
    with pytest.raises(InvalidSpec):
        arguments.find(FindRequest(patterns=()))


def test_repairs_and_copies_name_what_they_change() -> None:
    assert arguments.repair_index(read_all_packs=False) == ["repair", "index"]
    assert arguments.repair_snapshots([], forget=True, dry_run=False) == [
        "repair",
        "snapshots",
        "--forget",
    ]
    assert arguments.repair_packs([ID]) == ["repair", "packs", ID]
    source = CopySource(url="rest:http+unix:///o:/r/", key_id=ID, read_only=True)
    assert arguments.copy([ID], source=source, password_file="/dev/fd/7") == [
        "copy",
        "--from-repo=rest:http+unix:///o:/r/",
        "--from-password-file=/dev/fd/7",
        f"--from-key-hint={ID}",
        "--no-lock",
        ID,
    ]
    for nothing in (
        lambda: arguments.repair_packs([]),
        lambda: arguments.copy([], source=source, password_file="/dev/fd/7"),
        lambda: arguments.key_remove("../config"),
        lambda: arguments.diff(ID, "--help", metadata=False),
    ):
        with pytest.raises(InvalidSpec):
            nothing()


def test_a_new_password_is_named_by_its_pipe() -> None:
    assert arguments.key_add(password_file="/dev/fd/9", host="", user="u") == [
        "key",
        "add",
        "--new-password-file=/dev/fd/9",
        "--user=u",
    ]
