"""Which restic there is, and what it can do.

Decision: one minimum (0.18, the first with ``exit_error`` messages and JSON from ``check``), said
in one sentence at start-up; above it a table of features decides which flags are passed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ararat import process

from .errors import ChildKilled, ResticMissing

#: Names the binary; without it ``restic`` is looked up on PATH.
VARIABLE = "ARARAT_RESTIC"
MINIMUM = (0, 18, 0)
_HOW = (
    "install restic 0.18 or newer (github.com/restic/restic/releases; Ararat's images have it) "
    f"and name it in {VARIABLE} or put it on PATH"
)


class Feature(StrEnum):
    """What came after the minimum and is used only where it is there."""

    #: ``--compression fastest`` and ``better``
    MORE_COMPRESSION_LEVELS = "more compression levels"


_SINCE = {Feature.MORE_COMPRESSION_LEVELS: (0, 19, 0)}


@dataclass(frozen=True)
class Binary:
    path: Path
    version: tuple[int, int, int]

    def has(self, feature: Feature) -> bool:
        return self.version >= _SINCE[feature]

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version))


_known: dict[tuple[Path, int], Binary] = {}


async def find_restic() -> Binary:
    """The restic to use. Raises ResticMissing with one sentence that says what to install."""
    configured = os.environ.get(VARIABLE)
    found = shutil.which(configured or "restic")
    if found is None:
        raise ResticMissing(f"there is no restic ({configured or 'not on PATH'}): {_HOW}")
    path = Path(found).resolve()
    key = (path, path.stat().st_mtime_ns)
    if key not in _known:
        _known[key] = await _ask(path)
    return _known[key]


def parse_version(printed: str) -> tuple[int, int, int] | None:
    """From ``version --json``, or from the plain text of releases before 0.17."""
    for line in printed.splitlines():
        try:
            text = str(json.loads(line).get("version", ""))
        except (ValueError, AttributeError):
            text = line.removeprefix("restic ")
        if match := re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text):
            return int(match[1]), int(match[2]), int(match[3] or 0)
    return None


async def _ask(path: Path) -> Binary:
    lines: list[str] = []
    command = process.Command(
        argv=(str(path), "version", "--json", "--no-cache"), env={"TMPDIR": tempfile.gettempdir()}
    )
    end = await process.run(command, grace=5, on_stdout=lines.append)
    if end.signal is not None:
        # Nothing is wrong with it: the node was short of memory, or somebody killed it.
        raise ChildKilled(f"asking {path} for its version: it {end.text}", tail=end.tail)
    version = parse_version("\n".join(lines))
    if version is None:
        raise ResticMissing(f"{path} does not work ({end.text}): {_HOW}")
    if version < MINIMUM:
        found = ".".join(map(str, version))
        raise ResticMissing(f"{path} is restic {found}, which is too old: {_HOW}")
    return Binary(path, version)
