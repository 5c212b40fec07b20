"""What a backup writes to its location besides repositories: begin, plan, log, results, manifest.

``begin.json`` claims the name, ``manifest.json`` is the commit point. Both are create-only: two
controllers, or one that was killed and came back, cannot make two backups of one name.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from typing import Any

from ararat import layout, sealed
from ararat.api import Backup
from ararat.api.backup import Failure
from ararat.api.base import Model
from ararat.api.manifest import Manifest, decode_manifest
from ararat.errors import Conflict, Damaged, NotFound
from controller.location.open import OpenLocation

from .plan import BackupPlan


class Findings(Model):
    """What went wrong before the end: API objects that could not be listed, and warnings.

    Part of results.json.gz, from before the Backup's status names the API objects.
    """

    backup_uid: str
    failures: list[Failure] = []
    warnings: list[str] = []


async def claim_name(
    location: OpenLocation, backup: Backup, *, cluster_uid: str, live_uids: frozenset[str]
) -> None:
    """Claim the backup's name in the location; idempotent for the same backup.

    A name left by a backup of this cluster that never got a manifest and whose object is gone
    (``live_uids`` has all that are left) is taken over. Raises Conflict.
    """
    if await _exists(location, layout.backup_deleting(backup.name)):
        raise Conflict(
            f"the backup {backup.name} of location {location.name} is being deleted: choose "
            "another name, or wait",
            reason="BackupDeleting",
        )
    name = layout.backup_begin(backup.name)
    body = json.dumps({"uid": backup.uid, "cluster": cluster_uid}).encode()
    try:
        await location.store.put(name, body, create_only=True)
        return
    except Conflict:
        pass
    info = await location.store.head(name)
    taken = Conflict(
        f"location {location.name} already has a backup called {backup.name}: choose another name",
        reason="BackupExists",
    )
    try:
        begun = dict(json.loads(await location.store.get(name)))
    except (ValueError, TypeError) as exc:
        raise taken from exc  # not ours to judge: whoever wrote it has the name
    if begun.get("uid") == backup.uid:
        return
    abandoned = begun.get("cluster") == cluster_uid and begun.get("uid") not in live_uids
    if not abandoned or await _exists(location, layout.backup_manifest(backup.name)):
        raise taken
    try:
        await location.store.put(name, body, if_match=info.etag)
    except Conflict as exc:
        raise taken from exc


async def write_plan(location: OpenLocation, backup: Backup, plan: BackupPlan) -> BackupPlan:
    """Keep the plan; returns the one that stands, which a killed controller may have left."""
    standing = await read_plan(location, backup)
    if standing is not None:
        return standing
    await location.store.put(layout.backup_plan(backup.name), await _pack(location, plan.to_dict()))
    return plan


async def read_plan(location: OpenLocation, backup: Backup) -> BackupPlan | None:
    """The plan of this very backup, if it was kept."""
    try:
        data = await location.store.get(layout.backup_plan(backup.name))
    except NotFound:
        return None
    what = f"the plan of backup {backup.name} in location {location.name}"
    body = await asyncio.to_thread(_unpack, location, data, what=what, reason="PlanForged")
    try:
        plan = BackupPlan.model_validate(body)
    except ValueError as exc:
        raise Damaged(f"{what} does not have the expected fields") from exc
    return plan if plan.backup_uid == backup.uid else None


async def write_findings(location: OpenLocation, backup: Backup, findings: Findings) -> None:
    """Keep what went wrong so far, in full: status has room for the first of it only."""
    data = await _pack(location, {"findings": findings.to_dict()})
    await location.store.put(layout.backup_results(backup.name), data)


async def read_findings(location: OpenLocation, backup: Backup) -> Findings | None:
    """What this very backup kept. Raises Damaged: it is not readable, or not ours."""
    try:
        data = await location.store.get(layout.backup_results(backup.name))
    except NotFound:
        return None
    what = f"the results of backup {backup.name} in location {location.name}"
    body = await asyncio.to_thread(_unpack, location, data, what=what, reason="ResultsForged")
    if "findings" not in body:
        return None
    try:
        found = Findings.model_validate(body["findings"])
    except ValueError as exc:
        raise Damaged(f"{what} do not have the expected fields") from exc
    return found if found.backup_uid == backup.uid else None


async def write_run(
    location: OpenLocation, backup: Backup, *, log: bytes, results: dict[str, object]
) -> None:
    """The log and the results in full; written before the manifest, rewritten freely until then."""
    await location.store.put(layout.backup_log(backup.name), log)
    await location.store.put(layout.backup_results(backup.name), await _pack(location, results))


async def commit(location: OpenLocation, manifest: Manifest) -> Manifest:
    """Write the manifest and read it back.

    Returns the manifest that stands: a former run of the same backup may have committed already.
    Raises Conflict: the name has the manifest of another backup. Raises Damaged: what was read
    back is not what was written.
    """
    name = layout.backup_manifest(manifest.backup)
    data = await asyncio.to_thread(manifest.encode, location.manifest_keys[0])
    try:
        await location.store.put(name, data, create_only=True)
    except Conflict:
        standing = decode_manifest(await location.store.get(name), *location.manifest_keys)
        if standing.backup_uid != manifest.backup_uid:
            raise Conflict(
                f"location {location.name} already has a backup called {manifest.backup}",
                reason="BackupExists",
            ) from None
        return standing
    if await location.store.get(name) != data:
        raise Damaged(f"the manifest of {manifest.backup} reads back differently than written")
    return manifest


async def committed(location: OpenLocation, backup: Backup) -> Manifest | None:
    """The manifest of this very backup, if it was committed."""
    try:
        data = await location.store.get(layout.backup_manifest(backup.name))
    except NotFound:
        return None
    manifest = decode_manifest(data, *location.manifest_keys)
    return manifest if manifest.backup_uid == backup.uid else None


async def _pack(location: OpenLocation, body: dict[str, object]) -> bytes:
    def pack() -> bytes:
        return gzip.compress(sealed.seal(body, location.manifest_keys[0]), mtime=0)

    return await asyncio.to_thread(pack)  # of ten thousand volumes it takes a while


def _unpack(location: OpenLocation, data: bytes, *, what: str, reason: str) -> dict[str, Any]:
    try:
        plain = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as exc:
        raise Damaged(f"{what} is not readable") from exc
    return sealed.unseal(plain, *location.manifest_keys, what=what, reason=reason)


async def _exists(location: OpenLocation, name: str) -> bool:
    try:
        await location.store.head(name)
    except NotFound:
        return False
    return True
