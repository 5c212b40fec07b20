"""Manifest + objects + target cluster → what a restore will do, in order. Pure.

Problem: a restore at three in the morning must not surprise. What will be created, what is left
alone and why, which pods are held for which data, and what comes back empty must be known before
anything is touched.
Decision: one immutable Plan, made by this function and printed by ``--dry-run``; the pipeline only
carries it out. The plan is made again, equal, by a controller that takes over in the middle:
objects which this restore made already are not "existing".
Safety: a claim that exists is never filled, and a claim is not created at all while a pod that
nobody holds is waiting to start on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ararat.api.backup import Failure
from ararat.api.manifest import Manifest
from ararat.api.names import RESTORING
from ararat.api.plan import Action, ClaimData, PlannedVolume
from ararat.api.restore import ExistingResourcePolicy, Restore, RestoreVolumesMode
from ararat.errors import InvalidSpec
from ararat.naming import label_value

from .claims import ask_for_enough, class_of, mark_pending, pending_for
from .data import BackupData, VolumeData, Want, index
from .existing import Existing
from .gate import GateSettings, add_gate, gated_volumes
from .hooks.inject import inject
from .hooks.parse import check_spec, restore_hooks
from .metadata import made_by, mark
from .modifiers import Modifiers
from .order import in_order
from .owners import Owners
from .plan import NOT_RESTORED, Item, Plan
from .pods import claims_of, mounted_volumes
from .selection import CLAIMS, NAMESPACES, SYSTEM_NAMESPACE, Chosen, choose
from .skips import Skip, Skips
from .stored import Object, StoredObject
from .transform import Target, prepare
from .turns import order_of_start
from .volumes import VolumeFates, decide_classes, decide_volumes, described

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
        self._restore = restore
        self._namespaces = chosen.namespaces
        self._data = data
        self._existing = existing
        self._gate = gate
        self._same_cluster = same_cluster
        self._modifiers = modifiers
        #: Rules that changed an object, by ``deployments.apps wp/web``.
        self._modified: dict[str, tuple[str, ...]] = {}
        self._warnings: list[str] = []
        self._failures: list[Failure] = []
        self._items: list[Item] = []
        self._volumes: list[PlannedVolume] = []
        update = restore.spec.existing_resource_policy is ExistingResourcePolicy.UPDATE
        self._present = Action.UPDATE if update else Action.LEAVE
        self._owners = Owners(
            chosen.objects,
            existing.owners,
            namespaces=chosen.namespaces,
            restore_uid=restore.uid,
        )
        self._objects = self._skip_some(chosen.objects)
        by_kind = _by_kind(self._objects)
        classes, self._skipped_classes = decide_classes(
            by_kind.get(CLASSES, ()), existing, mapping=restore.spec.storage_class_mapping
        )
        for old, new in classes.mapping.items():
            if new not in classes.existing and new not in classes.static:
                raise InvalidSpec(
                    f"storageClassMapping: storage class {new!r} (for {old!r}) does not exist here",
                    reason="StorageClassNotFound",
                )
        self._target = Target(
            namespaces=chosen.namespaces,
            classes=classes,
            images=restore.spec.image_mapping,
            preserve_node_ports=restore.spec.preserve_node_ports,
        )
        #: Claims that this restore creates, by old namespace and name.
        self._creating = frozenset(
            (str(obj.namespace), obj.name)
            for obj in by_kind.get(CLAIMS, ())
            if self._exists(existing.claims, obj) is None
        )
        self._order = order_of_start(self._objects)
        self._fates = self._decide_volumes(by_kind.get(VOLUMES, ()))
        self._restoring: set[str] = set()

    def plan(self, own_namespaces: frozenset[str]) -> Plan:
        by_kind = _by_kind(self._objects)
        for resource in in_order(by_kind):
            for obj in sorted(by_kind[resource], key=lambda o: (o.namespace or "", o.name)):
                self._items.append(self._item(obj))
        self._warnings += self._modifiers.unused()
        # Nothing of the cluster's own, or of ours, is ever consulted about.
        restoring = frozenset(self._restoring - own_namespaces - {SYSTEM_NAMESPACE})
        items = tuple(_labelled(item, restoring, self._restore.name) for item in self._items)
        return Plan(
            items=items,
            namespaces=dict(self._namespaces),
            restoring=restoring,
            volumes=tuple(self._volumes),
            warnings=tuple(self._warnings),
            failures=tuple(self._failures),
        )

    # --- what stays out -------------------------------------------------------------------------

    def _skip_some(self, objects: Iterable[StoredObject]) -> list[StoredObject]:
        everything = list(objects)
        skips = Skips(everything)
        kept = []
        for obj in everything:
            skip = skips.why(obj)
            if skip is None:
                skip = self._owners.why_not(obj)
                if skip is not None and obj.resource == PODS:
                    self._note_slots(obj, skip)
            if skip is None:
                kept.append(obj)
            else:
                self._items.append(self._skipped(obj, skip))
        return kept

    def _note_slots(self, pod: StoredObject, skip: Skip) -> None:
        """A pod that its owner makes anew: what lives with a pod is not filled in that one."""
        slots = self._data.slots_of(str(pod.namespace), pod.name, pod.spec)
        if slots:
            self._warnings.append(
                f"pod {self._path(pod)}: {skip.message}: volumes {', '.join(sorted(slots))} were "
                f"{NOT_RESTORED}; delete the owner first to have it made again from the backup, or "
                "fill a running pod's with --volumes in-place"
            )

    def _skipped(self, obj: StoredObject, skip: Skip) -> Item:
        return Item(
            stored=obj,
            action=Action.SKIP,
            name=self._new_name(obj),
            namespace=self._new_namespace(obj),
            reason=skip.reason,
            message=skip.message,
        )

    # --- what comes back ------------------------------------------------------------------------

    def _item(self, obj: StoredObject) -> Item:
        match obj.resource:
            case "persistentvolumeclaims":
                return self._claim(obj)
            case "pods":
                return self._pod(obj)
            case "persistentvolumes" if obj.name in self._fates.skipped:
                return self._skipped(obj, self._fates.skipped[obj.name])
            case "persistentvolumes" if self._restore.spec.volumes.reuse:
                body = self._prepare(obj)
                body["spec"]["persistentVolumeReclaimPolicy"] = "Retain"
                return self._create(obj, body)
            case "storageclasses.storage.k8s.io" if obj.name in self._skipped_classes:
                return self._skipped(obj, self._skipped_classes[obj.name])
        return self._create(obj, self._prepare(obj))

    def _claim(self, obj: StoredObject) -> Item:
        namespace, key = str(obj.namespace), (str(obj.namespace), obj.name)
        data = self._data.claim(namespace, obj.name)
        present = self._exists(self._existing.claims, obj)
        quiet = present is not None
        body = self._prepare(obj, keep_volume=key in self._fates.kept, quiet=quiet)
        where = f"claim {self._namespaces[namespace]}/{obj.name}"
        if present is not None:
            if data is not None and data.want is Want.FILL:
                self._warnings.append(_left_unfilled(where, present))
            return self._create(obj, body, action=self._present)
        self._note_volume(obj, body, data)
        if data is None:
            self._note_empty(obj, where)
            return self._create(obj, body)
        made = (self._namespaces[namespace], obj.name) in self._existing.claims
        ungated = [] if made else self._ungated_pods(namespace, obj.name)
        if ungated:
            message = (
                f"pod {ungated[0]} exists and would start on the empty claim: delete the pod (or "
                "scale its owner to zero), then restore again"
            )
            self._failures.append(Failure(object=where, reason="PodWaiting", message=message))
            return self._skipped(obj, Skip("PodWaiting", message))
        self._warnings += [
            f"{where} {warning}"
            for warning in ask_for_enough(body, data_bytes=data.size, capacity=data.volume.capacity)
        ]
        if data.want is Want.MISSING:
            self._warnings.append(f"{where}: {_missing(data)}")
        mark_pending(body, self._restore.uid)
        self._restoring.add(self._namespaces[namespace])
        return self._create(obj, body)

    def _pod(self, obj: StoredObject) -> Item:
        namespace = str(obj.namespace)
        where = f"pod {self._namespaces[namespace]}/{obj.name}"
        claims = self._data.claims_of(namespace, obj.spec)
        slots = self._data.slots_of(namespace, obj.name, obj.spec)
        body = self._prepare(obj)
        if self._exists(self._existing.pods, obj) is not None:
            wanted = sorted({*claims, *slots})
            if wanted:
                self._warnings.append(
                    f"{where} exists and was left alone: volumes {', '.join(wanted)} were "
                    f"{NOT_RESTORED} into it; fill them where they are with --volumes in-place, or "
                    "delete the pod first to have it made again from the backup"
                )
            return self._create(obj, body, action=Action.LEAVE)
        gated = {*slots}
        for volume, claim in claims_of(obj.spec).items():
            if volume not in claims:
                continue
            if (namespace, claim) in self._creating:
                gated.add(volume)
            elif self._existing.claims.get((self._namespaces[namespace], claim)) is None:
                self._warnings.append(
                    f"{where} needs claim {claim}, which is not restored: it will wait for it"
                )
        for volume, data in slots.items():
            self._volumes.append(_planned(f"{self._path(obj)}/{volume}", data))
            if data.want is Want.MISSING:
                self._warnings.append(f"{where} volume {volume}: {_missing(data)}")
        # A rule may have taken a volume out: nobody would ever fill that one.
        gated &= mounted_volumes(body["spec"])
        in_order_of_spec = tuple(
            volume["name"]
            for volume in body["spec"].get("volumes") or []
            if volume["name"] in gated
        )
        if in_order_of_spec:
            after = self._order.get((namespace, obj.name))
            add_gate(body, in_order_of_spec, self._gate, after=after)
            self._restoring.add(self._namespaces[namespace])
        return self._create(obj, body, gated=in_order_of_spec, hooks=self._add_hooks(obj, body))

    def _add_hooks(self, obj: StoredObject, body: Object) -> str:
        """Init containers into the pod; what it has in hooks, for people."""
        try:
            hooks = restore_hooks(
                body, self._restore.spec.hooks, images=self._restore.spec.image_mapping
            )
            inject(body, hooks.init)
        except InvalidSpec as exc:
            # It comes back all the same: what its hooks would have done can be done by hand.
            path = f"{body['metadata']['namespace']}/{obj.name}"
            self._failures.append(Failure(object=path, reason=exc.reason, message=exc.message))
            return ""
        return hooks.text

    def _prepare(
        self, obj: StoredObject, *, keep_volume: bool = False, quiet: bool = False
    ) -> Object:
        """``quiet``: what it would lose is of no interest, because it exists."""
        prepared = prepare(obj.resource, obj.body, self._target, keep_volume=keep_volume)
        where = f"{obj.kind} {self._path(obj)}"
        if not quiet:
            self._warnings += [f"{where}: {warning}" for warning in prepared.warnings]
        body, rules = self._modifiers.apply(obj.resource, prepared.body, where=where)
        if rules:
            self._modified[str(obj)] = rules
        mark(body, restore=self._restore.name, restore_uid=self._restore.uid)
        return body

    def _create(
        self,
        obj: StoredObject,
        body: Object,
        *,
        action: Action = Action.CREATE,
        gated: tuple[str, ...] = (),
        hooks: str = "",
    ) -> Item:
        return Item(
            stored=obj,
            action=action,
            name=body["metadata"]["name"],
            namespace=body["metadata"].get("namespace"),
            body=body,
            gated=gated,
            hooks=hooks,
            modifiers=self._modified.get(str(obj), ()),
        )

    # --- looking around -------------------------------------------------------------------------

    def _decide_volumes(self, volumes: Sequence[StoredObject]) -> VolumeFates:
        filled = frozenset(key for key in self._creating if self._data.claim(*key) is not None)
        return decide_volumes(
            volumes,
            self._existing,
            same_cluster=self._same_cluster,
            restored_claims=self._creating,
            filled_claims=filled,
            restore_uid=self._restore.uid,
            reuse=self._restore.spec.volumes.reuse,
        )

    def _note_volume(self, claim: StoredObject, body: Object, data: VolumeData | None) -> None:
        old, new = class_of(claim.body), class_of(body)
        kept = (str(claim.namespace), claim.name) in self._fates.kept
        requests = (body["spec"].get("resources") or {}).get("requests") or {}
        planned = _planned(self._path(claim), data)
        self._volumes.append(
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
        if (str(claim.namespace), claim.name) in self._fates.kept:
            return
        if not claim.spec.get("volumeName"):
            return
        text = f"{where} comes back empty: the backup has no files for it"
        old = self._existing.volumes.get(claim.spec["volumeName"])
        if old is not None and self._same_cluster:
            text += f"; its old volume {described(old)} is still in this cluster"
        self._warnings.append(text)

    def _exists(self, found: Mapping[tuple[str, str], Object], obj: StoredObject) -> Object | None:
        """The object that is in the way, if this restore did not make it itself."""
        present = found.get((self._namespaces[str(obj.namespace)], obj.name))
        return None if present is None or made_by(present, self._restore.uid) else present

    def _ungated_pods(self, namespace: str, claim: str) -> list[str]:
        target = self._namespaces[namespace]
        return sorted(
            f"{target}/{name}"
            for (place, name), pod in self._existing.pods.items()
            if place == target
            and claim in claims_of(pod.get("spec") or {}).values()
            and not gated_volumes(pod)
            and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
        )

    def _new_name(self, obj: StoredObject) -> str:
        return self._namespaces.get(obj.name, obj.name) if obj.resource == NAMESPACES else obj.name

    def _new_namespace(self, obj: StoredObject) -> str | None:
        return self._namespaces[obj.namespace] if obj.namespace else None

    def _path(self, obj: StoredObject) -> str:
        namespace = self._new_namespace(obj)
        return f"{namespace}/{obj.name}" if namespace else self._new_name(obj)


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


def _missing(data: VolumeData) -> str:
    return f"{data.why_missing}; pods wait for it: restore with allowMissing to let them start"


def _planned(name: str, data: VolumeData | None) -> PlannedVolume:
    if data is None:
        return PlannedVolume(volume=name, data=ClaimData.EMPTY)
    missing = data.want is Want.MISSING
    return PlannedVolume(
        volume=name,
        data=ClaimData.MISSING if missing else ClaimData.FILES,
        bytes=data.size,
        files=data.files,
    )
