"""What a location holds of one backup or restore, on standard output."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from typing import BinaryIO

from ararat import layout
from ararat.api import Backup, Restore, Schedule
from ararat.api.base import utcnow
from ararat.api.manifest import Manifest, decode_manifest
from ararat.api.names import RESTORE_HOOKS_OF
from ararat.errors import InvalidSpec, NotFound
from ararat.kube.api import KubeApi
from ararat.kube.connection import connect
from ararat.kube.resources import SECRETS
from ararat.kube.resources import of as resource_of
from controller import livelog
from controller.backup.coverage import live_coverage
from controller.backup.hooks.output import read_output
from controller.backup.plan import current_cluster_uid
from controller.config import Config
from controller.keys import MasterKey
from controller.location.open import Locations, OpenLocation
from controller.restore.hooks.record import decode
from controller.schedule.held import parsed, verdicts

#: Whoever still follows then connects again: a process here must not outlive its reader for long.
FOLLOW_SECONDS = 600.0


async def show(config: Config, what: str, name: str, out: BinaryIO) -> None:
    """Write what is asked for: a log as JSON lines, all else as JSON.

    ``manifest``, ``results``, ``hooks`` and ``restore-hooks`` (commands and their output), a
    schedule's ``retention``.

    For ``coverage``, ``name`` is a Backup's spec as JSON, and the cluster is what is looked at.

    Raises NotFound where there is nothing of that kind, and what Locations.open() raises.
    """
    async with connect() as api:
        if what == "coverage":
            found = await live_coverage(config, api, name)
            out.write(json.dumps(found, ensure_ascii=False).encode() + b"\n")
            out.flush()
            return
        if what == "restore-hooks":
            records = await _restore_hooks(config, api, name)
            out.write(json.dumps(records, indent=1, ensure_ascii=False).encode() + b"\n")
            out.flush()
            return
        locations = Locations(
            api,
            namespace=config.namespace,
            master_key=MasterKey(api, namespace=config.keys_namespace),
            cluster_uid=await current_cluster_uid(api),
        )
        try:
            if what == "retention":
                out.write(await _retention(config, api, locations, name))
                out.flush()
                return
            location = await locations.open(await _location_of(config, api, what, name))
            if what == "hooks":
                manifest = Manifest.model_validate_json(await _read(location, "manifest", name))
                output = await read_output(location, manifest, scratch_dir=config.scratch_dir)
                out.write(json.dumps(output, indent=1, ensure_ascii=False).encode() + b"\n")
            else:
                out.write(await _read(location, what, name))
            out.flush()
        finally:
            await locations.close()


async def _restore_hooks(config: Config, api: KubeApi, name: str) -> list[dict[str, object]]:
    """What is recorded for the pods of a restore; it goes with the Restore."""
    raw = await api.get(resource_of(Restore), name, namespace=config.namespace)
    labels = f"{RESTORE_HOOKS_OF}={raw['metadata']['uid']}"
    found = api.list(SECRETS, namespace=config.namespace, labels=labels)
    records = [decode(secret) async for secret in found]
    return [record.to_dict() for record in sorted(records, key=lambda record: record.id)]


async def follow_run(config: Config, what: str, name: str, out: BinaryIO) -> None:
    """Write the log of a run that is under way, line by line, until it ends or ``FOLLOW_SECONDS``.

    Raises Retryable: this replica does not lead; InvalidSpec: it is not a log that was asked for.
    """
    kinds: dict[str, type[Backup | Restore]] = {"backup-log": Backup, "restore-log": Restore}
    if what not in kinds:
        raise InvalidSpec(f"{what} cannot be followed: only logs can")
    async with connect() as api:
        raw = await api.get(resource_of(kinds[what]), name, namespace=config.namespace)
    lines = livelog.follow(config.scratch_dir, raw["metadata"]["uid"])
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FOLLOW_SECONDS), contextlib.aclosing(lines):
            async for line in lines:
                out.write(line)
                out.flush()


async def _read(location: OpenLocation, what: str, name: str) -> bytes:
    blobs = {
        "manifest": layout.backup_manifest,
        "results": layout.backup_results,
        "backup-log": layout.backup_log,
        "restore-log": layout.restore_log,
    }
    try:
        data = await location.store.get(blobs[what](name))
    except NotFound as exc:
        raise NotFound(
            f"location {location.name} holds no {what} of {name}: it is written when the run ends"
        ) from exc
    if what != "manifest":
        return gzip.decompress(data)
    manifest = decode_manifest(data, *location.manifest_keys)
    return json.dumps(manifest.to_dict(), indent=1, ensure_ascii=False).encode() + b"\n"


async def _retention(config: Config, api: KubeApi, locations: Locations, name: str) -> bytes:
    """Each backup of a schedule, and what keeps it, as the controller decides it."""
    raw = await api.get(resource_of(Schedule), name, namespace=config.namespace)
    schedule = Schedule.parse(raw)
    found = api.list(resource_of(Backup), namespace=config.namespace)
    backups = [b for b in parsed([raw async for raw in found]) if b.spec.schedule == name]
    rows = []
    for place in sorted({b.status.location for b in backups if b.status.location}):
        location = await locations.open(place)
        here = {b.name: b for b in backups if b.status.location == place}
        for verdict in await verdicts(
            location,
            here.values(),
            schedule.spec.retention,
            zone=schedule.spec.time_zone,
            now=utcnow(),
        ):
            backup = here[verdict.name]
            reasons = list(verdict.reasons)
            if not location.writable:
                reasons = ["its location is another cluster's to keep"]
            rows.append(
                {
                    "name": backup.name,
                    "location": place,
                    "phase": backup.status.phase.value,
                    "time": str(backup.status.start_time or ""),
                    "kept": bool(reasons),
                    "reasons": reasons,
                }
            )
    return json.dumps(rows, indent=1).encode() + b"\n"


async def _location_of(config: Config, api: KubeApi, what: str, name: str) -> str:
    backup_name = name
    if what == "restore-log":
        raw = await api.get(resource_of(Restore), name, namespace=config.namespace)
        backup_name = Restore.parse(raw).backup
    raw = await api.get(resource_of(Backup), backup_name, namespace=config.namespace)
    backup = Backup.parse(raw)
    location = backup.status.location or backup.spec.location
    if location is None:
        raise InvalidSpec(f"backup {backup_name} has not been given a location yet")
    return location
