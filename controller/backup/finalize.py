"""The end of a backup: everything promised is looked up once more, then the manifest commits it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import ararat
from ararat import layout
from ararat.api import Backup, PodVolumeBackup
from ararat.api.backup import BackupPhase, BackupStatus, ObjectsResult
from ararat.api.base import ConditionStatus, with_condition
from ararat.api.manifest import Manifest, ManifestRepository, ManifestVolume
from ararat.concurrency import for_each
from ararat.errors import Damaged
from ararat.human import plural, size
from ararat.restic.models import Access
from ararat.restic.session import open_repository
from controller.backup import store
from controller.backup.begin import REPOSITORIES_AT_ONCE
from controller.backup.hooks import outcome as hook_outcome
from controller.backup.hooks.output import store_output
from controller.backup.hooks.record import Record
from controller.backup.moving import last_name
from controller.backup.outcome import (
    STATUS_LIMIT,
    conclude,
    missing_snapshots,
    volume_result,
    without_snapshot,
)
from controller.backup.plan import BackupPlan
from controller.backup.run import Look
from controller.context import Context
from controller.location.open import OpenLocation
from controller.repository.ensure import password_of

#: Repositories whose snapshots are listed at once: a restic process each.
_LISTED_AT_ONCE = 4


async def commit(
    look: Look,
    location: OpenLocation,
    plan: BackupPlan,
    jobs: Mapping[str, PodVolumeBackup],
    *,
    hooks: Sequence[Record] = (),
) -> Manifest:
    """Verify, write log and results, write the manifest and read it back.

    Raises Damaged where the API objects' snapshot is not there: without it there is no backup.
    """
    context, backup, log = look.context, look.backup, look.log
    findings = await store.read_findings(location, backup) or store.Findings(
        backup_uid=backup.uid,
        failures=backup.status.failures,
        warnings=backup.status.warnings,
    )
    volumes = []
    names = [last_name(backup, volume, jobs) for volume in plan.volumes]
    for volume, name in zip(plan.volumes, names, strict=True):
        job = jobs.get(name)
        volumes.append(volume_result(volume, job, cluster_uid=context.cluster_uid))
        await asyncio.sleep(0)  # ten thousand models take seconds, and others have deadlines
    cut_off = hook_outcome.cut_off(hooks)
    if cut_off:
        volumes = [
            hook_outcome.judge(volume, name, cut_off)
            for volume, name in zip(volumes, names, strict=True)
        ]
    hooks_output = await store_output(context, location, backup, hooks)
    hook_failures, hook_warnings = hook_outcome.failures(hooks)
    objects = backup.status.objects or ObjectsResult()
    others = [part.directory for part in (objects, hooks_output) if part and part.directory]
    repositories = await _repositories(context, location, volumes, others)
    listed: dict[str, frozenset[str]] = {}

    async def list_one(repository: ManifestRepository) -> None:
        listed[repository.directory] = await _listed(context, location, backup, repository)

    await for_each(repositories, list_one, at_once=_LISTED_AT_ONCE)
    stored = listed.get(objects.directory, frozenset())
    for snapshot in objects.snapshots or ("none",):
        if snapshot not in stored:
            raise Damaged(
                f"the snapshot of the API objects ({snapshot}) is not in its repository",
                reason="SnapshotMissing",
            )
    if hooks_output and hooks_output.snapshot_id not in listed.get(hooks_output.directory, ()):
        raise Damaged(
            f"the snapshot of the hooks' output ({hooks_output.snapshot_id}) is not in its "
            "repository",
            reason="SnapshotMissing",
        )
    for lost in missing_snapshots(volumes, listed):
        log.error("snapshot missing", volume=lost.id, snapshot=lost.snapshot_id)
        volumes[volumes.index(lost)] = without_snapshot(lost)
    outcome = conclude(
        volumes,
        objects_failures=[*hook_failures, *findings.failures],
        warnings=[*hook_warnings, *findings.warnings],
    )
    manifest = Manifest(
        ararat_version=ararat.__version__,
        backup=backup.name,
        backup_uid=backup.uid,
        cluster_uid=context.cluster_uid,
        cluster_version=context.cluster_version,
        location_id=location.location_id,
        spec=hook_outcome.without_commands(backup.spec),
        phase=outcome.phase,
        start_time=backup.status.start_time or context.now(),
        completion_time=context.now(),
        namespaces=plan.namespaces,
        objects=objects,
        repositories=repositories,
        volumes=list(outcome.volumes),
        hooks=hook_outcome.lines(plan.hooks, hooks),
        hooks_output=hooks_output,
        coverage=outcome.coverage,
        failures=list(outcome.failures),
        warnings=list(outcome.warnings),
    )
    log.info(
        "backup ends",
        phase=outcome.phase.value,
        coverage=outcome.coverage.text,
        processed=size(outcome.bytes_processed),
        stored=size(outcome.bytes_stored),
    )
    await store.write_run(
        location,
        backup,
        log=log.encode(),
        results={"findings": findings.to_dict(), "manifest": manifest.to_dict()},
    )
    return await store.commit(location, manifest)


async def finish(look: Look, manifest: Manifest) -> None:
    """Say in status what the committed manifest says."""
    backup = look.backup
    outcome = conclude(manifest.volumes, objects_failures=(), warnings=())
    good = manifest.phase is BackupPhase.COMPLETED
    message = _message(manifest)
    jobs = look.jobs()
    status = BackupStatus(
        phase=manifest.phase,
        start_time=manifest.start_time,
        completion_time=manifest.completion_time,
        location=backup.status.location,
        namespaces=manifest.namespaces[:100],
        namespace_count=len(manifest.namespaces),
        coverage=manifest.coverage,
        objects=manifest.objects,
        hooks=hook_outcome.count_lines(manifest.hooks),
        progress=jobs.progress if jobs else backup.status.progress,
        bytes_processed=outcome.bytes_processed,
        bytes_stored=outcome.bytes_stored,
        failures=manifest.failures[:STATUS_LIMIT],
        failure_count=len(manifest.failures),
        warnings=manifest.warnings[:STATUS_LIMIT],
        message=message,
        conditions=with_condition(
            backup.status.conditions,
            type="Succeeded",
            status=ConditionStatus.TRUE if good else ConditionStatus.FALSE,
            reason="Completed" if good else "VolumesFailed",
            message=message,
        ),
    )
    await look.patch(status.to_dict())
    look.log.info("backup ended", phase=manifest.phase.value)
    await look.context.events.event(
        look.raw,
        reason=f"Backup{manifest.phase.value}",
        message=message,
        type="Normal" if good else "Warning",
    )


def _message(manifest: Manifest) -> str:
    if manifest.failures:
        first = manifest.failures[0]
        more = len(manifest.failures) - 1
        tail = f" (and {plural(more, 'more failure')})" if more else ""
        return f"{first.object}: {first.message}{tail}"
    stored = sum(v.summary.bytes_stored for v in manifest.volumes if v.summary)
    return f"{plural(manifest.objects.count, 'object')}, {size(stored)} of new data stored"


async def _repositories(
    context: Context,
    location: OpenLocation,
    volumes: Sequence[ManifestVolume],
    others: Sequence[str],
) -> list[ManifestRepository]:
    """Those that are used now, and those that were when this backup stored something in them: a
    re-encryption changes that while a backup runs."""
    currents = {"": await context.repositories.objects(location)}
    namespaces = sorted({v.namespace for v in volumes if v.directory})

    async def one(namespace: str) -> None:
        currents[namespace] = await context.repositories.volumes(location, namespace)

    await for_each(namespaces, one, at_once=REPOSITORIES_AT_ONCE)
    present = {
        current.directory: ManifestRepository(
            directory=current.directory,
            key_id=current.key_id,
            repository_name=current.repository_name,
        )
        for current in (currents[namespace] for namespace in ("", *namespaces))
    }
    used = {*others, *(volume.directory for volume in volumes if volume.directory)}
    former = [
        ManifestRepository(directory=one, repository_name=layout.repository_name(one))
        for one in sorted(used - present.keys())
    ]
    return [*present.values(), *former]


async def _listed(
    context: Context, location: OpenLocation, backup: Backup, repository: ManifestRepository
) -> frozenset[str]:
    """Full IDs of this backup's snapshots, as the repository lists them now."""
    async with open_repository(
        store=location.store,
        directory=repository.directory,
        password=password_of(location, repository.repository_name),
        key_id=repository.key_id,
        access=Access.READ_ONLY,
        owner=context.lock_owner(f"finalize-{backup.uid}"),
        cache_dir=context.cache_dir,
        scratch_dir=context.scratch_dir,
    ) as restic:
        snapshots = await restic.snapshots(tags=(f"backup={backup.uid}",))
    return frozenset(snapshot.id for snapshot in snapshots)
