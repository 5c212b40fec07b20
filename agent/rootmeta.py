"""Mode, owner, time and extended attributes of a volume's root directory.

Problem: restic is started inside the volume with the source ``.``, so its snapshots do not hold
the root directory itself. Its owner and mode (fsGroup volumes: 2770, group of the pod) decide
whether the application can write at all.
Decision: captured into the job's status, kept in the manifest, and reapplied by descriptor as the
last act of a restore. ACLs are extended attributes like any other.
Limits: some file systems keep no owners or attributes (SMB, squashed NFS); what they refuse is
returned, and agent/restore_result.py says what it means. ``security.selinux`` belongs to the node's
policy and is left alone; ``trusted.*`` is invisible without CAP_SYS_ADMIN, which the agent has not.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import stat
from collections.abc import Callable
from functools import partial

from ararat.api.nodejob import RootMetadata

#: Not ours to set: labels of the node's security policy.
_FOREIGN = (
    "security.selinux",
    "security.SMACK64",
    "security.ima",
    "security.evm",
    # XFS's second view of an ACL: to remove it removes the ACL.
    "trusted.SGI_ACL",
)
_UNSUPPORTED = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def capture(fd: int) -> RootMetadata:
    """Metadata of the directory behind ``fd``."""
    info = os.fstat(fd)
    return RootMetadata(
        mode=stat.S_IMODE(info.st_mode),
        uid=info.st_uid,
        gid=info.st_gid,
        mtime_ns=info.st_mtime_ns,
        xattrs={
            name: base64.b64encode(value).decode() for name, value in sorted(_xattrs(fd).items())
        },
    )


def apply(fd: int, root: RootMetadata) -> list[str]:
    """Sets it again; returns what the file system refused, one phrase each.

    The order matters: a change of owner may clear mode bits, an ACL rewrites the group bits, and
    all of them are changes after which the time must be set.
    """
    refused: list[str] = []

    def attempt(what: str, step: Callable[[], None]) -> None:
        try:
            step()
        except OSError as error:
            refused.append(f"{what} ({os.strerror(error.errno or 0)})")

    before = os.fstat(fd)
    if (before.st_uid, before.st_gid) != (root.uid, root.gid):
        attempt("owner", lambda: os.chown(fd, root.uid, root.gid))
    wanted = {name: base64.b64decode(value) for name, value in root.xattrs.items()}
    present = _xattrs(fd)
    for name in sorted(present.keys() - wanted.keys()):
        if not _foreign(name):
            attempt(name, partial(os.removexattr, fd, name))
    for name, value in sorted(wanted.items()):
        if not _foreign(name) and present.get(name) != value:
            attempt(name, partial(os.setxattr, fd, name, value))
    if stat.S_IMODE(os.fstat(fd).st_mode) != root.mode:
        attempt("mode", lambda: os.chmod(fd, root.mode))
    attempt("time", lambda: os.utime(fd, ns=(root.mtime_ns, root.mtime_ns)))
    return refused


def differences(wanted: RootMetadata, found: RootMetadata) -> list[str]:
    """What differs, in words, apart from attributes that are not ours to set."""
    different = [
        name
        for name in ("mode", "uid", "gid", "mtime_ns")
        if getattr(wanted, name) != getattr(found, name)
    ]
    names = wanted.xattrs.keys() | found.xattrs.keys()
    different += sorted(
        name
        for name in names
        if not _foreign(name) and wanted.xattrs.get(name) != found.xattrs.get(name)
    )
    return different


def _foreign(name: str) -> bool:
    return name.startswith(_FOREIGN)


def _xattrs(fd: int) -> dict[str, bytes]:
    try:
        names = os.listxattr(fd)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return {}
        raise
    found: dict[str, bytes] = {}
    for name in names:
        # Between list and get an attribute may vanish; some file systems list what they refuse.
        with contextlib.suppress(OSError):
            found[name] = os.getxattr(fd, name)
    return found
