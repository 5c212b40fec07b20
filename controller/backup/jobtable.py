"""The node jobs of one backup, kept up to date by what changed.

Problem: ten thousand jobs send events all the time; a look at a backup that reads all of them for
each event costs the square of their number.
Decision: the informer's events name the jobs that changed, and only those are read again at the
next look. Sums (progress, what is unfinished, on which node) follow from the difference. The full
model of a job is made when somebody asks for it and not kept: it weighs more than all else here.
Limits: a table begins by reading every job of its backup once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ararat.api import PodVolumeBackup
from ararat.api.nodejob import JobPhase, Progress
from ararat.human import progress_text

#: Reasons of jobs that failed because their pod went away.
POD_WENT = frozenset({"PodTerminating", "PodEnded", "PodReplaced", "PodNotFound"})
#: Condition of such a job: False where it is known that no other replaces it.
REPLACED = "Replaced"
Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Line:
    """What each look needs to know of a job."""

    phase: JobPhase
    node: str
    bytes_total: int = 0
    bytes_done: int = 0
    files_total: int = 0
    files_done: int = 0
    rate: int = 0
    #: It failed because its pod went away, and it is open whether another takes its place.
    pod_went: bool = False
    #: It reads a volume again.
    replaces: bool = False


class JobTable(Mapping[str, PodVolumeBackup]):
    """By name. ``read`` must be called before each look; everything else reads what it found."""

    def __init__(self) -> None:
        self._raw: dict[str, Raw] = {}
        self._lines: dict[str, _Line] = {}
        #: Names to read again; None: all of them.
        self._stale: set[str] | None = None
        #: Jobs whose phase moved since somebody asked.
        self._moved: dict[str, None] = {}
        #: Names of unfinished jobs, by node.
        self._unfinished: dict[str, set[str]] = {}
        self._pod_went: set[str] = set()
        self._replacing: set[str] = set()
        self._sum = [0, 0, 0, 0, 0]

    def touch(self, name: str) -> None:
        """This job changed, came or went."""
        if self._stale is not None:
            self._stale.add(name)

    def read(self, every: Callable[[], Iterable[Raw]], one: Callable[[str], Raw | None]) -> None:
        """Catch up. ``every``: all jobs of the backup as they are; ``one``: a job, if it is there.

        Which of the two is asked depends on whether anything was read before.
        """
        if self._stale is None:
            jobs = {raw["metadata"]["name"]: raw for raw in every()}
            changed: dict[str, Raw | None] = {
                **dict.fromkeys(self._raw.keys() - jobs.keys()),
                **jobs,
            }
        else:
            changed = {name: one(name) for name in self._stale}
        for name, raw in changed.items():
            self._set(name, raw)
        self._stale = set()

    def moved(self) -> list[str]:
        """Jobs whose phase is another than when this was asked last."""
        names = [name for name in self._moved if name in self._raw]
        self._moved.clear()
        return names

    def phase(self, name: str) -> JobPhase:
        return self._lines[name].phase

    def unfinished(self) -> list[str]:
        return [name for names in self._unfinished.values() for name in names]

    def busy_nodes(self) -> set[str]:
        """Nodes that have unfinished jobs."""
        return set(self._unfinished)

    def unfinished_on(self, node: str) -> list[str]:
        return sorted(self._unfinished.get(node, ()))

    def pod_went(self) -> frozenset[str]:
        """Jobs that failed because their pod went away, unless nobody takes its place."""
        return frozenset(self._pod_went)

    def replacing(self) -> list[PodVolumeBackup]:
        """Jobs that read a volume again."""
        return [self[name] for name in self._replacing]

    @property
    def progress(self) -> Progress:
        """The jobs' progress, added up; a finished job counts in full."""
        total, done, files, files_done, rate = self._sum
        return Progress(
            total_bytes=total,
            bytes_done=done,
            total_files=files,
            files_done=files_done,
            bytes_per_second=rate,
            text=progress_text(done, total),
        )

    def __getitem__(self, name: str) -> PodVolumeBackup:
        return PodVolumeBackup.parse(self._raw[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def __contains__(self, name: object) -> bool:
        return name in self._raw

    def _set(self, name: str, raw: Raw | None) -> None:
        old = self._lines.get(name)
        if raw is None:
            self._raw.pop(name, None)
            self._lines.pop(name, None)
            new = None
        else:
            self._raw[name] = raw
            new = self._lines[name] = _line(raw)
        for names, holds in (
            (self._pod_went, new is not None and new.pod_went),
            (self._replacing, new is not None and new.replaces),
        ):
            (names.add if holds else names.discard)(name)
        if old is not None:
            self._add(old, -1)
            if not old.phase.terminal:
                names = self._unfinished[old.node]
                names.discard(name)
                if not names:
                    del self._unfinished[old.node]
        if new is not None:
            self._add(new, 1)
            if not new.phase.terminal:
                self._unfinished.setdefault(new.node, set()).add(name)
            if old is None or old.phase is not new.phase:
                self._moved[name] = None

    def _add(self, line: _Line, sign: int) -> None:
        for index, value in enumerate(
            (line.bytes_total, line.bytes_done, line.files_total, line.files_done, line.rate)
        ):
            self._sum[index] += sign * value


def _line(raw: Raw) -> _Line:
    status = raw.get("status") or {}
    progress = status.get("progress") or {}
    phase = JobPhase(status.get("phase") or JobPhase.NEW)
    size = max(progress.get("totalBytes", 0), progress.get("bytesDone", 0))
    files = max(progress.get("totalFiles", 0), progress.get("filesDone", 0))
    ended = phase is JobPhase.COMPLETED
    return _Line(
        phase=phase,
        node=raw["spec"]["node"],
        bytes_total=size,
        bytes_done=size if ended else progress.get("bytesDone", 0),
        files_total=files,
        files_done=files if ended else progress.get("filesDone", 0),
        rate=progress.get("bytesPerSecond", 0) if phase is JobPhase.IN_PROGRESS else 0,
        pod_went=phase is JobPhase.FAILED and _pod_went(status),
        replaces=bool(raw["spec"].get("replaces")),
    )


def _pod_went(status: Raw) -> bool:
    conditions = status.get("conditions") or []
    return status.get("reason") in POD_WENT and not any(
        condition["type"] == REPLACED and condition["status"] == "False" for condition in conditions
    )
