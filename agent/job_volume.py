"""The volume that a node job names: found by its live claim, waited for, opened and proved."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from ararat.api import PodVolumeBackup, PodVolumeRestore
from ararat.errors import AraratError, Conflict
from ararat.kube.errors import ApiNotFound
from ararat.kube.resources import PVCS, PVS

from .context import AgentContext, Run
from .mounted import OpenVolume, volume_opened
from .volumes import UnsupportedVolume, VolumeSource, claim_name, locate


@asynccontextmanager
async def job_volume_opened(
    context: AgentContext,
    job: PodVolumeBackup | PodVolumeRestore,
    pod: Mapping[str, Any],
    run: Run,
    *,
    wait_seconds: float | None = None,
) -> AsyncIterator[OpenVolume]:
    """``wait_seconds``: for its mount; the configured time where None. Raises AraratError."""
    async with volume_opened(
        context.config.kubelet_dir,
        job.spec.pod.uid,
        await _find(context, job, pod),
        wait_seconds=context.config.mount_wait_seconds if wait_seconds is None else wait_seconds,
        waiting=run.say,
    ) as volume:
        yield volume


async def _find(
    context: AgentContext, job: PodVolumeBackup | PodVolumeRestore, pod: Mapping[str, Any]
) -> VolumeSource:
    """Where the volume must be on this node, by the live claim and PersistentVolume."""
    spec, host_paths = job.spec, context.config.host_paths
    name = claim_name(pod, spec.volume)
    if name is None:
        return locate(pod, spec.volume, host_paths=host_paths)
    namespace = spec.pod.namespace
    try:
        claim = await context.api.get(PVCS, name, namespace=namespace)
        meant = spec.claim.uid if spec.claim is not None else ""
        if meant and claim["metadata"].get("uid") != meant:
            raise Conflict(
                f"Claim {namespace}/{name} was replaced by a new one of the same name "
                "since the job was made.",
                reason="ClaimReplaced",
            )
        bound = claim.get("spec", {}).get("volumeName")
        if not bound:
            raise UnsupportedVolume(
                f"Claim {namespace}/{name} is not bound.", reason="ClaimNotBound"
            )
        persistent_volume = await context.api.get(PVS, bound)
    except ApiNotFound as error:
        raise AraratError(error.message, reason="ClaimNotFound") from error
    return locate(
        pod,
        spec.volume,
        claim=claim,
        persistent_volume=persistent_volume,
        host_paths=host_paths,
    )
