"""What the plan decides for each claim. Pure.

Safety: a claim that exists is never filled, and a claim is not created at all while a pod that
nobody holds is waiting to start on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ararat.api.backup import Failure
from ararat.api.plan import Action, ClaimData

from .claims import ask_for_enough, class_of, mark_pending, pending_for
from .data import BackupData, VolumeData, Want
from .drafts import Drafts
from .existing import Existing
from .gate import gated_volumes
from .notes import Notes, planned_volume
from .places import Places
from .plan import NOT_RESTORED, Item
from .pods import claims_of
from .skips import Skip
from .stored import Object, StoredObject
from .volumes import VolumeFates, described


@dataclass(frozen=True, kw_only=True)
class PlannedClaims:
    places: Places
    drafts: Drafts
    notes: Notes
    data: BackupData
    existing: Existing
    fates: VolumeFates
    same_cluster: bool
    #: What happens to a claim that exists.
    present: Action

    def item(self, obj: StoredObject) -> Item:
        namespace, key = str(obj.namespace), (str(obj.namespace), obj.name)
        target = self.places.namespaces[namespace]
        data = self.data.claim(namespace, obj.name)
        present = self.places.in_the_way(self.existing.claims, obj)
        quiet = present is not None
        body = self.drafts.body(obj, keep_volume=key in self.fates.kept, quiet=quiet)
        where = f"claim {target}/{obj.name}"
        if present is not None:
            if data is not None and data.want is Want.FILL:
                self.notes.warnings.append(_left_unfilled(where, present))
            return self.drafts.item(obj, body, action=self.present)
        self._note_volume(obj, body, data)
        if data is None:
            self._note_empty(obj, where)
            return self.drafts.item(obj, body)
        made = (target, obj.name) in self.existing.claims
        ungated = [] if made else self._ungated_pods(target, obj.name)
        if ungated:
            message = (
                f"pod {ungated[0]} exists and would start on the empty claim: delete the pod (or "
                "scale its owner to zero), then restore again"
            )
            self.notes.failures.append(Failure(object=where, reason="PodWaiting", message=message))
            return self.places.left_out(obj, Skip("PodWaiting", message))
        self.notes.warnings += [
            f"{where} {warning}"
            for warning in ask_for_enough(body, data_bytes=data.size, capacity=data.volume.capacity)
        ]
        self.notes.warn_of_missing(where, data)
        mark_pending(body, self.places.restore_uid)
        self.notes.restoring.add(target)
        return self.drafts.item(obj, body)

    def _note_volume(self, claim: StoredObject, body: Object, data: VolumeData | None) -> None:
        old, new = class_of(claim.body), class_of(body)
        kept = (str(claim.namespace), claim.name) in self.fates.kept
        requests = (body["spec"].get("resources") or {}).get("requests") or {}
        planned = planned_volume(self.places.path(claim), data)
        self.notes.volumes.append(
            planned.model_copy(
                update={
                    "data": ClaimData.OWN_VOLUME if kept else planned.data,
                    "own_volume": claim.spec.get("volumeName") or "" if kept else "",
                    "size": str(requests.get("storage") or ""),
                    "storage_class": new or "",
                    "old_class": old if old and old != new else "",
                }
            )
        )

    def _note_empty(self, claim: StoredObject, where: str) -> None:
        """A claim without file data: say so, and say where its old disk is if it is here."""
        if (str(claim.namespace), claim.name) in self.fates.kept:
            return
        if not claim.spec.get("volumeName"):
            return
        text = f"{where} comes back empty: the backup has no files for it"
        old = self.existing.volumes.get(claim.spec["volumeName"])
        if old is not None and self.same_cluster:
            text += f"; its old volume {described(old)} is still in this cluster"
        self.notes.warnings.append(text)

    def _ungated_pods(self, namespace: str, claim: str) -> list[str]:
        return sorted(
            f"{namespace}/{name}"
            for (place, name), pod in self.existing.pods.items()
            if place == namespace
            and claim in claims_of(pod.get("spec") or {}).values()
            and not gated_volumes(pod)
            and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
        )


def _left_unfilled(where: str, claim: Mapping[str, Any]) -> str:
    if pending_for(claim) is not None:
        return (
            f"{where} exists and is still owed its data by an earlier restore: delete it and the "
            "pods that use it, then restore again"
        )
    return (
        f"{where} exists and was left alone: its data was {NOT_RESTORED}; fill it where it is with "
        "--volumes in-place, or delete it and the pods that use it first to have them made again "
        "from the backup"
    )
