"""Manifests say where snapshots are; when those have moved, they are told so.

Decision: the JSON is changed, not a model of it: whatever names the former directory names the new
one, wherever it stands and whoever wrote it, and all else stays to the byte. A manifest is written
whole, sealed by the present key, on condition that it is still the one that was read; until then
the old one stands, and is right.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from ararat import layout, sealed
from ararat.api.manifest import decode_manifest
from ararat.errors import Damaged, NotFound
from ararat.layout import CurrentFile
from controller.location.open import OpenLocation

log = structlog.get_logger("controller.rotation")
_FORGED = {"what": "a sealed file", "reason": "ManifestForged"}


@dataclass(frozen=True)
class Move:
    """From a directory to a repository, and which snapshot is which there."""

    former: str
    successor: CurrentFile
    snapshots: Mapping[str, str] = field(repr=False)


def readdressed(value: Any, move: Move) -> Any:
    """Pure. Raises KeyError: a snapshot is named that has not been moved."""
    if isinstance(value, list):
        return _without_twins([readdressed(inner, move) for inner in value])
    if not isinstance(value, dict):
        return value
    changed = {name: readdressed(inner, move) for name, inner in value.items()}
    if value.get("directory") != move.former:
        return changed
    changed["directory"] = move.successor.directory
    if value.get("snapshotID"):
        changed["snapshotID"] = move.snapshots[value["snapshotID"]]
    if value.get("furtherSnapshots"):
        changed["furtherSnapshots"] = [move.snapshots[one] for one in value["furtherSnapshots"]]
    if "keyID" in value:
        changed["keyID"] = move.successor.key_id
    if "repositoryName" in value:
        changed["repositoryName"] = move.successor.repository_name
    return changed


def _without_twins(values: list[Any]) -> list[Any]:
    """A repository that a manifest names already is named once."""
    kept: list[Any] = []
    for value in values:
        is_repository = isinstance(value, dict) and "repositoryName" in value
        if not (is_repository and value in kept):
            kept.append(value)
    return kept


async def readdress(location: OpenLocation, backup: str, move: Move) -> None:
    """Have a backup's manifest name the successor. Raises Conflict: it was changed meanwhile."""
    store, name = location.store, layout.backup_manifest(backup)
    info = await store.head(name)
    data = await store.get(name)
    await asyncio.to_thread(decode_manifest, data, *location.manifest_keys)
    body = await asyncio.to_thread(sealed.unseal, data, *location.manifest_keys, **_FORGED)
    changed = await asyncio.to_thread(readdressed, body, move)
    encoded = await asyncio.to_thread(sealed.seal, changed, location.manifest_keys[0])
    await store.put(name, encoded, if_match=info.etag)
    if await store.get(name) != encoded:
        raise Damaged(f"the manifest of {backup} reads back differently than written")
    log.info("manifest readdressed", backup=backup, directory=move.successor.directory)


async def sign_anew(location: OpenLocation, backup: str) -> None:
    """Whatever a former key proves of a backup is proven by the present one.

    Raises Damaged: what stands there is proven by neither.
    """
    for name in (layout.backup_manifest(backup), layout.backup_verification(backup)):
        with contextlib.suppress(NotFound):
            await _sign_anew(location, name)


async def _sign_anew(location: OpenLocation, name: str) -> None:
    store, own = location.store, location.manifest_keys[0]
    info = await store.head(name)
    data = await store.get(name)
    try:
        await asyncio.to_thread(sealed.unseal, data, own, **_FORGED)
        return
    except Damaged:
        body = await asyncio.to_thread(sealed.unseal, data, *location.manifest_keys, **_FORGED)
    await store.put(name, await asyncio.to_thread(sealed.seal, body, own), if_match=info.etag)
    log.info("signed anew", name=name)
