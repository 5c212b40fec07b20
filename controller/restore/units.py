"""What a restore owes data to: units, and how each stands. Pure.

Decision: a *unit* is one claim, or one volume that lives with one pod: the thing that is filled
exactly once. Which units there are follows from what is seen in the cluster: the claims that this
restore made and that the backup has data for, and the volumes that gates wait for. A claim's unit
carries the claim's UID, so that a claim which was deleted and made again is a new one, with nothing
in it; a pod-lifetime volume's carries the pod's. A claim that went before it was filled is a unit
without UID: nothing is written anywhere until it is made again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from ararat.api import PodVolumeRestore
from ararat.api.nodejob import Answer, ClaimReference, JobPhase, Role
from ararat.api.restore import Release, ReleaseAction

from .claims import pending_for, released_for
from .data import BackupData, VolumeData, Want
from .gated import GatedPod
from .stored import Object


@dataclass(frozen=True)
class PodVolume:
    """A volume of a gated pod."""

    pod: GatedPod
    volume: str

    def is_of(self, job: PodVolumeRestore) -> bool:
        return job.spec.pod.uid == self.pod.uid and job.spec.volume == self.volume


@dataclass(frozen=True)
class Unit:
    #: ``wp/data`` of a claim, ``wp/pod/volume`` of a volume that lives with its pod.
    id: str
    key: tuple[str, ...]
    data: VolumeData
    claim: ClaimReference | None = None
    #: The restore still owes the claim its data (always for pod-lifetime volumes).
    pending: bool = True
    #: Volumes of pods that are held, oldest pod first.
    holders: tuple[PodVolume, ...] = ()
    #: Oldest first.
    jobs: tuple[PodVolumeRestore, ...] = ()
    #: UIDs of this restore's gated pods that are alive, whether their gate is open or not.
    alive: frozenset[str] = frozenset()
    #: What a person said about it, where it is not filled.
    word: ReleaseAction | None = None
    #: Its pods were let go on whatever is there.
    let_go: bool = False
    #: The claim was deleted before it was filled.
    gone: bool = False
    #: The claim as it is (claims only).
    raw: Mapping[str, Any] = field(compare=False, repr=False, default_factory=dict)

    @property
    def fills(self) -> list[PodVolumeRestore]:
        return [job for job in self.jobs if job.spec.role is Role.FILL]

    @property
    def done(self) -> PodVolumeRestore | None:
        """The job that filled it."""
        return next((j for j in self.fills if j.status.phase is JobPhase.COMPLETED), None)

    @property
    def active(self) -> PodVolumeRestore | None:
        """The job that fills it."""
        return next((j for j in self.fills if not j.status.phase.terminal), None)

    @property
    def completed(self) -> bool:
        return self.done is not None or not (self.pending or self.let_go)

    @property
    def failed(self) -> PodVolumeRestore | None:
        """The job that failed to fill it, where nothing else is going to try.

        A job whose pod is gone is no last word on a claim: the next pod is tried. On a volume that
        went with its pod it is.
        """
        if self.completed or self.let_go or self.active is not None or not self.fills:
            return None
        last = self.fills[-1]
        return last if self.claim is None or last.spec.pod.uid in self.alive else None

    @property
    def missing(self) -> bool:
        """The backup has no data for it."""
        return self.data.want is Want.MISSING

    @property
    def over(self) -> bool:
        """Nothing more is going to be written into it."""
        return self.completed or self.let_go

    def jobs_of(self, holder: PodVolume) -> list[PodVolumeRestore]:
        return [job for job in self.jobs if holder.is_of(job)]


def word_on(unit_id: str, released: Iterable[Release]) -> ReleaseAction | None:
    """The last word that a person said about a volume."""
    words = [entry.action for entry in released if entry.volume in ("", unit_id)]
    return words[-1] if words else None


def find_units(
    *,
    restore_uid: str,
    claims: Iterable[Object],
    pods: Iterable[GatedPod],
    jobs: Iterable[PodVolumeRestore],
    data: BackupData,
    sources: Mapping[str, str],
    released: Sequence[Release] = (),
    owed: Set[str] = frozenset(),
) -> list[Unit]:
    """Every unit of a restore.

    ``claims`` are those that it made; ``sources`` leads from a namespace to what it was called in
    the backup; ``released`` is what a person said about volumes; ``owed`` are the names of claims
    that are to be filled, whether they are there or not.
    """
    pods = list(pods)
    alive = frozenset(pod.uid for pod in pods if pod.alive)
    holders: dict[tuple[str, ...], list[PodVolume]] = {}
    slots: dict[tuple[str, ...], tuple[PodVolume, VolumeData]] = {}
    live = {(c["metadata"]["namespace"], c["metadata"]["name"]): c for c in claims}
    for pod in pods:
        if not pod.held or pod.namespace not in sources:
            continue
        for volume in pod.volumes:
            claim = pod.claims.get(volume)
            if claim is not None:
                raw = live.get((pod.namespace, claim))
                key = _gone_key(pod.namespace, claim) if raw is None else _claim_key(raw)
                holders.setdefault(key, []).append(PodVolume(pod, volume))
                continue
            found = data.slot(sources[pod.namespace], pod.name, volume)
            if found is not None:
                slot = ("slot", pod.uid, volume)
                holders.setdefault(slot, []).append(PodVolume(pod, volume))
                slots[slot] = (PodVolume(pod, volume), found)
    by_unit: dict[tuple[str, ...], list[PodVolumeRestore]] = {}
    for job in sorted(jobs, key=_age):
        by_unit.setdefault(_job_key(job), []).append(job)
    units = []
    for (namespace, name), raw in sorted(live.items()):
        wanted = data.claim(sources.get(namespace, ""), name)
        if wanted is None:
            continue
        key = _claim_key(raw)
        units.append(
            Unit(
                id=f"{namespace}/{name}",
                key=key,
                data=wanted,
                claim=ClaimReference(
                    name=name,
                    uid=raw["metadata"]["uid"],
                    volume_name=raw["spec"].get("volumeName") or "",
                ),
                pending=pending_for(raw) == restore_uid,
                holders=tuple(holders.get(key, ())),
                jobs=tuple(by_unit.get(key, ())),
                alive=alive,
                word=word_on(f"{namespace}/{name}", released),
                let_go=released_for(raw) == restore_uid,
                raw=raw,
            )
        )
    units += _gone(
        owed - {f"{namespace}/{name}" for namespace, name in live},
        data=data,
        sources=sources,
        holders=holders,
        alive=alive,
        released=released,
    )
    units += [
        Unit(
            id=f"{held.pod.path}/{held.volume}",
            key=key,
            data=wanted,
            holders=tuple(holders[key]),
            jobs=tuple(by_unit.get(key, ())),
            alive=alive,
            word=word_on(f"{held.pod.path}/{held.volume}", released),
            let_go=_is_let_go(by_unit.get(key, ())),
        )
        for key, (held, wanted) in sorted(slots.items(), key=lambda slot: slot[0])
    ]
    units += _let_go(by_unit, known={unit.key for unit in units}, data=data, sources=sources)
    return units


def _gone(
    owed: Set[str],
    *,
    data: BackupData,
    sources: Mapping[str, str],
    holders: Mapping[tuple[str, ...], list[PodVolume]],
    alive: frozenset[str],
    released: Sequence[Release],
) -> list[Unit]:
    """Claims that are not there to be filled."""
    found = []
    for path in sorted(owed):
        namespace, _, name = path.partition("/")
        wanted = data.claim(sources.get(namespace, ""), name)
        if wanted is None:
            continue
        key, word = _gone_key(namespace, name), word_on(path, released)
        found.append(
            Unit(
                id=path,
                key=key,
                data=wanted,
                claim=ClaimReference(name=name, uid=""),
                holders=tuple(holders.get(key, ())),
                alive=alive,
                word=word,
                let_go=word is ReleaseAction.START,
                gone=True,
            )
        )
    return found


def _let_go(
    by_unit: Mapping[tuple[str, ...], list[PodVolumeRestore]],
    *,
    known: set[tuple[str, ...]],
    data: BackupData,
    sources: Mapping[str, str],
) -> list[Unit]:
    """Pod-lifetime volumes that no held pod has any more: filled, or lost with their pod."""
    found = []
    for key, jobs in sorted(by_unit.items()):
        if key[0] != "slot" or key in known:
            continue
        spec = jobs[-1].spec
        wanted = data.slot(sources.get(spec.pod.namespace, ""), spec.pod.name, spec.volume)
        if wanted is not None:
            found.append(
                Unit(
                    id=f"{spec.pod.namespace}/{spec.pod.name}/{spec.volume}",
                    key=key,
                    data=wanted,
                    jobs=tuple(jobs),
                    let_go=_is_let_go(jobs),
                )
            )
    return found


def _is_let_go(jobs: Sequence[PodVolumeRestore]) -> bool:
    """Of a volume that goes with its pod: the gate's last word is on record in its jobs."""
    return any(job.spec.answer is Answer.RELEASED for job in jobs)


def _claim_key(claim: Mapping[str, Any]) -> tuple[str, ...]:
    metadata = claim["metadata"]
    return ("claim", metadata["namespace"], metadata["name"], metadata["uid"])


def _gone_key(namespace: str, name: str) -> tuple[str, ...]:
    return ("claim", namespace, name, "")


def _job_key(job: PodVolumeRestore) -> tuple[str, ...]:
    spec = job.spec
    if spec.claim is not None:
        return ("claim", spec.pod.namespace, spec.claim.name, spec.claim.uid)
    return ("slot", spec.pod.uid, spec.volume)


def _age(job: PodVolumeRestore) -> tuple[str, int, str]:
    created = job.metadata.creation_timestamp
    return (created.isoformat() if created else "", job.spec.attempt, job.name)
