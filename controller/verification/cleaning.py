"""What a verification leaves: nothing. Pods, claims, jobs and passwords go with its end."""

from __future__ import annotations

from ararat.api import BackupVerification, PodVolumeRestore
from ararat.api.names import OWNER_UID, RESTORE_UID
from ararat.kube.resources import PODS, PVCS
from ararat.kube.resources import of as resource_of
from controller.context import Context

_JOBS = resource_of(PodVolumeRestore)


async def remove_scratch(context: Context, verification: BackupVerification) -> None:
    """Asked of the API server: a cache may be a moment behind, and a pod would be left."""
    namespace, uid = context.namespace, verification.uid
    for kind, label in ((_JOBS, RESTORE_UID), (PODS, OWNER_UID), (PVCS, OWNER_UID)):
        found = context.api.list(kind, namespace=namespace, labels=f"{label}={uid}")
        for name in [str(raw["metadata"]["name"]) async for raw in found]:
            await context.api.delete(kind, name, namespace=namespace)
    await context.drop_password_secrets(verification)
