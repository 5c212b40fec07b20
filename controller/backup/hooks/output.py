"""Commands of hooks and what they printed: kept where API objects are, encrypted.

Both may hold passwords. So neither is in the manifest, the log, the results or any status: they
are a snapshot of their own in the repository of API objects, ``hooks/<namespace>/<pod>.json``.
"""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ararat.api import Backup
from ararat.api.backup import ObjectsResult
from ararat.api.manifest import Manifest
from ararat.errors import NotFound
from ararat.restic.models import Access, BackupRequest, LockOwner
from ararat.restic.session import open_repository
from controller.backup.collect import file_name
from controller.context import Context
from controller.location.open import OpenLocation
from controller.repository.ensure import password_of

from .record import Record

TREE = "hooks"


async def store_output(
    context: Context, location: OpenLocation, backup: Backup, records: Sequence[Record]
) -> ObjectsResult | None:
    """None where no hook was run. Raises the errors of store and restic."""
    kept = [known for known in records if known.results]
    if not kept:
        return None
    current = await context.repositories.objects(location)
    spool = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="hooks-", dir=context.spool_dir))
    try:
        await asyncio.to_thread(_lay_out, spool, kept)
        async with open_repository(
            store=location.store,
            directory=current.directory,
            password=password_of(location, current.repository_name),
            key_id=current.key_id,
            access=Access.APPEND_ONLY,
            owner=context.lock_owner(f"hooks-{backup.uid}"),
            cache_dir=context.cache_dir,
            scratch_dir=context.scratch_dir,
        ) as restic:
            snapshot = await restic.backup(
                BackupRequest(
                    source=spool,
                    host=f"{context.cluster_uid}/hooks",
                    tags=("ararat", f"backup={backup.uid}", "hooks"),
                )
            )
    finally:
        await asyncio.to_thread(shutil.rmtree, spool, ignore_errors=True)
    return ObjectsResult(
        directory=current.directory, snapshot_id=snapshot.snapshot_id or "", count=len(kept)
    )


async def read_output(
    location: OpenLocation, manifest: Manifest, *, scratch_dir: Path
) -> list[dict[str, Any]]:
    """What was kept, pod by pod. Raises NotFound, and the errors of store and restic."""
    kept = manifest.hooks_output
    repository = next(
        (r for r in manifest.repositories if kept and r.directory == kept.directory), None
    )
    if kept is None or repository is None:
        raise NotFound(f"backup {manifest.backup} ran no hooks", reason="NoHooks")
    archive = io.BytesIO()
    async with open_repository(
        store=location.store,
        directory=repository.directory,
        password=password_of(location, repository.repository_name),
        key_id=repository.key_id,
        access=Access.READ_ONLY,
        owner=LockOwner(cluster="", pod_uid="", container_start="", job="show-hooks"),
        cache_dir=None,
        scratch_dir=scratch_dir,
    ) as restic:
        async for part in restic.dump(kept.snapshot_id, f"/{TREE}"):
            archive.write(part)
    archive.seek(0)
    with tarfile.open(fileobj=archive) as tar:
        files = [tar.extractfile(member) for member in tar.getmembers()]
        return [json.loads(file.read()) for file in files if file is not None]


def _lay_out(spool: Path, kept: Sequence[Record]) -> None:
    for known in kept:
        path = spool / TREE / known.pod.namespace / f"{file_name(known.pod.name)}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_content(known), ensure_ascii=False), encoding="utf-8")


def _content(known: Record) -> dict[str, object]:
    return {
        "pod": known.pod.to_dict(),
        "frozenAt": known.frozen_at,
        "thawedAt": known.thawed_at,
        "results": [result.to_dict() for result in known.results],
    }
