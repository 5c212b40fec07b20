"""The agent's numbers for Prometheus. Labels are bounded: kinds, phases, reasons from our code."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from ararat import __version__

from .decide import Stop

_SECONDS: Final = (0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)


class AgentMetrics:
    """One set per process; tests make their own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._last: dict[str, float] = {}
        self.jobs = Counter(
            "ararat_agent_jobs",
            "Runs of node jobs that ended, by how.",
            ("kind", "phase", "reason"),
            registry=registry,
        )
        self.seconds = Histogram(
            "ararat_agent_job_seconds",
            "Duration of runs.",
            ("kind", "phase"),
            buckets=_SECONDS,
            registry=registry,
        )
        self.bytes = Counter(
            "ararat_agent_bytes",
            "Bytes of finished jobs: read (backup), added and stored (new data), restored.",
            ("what",),
            registry=registry,
        )
        self.retries = Counter(
            "ararat_agent_retries",
            "Runs that ended without the job being over, and without anybody having asked for it.",
            ("kind", "reason"),
            registry=registry,
        )
        self.exits = Counter(
            "ararat_agent_restic_exits",
            "How restic's processes ended: by command and exit code, or the signal's name.",
            ("command", "code"),
            registry=registry,
        )
        self.unreadable = Counter(
            "ararat_agent_unreadable_files",
            "Files that backups could not read.",
            registry=registry,
        )
        self.running = Gauge(
            "ararat_agent_running_jobs", "Jobs that run now.", ("kind",), registry=registry
        )
        self.queued = Gauge(
            "ararat_agent_queued_jobs",
            "Jobs that could run and wait for a slot.",
            ("kind",),
            registry=registry,
        )
        self.reserved = Gauge(
            "ararat_agent_reserved_jobs",
            "Held jobs whose slots are kept for them until they are released.",
            registry=registry,
        )
        self.oldest = Gauge(
            "ararat_agent_oldest_queued_seconds",
            "Age of the oldest job that waits for a slot.",
            registry=registry,
        )
        self.success = Gauge(
            "ararat_agent_last_success_timestamp_seconds",
            "When a job last completed on this node.",
            ("kind",),
            registry=registry,
        )
        self.gates = Gauge(
            "ararat_agent_waiting_gates",
            "Volumes whose pods wait behind a gate on this node.",
            registry=registry,
        )
        self.gate_wait = Histogram(
            "ararat_agent_gate_wait_seconds",
            "From the start of a pod's gate until it was told to open, for each volume.",
            ("phase",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.cache = Gauge(
            "ararat_agent_cache_bytes", "Size of restic's caches on this node.", registry=registry
        )
        self.confined = Gauge(
            "ararat_agent_landlock_version",
            "The kernel's Landlock version; 0 where restic cannot be confined to its volume.",
            registry=registry,
        )
        self.build = Info("ararat_agent", "The version of this agent.", registry=registry)
        self.build.info({"version": __version__})
        self.restic = Info(
            "ararat_agent_restic", "The restic that this agent runs.", registry=registry
        )
        self.kubelet = Gauge(
            "ararat_agent_kubelet_directory_ok",
            "1 where the pods' directories are where this agent looks for them.",
            registry=registry,
        )

    def ended(self, *, kind: str, phase: str, reason: str | None, seconds: float) -> None:
        self.jobs.labels(kind, phase, reason or "").inc()
        self.seconds.labels(kind, phase).observe(seconds)
        if phase == "Completed":
            self.succeeded(kind=kind, at=time.time())
        elif phase == "New" and reason != Stop.SHUTDOWN:
            self.retries.labels(kind, reason or "").inc()

    def succeeded(self, *, kind: str, at: float) -> None:
        """Also what an earlier agent of this node did, as the API tells."""
        self._last[kind] = max(at, self._last.get(kind, 0.0))
        self.success.labels(kind).set(self._last[kind])

    def restic_ended(self, exits: Mapping[tuple[str, str], int]) -> None:
        for (command, code), count in exits.items():
            self.exits.labels(command, code).inc(count)
