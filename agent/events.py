"""What people see in ``kubectl describe``: Events on the job and on its pod."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ararat.api import PodVolumeBackup
from ararat.api.nodejob import JobPhase
from ararat.human import duration, size
from ararat.kube.events import EventRecorder, EventType

from .decide import NodeJob
from .runner import RunEnd


class JobEvents:
    def __init__(self, recorder: EventRecorder) -> None:
        self._recorder = recorder

    async def started(self, job: NodeJob, pod: Mapping[str, Any] | None) -> None:
        verb, noun = _words(job)
        await self._say(job, pod, reason=f"{noun}Started", message=f"{verb} {job.spec.volume}.")

    async def ended(self, job: NodeJob, pod: Mapping[str, Any] | None, end: RunEnd) -> None:
        if end.phase is None:
            return
        _, noun = _words(job)
        kind: EventType = "Normal"
        if end.phase is JobPhase.COMPLETED:
            reason, message = f"{noun}Completed", _completed(job, end)
        elif end.phase is JobPhase.NEW:
            reason, message = f"{noun}Interrupted", end.message or "It is run again."
        else:
            reason = f"{noun}{end.phase.value}"
            message = f"{job.spec.volume}: {end.message or end.reason or 'no cause given'}"
            kind = "Warning"
        await self._say(job, pod, reason=reason, message=message, kind=kind)

    async def _say(
        self,
        job: NodeJob,
        pod: Mapping[str, Any] | None,
        *,
        reason: str,
        message: str,
        kind: EventType = "Normal",
    ) -> None:
        await self._recorder.event(job, reason=reason, message=message, type=kind)
        if pod is not None:
            await self._recorder.event(pod, reason=reason, message=message, type=kind)


def _words(job: NodeJob) -> tuple[str, str]:
    if isinstance(job, PodVolumeBackup):
        return "Backing up volume", "VolumeBackup"
    return "Restoring volume", "VolumeRestore"


def _completed(job: NodeJob, end: RunEnd) -> str:
    progress = job.status.progress
    parts = [f"{job.spec.volume}: {size(progress.bytes_done)} in {duration(end.seconds)}."]
    if end.message:
        parts.append(end.message)
    return " ".join(parts)
