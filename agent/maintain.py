"""``python -m agent maintain``: prune, check or copy one repository, in a pod of its own.

Problem: prune and check hold an index in memory and take hours; neither the controller nor a node's
agent should die of that.
Decision: the controller makes a Job with this entry point and the agent's image and rights: it may
read one Secret with the repository's password and the location's credentials. Before prune, every
snapshot that a backup names must be listed. What came of it goes into the termination message.
Limits: one repository, one action, one process.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog

from ararat import layout, reserve
from ararat.api.repository import MaintenanceAction
from ararat.blob.store import BlobStore
from ararat.errors import AraratError, Damaged, InvalidSpec, NotFound
from ararat.human import size
from ararat.kube import connect
from ararat.kube.api import KubeApi
from ararat.maintenance import TASK, MaintenanceResult, MaintenanceTask
from ararat.restic.commands import Restic
from ararat.restic.drops import GRACE, Drops, decode
from ararat.restic.locks import dead_locks, list_locks, remove_lock
from ararat.restic.models import Access, LockOwner, PruneRequest
from ararat.restic.session import open_repository

from .config import AgentConfig
from .locations import Locations
from .reencrypt import promised_of, reencrypt

#: Parts in which the data is read, one a day.
PARTS = 30
_TERMINATION_LOG = "/dev/termination-log"
_SETTING = "maintenance.window in the chart's values"
_OVER = {
    MaintenanceAction.PRUNE: f"it goes on next time ({_SETTING})",
    MaintenanceAction.CHECK: f"it begins anew next time ({_SETTING})",
    # Its window is no setting: a copy is in nobody's way.
    MaintenanceAction.REENCRYPT: "what was copied stays, and the next job goes on",
}
log = structlog.get_logger("maintain")


def read_task(environment: Mapping[str, str]) -> MaintenanceTask:
    """Raises InvalidSpec."""
    try:
        return MaintenanceTask.model_validate_json(environment.get(TASK, ""))
    except ValueError as exc:
        raise InvalidSpec(f"{TASK} is not the task of a maintenance job") from exc


async def main(config: AgentConfig, environment: Mapping[str, str]) -> int:
    """The exit code; the result is in the termination message, whatever happens."""
    path = Path(environment.get("ARARAT_TERMINATION_LOG", _TERMINATION_LOG))
    work = asyncio.current_task()
    assert work is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    try:
        task = read_task(environment)
        async with connect() as api:
            result = await within(task, maintain(config, api, task))
    except asyncio.CancelledError:
        result = MaintenanceResult(good=False, reason="Ended", message="it was told to end")
    except AraratError as exc:
        result = MaintenanceResult(good=False, reason=exc.reason, message=exc.message)
    log.info("maintenance ended", good=result.good, reason=result.reason, message=result.message)
    path.write_text(result.encode())
    return 0 if result.good else 1


async def within(
    task: MaintenanceTask, work: Coroutine[Any, Any, MaintenanceResult]
) -> MaintenanceResult:
    """What came of it, or that its window was over: restic is ended and lets go of its lock."""
    try:
        async with asyncio.timeout(task.window_seconds or None) as window:
            return await work
    except TimeoutError:
        if not window.expired():
            raise
        return MaintenanceResult(
            good=False,
            reason="WindowOver",
            message=f"it was not done within {task.window_seconds / 3600:,.3g} h: "
            f"{_OVER[task.action]}",
        )


async def maintain(config: AgentConfig, api: KubeApi, task: MaintenanceTask) -> MaintenanceResult:
    """Raises AraratError."""
    reference = task.repository
    locations = Locations(api, namespace=config.namespace, node=config.node)
    try:
        password = await locations.password(reference)
        promised = await promised_of(locations, task)
        async with locations.opened(reference) as location:
            store = location.store
            owner = LockOwner(
                cluster=location.file.owner,
                pod_uid=config.pod_uid,
                container_start="",
                job=f"maintenance-{task.action.value.lower()}",
            )
            if task.action is MaintenanceAction.REENCRYPT:
                return await reencrypt(config, locations, task, store=store, owner=owner)
            given_up = 0
            if task.at_once:  # before anything is written: the store's clock is a file, too
                given_up = await reserve.give_up(store, pieces=reserve.PIECES)
            await _remove_dead_locks(store, reference.directory, task.ended_pods)
            drops = await _drops(store, task)
            before = await _data(store, reference.directory)
            async with open_repository(
                store=store,
                directory=reference.directory,
                password=password,
                key_id=reference.key_id,
                access=Access.MAINTENANCE,
                owner=owner,
                cache_dir=config.cache_dir,
                scratch_dir=config.scratch_dir,
                drops=drops,
            ) as restic:
                if task.action is MaintenanceAction.PRUNE:
                    message = await _prune(restic, task, promised)
                    await store.put(layout.dropped(reference.directory), drops.encode())
                else:
                    message = await _check(restic, task)
                    drops.kept = drops.known
                used = (await restic.repository_stats()).total_size
            after = await _data(store, reference.directory)
            if given_up and not drops.removed:
                await reserve.put_back(store, pieces=given_up)
            if task.keep_reserve:
                free = await asyncio.to_thread(reserve.free_bytes, location.spec)
                await reserve.keep(store, free=free)
    finally:
        await locations.close()
    removed = sum(before.get(pack, 0) for pack in drops.removed)
    since = min(drops.kept.values(), default=None)
    if removed:
        message += f", {size(removed)} removed"
    return MaintenanceResult(
        good=True,
        message=message,
        size_bytes=sum(after.values()),
        used_bytes=used,
        dropped_bytes=sum(after.get(pack, 0) for pack in drops.kept),
        dropped_since=since.isoformat() if since else "",
        reclaimed_bytes=removed,
    )


async def _prune(restic: Restic, task: MaintenanceTask, promised: frozenset[str]) -> str:
    found = {snapshot.id for snapshot in await restic.snapshots()}
    lost = promised - found
    if lost:
        raise Damaged(
            f"{len(lost)} snapshots that backups name are not there ({min(lost)[:8]}, ...): "
            "nothing was pruned; see docs/maintenance.md",
            reason="SnapshotsMissing",
        )
    peak = await restic.prune(PruneRequest(max_repack_size=task.max_repack_size))
    return f"pruned, {len(found)} snapshots stay{_memory(peak)}"


async def _check(restic: Restic, task: MaintenanceTask) -> str:
    part = f"{task.data_subset}/{PARTS}" if task.data_subset else None
    result = await restic.check(read_data_subset=part)
    if not result.ok:
        said = "; ".join(result.messages[:3]) or f"{len(result.broken_packs)} packs are broken"
        raise Damaged(
            f"restic check found {max(result.errors, len(result.broken_packs))} errors: {said}",
            reason="CheckFailed",
        )
    text = f"checked, data part {part} read" if part else "checked"
    return text + _memory(result.peak_rss)


def _memory(peak: int) -> str:
    """How far it is from the limit."""
    return f", restic had {size(peak)} of memory" if peak else ""


async def _remove_dead_locks(store: BlobStore, directory: str, ended: list[str]) -> None:
    """Of containers that the kubelet says have ended, and those nobody has renewed for long."""
    locks = await list_locks(store, directory)
    dead = {lock.id: why for lock, why in dead_locks(locks, now=await store.now())}
    for lock in locks:
        if lock.owner is not None and lock.owner.pod_uid in ended:
            dead[lock.id] = "its pod has ended"
    for lock_id, why in dead.items():
        await remove_lock(store, directory, lock_id)
        log.warning("lock removed", directory=directory, lock=lock_id[:8], why=why)


async def _drops(store: BlobStore, task: MaintenanceTask) -> Drops:
    drops = Drops(now=await store.now(), grace=timedelta(0) if task.at_once else GRACE)
    with contextlib.suppress(NotFound):
        drops.known = decode(await store.get(layout.dropped(task.repository.directory)))
    return drops


async def _data(store: BlobStore, directory: str) -> dict[str, int]:
    """Sizes by the names of packs."""
    prefix = f"{directory}/data/"
    return {blob.name.rpartition("/")[2]: blob.size async for blob in store.list(prefix)}
