"""``ararat restore release``: which volumes a restore holds back, and a person's word on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ararat.api import PodVolumeRestore, Restore, names
from ararat.api.nodejob import JobPhase, Role
from ararat.api.restore import CLAIM_GONE, Release, ReleaseAction, RestorePhase
from ararat.cli.objects import find, like
from ararat.cli.settings import Settings
from ararat.errors import InvalidSpec, NotFound
from ararat.gate import TURN, gate_passed
from ararat.kube import KubeApi, of
from ararat.kube.resources import PODS, PVCS

_UNKNOWN = "nothing was restored into it yet"


@dataclass(frozen=True)
class HeldBack:
    """What a restore holds back."""

    restore: Restore
    #: Volume → what is known of it.
    volumes: Mapping[str, str]


async def held_back(api: KubeApi, settings: Settings, name: str) -> HeldBack:
    """Volumes that are not filled. Raises NotFound, InvalidSpec where there are none."""
    restore = Restore.parse(await find(api, settings, Restore, name))
    labels = f"{names.RESTORE_UID}={restore.uid}"
    jobs = [
        PodVolumeRestore.parse(raw)
        async for raw in api.list(of(PodVolumeRestore), namespace=settings.namespace, labels=labels)
    ]
    known = _states(jobs)
    found = {
        volume: known.get(volume, _UNKNOWN)
        for claim in [claim async for claim in api.list(PVCS, labels=labels)]
        if _annotation(claim, names.RESTORE_PENDING) == restore.uid
        for volume in (f"{claim['metadata']['namespace']}/{claim['metadata']['name']}",)
    }
    told = (*restore.status.waiting, *restore.status.failures)
    found |= {cause.object: "its claim was deleted" for cause in told if cause.reason == CLAIM_GONE}
    filled = {_volume(job) for job in jobs if _fills(job, JobPhase.COMPLETED)}
    async for pod in api.list(PODS, labels=labels):
        turn = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}/{TURN}"
        if _annotation(pod, names.GATE_AFTER) and not gate_passed(pod):
            found[turn] = f"waits for pod {_annotation(pod, names.GATE_AFTER)} to be ready"
        for volume in _own_volumes(pod):
            if volume not in filled:
                found[volume] = known.get(volume, _UNKNOWN)
    if not found:
        why = "every volume is filled" if restore.status.phase is RestorePhase.COMPLETED else ""
        raise InvalidSpec(f"restore {name} holds nothing back" + (f": {why}" if why else ""))
    return HeldBack(restore, dict(sorted(found.items())))


def chosen(held: HeldBack, volumes: Sequence[str]) -> list[str]:
    """The volumes meant; all of them where none is named. Raises NotFound for a wrong name."""
    for volume in volumes:
        if volume not in held.volumes:
            hint = like(volume, list(held.volumes)) or f"; it holds {', '.join(held.volumes)}"
            raise NotFound(f"restore {held.restore.name} does not hold {volume!r} back{hint}")
    return list(volumes or held.volumes)


async def release(
    api: KubeApi,
    settings: Settings,
    held: HeldBack,
    *,
    volumes: Sequence[str],
    action: ReleaseAction,
) -> None:
    """Record the word; the controller acts on it. ``volumes`` empty: every one."""
    wanted = [Release(volume=volume, action=action) for volume in volumes or ("",)]
    said = {entry.volume for entry in wanted}
    kept = [entry for entry in held.restore.spec.released if entry.volume not in said]
    body = {"spec": {"released": [entry.to_dict() for entry in (*kept, *wanted)]}}
    if not volumes:
        body = {"spec": {"released": [entry.to_dict() for entry in wanted]}}
    await api.patch(of(Restore), held.restore.name, body, namespace=settings.namespace)


def _states(jobs: Sequence[PodVolumeRestore]) -> dict[str, str]:
    found = {}
    for job in sorted(jobs, key=lambda j: (str(j.metadata.creation_timestamp), j.spec.attempt)):
        if job.spec.role is not Role.FILL:
            continue
        files = f"{job.status.progress.files_done:,} of {job.spec.expected_files:,} files"
        state = f"{job.status.phase}: {job.status.message}" if job.status.message else ""
        found[_volume(job)] = ", ".join(part for part in (files, state) if part)
    return found


def _volume(job: PodVolumeRestore) -> str:
    pod = job.spec.pod
    if job.spec.claim is not None:
        return f"{pod.namespace}/{job.spec.claim.name}"
    return f"{pod.namespace}/{pod.name}/{job.spec.volume}"


def _fills(job: PodVolumeRestore, phase: JobPhase) -> bool:
    return job.spec.role is Role.FILL and job.status.phase is phase


def _own_volumes(pod: Mapping[str, Any]) -> list[str]:
    """Volumes that live with a held pod and that its gate waits for."""
    meta = pod["metadata"]
    if gate_passed(pod) or meta.get("deletionTimestamp"):
        return []
    claims = {v["name"] for v in pod["spec"].get("volumes") or [] if "persistentVolumeClaim" in v}
    waited = _annotation(pod, names.GATE_VOLUMES).split(",")
    return [
        f"{meta['namespace']}/{meta['name']}/{volume}"
        for volume in waited
        if volume and volume != TURN and volume not in claims
    ]


def _annotation(obj: Mapping[str, Any], key: str) -> str:
    return str((obj["metadata"].get("annotations") or {}).get(key, ""))
