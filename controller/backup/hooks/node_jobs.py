"""The node jobs of a backup as its hooks need them: held, let go, cancelled, failed.

Decision: they are read from the cache; a job is failed only as it was seen, for an agent may begin
with it at any moment.
"""

from __future__ import annotations

import contextlib
from typing import Any

from ararat.api.base import utcnow
from ararat.api.nodejob import JobPhase
from ararat.errors import NotFound
from ararat.kube.status import patch_status
from controller.backup.run import JOBS
from controller.context import Context

from .decide import HOOK_FAILED, INTERRUPTED, WINDOW_CLOSED, Job
from .record import Record

_WHY = {
    HOOK_FAILED: "its pre hook failed",
    INTERRUPTED: "its hooks were interrupted again and again",
    WINDOW_CLOSED: "its post hooks have run: it came back too late",
    "PodGone": "its pod is gone",
    "MaxFreeze": "it was not read within hooks.maxFreezeSeconds",
}


class NodeJobs:
    """PodVolumeBackups, by name."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def unfinished(self, known: Record) -> list[str]:
        """Names of those of a pod's group that have not ended."""
        found = self._context.pod_volume_backups.by_index("backup-uid", known.backup_uid)
        names = [j["metadata"]["name"] for j in found if j["spec"].get("group") == known.group]
        return [name for name in names if not self.get(name).phase.terminal]

    def get(self, name: str) -> Job:
        raw = self._context.pod_volume_backups.get(name, self._context.namespace)
        if raw is None:  # about to appear, or about to be made again
            return Job(name, JobPhase.NEW, hold=True)
        spec = raw["spec"]
        phase = JobPhase((raw.get("status") or {}).get("phase") or JobPhase.NEW)
        return Job(name, phase, bool(spec.get("hold")), bool(spec.get("cancel")))

    async def release(self, name: str) -> None:
        """An agent may begin with it."""
        await self._patch(name, {"hold": False})

    async def _patch(self, name: str, spec: dict[str, Any]) -> None:
        with contextlib.suppress(NotFound):
            await self._context.api.patch(
                JOBS, name, {"spec": spec}, namespace=self._context.namespace
            )

    async def cut(self, name: str) -> None:
        view = self.get(name)
        if view.hold:
            await self.fail(name, "MaxFreeze")
        elif not view.phase.terminal and not view.cancelled:
            await self._patch(name, {"cancel": True})

    async def fail(self, name: str, reason: str, message: str = "") -> None:
        raw = self._context.pod_volume_backups.get(name, self._context.namespace)
        if raw is None or JobPhase((raw.get("status") or {}).get("phase", "New")).terminal:
            return
        status = {
            "phase": JobPhase.FAILED.value,
            "reason": reason,
            "message": message or f"not read: {_WHY.get(reason, reason)}",
            "completionTime": utcnow().isoformat(),
        }
        with contextlib.suppress(NotFound):
            # Only as it was seen: an agent may have begun with it in this moment.
            version = raw["metadata"]["resourceVersion"]
            await patch_status(self._context.api, JOBS, raw, status, resource_version=version)
