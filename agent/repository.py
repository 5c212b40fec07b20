"""Opens the repository of a job: password, location, its proof, the session.

Limits: the password is read for each run, and is not kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

from ararat.errors import AraratError
from ararat.restic.models import Access

from .announced import AnnouncedSnapshots
from .cache import usable_cache
from .context import AgentContext, Engine
from .decide import NodeJob
from .known_snapshots import Remembering
from .locations import OpenLocation
from .own_locks import sweep_own_locks

_log = structlog.get_logger(__name__)

#: What a job that is over anyway waits for its locks to be removed.
_SWEEP_SECONDS = 10.0


@asynccontextmanager
async def repository_opened(
    context: AgentContext,
    job: NodeJob,
    *,
    access: Access,
    before_snapshot: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[Engine]:
    """Raises LocationMismatch, NotFound, or what the store says."""
    reference = job.spec.repository
    password = await context.locations.password(reference)
    async with context.locations.opened(reference) as location:
        if access is not Access.READ_ONLY:
            await _sweep(context, job, location)
        store = location.store
        async with context.open_repository(
            store=AnnouncedSnapshots(store, before_snapshot) if before_snapshot else store,
            directory=reference.directory,
            password=password,
            key_id=reference.key_id,
            access=access,
            owner=context.lock_owner(location.file, job.uid),
            cache_dir=usable_cache(context.config),
            scratch_dir=context.config.session_dir,
            settings=context.restic_settings(),
        ) as engine:
            try:
                yield Remembering(
                    engine,
                    context.known,
                    key=f"{reference.location_id}/{reference.directory}",
                    store=store,
                    directory=reference.directory,
                )
            finally:
                context.restic_ended(engine.stats.exits)


async def sweep_after_death(context: AgentContext, job: NodeJob) -> None:
    """For a job that a dead agent left InProgress and that is not run again: its lock goes too."""
    reference = job.spec.repository
    if reference.read_only:
        return
    try:
        async with asyncio.timeout(_SWEEP_SECONDS), context.locations.opened(reference) as location:
            await _sweep(context, job, location)
    except (AraratError, TimeoutError) as error:
        _log.info("lock.sweep_skipped", cause=str(error) or "no answer in time")


async def _sweep(context: AgentContext, job: NodeJob, location: OpenLocation) -> None:
    reference = job.spec.repository
    key = f"{reference.location}/{reference.directory}"
    if key in context.swept and not job.status.attempts:
        return
    owner = context.lock_owner(location.file, job.uid)
    if await sweep_own_locks(location.store, reference.directory, owner) is not None:
        context.swept.add(key)
