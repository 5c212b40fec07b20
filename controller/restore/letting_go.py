"""Opens gates, or ends them, because a person said so: without the backup, whatever the phase.

Problem: whoever gives data up does so when something is broken: the location is away, the backup
was deleted, the restore was cancelled or failed long ago.
Decision: nothing but the cluster is asked: claims marked by this restore, and gates that wait for
it. The rules are those of every other look (``jobs.decide``), for the volumes that were named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ararat import gate
from ararat.api.manifest import Coverage, ManifestVolume
from ararat.api.names import RESTORE_UID
from ararat.kube.resources import PVCS

from .data import BackupData, VolumeData, Want
from .filling import apply, decide_now, jobs_from_server, pods_from_server
from .gated import GatedPod
from .run import Look
from .stored import Object
from .units import Unit, find_units


@dataclass(frozen=True)
class UnreadBackup(BackupData):
    """Stands in for a backup that is not read: every mark and every gate may be about data."""

    def claim(self, namespace: str, name: str) -> VolumeData | None:
        return _unknown(namespace, volume=name)

    def slot(self, namespace: str, pod: str, volume: str) -> VolumeData | None:
        return None if volume == gate.TURN else _unknown(namespace, pod=pod, volume=volume)


async def release_named(look: Look) -> list[Unit]:
    """Do what is missing for volumes that a person gave up; returns those. Raises AraratError."""
    if not look.restore.spec.released:
        return []
    units = await units_unread(look)
    named = [unit for unit in units if unit.word is not None and not unit.completed]
    await apply(look, None, await decide_now(look, named))
    return named


async def units_unread(look: Look) -> list[Unit]:
    """What the marks and gates of this restore tell by themselves. Raises AraratError."""
    claims = [
        claim
        async for claim in look.context.api.list(PVCS, labels=f"{RESTORE_UID}={look.restore.uid}")
    ]
    pods = await pods_from_server(look)
    return find_units(
        restore_uid=look.restore.uid,
        claims=claims,
        pods=pods,
        jobs=await jobs_from_server(look),
        data=UnreadBackup(),
        sources=_same_names(claims, pods),
        released=look.restore.spec.released,
    )


def _same_names(claims: Iterable[Object], pods: Iterable[GatedPod]) -> Mapping[str, str]:
    names = {claim["metadata"]["namespace"] for claim in claims} | {pod.namespace for pod in pods}
    return {name: name for name in names}


def _unknown(namespace: str, *, volume: str, pod: str = "") -> VolumeData:
    found = ManifestVolume(namespace=namespace, pod=pod, volume=volume, coverage=Coverage.BACKED_UP)
    return VolumeData(Want.FILL, found)
