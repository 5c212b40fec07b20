"""BackupLocations: checked and synced, one key a location.

A location is looked at every ``syncPeriodSeconds``, and touched every 10 seconds in between: one
request, whose answer may take 15. So an outage is in its phase within 30 seconds; while it lasts
the location is looked at every 15 seconds, and work resumes by itself. A changed spec or annotation
is looked at at once; a changed status is our own, and no reason to look again.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Any

import structlog
from pydantic import ValidationError

from ararat import layout
from ararat.api import Backup, BackupLocation
from ararat.api.base import ConditionStatus, utcnow, with_condition
from ararat.api.deletion import DeleteBackupRequestSpec, DeletionCause
from ararat.api.location import BackupLocationStatus, LocationPhase
from ararat.api.manifest import decode_manifest
from ararat.api.names import RECOVER, TAKE_OVER
from ararat.blob.errors import ContainerNotFound, StoreThrottled, StoreUnreachable
from ararat.errors import AraratError, Conflict, Damaged, InvalidSpec, NotFound
from ararat.kube.events import EventRecorder
from ararat.kube.resources import of as resource_of
from ararat.kube.status import patch_status
from controller.context import Context
from controller.deletion.request import send_request
from controller.location.open import NotOwner, OpenLocation, first_error
from controller.location.sync import (
    awaits_status,
    backup_from_manifest,
    plan_sync,
    read_names,
)
from controller.verification.record import stored_result

_UNAVAILABLE_RETRY_SECONDS = 15.0
#: Together less than the 30 seconds within which an outage is to be known; the second one leaves
#: room for a connection that breaks and the retries after it.
_TOUCH_SECONDS = 10.0
_TOUCH_PATIENCE = 15.0
_TYPE = resource_of(BackupLocation)
_BACKUPS = resource_of(Backup)
log = structlog.get_logger("controller.location")


@dataclass(frozen=True)
class _Looked:
    """The last look at a location: at what, and until when it holds (monotonic seconds)."""

    asked: tuple[object, ...]
    until: float
    #: What it found; only an available location is touched between two looks.
    available: bool
    #: When the store was last heard of.
    touched: float


class LocationReconciler:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._events: EventRecorder = context.events
        self._looked: dict[str, _Looked] = {}

    async def reconcile(self, key: str) -> float | None:
        namespace, _, name = key.partition("/")
        raw = self._context.locations_informer.get(name, namespace)
        if raw is None:
            self._looked.pop(key, None)
            self._context.locations.forget(name)
            return None
        asked, looked = _asked(raw), self._looked.get(key)
        if looked is not None and looked.asked == asked:
            left = looked.until - time.monotonic()
            if left > 0 and not looked.available:
                return left
            if left > 0 and (again := looked.touched + _TOUCH_SECONDS - time.monotonic()) > 0:
                return min(left, again)
            if left > 0:
                try:
                    await self._touch(name)
                except (StoreUnreachable, ContainerNotFound) as exc:
                    await self._unavailable(raw, reason=exc.reason, message=exc.message)
                    return self._remember(key, asked, _UNAVAILABLE_RETRY_SECONDS, available=False)
                except AraratError:
                    pass  # somebody answers, but not as expected: a whole look says what it is
                else:
                    self._looked[key] = replace(looked, touched=time.monotonic())
                    return min(left, _TOUCH_SECONDS)
        wait, available = await self._look(raw)
        return None if wait is None else self._remember(key, asked, wait, available=available)

    def _remember(
        self, key: str, asked: tuple[object, ...], wait: float, *, available: bool
    ) -> float:
        now = time.monotonic()
        self._looked[key] = _Looked(asked, now + wait, touched=now, available=available)
        return min(wait, _TOUCH_SECONDS) if available else wait

    async def _touch(self, name: str) -> None:
        """Raises what the store says; a store that is asked for too much is there all the same."""
        location = await self._context.locations.open(name)
        try:
            async with asyncio.timeout(_TOUCH_PATIENCE):
                await location.store.head(layout.LOCATION)
        except StoreThrottled:
            return
        except TimeoutError as exc:
            raise StoreUnreachable(
                f"location {name} has not answered for {_TOUCH_PATIENCE:.0f} s"
            ) from exc

    async def _look(self, raw: dict[str, Any]) -> tuple[float | None, bool]:
        """Seconds until the next look, and whether the location can be used."""
        name = raw["metadata"]["name"]
        try:
            resource = BackupLocation.parse(raw)
        except ValidationError as exc:
            await self._unavailable(raw, reason="InvalidSpec", message=first_error(exc))
            return None, False
        try:
            location = await self._context.locations.check(name)
            await self._claim_identity(raw, location)
            count, problems = await self._sync(location)
        except AraratError as exc:
            owner = exc.owner if isinstance(exc, NotOwner) else None
            await self._unavailable(raw, reason=exc.reason, message=exc.message, owner=owner)
            return _UNAVAILABLE_RETRY_SECONDS, False
        await self._available(raw, location, count=count, problems=problems)
        return float(resource.spec.sync_period_seconds), True

    async def _claim_identity(self, raw: dict[str, Any], location: OpenLocation) -> None:
        """The location's ID is in status before anything else relies on it."""
        if (raw.get("status") or {}).get("locationID") != location.location_id:
            await patch_status(self._context.api, _TYPE, raw, {"locationID": location.location_id})

    async def _available(
        self, raw: dict[str, Any], location: OpenLocation, *, count: int, problems: list[str]
    ) -> None:
        old = BackupLocation.parse(raw).status
        conditions = with_condition(
            old.conditions,
            type="Available",
            status=ConditionStatus.TRUE,
            reason="Proven",
            message="reached, and it is what it says it is",
        )
        conditions = with_condition(
            conditions,
            type="Damaged",
            status=ConditionStatus.TRUE if problems else ConditionStatus.FALSE,
            reason="ManifestsUnreadable" if problems else "NoneFound",
            message="; ".join(problems[:5]),
        )
        if old.phase is not LocationPhase.AVAILABLE:
            log.info("location available", location=location.name, id=location.location_id)
        status = BackupLocationStatus(
            phase=LocationPhase.AVAILABLE,
            location_id=location.location_id,
            owner=location.owner,
            last_sync_time=utcnow(),
            backup_count=count,
            conditions=conditions,
        ).to_dict()
        await patch_status(
            self._context.api, _TYPE, raw, {**status, "message": problems[0] if problems else None}
        )

    async def _unavailable(
        self, raw: dict[str, Any], *, reason: str, message: str, owner: str | None = None
    ) -> None:
        old = (raw.get("status") or {}).get("phase")
        name = raw["metadata"]["name"]
        if old != LocationPhase.UNAVAILABLE.value:
            log.warning("location unavailable", location=name, reason=reason, message=message)
            await self._events.event(raw, reason=reason, message=message, type="Warning")
        try:
            conditions = BackupLocation.parse(raw).status.conditions
        except ValidationError:
            conditions = []
        conditions = with_condition(
            conditions,
            type="Available",
            status=ConditionStatus.FALSE,
            reason=reason,
            message=message,
        )
        status = {
            "phase": LocationPhase.UNAVAILABLE.value,
            "message": message,
            "conditions": [c.to_dict() for c in conditions],
        }
        if owner is not None:  # whom `ararat location take-over` takes it from
            status["owner"] = owner
        await patch_status(self._context.api, _TYPE, raw, status)

    async def _sync(self, location: OpenLocation) -> tuple[int, list[str]]:
        """Make objects follow the location. Returns backups seen, and what was wrong."""
        objects = []  # before the listing: see plan_sync
        for raw in self._context.backups.items():
            try:
                objects.append(Backup.parse(raw))
            except ValidationError:
                continue  # its own reconciler says what is wrong with it
        names = [info.name async for info in location.store.list(f"{layout.BACKUPS}/")]
        stored = read_names(names)
        plan = plan_sync(location.name, set(stored.backups), objects)
        problems = [
            f"backup {name} is also in another location, whose backup is the one shown"
            for name in plan.shadowed
        ]
        for name in plan.add:
            try:
                await self._add(
                    location,
                    name,
                    pinned=name in stored.pinned,
                    verified=name in stored.verified,
                )
            except (Damaged, NotFound, InvalidSpec) as exc:
                problems.append(f"backup {name}: {exc.message}")
        for backup in plan.remove:
            log.info("backup is gone from its location", backup=backup.name)
            await self._context.api.delete(
                _BACKUPS, backup.name, namespace=self._context.namespace, uid=backup.uid
            )
        if location.writable:
            for name in sorted(stored.deleting):
                await self._resume_deletion(location, name)
        return len(stored.backups), problems

    async def _resume_deletion(self, location: OpenLocation, name: str) -> None:
        """A deletion that was begun is ended, also where its request is gone."""
        for raw in self._context.deletions.items():
            ended = (raw.get("status") or {}).get("phase") in ("Completed", "Refused")
            if raw["spec"].get("backup") == name and not ended:
                return
        spec = DeleteBackupRequestSpec(
            backup=name, location=location.name, cause=DeletionCause.RESUMED
        )
        await send_request(self._context, spec)

    async def _add(
        self, location: OpenLocation, name: str, *, pinned: bool, verified: bool
    ) -> None:
        data = await location.store.get(layout.backup_manifest(name))
        manifest = decode_manifest(data, *location.manifest_keys)
        if manifest.backup != name:
            raise Damaged(f"the manifest in backups/{name} is that of {manifest.backup}")
        body, status = backup_from_manifest(
            manifest, location=location.name, namespace=self._context.namespace, pinned=pinned
        )
        try:
            created = await self._context.api.create(
                _BACKUPS, body, namespace=self._context.namespace
            )
        except Conflict:
            created = await self._context.api.get(_BACKUPS, name, namespace=self._context.namespace)
            if not awaits_status(Backup.parse(created)):
                return  # the informer is a moment behind; the next round sees it
        if verified:
            result = await stored_result(location, name)
            status = status.model_copy(update={"verification": result})
        await patch_status(self._context.api, _BACKUPS, created, status.to_dict())
        log.info("backup found in location", backup=name, location=location.name)


def _asked(raw: dict[str, Any]) -> tuple[object, ...]:
    """What of a BackupLocation is a reason to look at it at once."""
    metadata = raw["metadata"]
    annotations = metadata.get("annotations") or {}
    asked = (annotations.get(name) for name in (TAKE_OVER, RECOVER))
    return (metadata.get("uid"), metadata.get("generation"), *asked)
