"""The first step of a restore: find the backup, believe it, and know what to do.

Nothing in the cluster is touched before this has ended well; what cannot work fails here with one
sentence. A namespace that is on its way out is waited for, visibly and not for ever.
"""

from __future__ import annotations

from collections.abc import Iterable

from ararat.api import Backup
from ararat.api.location import BackupLocation, LocationPhase
from ararat.api.restore import RestoreVolumesMode
from ararat.errors import Conflict, InvalidSpec, NotFound
from ararat.kinds import known_kinds
from ararat.kube.resources import CONFIG_MAPS
from ararat.kube.resources import of as resource_of
from controller.backup.begin import location_name
from controller.location.open import OpenLocation

from .chosen import choose_backup
from .data import BackupData, index
from .existing import Existing, read_existing
from .modifiers import InvalidModifiers, Modifiers, read, resolve
from .owners import owner_kinds
from .plan import Plan
from .planner import make_plan
from .run import Look
from .selection import resolve_namespaces
from .source import read_manifest
from .stored import StoredObject

#: How long a namespace may take to go before the restore gives up.
TERMINATING_SECONDS = 600.0


async def load(look: Look) -> OpenLocation:
    """Location and manifest into memory, if they are not there. Raises AraratError."""
    memory, spec = look.memory, look.restore.spec
    if memory.manifest is None:
        await choose_backup(look)
        name = look.restore.backup
        memory.location = await _find_location(look)
        location = await look.context.location(memory.location)
        manifest = await read_manifest(location, name)
        _require_restorable(name, manifest.phase.value, ok=manifest.phase.restorable)
        namespaces = resolve_namespaces(
            spec, manifest.backup, sorted(manifest.namespaces), own_namespaces=look.own_namespaces
        )
        memory.sources = {new: old for old, new in namespaces.items()}
        memory.data = (
            BackupData()
            if spec.volumes.mode is RestoreVolumesMode.NONE
            else index(manifest, allow_missing=spec.volumes.allow_missing)
        )
        memory.manifest = manifest
        return location
    return await look.context.location(memory.location)


async def plan(look: Look, location: OpenLocation) -> Plan:
    """What to do, from the location and the cluster as they are. Raises AraratError."""
    memory = look.memory
    assert memory.manifest is not None
    if memory.objects is None:
        memory.objects = await look.read_objects(
            look.context, location, memory.manifest, job=look.restore.uid
        )
    existing = await survey(look, memory.objects)
    made = make_plan(
        look.restore,
        memory.manifest,
        memory.objects,
        existing,
        gate=look.gate,
        own_namespaces=look.own_namespaces,
        modifiers=await _modifiers(look, existing),
    )
    # Namespaces may hold objects although the manifest does not list them.
    memory.sources = {new: old for old, new in made.namespaces.items()}
    return made


async def _modifiers(look: Look, existing: Existing) -> Modifiers:
    """The user's rules, read and understood. Raises InvalidSpec."""
    name = look.restore.spec.resource_modifiers
    if not name:
        return Modifiers()
    where = f"{look.context.namespace}/{name}"
    try:
        found = await look.context.api.get(CONFIG_MAPS, name, namespace=look.context.namespace)
    except NotFound as exc:
        raise InvalidModifiers(f"resource modifiers: there is no ConfigMap {where}") from exc
    texts = list((found.get("data") or {}).values())
    if len(texts) != 1:
        raise InvalidModifiers(
            f"resource modifiers: ConfigMap {where} has {len(texts)} keys: one file is wanted"
        )
    stored = {obj.type for obj in look.memory.objects or ()}
    return resolve(read(texts[0]), known_kinds((*stored, *existing.served)))


async def survey(look: Look, objects: Iterable[StoredObject] = ()) -> Existing:
    """The target cluster, as far as the plan depends on it."""
    context = look.context
    discovery = await context.api.discover()
    return await read_existing(
        context.api,
        cluster_uid=context.cluster_uid,
        namespaces=look.memory.sources,
        served=discovery.resources,
        owner_kinds=owner_kinds(objects),
    )


def terminating(existing: Existing) -> str | None:
    """Why a namespace that is wanted is not there to be used; None: nothing is in the way."""
    for namespace in existing.terminating():
        conditions = (namespace.get("status") or {}).get("conditions") or []
        causes = [
            str(condition.get("message"))
            for condition in conditions
            if condition.get("status") == "True" and condition.get("message")
        ]
        cause = f": {causes[-1]}" if causes else ""
        return f"namespace {namespace['metadata']['name']} is still being deleted{cause}"
    return None


async def _find_location(look: Look) -> str:
    context, name = look.context, look.restore.backup
    try:
        raw = await context.api.get(resource_of(Backup), name, namespace=context.namespace)
    except NotFound as exc:
        raise InvalidSpec(
            f"there is no backup {name!r}: see `ararat backup get`", reason="BackupNotFound"
        ) from exc
    backup = Backup.parse(raw)
    _require_restorable(name, backup.status.phase.value, ok=backup.status.phase.restorable)
    if backup.metadata.deletion_timestamp is not None:
        raise Conflict(f"backup {name!r} is being deleted", reason="BackupDeleting")
    location = location_name(context, backup)
    known = context.locations_informer.get(location, context.namespace)
    if known is not None:
        resource = BackupLocation.parse(known)
        if resource.status.phase is LocationPhase.UNAVAILABLE:
            cause = resource.status.message or "no cause given"
            raise InvalidSpec(
                f"location {location} of backup {name!r} is unavailable: {cause}",
                reason="LocationUnavailable",
            )
    return location


def _require_restorable(backup: str, phase: str, *, ok: bool) -> None:
    if not ok:
        raise InvalidSpec(
            f"backup {backup!r} is {phase}: only Completed and PartiallyFailed backups can be "
            "restored",
            reason="BackupNotRestorable",
        )
