"""This node's jobs as they are now: what the watches show, and what we wrote ourselves.

Problem: a watch is always a little late. A job that was just finished here still looks InProgress
in the watch's copy, and would be adopted and run again.
Decision: the versions returned by our own writes are remembered, and of two versions of an object
the newer one counts.
Limits: resource versions are compared as numbers, which Kubernetes promises from 1.35 on and etcd
has always given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from pydantic import ValidationError

from ararat.api import PodVolumeBackup, PodVolumeRestore
from ararat.api.names import HELPER
from ararat.kube.api import KubeObject
from ararat.kube.informer import Informer

from .decide import NodeJob
from .volumes import USES

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Entry:
    raw: KubeObject
    job: NodeJob


class JobBook:
    """Both kinds of node job, by UID."""

    def __init__(self, *, backups: Informer, restores: Informer, pods: Informer) -> None:
        self._sources: tuple[tuple[Informer, type[NodeJob]], ...] = (
            (backups, PodVolumeBackup),
            (restores, PodVolumeRestore),
        )
        self._pods = pods
        self._written: dict[str, KubeObject] = {}
        self._parsed: dict[str, Entry] = {}
        #: What the last look at a job was made from, and what it found.
        self._looked: dict[str, tuple[KubeObject, KubeObject | None, Entry | None]] = {}
        self._refused: set[str] = set()

    @property
    def synced(self) -> bool:
        return self._pods.has_synced and all(source.has_synced for source, _ in self._sources)

    def entries(self) -> Iterator[Entry]:
        """Every job that can be understood, deleted ones not among them."""
        present: set[str] = set()
        for source, kind in self._sources:
            for raw in source.items():
                uid = _uid(raw)
                present.add(uid)
                entry = self._current(kind, uid, raw)
                if entry is not None:
                    yield entry
        for stale in self._written.keys() - present:
            # Deleted, or, for a moment, not yet listed: nothing that is not listed is run.
            del self._written[stale]
        for stale in self._parsed.keys() - present:
            del self._parsed[stale]
        for stale in self._looked.keys() - present:
            del self._looked[stale]

    def restores(self) -> Iterator[PodVolumeRestore]:
        source, kind = self._sources[1]
        for raw in source.items():
            entry = self._current(kind, _uid(raw), raw)
            if entry is not None and isinstance(entry.job, PodVolumeRestore):
                yield entry.job

    def get(self, job: NodeJob) -> NodeJob | None:
        """The same object as it is now; None once it is gone or replaced."""
        for source, kind in self._sources:
            if isinstance(job, kind):
                raw = source.get(job.name, job.metadata.namespace)
                if raw is None or _uid(raw) != job.uid:
                    return None
                entry = self._current(kind, job.uid, raw)
                return None if entry is None else entry.job
        return None

    def pod(self, job: NodeJob) -> KubeObject | None:
        return self._pods.get(job.spec.pod.name, job.spec.pod.namespace)

    def pods(self) -> list[KubeObject]:
        return self._pods.items()

    def remember(self, raw: KubeObject) -> None:
        """What a write of ours returned."""
        uid = _uid(raw)
        self._written[uid] = self._newest(uid, raw)

    def _current(self, kind: type[NodeJob], uid: str, raw: KubeObject) -> Entry | None:
        """The job as it is; all jobs of a node are looked at after every change of one of them."""
        own = self._written.get(uid)
        before = self._looked.get(uid)
        if before is not None and before[0] is raw and before[1] is own:
            return before[2]
        entry = self._entry(kind, self._newest(uid, raw))
        self._looked[uid] = (raw, own, entry)
        return entry

    def _newest(self, uid: str, raw: KubeObject) -> KubeObject:
        own = self._written.get(uid)
        return own if own is not None and _version(own) > _version(raw) else raw

    def _entry(self, kind: type[NodeJob], raw: KubeObject) -> Entry | None:
        uid = _uid(raw)
        known = self._parsed.get(uid)
        if known is not None and _version(known.raw) == _version(raw):
            return known
        try:
            entry = Entry(raw=raw, job=kind.parse(raw))
        except ValidationError as error:
            if uid not in self._refused:
                self._refused.add(uid)
                _log.error(
                    "job.unreadable", job=raw["metadata"]["name"], errors=error.error_count()
                )
            return None
        self._parsed[uid] = entry
        return entry


def trim_pod(pod: KubeObject) -> KubeObject:
    """What the agent needs of a pod: a tenth of it."""
    meta, spec, status = pod["metadata"], pod.get("spec", {}), pod.get("status", {})
    containers = {
        key: [
            {"name": c.get("name"), **{use: c.get(use) or [] for use in USES}}
            for c in spec.get(key) or []
        ]
        for key in ("initContainers", "containers", "ephemeralContainers")
    }
    helper = {HELPER: value} if (value := (meta.get("labels") or {}).get(HELPER)) else {}
    kept = ("name", "namespace", "uid", "resourceVersion", "deletionTimestamp")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**{key: meta[key] for key in kept if key in meta}, "labels": helper},
        "spec": {"volumes": spec.get("volumes") or [], **containers},
        "status": {
            "phase": status.get("phase"),
            "conditions": status.get("conditions") or [],
            "initContainerStatuses": _states(status.get("initContainerStatuses")),
            "containerStatuses": _states(status.get("containerStatuses")),
        },
    }


def _states(statuses: list[Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    return [{"name": s.get("name"), "state": s.get("state") or {}} for s in statuses or []]


def _uid(raw: KubeObject) -> str:
    return str(raw["metadata"]["uid"])


def _version(raw: KubeObject) -> int:
    try:
        return int(raw["metadata"].get("resourceVersion") or 0)
    except ValueError:
        return 0
