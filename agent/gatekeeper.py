"""Answers the gates of this node: every restore job's state, in its pod's gate, all the time.

Problem: the gate must open exactly when the job's *status* says Completed, also when the agent was
killed between that status and its answer, and a waiting pod must hear that somebody is at work.
Decision: level, not edge. Every few seconds, and at once after a change, each restore job of this
node whose pod stands at its gate is answered with what the API says about it now; numbers of a
running job come from its meter. So an answer that was missed, or a Follow, needs no special path.
Of several jobs for one pod and volume the newest counts.
Limits: only what the API server has acknowledged is answered, so an outage of it keeps gates shut.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from ararat.api import PodVolumeRestore
from ararat.api.nodejob import JobPhase, Progress, Role
from ararat.gate import (
    HEARTBEAT_SECONDS,
    GateAnswer,
    GatePhase,
    gate_restarts,
    gate_running,
    gate_started,
    is_gated,
)

from .book import JobBook
from .config import AgentConfig
from .decide import log_fields
from .gate_answer import GateUnreachable, write_answer
from .metrics import AgentMetrics
from .progress import ProgressMeter

_log = structlog.get_logger(__name__)

_LOOK_SECONDS = 2.0
_REFRESH_SECONDS = HEARTBEAT_SECONDS * 0.6


def answer_for(job: PodVolumeRestore, *, live: Progress | None, now: float) -> GateAnswer:
    """What the gate is told about a job in this state. Pure."""
    status = job.status
    progress = live or status.progress
    phase = GatePhase.WAITING
    message = status.message or ""
    if job.spec.role is Role.ANSWER and job.spec.answer is not None:
        # The controller's own word, once the job's status says that it counts.
        if status.phase is JobPhase.COMPLETED:
            phase, message = GatePhase(job.spec.answer.value), job.spec.cause
    elif status.phase is JobPhase.COMPLETED:
        phase = GatePhase.COMPLETED
    elif status.phase.terminal:
        phase = GatePhase.FAILED
        cause = status.message or status.reason or "no cause given"
        message = f"{cause} See: kubectl describe podvolumerestore {job.name}"
    elif status.phase is JobPhase.IN_PROGRESS and job.spec.role is Role.FILL:
        phase = GatePhase.FILLING
    return GateAnswer(
        restore_uid=job.spec.restore_uid,
        volume=job.spec.volume,
        phase=phase,
        message=message,
        bytes_done=progress.bytes_done,
        total_bytes=progress.total_bytes or job.spec.expected_bytes,
        files_done=progress.files_done,
        total_files=progress.total_files or job.spec.expected_files,
        heartbeat=now,
    )


@dataclass(frozen=True)
class _Written:
    answer: GateAnswer
    at: float


class Gatekeeper:
    """Writes answers until cancelled."""

    def __init__(
        self,
        config: AgentConfig,
        book: JobBook,
        metrics: AgentMetrics,
        *,
        meter: Callable[[str], ProgressMeter | None],
    ) -> None:
        self._config = config
        self._book = book
        self._metrics = metrics
        self._meter = meter
        self._poked = asyncio.Event()
        self._written: dict[str, _Written] = {}

    def poke(self) -> None:
        """Something changed: look at once."""
        self._poked.set()

    async def run(self) -> None:
        while True:
            self._poked.clear()
            try:
                await self.look()
            except Exception:  # noqa: BLE001 - one bad job must not silence all gates
                _log.exception("gate.look_failed")
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._poked.wait()
            except TimeoutError:
                pass

    async def look(self) -> None:
        """Answers every gate of this node that waits."""
        waiting = self._waiting()
        self._metrics.gates.set(sum(not job.status.phase.terminal for job in waiting))
        for gone in self._written.keys() - {job.uid for job in waiting}:
            del self._written[gone]
        for job in waiting:
            meter = self._meter(job.uid)
            live = meter.snapshot() if meter is not None else None
            answer = answer_for(job, live=live, now=time.time())
            if not self._due(job, answer):
                continue
            try:
                await asyncio.to_thread(
                    write_answer, self._config.kubelet_dir, job.spec.pod.uid, answer
                )
            except GateUnreachable as error:
                _log.info("gate.unreachable", cause=error.message, **log_fields(job))
                continue
            before = self._written.get(job.uid)
            if before is None or before.answer.phase is not answer.phase:
                _log.info("gate.answered", phase=answer.phase.value, **log_fields(job))
                self._measure(job, answer)
            self._written[job.uid] = _Written(answer=answer, at=time.monotonic())

    def _waiting(self) -> list[PodVolumeRestore]:
        """The newest job of each pod and volume whose pod stands at its gate."""
        newest: dict[tuple[str, str], PodVolumeRestore] = {}
        for job in self._book.restores():
            pod = self._book.pod(job)
            if pod is None or pod["metadata"].get("uid") != job.spec.pod.uid:
                continue
            # A gate that ended badly reads its answers again when it runs again.
            if not is_gated(pod) or not (gate_running(pod) or gate_restarts(pod)):
                continue
            key = (job.spec.pod.uid, job.spec.volume)
            if key not in newest or _age(newest[key]) < _age(job):
                newest[key] = job
        return list(newest.values())

    def _measure(self, job: PodVolumeRestore, answer: GateAnswer) -> None:
        """How long the pod stood at its gate for this volume, once it is told to open."""
        pod = self._book.pod(job)
        began = gate_started(pod) if pod is not None else None
        if answer.phase.opens and began is not None:
            seconds = max(0.0, time.time() - began.timestamp())
            self._metrics.gate_wait.labels(answer.phase.value).observe(seconds)

    def _due(self, job: PodVolumeRestore, answer: GateAnswer) -> bool:
        before = self._written.get(job.uid)
        if before is None:
            return True
        if replace(answer, heartbeat=0.0) != replace(before.answer, heartbeat=0.0):
            return True
        if answer.phase.opens:
            return False
        return time.monotonic() - before.at >= _REFRESH_SECONDS


def _age(job: PodVolumeRestore) -> tuple[int, float, str]:
    created = job.metadata.creation_timestamp
    return (job.spec.attempt, created.timestamp() if created else 0.0, job.name)
