"""Files of one volume in a backup: listed, or one of them read, without restoring anything.

Problem: "give me that one file" must not need a restore, access to the store, or the key.
Decision: the command line runs this in the controller's container. The manifest says which snapshot
is the volume's; restic is opened for reading only, so nothing is stored, no lock either, and a
location that belongs to another cluster will do. Content goes out as it comes in, piece by piece.
Limits: names that are not UTF-8 are shown damaged and cannot be asked for; restore their directory.
"""

from __future__ import annotations

import asyncio
import json
import posixpath
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import BinaryIO

from ararat.api import Backup
from ararat.api.manifest import Manifest, ManifestVolume
from ararat.errors import InvalidSpec, NotFound
from ararat.kube.connection import connect
from ararat.kube.resources import of as resource_of
from ararat.restic.commands import Restic
from ararat.restic.models import Access, LockOwner, Node
from ararat.restic.session import open_repository
from controller.backup.plan import current_cluster_uid
from controller.config import Config
from controller.keys import MasterKey
from controller.location.open import Locations, OpenLocation
from controller.repository.ensure import password_of
from controller.restore.source import read_manifest, repository_of


async def list_files(config: Config, backup: str, volume: str, path: str, out: BinaryIO) -> None:
    """One JSON object a line for each entry of a directory (or for the file itself)."""
    async with _opened(config, backup, volume) as (restic, snapshot):
        if restic is None:
            return
        wanted = _clean(path)
        found = False
        async for node in restic.ls(snapshot, path=wanted, recursive=False):
            found = True
            if node.path != wanted or node.type != "dir":
                await _write(out, _line(node))
        if not found and wanted != "/":
            raise NotFound(f"{volume} in backup {backup} has no {path!r}")


async def read_file(config: Config, backup: str, volume: str, path: str, out: BinaryIO) -> None:
    """The content of one regular file."""
    async with _opened(config, backup, volume) as (restic, snapshot):
        wanted = _clean(path)
        node = None if restic is None else await _find(restic, snapshot, wanted)
        if restic is None or node is None:
            raise NotFound(
                f"{volume} in backup {backup} has no {path!r}: see 'ararat backup ls {backup} "
                f"{volume} {posixpath.dirname(wanted)}'"
            )
        if node.type != "file":
            kind = {"dir": "directory", "symlink": "link"}.get(node.type, node.type)
            raise InvalidSpec(f"{path!r} is a {kind}, not a file")
        async with aclosing(restic.dump(snapshot, wanted)) as content:
            async for part in content:
                await _write(out, part)


def find_volume(manifest: Manifest, volume: str) -> ManifestVolume:
    """By ``namespace/claim`` or ``namespace/pod/volume``. Raises NotFound, InvalidSpec."""
    found = [v for v in manifest.volumes if volume in _names(v) and v.restorable]
    if not found:
        known = sorted({_names(v)[0] for v in manifest.volumes if v.restorable})
        listed = ", ".join(known[:10]) + (" and more" if len(known) > 10 else "")
        raise NotFound(
            f"backup {manifest.backup} has no data of a volume {volume!r}: "
            f"it has {listed or 'none'}"
        )
    snapshots = {v.snapshot_id for v in found}
    if len(snapshots) > 1:
        raise InvalidSpec(f"{volume!r} is several volumes: say namespace/pod/volume")
    return found[0]


def _names(volume: ManifestVolume) -> Sequence[str]:
    whole = f"{volume.namespace}/{volume.pod}/{volume.volume}"
    if volume.claim is None:
        return (whole,)
    return (f"{volume.namespace}/{volume.claim.name}", whole)


@asynccontextmanager
async def _opened(
    config: Config, backup: str, volume: str
) -> AsyncIterator[tuple[Restic | None, str]]:
    """restic and the snapshot's id; None for a volume that was empty."""
    async with connect() as api:
        locations = Locations(
            api,
            namespace=config.namespace,
            master_key=MasterKey(api, namespace=config.keys_namespace),
            cluster_uid=await current_cluster_uid(api),
        )
        try:
            raw = await api.get(resource_of(Backup), backup, namespace=config.namespace)
            known = Backup.parse(raw)
            name = known.status.location or known.spec.location
            if name is None:
                raise InvalidSpec(f"backup {backup} has not been given a location yet")
            location = await locations.open(name)
            manifest = await read_manifest(location, backup)
            found = find_volume(manifest, volume)
            if found.snapshot_id is None:
                yield None, ""
                return
            async with _repository(config, location, manifest, found) as restic:
                yield restic, found.snapshot_id
        finally:
            await locations.close()


@asynccontextmanager
async def _repository(
    config: Config, location: OpenLocation, manifest: Manifest, volume: ManifestVolume
) -> AsyncIterator[Restic]:
    repository = repository_of(manifest, volume.directory)
    async with open_repository(
        store=location.store,
        directory=repository.directory,
        password=password_of(location, repository.repository_name),
        key_id=repository.key_id,
        access=Access.READ_ONLY,
        owner=LockOwner(cluster="", pod_uid="", container_start="", job="files"),
        cache_dir=config.cache_dir,
        scratch_dir=config.scratch_dir,
    ) as restic:
        yield restic


async def _find(restic: Restic, snapshot: str, path: str) -> Node | None:
    async with aclosing(restic.ls(snapshot, path=path, recursive=False)) as nodes:
        async for node in nodes:
            if node.path == path:
                return node
    return None


def _clean(path: str) -> str:
    """From the volume's root, without anything that leads up."""
    return posixpath.normpath("/" + path.lstrip("/"))


def _line(node: Node) -> bytes:
    entry = {
        "path": node.path,
        "type": node.type,
        "size": node.size,
        "mode": node.mode,
        "uid": node.uid,
        "gid": node.gid,
        "modified": node.modified.isoformat() if node.modified else None,
    }
    return json.dumps(entry, ensure_ascii=False).encode(errors="replace") + b"\n"


async def _write(out: BinaryIO, data: bytes) -> None:
    """In a thread: whoever reads may be slow, and restic's store is served by this loop."""

    def write() -> None:
        out.write(data)
        out.flush()

    await asyncio.to_thread(write)
