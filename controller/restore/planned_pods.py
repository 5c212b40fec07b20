"""What the plan decides for each pod: which volumes its gate waits for, and its hooks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ararat.api.backup import Failure
from ararat.api.plan import Action
from ararat.api.restore import RestoreSpec
from ararat.errors import InvalidSpec

from .data import BackupData, VolumeData
from .drafts import Drafts
from .existing import Existing
from .gate import GateSettings, add_gate
from .hooks.inject import inject
from .hooks.parse import restore_hooks
from .notes import Notes, planned_volume
from .places import Places
from .plan import NOT_RESTORED, Item
from .pods import claims_of, mounted_volumes
from .skips import Skip
from .stored import Object, StoredObject


@dataclass(frozen=True, kw_only=True)
class PlannedPods:
    spec: RestoreSpec
    places: Places
    drafts: Drafts
    notes: Notes
    data: BackupData
    existing: Existing
    gate: GateSettings
    #: Claims that this restore creates, by old namespace and name.
    creating: frozenset[tuple[str, str]]
    #: Pods that wait for another one's start, by old namespace and name.
    order: Mapping[tuple[str, str], str]

    def item(self, obj: StoredObject) -> Item:
        namespace = str(obj.namespace)
        target = self.places.namespaces[namespace]
        where = f"pod {target}/{obj.name}"
        claims = self.data.claims_of(namespace, obj.spec)
        slots = self.data.slots_of(namespace, obj.name, obj.spec)
        body = self.drafts.body(obj)
        if self.places.in_the_way(self.existing.pods, obj) is not None:
            wanted = sorted({*claims, *slots})
            if wanted:
                self.notes.warnings.append(
                    f"{where} exists and was left alone: volumes {', '.join(wanted)} were "
                    f"{NOT_RESTORED} into it; fill them where they are with --volumes in-place, or "
                    "delete the pod first to have it made again from the backup"
                )
            return self.drafts.item(obj, body, action=Action.LEAVE)
        gated = {*slots}
        for volume, claim in claims_of(obj.spec).items():
            if volume not in claims:
                continue
            if (namespace, claim) in self.creating:
                gated.add(volume)
            elif self.existing.claims.get((target, claim)) is None:
                self.notes.warnings.append(
                    f"{where} needs claim {claim}, which is not restored: it will wait for it"
                )
        self._note_slots(obj, where, slots)
        # A rule may have taken a volume out: nobody would ever fill that one.
        gated &= mounted_volumes(body["spec"])
        in_order_of_spec = tuple(
            volume["name"]
            for volume in body["spec"].get("volumes") or []
            if volume["name"] in gated
        )
        if in_order_of_spec:
            after = self.order.get((namespace, obj.name))
            add_gate(body, in_order_of_spec, self.gate, after=after)
            self.notes.restoring.add(target)
        return self.drafts.item(obj, body, gated=in_order_of_spec, hooks=self._add_hooks(obj, body))

    def _note_slots(self, pod: StoredObject, where: str, slots: Mapping[str, VolumeData]) -> None:
        for volume, data in slots.items():
            self.notes.volumes.append(planned_volume(f"{self.places.path(pod)}/{volume}", data))
            self.notes.warn_of_missing(f"{where} volume {volume}", data)

    def _add_hooks(self, obj: StoredObject, body: Object) -> str:
        """Init containers into the pod; what it has in hooks, for people."""
        try:
            hooks = restore_hooks(body, self.spec.hooks, images=self.spec.image_mapping)
            inject(body, hooks.init)
        except InvalidSpec as exc:
            # It comes back all the same: what its hooks would have done can be done by hand.
            path = f"{body['metadata']['namespace']}/{obj.name}"
            self.notes.failures.append(Failure(object=path, reason=exc.reason, message=exc.message))
            return ""
        return hooks.text


def left_to_its_owner(
    pod: StoredObject, skip: Skip, *, data: BackupData, places: Places
) -> str | None:
    """A pod that its owner makes anew: what lives with a pod is not filled in that one."""
    slots = data.slots_of(str(pod.namespace), pod.name, pod.spec)
    if not slots:
        return None
    return (
        f"pod {places.path(pod)}: {skip.message}: volumes {', '.join(sorted(slots))} were "
        f"{NOT_RESTORED}; delete the owner first to have it made again from the backup, or "
        "fill a running pod's with --volumes in-place"
    )
