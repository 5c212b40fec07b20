"""Manifest + objects + target cluster → what a restore will do, in order. Pure.

Problem: a restore at three in the morning must not surprise. What will be created, what is left
alone and why, which pods are held for which data, and what comes back empty must be known before
anything is touched.
Decision: one immutable Plan, made by this function and printed by ``--dry-run``; the pipeline only
carries it out. The plan is made again, equal, by a controller that takes over in the middle:
objects which this restore made already are not "existing".
What is decided for claims and pods is in ``planned_claims`` and ``planned_pods``; here is what they
decide by, and the order of everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ararat.api.manifest import Manifest
from ararat.api.names import RESTORING
from ararat.api.plan import Action
from ararat.api.restore import ExistingResourcePolicy, Restore, RestoreVolumesMode
from ararat.errors import InvalidSpec
from ararat.naming import label_value

from . import isolated
from .classes import StorageClasses
from .data import BackupData, index
from .drafts import Drafts
from .existing import Existing
from .gate import GateSettings
from .hooks.parse import check_spec
from .modifiers import Modifiers
from .notes import Notes
from .order import in_order
from .owners import Owners
from .places import Places
from .plan import Item, Plan
from .planned_claims import PlannedClaims
from .planned_pods import PlannedPods, left_to_its_owner
from .selection import CLAIMS, NAMESPACES, SYSTEM_NAMESPACE, Chosen, choose
from .skips import Skip, Skips
from .stored import StoredObject
from .transform import Target
from .turns import order_of_start
from .volumes import decide_classes, decide_volumes

VOLUMES = "persistentvolumes"
CLASSES = "storageclasses.storage.k8s.io"
PODS = "pods"


def make_plan(
    restore: Restore,
    manifest: Manifest,
    objects: Sequence[StoredObject],
    existing: Existing,
    *,
    gate: GateSettings,
    own_namespaces: frozenset[str],
    modifiers: Modifiers | None = None,
) -> Plan:
    """Raises InvalidSpec where the restore, or a rule of it, cannot mean what it says."""
    check_spec(restore.spec.hooks)
    chosen = choose(
        restore.spec,
        manifest,
        objects,
        own_namespaces=own_namespaces,
        served=existing.served,
    )
    if restore.spec.isolated:
        isolated.check(restore.spec, chosen.namespaces)
    data = (
        BackupData()
        if restore.spec.volumes.mode is RestoreVolumesMode.NONE
        else index(manifest, allow_missing=restore.spec.volumes.allow_missing)
    )
    planner = _Planner(
        restore=restore,
        chosen=chosen,
        data=data,
        existing=existing,
        gate=gate,
        same_cluster=manifest.cluster_uid == existing.cluster_uid,
        modifiers=modifiers or Modifiers(),
    )
    return planner.plan(own_namespaces)


class _Planner:
    """The state of one planning; not kept."""

    def __init__(
        self,
        *,
        restore: Restore,
        chosen: Chosen,
        data: BackupData,
        existing: Existing,
        gate: GateSettings,
        same_cluster: bool,
        modifiers: Modifiers,
    ) -> None:
        spec = restore.spec
        self._restore = restore
        self._modifiers = modifiers
        self._notes = Notes()
        self._items: list[Item] = []
        self._places = Places(chosen.namespaces, restore.uid)
        self._objects = self._skip_some(chosen, existing, data)
        by_kind = _by_kind(self._objects)
        classes, self._skipped_classes = decide_classes(
            by_kind.get(CLASSES, ()), existing, mapping=spec.storage_class_mapping
        )
        if spec.isolated:
            classes = isolated.own_classes(classes)
        _check_mapping(classes)
        self._drafts = Drafts(
            restore=restore,
            places=self._places,
            target=Target(
                namespaces=chosen.namespaces,
                classes=classes,
                images=spec.image_mapping,
                preserve_node_ports=spec.preserve_node_ports,
                isolated=spec.isolated,
            ),
            modifiers=modifiers,
            notes=self._notes,
        )
        #: Claims that this restore creates, by old namespace and name.
        creating = frozenset(
            (str(obj.namespace), obj.name)
            for obj in by_kind.get(CLAIMS, ())
            if self._places.in_the_way(existing.claims, obj) is None
        )
        self._fates = decide_volumes(
            by_kind.get(VOLUMES, ()),
            existing,
            same_cluster=same_cluster,
            restored_claims=creating,
            filled_claims=frozenset(key for key in creating if data.claim(*key) is not None),
            restore_uid=restore.uid,
            reuse=spec.volumes.reuse,
        )
        update = spec.existing_resource_policy is ExistingResourcePolicy.UPDATE
        self._claims = PlannedClaims(
            places=self._places,
            drafts=self._drafts,
            notes=self._notes,
            data=data,
            existing=existing,
            fates=self._fates,
            same_cluster=same_cluster,
            present=Action.UPDATE if update else Action.LEAVE,
        )
        self._pods = PlannedPods(
            spec=spec,
            places=self._places,
            drafts=self._drafts,
            notes=self._notes,
            data=data,
            existing=existing,
            gate=gate,
            creating=creating,
            order=order_of_start(self._objects),
        )

    def plan(self, own_namespaces: frozenset[str]) -> Plan:
        by_kind = _by_kind(self._objects)
        for resource in in_order(by_kind):
            for obj in sorted(by_kind[resource], key=lambda o: (o.namespace or "", o.name)):
                self._items.append(self._item(obj))
        self._notes.warnings += self._modifiers.unused()
        # Nothing of the cluster's own, or of ours, is ever consulted about.
        restoring = frozenset(self._notes.restoring - own_namespaces - {SYSTEM_NAMESPACE})
        items = tuple(_labelled(item, restoring, self._restore.name) for item in self._items)
        return Plan(
            items=items,
            namespaces=dict(self._places.namespaces),
            restoring=restoring,
            volumes=tuple(self._notes.volumes),
            warnings=tuple(self._notes.warnings),
            failures=tuple(self._notes.failures),
        )

    def _skip_some(
        self, chosen: Chosen, existing: Existing, data: BackupData
    ) -> list[StoredObject]:
        everything = list(chosen.objects)
        owners = Owners(
            everything,
            existing.owners,
            namespaces=chosen.namespaces,
            restore_uid=self._restore.uid,
        )
        skips = Skips(everything)
        kept = []
        for obj in everything:
            skip = skips.why(obj)
            if skip is None and self._restore.spec.isolated:
                skip = isolated.why_not(obj)
            if skip is None:
                skip = owners.why_not(obj)
                if skip is not None and obj.resource == PODS:
                    warning = left_to_its_owner(obj, skip, data=data, places=self._places)
                    self._notes.warnings += [warning] if warning else []
            if skip is None:
                kept.append(obj)
            else:
                self._items.append(self._places.left_out(obj, skip))
        return kept

    def _item(self, obj: StoredObject) -> Item:
        skip = self._why_not(obj)
        if skip is not None:
            return self._places.left_out(obj, skip)
        match obj.resource:
            case "namespaces" if self._restore.spec.isolated:
                # One that is not there was closed to the world by nobody.
                body = self._drafts.body(obj, quiet=True)
                return self._drafts.item(obj, body, action=Action.LEAVE)
            case "persistentvolumeclaims":
                return self._claims.item(obj)
            case "pods":
                return self._pods.item(obj)
        body = self._drafts.body(obj)
        if obj.resource == VOLUMES and self._restore.spec.volumes.reuse:
            body["spec"]["persistentVolumeReclaimPolicy"] = "Retain"
        return self._drafts.item(obj, body)

    def _why_not(self, obj: StoredObject) -> Skip | None:
        """Volumes and classes that stay out."""
        match obj.resource:
            case "persistentvolumes":
                return self._fates.skipped.get(obj.name)
            case "storageclasses.storage.k8s.io":
                return self._skipped_classes.get(obj.name)
        return None


def _check_mapping(classes: StorageClasses) -> None:
    for old, new in classes.mapping.items():
        if new not in classes.existing and new not in classes.static:
            raise InvalidSpec(
                f"storageClassMapping: storage class {new!r} (for {old!r}) does not exist here",
                reason="StorageClassNotFound",
            )


def _by_kind(objects: Iterable[StoredObject]) -> dict[str, list[StoredObject]]:
    found: dict[str, list[StoredObject]] = {}
    for obj in objects:
        found.setdefault(obj.resource, []).append(obj)
    return found


def _labelled(item: Item, restoring: frozenset[str], restore: str) -> Item:
    """A namespace that data is on its way into is labelled from its first moment."""
    if item.resource == NAMESPACES and item.body is not None and item.name in restoring:
        item.body["metadata"].setdefault("labels", {})[RESTORING] = label_value(restore)
    return item
