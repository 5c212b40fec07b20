"""Mends restic's cache directory where restic itself cannot open it.

Problem: restic writes the ``version`` file of a repository's cache in place (until 0.19.1 at
least). Another restic that opens the cache in that moment reads an empty file and ends with an
error, and a restic that is killed in that moment leaves it empty: from then on every command on
that repository fails on this node.
Decision: a command that ended for this has done nothing yet, so the file is put in place as a
whole and the command run again.
Limits: caches are ours alone; a cache of a newer format than restic knows is not touched.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

#: How often one command may be run again for this.
TRIES = 3
#: What strconv.ParseUint says of an empty file, as restic passes it on.
_EMPTY = re.compile(r'strconv\.ParseUint: parsing "": invalid syntax|readVersion')
#: The only format there has been (``cacheVersion`` in restic). A newer restic moves it up itself.
_VERSION = b"1"


def unreadable(said: str | None) -> bool:
    """Whether restic ended because its cache cannot be opened."""
    return said is not None and _EMPTY.search(said) is not None


def mend(directory: Path) -> int:
    """Give every cache below ``directory`` that has an empty version file a whole one.

    Returns how many were mended. Raises OSError.
    """
    mended = 0
    for version in directory.glob("*/version"):
        if version.stat().st_size == 0:
            descriptor, partial = tempfile.mkstemp(prefix="version-", dir=version.parent)
            with os.fdopen(descriptor, "wb") as file:
                file.write(_VERSION)
            Path(partial).replace(version)
            mended += 1
    return mended
