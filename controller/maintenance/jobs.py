"""Maintenance as Kubernetes Jobs: made from the chart's template, read when they have ended.

The template (pod and all) is the chart's, so that image, resources, volumes and tolerations are
where people look for them; this module adds name, owner, task and deadline.
"""

from __future__ import annotations

import copy
import json
import secrets
from collections.abc import Mapping
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
from ararat.errors import InvalidSpec
from ararat.maintenance import TASK, MaintenanceResult, MaintenanceTask

#: Added to the window for pulling the image, finding a node, and an orderly end.
_START_SECONDS = 900


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


def ended_container(pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """How the container ended, in the kubelet's words: nobody else writes this."""
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        terminated = (status.get("state") or {}).get("terminated")
        if terminated:
            return dict(terminated)
    return None


def result_of(job: Mapping[str, Any], pod: Mapping[str, Any] | None) -> MaintenanceResult:
    """What came of a finished Job."""
    ended = ended_container(pod) if pod is not None else None
    if ended is not None:
        if ended.get("reason") == "OOMKilled":
            return MaintenanceResult(
                good=False,
                reason="OutOfMemory",
                message="it was killed for want of memory: raise maintenance.resources.limits."
                "memory in the chart's values",
            )
        try:
            return MaintenanceResult.model_validate_json(ended.get("message") or "")
        except ValueError:
            code = ended.get("exitCode")
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
