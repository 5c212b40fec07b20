"""What restic's result of a restore means for the job. Pure.

Problem: restic ends with code 1 and a list of complaints for a damaged pack, for a full disk, and
for a file system that knows no owners (an SMB share cannot do chown), and only one of these is a
volume that its application can use.
Decision: content must be complete, always. Owners, modes, times and attributes must be, too, where
the file system can keep them; where by its type it cannot, what it refused is a remark.
Limits: restic's complaints are told apart by the system call they name; one that is not known
counts as missing content. Content itself is read back in agent/verify.py.
"""

from __future__ import annotations

import re
from typing import Any

from ararat.api.nodejob import JobPhase, RestoreSummary, Verified
from ararat.errors import AraratError, OutOfSpace
from ararat.human import plural, size
from ararat.restic.models import PathError, RestoreResult

from .backup_job import short_paths
from .progress import finished

#: File systems that keep no owners or attributes, or only some.
_LIMITED = re.compile(r"^(cifs|smb3?|vfat|exfat|ntfs3?|9p|nfs4?|fuse(blk)?(\..*)?|ceph|virtiofs)$")
_METADATA = re.compile(
    r"^(l?chown|f?chmod|lchtimes|utimes?|utimensat|futimesat|l?setxattr|xattr\.l?set)\b",
    re.IGNORECASE,
)


class FilesNotRestored(AraratError):
    """restic could not write some files; ``status`` says which."""

    default_reason = "FilesNotRestored"

    def __init__(self, message: str, *, status: dict[str, Any]) -> None:
        super().__init__(message)
        self.status = status


def check(
    result: RestoreResult, *, fstype: str, free: int, needed: int, in_place: bool = False
) -> str | None:
    """Raises unless restic wrote all that it meant to write; a remark on what cannot be kept.

    ``in_place``: over what was there, where restic also counts directories on the way.
    """
    if not result.failed_count:
        _refuse_missing(result, at_least=in_place)
        return None
    first = result.failed[0] if result.failed else PathError("?", "no cause given")
    if any("no space left" in error.message.lower() for error in result.failed):
        raise OutOfSpace(
            f"The volume is full: {size(needed)} are needed in all and {size(free)} are free."
        )
    if _LIMITED.match(fstype) and _only_metadata(result):
        return (
            f"This volume ({fstype}) does not keep owners, modes or attributes of "
            f"{plural(result.failed_count, 'file')}; content is complete."
        )
    raise FilesNotRestored(
        f"{plural(result.failed_count, 'file')} could not be restored, the first: "
        f"{first.path}: {first.message}.",
        status=_failures(result),
    )


def check_root(unlike: list[str], *, fstype: str) -> str | None:
    """The same for the volume's root directory, by what of it could not be set."""
    if not unlike:
        return None
    what = f"The volume's root directory could not be set in full: {', '.join(unlike)}."
    if _LIMITED.match(fstype):
        return what
    raise AraratError(what, reason="RootNotRestored")


def _refuse_missing(result: RestoreResult, *, at_least: bool) -> None:
    done = result.files_restored + result.files_skipped
    if done < result.files_total or (done > result.files_total and not at_least):
        raise FilesNotRestored(
            f"restic restored {done:,} of {result.files_total:,} files and named no cause.",
            status=_failures(result),
        )


def _only_metadata(result: RestoreResult) -> bool:
    """Whether every complaint is about metadata, and every byte was written."""
    if result.bytes_restored + result.bytes_skipped != result.bytes_total:
        return False
    return all(_METADATA.match(error.message) for error in result.failed)


def finished_status(
    result: RestoreResult, remarks: list[str], verified: Verified | None = None
) -> dict[str, Any]:
    """What the job's status says about a finished restore."""
    return {
        **_failures(result),
        "phase": JobPhase.COMPLETED.value,
        "reason": None,
        "message": " ".join(remarks) or None,
        "verified": verified.to_dict() if verified else None,
        "progress": finished(
            bytes_done=result.bytes_total, files_done=result.files_total
        ).to_dict(),
    }


def _failures(result: RestoreResult) -> dict[str, Any]:
    return {
        "failedCount": result.failed_count,
        "failedPaths": short_paths(result.failed),
        "summary": RestoreSummary(
            files_restored=result.files_restored,
            bytes_restored=result.bytes_restored,
            files_total=result.files_total,
            bytes_total=result.bytes_total,
            seconds=round(result.seconds, 3),
        ).to_dict(),
    }
