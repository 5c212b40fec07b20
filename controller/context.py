"""What the reconcilers share: the API, caches, locations, repositories, directories."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from ararat import naming
from ararat.api import Resource
from ararat.api.base import utcnow
from ararat.api.names import OWNER_UID
from ararat.api.nodejob import RepositoryReference
from ararat.errors import Conflict, Retryable
from ararat.kube.api import KubeApi
from ararat.kube.events import EventRecorder
from ararat.kube.informer import Informer
from ararat.kube.resources import SECRETS
from ararat.restic.models import LockOwner
from controller.agent_pods import troubles
from controller.keys import MasterKey
from controller.location.open import Locations, OpenLocation
from controller.maintenance.copying import Copying
from controller.maintenance.planner import Plan
from controller.repository.ensure import Repositories, password_of
from controller.runlog import RunLogs
from controller.verification.scratch import ScratchPolicy

SPOOLING_AT_ONCE = 2


@dataclass
class Context:
    """One per process. Informers hold raw objects; keys are ``namespace/name``."""

    api: KubeApi
    namespace: str
    keys_namespace: str
    cluster_uid: str
    cluster_version: str
    events: EventRecorder
    gate_image: str
    gate_pull_policy: str
    spool_dir: Path
    cache_dir: Path
    scratch_dir: Path
    lock_owner: Callable[[str], LockOwner]
    master_key: MasterKey
    locations: Locations
    repositories: Repositories
    logs: RunLogs
    #: Backups whose API objects stand in memory-backed spool space at once.
    spooling: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(SPOOLING_AT_ONCE), kw_only=True
    )
    #: BackupLocations.
    locations_informer: Informer
    backups: Informer
    restores: Informer
    pod_volume_backups: Informer
    pod_volume_restores: Informer
    #: Agent pods.
    agents: Informer
    #: Pods with the label ararat.dev/restore, in all namespaces.
    gated_pods: Informer
    #: Pods with the label ararat.dev/helper, in all namespaces.
    helpers: Informer
    schedules: Informer
    deletions: Informer
    verifications: Informer
    repositories_informer: Informer
    #: Kubernetes Jobs that maintain repositories.
    maintenance_jobs: Informer
    #: Directories of the nodes that agents back up though they are hostPath volumes.
    host_paths: tuple[PurePosixPath, ...] = ()
    #: The clock that schedules, retention and maintenance go by.
    now: Callable[[], datetime] = utcnow
    #: Tests move it, and know that it is not the store's.
    clock_is_moved: bool = False
    #: Pod of maintenance jobs, as the chart has it; None: no maintenance is done.
    maintenance_template: dict[str, Any] | None = None
    maintenance_plan: Plan = field(default_factory=Plan)
    #: Where verifications restore to.
    scratch_policy: ScratchPolicy = field(default_factory=ScratchPolicy)
    #: What a re-encryption wants copied, by location's id and repository's folder.
    to_copy: dict[tuple[str, str], Copying] = field(default_factory=dict)
    #: Directories whose maintenance this process has begun: the cache may not show it yet.
    maintaining: set[str] = field(default_factory=set)

    async def location(self, name: str) -> OpenLocation:
        """An open location; it is shared, so whoever gets it does not close it.

        Raises what Locations.open() raises.
        """
        return await self.locations.open(name)

    async def password_secret(
        self, *, owner: Resource[Any, Any], location: OpenLocation, repository_name: str
    ) -> str:
        """The name of a Secret that opens a repository for the jobs of ``owner``."""
        name = _password_secret_name(owner, repository_name)
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "labels": {OWNER_UID: owner.uid},
                "ownerReferences": [owner.owner_reference()],
            },
            "type": "Opaque",
            "data": {
                "password": base64.b64encode(
                    password_of(location, repository_name).encode()
                ).decode()
            },
        }
        # One that an earlier look at the same owner made is as good: its content is derived.
        with contextlib.suppress(Conflict):
            await self.api.create(SECRETS, body, namespace=self.namespace)
        return name

    async def drop_password_secrets(self, owner: Resource[Any, Any]) -> None:
        """Remove the Secrets made for the jobs of ``owner``: they are needed no longer."""
        names = [
            secret["metadata"]["name"]
            async for secret in self.api.list(
                SECRETS, namespace=self.namespace, labels=f"{OWNER_UID}={owner.uid}"
            )
        ]
        for name in names:
            await self.api.delete(SECRETS, name, namespace=self.namespace)

    async def repository_reference(
        self,
        *,
        owner: Resource[Any, Any],
        location: OpenLocation,
        directory: str,
        repository_name: str,
        key_id: str,
    ) -> RepositoryReference:
        """How a node job of ``owner`` is told of a repository."""
        return RepositoryReference(
            location=location.name,
            location_id=location.location_id,
            directory=directory,
            key_id=key_id,
            password_secret=await self.password_secret(
                owner=owner, location=location, repository_name=repository_name
            ),
            read_only=not location.writable,
        )

    def check_not_maintained(self, directory: str) -> None:
        """Raises Retryable while maintenance runs on a repository."""
        busy = directory in self.maintaining or any(
            not (job_finished(job) or is_ending(job))
            for job in self.maintenance_jobs.by_index("directory", directory)
        )
        if busy:
            raise Retryable(f"waits for maintenance of {directory}", reason="MaintenanceRunning")

    def owns(self, location: str) -> bool:
        """Whether the location is known to be this cluster's to write, and reachable."""
        raw = self.locations_informer.get(location, self.namespace)
        if raw is None:
            return False
        status = raw.get("status") or {}
        return (
            raw["spec"].get("accessMode") != "ReadOnly"
            and status.get("owner") == self.cluster_uid
            and status.get("phase") == "Available"
        )

    def agent_readiness(self) -> dict[str, bool]:
        """Node → whether its agent is Ready. Nodes without any agent pod are missing."""
        return ready_nodes(self.agents.items())

    def agent_troubles(self) -> dict[str, str]:
        """Node → why its agent is not Ready, where its pod says so."""
        return troubles(self.agents.items(), self.agent_readiness())


def _password_secret_name(owner: Resource[Any, Any], repository_name: str) -> str:
    return naming.object_name(owner.name, repository_name, owner.uid)


def is_ending(obj: Mapping[str, Any]) -> bool:
    """Whether it was told to end: a Job is there for as long as its pod is."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def job_finished(job: Mapping[str, Any]) -> bool:
    """Whether a Kubernetes Job has ended, good or bad."""
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(
        c.get("type") in ("Complete", "Failed") and c.get("status") == "True" for c in conditions
    )


def ready_nodes(agents: Iterable[dict[str, Any]]) -> dict[str, bool]:
    """Node → whether one of these agent pods is Ready there."""
    found: dict[str, bool] = {}
    for pod in agents:
        node = (pod.get("spec") or {}).get("nodeName")
        if node:
            found[node] = found.get(node, False) or pod_ready(pod)
    return found


def pod_ready(pod: dict[str, Any]) -> bool:
    """Whether a pod is Ready and not on its way out."""
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
