"""Opens the repository of a job: password, location, its proof, the session.

Limits: the password is read for each run, and is not kept.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ararat.restic.models import Access

from .cache import usable_cache
from .context import AgentContext, Engine
from .decide import NodeJob
from .own_locks import sweep_own_locks


@asynccontextmanager
async def repository_opened(
    context: AgentContext, job: NodeJob, *, access: Access
) -> AsyncIterator[Engine]:
    """Raises LocationMismatch, NotFound, or what the store says."""
    reference = job.spec.repository
    password = await context.locations.password(reference)
    async with context.locations.opened(reference) as location:
        owner = context.lock_owner(location.file, job.uid)
        if job.status.attempts and access is not Access.READ_ONLY:
            await sweep_own_locks(location.store, reference.directory, owner)
        async with context.open_repository(
            store=location.store,
            directory=reference.directory,
            password=password,
            key_id=reference.key_id,
            access=access,
            owner=owner,
            cache_dir=usable_cache(context.config),
            scratch_dir=context.config.scratch_dir,
            settings=context.restic_settings(),
        ) as engine:
            yield engine
