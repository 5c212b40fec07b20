"""The file ``.araratignore`` in a volume's root: what its application wants left out.

Limits: only a regular file of that name directly in the root is read, by the root's descriptor and
without following a link; a larger one than 64 KiB is not believed to be what it says.
"""

from __future__ import annotations

import os
import stat

from ararat import excludes

LARGEST = 64 * 1024


def read(volume: int) -> tuple[tuple[str, ...], str]:
    """Its patterns, and what is wrong with it ("" for nothing). ``volume``: its descriptor."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(excludes.FILE, flags, dir_fd=volume)
    except FileNotFoundError:
        return (), ""
    except OSError as exc:
        return (), f"{excludes.FILE} cannot be read ({exc.strerror})"
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return (), f"{excludes.FILE} is not a file"
        data = b""
        while len(data) <= LARGEST and (piece := os.read(descriptor, LARGEST + 1)):
            data += piece
    except OSError as exc:
        return (), f"{excludes.FILE} cannot be read ({exc.strerror})"
    finally:
        os.close(descriptor)
    if len(data) > LARGEST:
        return (), f"{excludes.FILE} has more than {LARGEST // 1024} KiB"
    patterns, bad = excludes.of_file(data.decode(errors="replace"))
    wrong = f"{excludes.FILE} has a line that is no pattern: {bad[0][:80]!r}" if bad else ""
    return patterns, wrong
