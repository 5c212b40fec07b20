"""What is found in the root of a new volume although nobody has used it."""

from __future__ import annotations

from typing import Final

#: What a new file system, or a filer, puts into the root of an empty volume by itself;
#: docs/agent.md tells whose each is.
DROPPINGS: Final = frozenset(
    (
        "lost+found",
        "aquota.group",
        "aquota.user",
        ".snapshot",
        ".snapshots",
        "~snapshot",
        ".zfs",
        "$RECYCLE.BIN",
        "System Volume Information",
    )
)
