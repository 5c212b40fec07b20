"""Stops the node jobs of a restore; agents acknowledge, or are provably gone."""

from __future__ import annotations

from ararat.api.base import utcnow
from ararat.api.nodejob import JobPhase
from ararat.errors import NotFound
from ararat.kube.resources import NODES
from ararat.kube.status import patch_status

from .run import JOBS, Look


async def stop_jobs(look: Look) -> int:
    """Ask every unfinished job to stop; returns how many have not ended yet."""
    context = look.context
    agents = context.agent_readiness()
    left = 0
    for job in look.jobs():
        if job.status.phase.terminal:
            continue
        left += 1
        if not job.spec.cancel:
            await context.api.patch(
                JOBS, job.name, {"spec": {"cancel": True}}, namespace=context.namespace
            )
        # Never begun, and nobody there who could begin: no writer, so nobody to wait for.
        idle = job.status.phase is JobPhase.NEW and job.spec.node not in agents
        if idle or await _gone(look, job.spec.node, ready=agents.get(job.spec.node, False)):
            raw = context.pod_volume_restores.get(job.name, context.namespace)
            if raw is not None:
                status = {
                    "phase": JobPhase.CANCELLED.value,
                    "reason": "Cancelled",
                    "message": f"no agent on node {job.spec.node} could answer",
                    "completionTime": utcnow().isoformat(),
                }
                # Only if it is still as it was: an agent may just have ended it.
                await patch_status(
                    context.api, JOBS, raw, status, resource_version=job.metadata.resource_version
                )
    return left


async def _gone(look: Look, node: str, *, ready: bool) -> bool:
    if ready:
        return False
    try:
        await look.context.api.get(NODES, node)
    except NotFound:
        return True
    return False
