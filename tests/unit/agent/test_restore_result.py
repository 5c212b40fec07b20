"""Which of restic's complaints fail a restore."""

import pytest

from agent.restore_result import FilesNotRestored, check, check_root, finished_status
from ararat.errors import AraratError, OutOfSpace
from ararat.restic.models import PathError, RestoreResult


def result(*messages: str, missing_bytes: int = 0, count: int | None = None) -> RestoreResult:
    failed = tuple(PathError(f"/file-{n}", message) for n, message in enumerate(messages))
    number = len(failed) if count is None else count
    return RestoreResult(
        files_total=10, files_restored=10 - number, bytes_total=100,
        bytes_restored=100 - missing_bytes, failed=failed, failed_count=number,
    )  # fmt: skip


def checked(found: RestoreResult, fstype: str = "ext4") -> str | None:
    return check(found, fstype=fstype, free=1 << 20, needed=5 << 30)


REFUSED = "lchown /v/file: operation not permitted"


def test_everything_restored():
    assert checked(result()) is None


def test_files_that_are_missing_without_a_cause():
    with pytest.raises(FilesNotRestored, match="9 of 10 files and named no cause"):
        checked(RestoreResult(files_total=10, files_restored=9))


@pytest.mark.parametrize("fstype", ["ext4", "xfs", "tmpfs", "btrfs"])
def test_lost_owners_fail_where_owners_are_kept(fstype: str):
    with pytest.raises(FilesNotRestored, match="lchown") as raised:
        checked(result(REFUSED), fstype)
    assert raised.value.status["failedPaths"] == ["/file-0"]


@pytest.mark.parametrize("fstype", ["cifs", "nfs4", "fuse.blobfuse2", "vfat", "9p"])
def test_lost_owners_are_a_remark_where_they_cannot_be_kept(fstype: str):
    remark = checked(result(REFUSED, "xattr.LSet /v/x user.a: not supported"), fstype)
    assert remark is not None
    assert "2 files" in remark
    assert fstype in remark


def test_missing_content_is_never_a_remark():
    with pytest.raises(FilesNotRestored):
        checked(result(REFUSED, "pack damaged"), "cifs")
    with pytest.raises(FilesNotRestored):
        checked(result(REFUSED, missing_bytes=1), "cifs")


def test_a_full_volume_says_what_is_needed():
    with pytest.raises(OutOfSpace, match=r"5\.0 GiB are needed in all and 1\.0 MiB are free"):
        checked(result("write /v/file: no space left on device"))


def test_the_root_directory_counts_like_any_file():
    assert check_root([], fstype="ext4") is None
    assert "owner" in str(check_root(["owner (Operation not permitted)"], fstype="cifs"))
    with pytest.raises(AraratError) as raised:
        check_root(["owner (Operation not permitted)"], fstype="ext4")
    assert raised.value.reason == "RootNotRestored"


def test_the_status_says_it_in_full():
    status = finished_status(result(REFUSED), ["One.", "Two."])
    assert status["phase"] == "Completed"
    assert status["message"] == "One. Two."
    assert status["failedCount"] == 1
    assert finished_status(result(), [])["message"] is None
