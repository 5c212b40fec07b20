"""What a restic of ours may touch.

Decision: nothing but its own binary, the system's libraries, a few public files, the session's
scratch, the cache, and, where the command is about one, the volume. Sockets need no rule: Landlock
does not look at connecting to a path. Backups see the volume read-only.
Limits: Landlock does not cover chmod, chown, times and extended attributes, so a pod that swaps
directories for links during an in-place restore can have those changed outside; contents cannot be
read or written there. Kernels with Landlock version 1 cannot link across directories: there only
backups are confined.
"""

from __future__ import annotations

from pathlib import Path

from ararat.process import Sandbox, landlock_abi

from .errors import NotConfinable
from .models import Confinement

#: From version 2 (Linux 5.19) links and renames across directories can be allowed.
_RESTORE_ABI = 2
_LIBRARIES = tuple(map(Path, ("/lib", "/lib64", "/usr/lib", "/usr/lib64")))
_PUBLIC = tuple(
    map(
        Path,
        (
            "/etc/ld.so.cache",
            # Names of owners, which restic stores beside their numbers.
            "/etc/passwd",
            "/etc/group",
            "/etc/nsswitch.conf",
            "/etc/localtime",
            "/usr/share/zoneinfo",
            "/dev/urandom",
        ),
    )
)


def build(
    *,
    binary: Path,
    scratch: Path,
    cache: Path | None,
    source: int | None = None,
    target: int | None = None,
    confinement: Confinement = Confinement.WHERE_POSSIBLE,
) -> Sandbox | None:
    """None: this kernel cannot confine, and that was accepted. Raises NotConfinable."""
    needed = 1 if target is None else _RESTORE_ABI
    if landlock_abi() < needed:
        if confinement is Confinement.REQUIRED:
            raise NotConfinable(
                "this kernel cannot confine restic to the volume (Landlock "
                f"version {needed} is needed, it has {landlock_abi()})"
            )
        return None
    return Sandbox(
        read=_PUBLIC if source is None else (*_PUBLIC, source),
        execute=(binary, *_LIBRARIES),
        work=(scratch, Path("/dev/null"), *(() if cache is None else (cache,))),
        restore=() if target is None else (target,),
    )
