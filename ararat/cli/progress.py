"""How far a backup or restore is, and which lines say so where there is no terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ararat import human
from ararat.api import Backup, BackupVerification, PodVolumeBackup, PodVolumeRestore, Restore
from ararat.api.names import VERIFIES
from ararat.api.nodejob import JobPhase, Progress, Role

#: Seconds between two lines about progress: a log is read afterwards, not watched.
PACE = 15.0
#: A run that nobody has picked up after this long has no controller.
IDLE_SECONDS = 20.0
EMPTY = "the volume is empty"


@dataclass(frozen=True)
class Volume:
    """One volume of a run."""

    id: str
    phase: JobPhase
    done: int = 0
    total: int = 0
    files_done: int = 0
    files_total: int = 0
    rate: int = 0
    """Bytes per second."""
    note: str = ""
    """Why it waits or failed, or what was odd about it."""

    @property
    def seconds_left(self) -> float | None:
        return seconds_left(self.done, self.total, self.rate)


@dataclass(frozen=True)
class State:
    """A run at one moment."""

    noun: str
    name: str
    phase: str = "New"
    terminal: bool = False
    message: str = ""
    objects: str = ""
    waiting: tuple[str, ...] = ()
    volumes: tuple[Volume, ...] = ()

    @property
    def done(self) -> int:
        return sum(volume.done for volume in self.volumes)

    @property
    def total(self) -> int:
        return sum(volume.total for volume in self.volumes)

    @property
    def rate(self) -> int:
        return sum(v.rate for v in self.volumes if v.phase is JobPhase.IN_PROGRESS)

    @property
    def finished(self) -> int:
        return sum(1 for volume in self.volumes if volume.phase.terminal)

    @property
    def title(self) -> str:
        return f"{self.noun} {self.name}"


def of_backup(backup: Backup, jobs: Iterable[PodVolumeBackup]) -> State:
    status = backup.status
    return State(
        noun="backup",
        name=backup.name,
        phase=str(status.phase),
        terminal=status.phase.terminal,
        message=status.message or "",
        objects=human.plural(status.objects.count, "object") if status.objects else "",
        volumes=tuple(volume_of_backup(job) for job in sorted(jobs, key=_job_id)),
    )


def of_restore(restore: Restore, jobs: Iterable[PodVolumeRestore]) -> State:
    """Followers move no bytes, so only the volumes that are filled are shown."""
    fills = [job for job in sorted(jobs, key=_job_id) if job.spec.role is Role.FILL]
    status = restore.status
    return State(
        noun="restore",
        name=restore.name,
        phase=str(status.phase),
        terminal=status.phase.terminal,
        message=status.message or "",
        objects=status.objects.text,
        waiting=tuple(f"{w.object}: {w.message or w.reason}" for w in status.waiting),
        volumes=tuple(volume_of_restore(job) for job in fills),
    )


def of_verification(verification: BackupVerification, jobs: Iterable[PodVolumeRestore]) -> State:
    """Volumes under the names that the backup knows them by, not those of the scratch pods."""
    status = verification.status
    volumes = []
    for job in jobs:
        shown = volume_of_restore(job)
        volumes.append(replace(shown, id=job.metadata.annotations.get(VERIFIES, shown.id)))
    return State(
        noun="verification",
        name=verification.name,
        phase=str(status.phase),
        terminal=status.phase.terminal,
        message=status.message or "",
        objects=human.plural(status.objects, "object") if status.objects is not None else "",
        waiting=tuple(f"{w.object}: {w.message or w.reason}" for w in status.waiting),
        volumes=tuple(sorted(volumes, key=lambda volume: volume.id)),
    )


def volume_of_backup(job: PodVolumeBackup) -> Volume:
    return _volume(job, job.status.progress, note=_backup_note(job))


def volume_of_restore(job: PodVolumeRestore) -> Volume:
    """Its size is known from the backup before restic says it."""
    known = job.status.progress.model_copy(
        update={
            "total_bytes": job.status.progress.total_bytes or job.spec.expected_bytes,
            "total_files": job.status.progress.total_files or job.spec.expected_files,
        }
    )
    return _volume(job, known, note=job.status.message or "")


def seconds_left(done: int, total: int, rate: int) -> float | None:
    """None where nobody can know."""
    if rate <= 0 or total <= done:
        return None
    return (total - done) / rate


def totals(state: State) -> str:
    """``1 of 2 volumes, 120.3 of 212.0 MiB (57%), 35.0 MiB/s, 3s left``."""
    parts = []
    if state.volumes:
        parts.append(f"{state.finished} of {human.plural(len(state.volumes), 'volume')}")
    parts.append(human.progress_text(state.done, state.total))
    if state.rate:
        parts.append(f"{human.size(state.rate)}/s")
    left = seconds_left(state.done, state.total, state.rate)
    if left is not None:
        parts.append(f"{human.duration(left)} left")
    return ", ".join(part for part in parts if part)


class Lines:
    """What to print as a run goes on: every turn at once, progress at a calm pace."""

    def __init__(self, *, pace: float = PACE) -> None:
        self._pace = pace
        self._phase = ""
        self._message = ""
        self._waiting: tuple[str, ...] = ()
        self._ended: dict[str, JobPhase] = {}
        self._said = ""
        self._last = 0.0

    def update(self, state: State, now: float) -> list[str]:
        """The lines that ``state`` is worth at ``now`` (seconds of any clock)."""
        lines = []
        if (state.phase, state.message) != (self._phase, self._message):
            if state.phase != self._phase:
                self._last = now
            self._phase, self._message = state.phase, state.message
            lines.append(_colon(f"{state.title}: {state.phase}", state.message))
        lines += [f"waiting for {item}" for item in state.waiting if item not in self._waiting]
        self._waiting = state.waiting
        for volume in state.volumes:
            if volume.phase.terminal and self._ended.get(volume.id) is not volume.phase:
                self._ended[volume.id] = volume.phase
                lines.append(_ended(volume))
        text = totals(state)
        if not state.terminal and now - self._last >= self._pace and text not in ("", self._said):
            self._said, self._last = text, now
            lines.append(f"{state.title}: {text}")
        return lines


def _ended(volume: Volume) -> str:
    size = f"{human.size(volume.done)} in {human.plural(volume.files_done, 'file')}"
    return _colon(f"volume {volume.id}: {volume.phase}, {size}", volume.note)


def _colon(text: str, more: str) -> str:
    return f"{text}: {more}" if more else text


def _job_id(job: PodVolumeBackup | PodVolumeRestore) -> str:
    return f"{job.spec.pod.namespace}/{job.spec.pod.name}/{job.spec.volume}"


def _volume(job: PodVolumeBackup | PodVolumeRestore, progress: Progress, *, note: str) -> Volume:
    complete = job.status.phase is JobPhase.COMPLETED
    return Volume(
        id=_job_id(job),
        phase=job.status.phase,
        done=max(progress.bytes_done, progress.total_bytes) if complete else progress.bytes_done,
        total=max(progress.bytes_done, progress.total_bytes),
        files_done=progress.files_done,
        files_total=max(progress.files_done, progress.total_files),
        rate=progress.bytes_per_second if job.status.phase is JobPhase.IN_PROGRESS else 0,
        note=note,
    )


def _backup_note(job: PodVolumeBackup) -> str:
    status = job.status
    if status.incomplete:
        return human.unreadable(status.unreadable_count, status.unreadable_paths)
    if status.empty and not status.socket_count:
        return EMPTY
    return status.message or ""
