"""Maintenance as Kubernetes Jobs: made from the chart's template, read when they have ended.

The template (pod and all) is the chart's, so that image, resources, volumes and tolerations are
where people look for them; this module adds name, owner, task and deadline.
"""

from __future__ import annotations

import contextlib
import copy
import json
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ararat import naming
from ararat.api import Repository
from ararat.api.names import (
    COMPONENT,
    COMPONENT_MAINTENANCE,
    DIRECTORY,
    REPOSITORY_UID,
)
from ararat.api.repository import MaintenanceAction
from ararat.containers import ended
from ararat.errors import InvalidSpec
from ararat.maintenance import TASK, MaintenanceResult, MaintenanceTask
from ararat.restic.locks import STALE_AFTER

#: Added to the window for pulling the image, finding a node, and an orderly end.
_START_SECONDS = 900
#: A pod that was told to end has its grace (90 s in the chart), and the node a moment.
_ENDS_WITHIN = timedelta(minutes=3)
#: A restic that lives has renewed its lock by then.
_GIVEN_UP_AFTER = STALE_AFTER + timedelta(minutes=5)


def read_template(path: Path | None) -> dict[str, Any] | None:
    """The chart's pod template. Raises InvalidSpec."""
    if path is None:
        return None
    try:
        template = json.loads(path.read_text())
        template["spec"]["containers"][0]["image"]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as exc:
        raise InvalidSpec(f"{path} is no template of a pod: it comes with the chart") from exc
    return dict(template)


def build_job(
    template: Mapping[str, Any],
    repository: Repository,
    task: MaintenanceTask,
    *,
    name: str,
    namespace: str,
) -> dict[str, Any]:
    labels = {COMPONENT: COMPONENT_MAINTENANCE, REPOSITORY_UID: repository.uid}
    pod = copy.deepcopy(dict(template))
    metadata = pod.setdefault("metadata", {})
    metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
    container = pod["spec"]["containers"][0]
    container["env"] = [
        *(container.get("env") or []),
        {"name": TASK, "value": task.model_dump_json(by_alias=True)},
    ]
    pod["spec"]["restartPolicy"] = "Never"
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            # What is named here keeps node jobs waiting.
            "annotations": {DIRECTORY: task.repository.directory} if task.target is None else {},
            "ownerReferences": [repository.owner_reference()],
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": task.window_seconds + _START_SECONDS,
            "template": pod,
        },
    }


def job_name(repository: Repository, action: str) -> str:
    """Another one each time: a Job that has ended may still be in a cache."""
    unique = (repository.uid, secrets.token_hex(8))
    return naming.object_name("maintain", repository.name, action, unique=unique)


_OUT_OF_MEMORY = MaintenanceResult(
    good=False,
    reason="OutOfMemory",
    message="it was killed for want of memory: raise maintenance.resources.limits.memory in the "
    "chart's values",
)


def action_of(job: Mapping[str, Any]) -> MaintenanceAction:
    container = job["spec"]["template"]["spec"]["containers"][0]
    for variable in container.get("env") or []:
        with contextlib.suppress(ValueError):
            return MaintenanceTask.model_validate_json(variable.get("value") or "").action
    return MaintenanceAction.CHECK


def given_up_at(job: Mapping[str, Any]) -> datetime | None:
    """When nothing that its pod left behind is taken for alive any more; None: it is not ending."""
    told = job["metadata"].get("deletionTimestamp")
    return datetime.fromisoformat(told) + _GIVEN_UP_AFTER if told else None


def is_given_up(job: Mapping[str, Any], *, now: datetime) -> bool:
    """Whether its end is waited for no longer. Its lock decides then, as in a partition."""
    at = given_up_at(job)
    return at is not None and now > at


def is_late(job: Mapping[str, Any], *, now: datetime) -> bool:
    """Whether a node that is well would have ended its pod by now."""
    told = job["metadata"].get("deletionTimestamp")
    return bool(told) and now - datetime.fromisoformat(told) > _ENDS_WITHIN


def ended_container(pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """How the container ended, in the kubelet's words: nobody else writes this."""
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        terminated = ended(status)
        if terminated is not None:
            return terminated
    return None


def result_of(job: Mapping[str, Any], pod: Mapping[str, Any] | None) -> MaintenanceResult:
    """What came of a finished Job."""
    over = ended_container(pod) if pod is not None else None
    if over is not None:
        # The kernel's killer may take the container, or restic alone, and the program tells of it.
        if over.get("reason") == "OOMKilled":
            return _OUT_OF_MEMORY
        try:
            result = MaintenanceResult.model_validate_json(over.get("message") or "")
            return _OUT_OF_MEMORY if result.reason == _OUT_OF_MEMORY.reason else result
        except ValueError:
            code = over.get("exitCode")
            return MaintenanceResult(
                good=False, reason="Crashed", message=f"it ended with exit code {code}"
            )
    for condition in (job.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "Failed" and condition.get("status") == "True":
            return MaintenanceResult(
                good=False,
                reason=str(condition.get("reason") or "Failed"),
                message=str(condition.get("message") or "the Job failed"),
            )
    return MaintenanceResult(good=False, reason="Lost", message="its pod is gone")


def directory_index(job: Mapping[str, Any]) -> tuple[str, ...]:
    """Index Jobs by the repository directory they work on."""
    value = (job["metadata"].get("annotations") or {}).get(DIRECTORY)
    return (str(value),) if value else ()


def uid_index(job: Mapping[str, Any]) -> tuple[str, ...]:
    """Index Jobs by the repository they belong to."""
    value = (job["metadata"].get("labels") or {}).get(REPOSITORY_UID)
    return (str(value),) if value else ()
