"""Keeps restic's caches on the node's disk within bounds.

Problem: restic keeps the indexes of each repository in a cache, which makes the next backup start
at once; on a node that met hundreds of repositories they fill the disk and get the node evicted.
Decision: soon after a job has ended, while the disk is short, and every few minutes, whole caches
are removed, least recently used first, until their sum is below the limit; all of them where the
disk has no room for caches. restic touches a cache when it opens it, so one that was touched since
the oldest running job began may be in use and stays.
Limits: sizes are measured after the fact, so the limit may be exceeded by what running jobs add.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog

from .config import AgentConfig
from .metrics import AgentMetrics

_log = structlog.get_logger(__name__)

_PAUSE_SECONDS = 300.0
#: Between two looks at whether there is a reason to measure before that.
_LOOK_SECONDS = 3.0
#: restic names a repository's cache after its id.
_ID_LENGTH = 64
_DOOMED = ".evicted"


@dataclass(frozen=True)
class RepositoryCache:
    name: str
    size: int
    used_at: float
    """Seconds since 1970."""


def evictions(
    caches: Iterable[RepositoryCache], *, limit: int, in_use_since: float
) -> list[RepositoryCache]:
    """Which to remove so that the rest is within the limit, as far as that can be. Pure."""
    ordered = sorted(caches, key=lambda cache: (cache.used_at, cache.name))
    total = sum(cache.size for cache in ordered)
    chosen: list[RepositoryCache] = []
    for cache in ordered:
        if total <= limit or cache.used_at >= in_use_since:
            break
        chosen.append(cache)
        total -= cache.size
    return chosen


def free_bytes(path: Path) -> int:
    """Room in the file system of ``path``. Raises OSError."""
    info = os.statvfs(path)
    return info.f_bavail * info.f_frsize


def usable_cache(config: AgentConfig) -> Path | None:
    """The cache directory, or None where the disk has no room for caches to grow."""
    try:
        roomy = free_bytes(config.cache_dir) >= 2 * config.minimum_free_bytes
    except OSError:
        return None
    return config.cache_dir if roomy else None


class CacheKeeper:
    """Looks after the cache directory until cancelled."""

    def __init__(
        self,
        config: AgentConfig,
        metrics: AgentMetrics,
        *,
        oldest_start: Callable[[], float | None],
        ended: Callable[[], int],
    ) -> None:
        """``oldest_start``: of the jobs that run; ``ended``: how many have."""
        self._config = config
        self._metrics = metrics
        self._oldest_start = oldest_start
        self._ended = ended

    async def run(self) -> None:
        while True:
            ended = self._ended()
            try:
                await self.tidy()
            except OSError as error:
                _log.warning("cache.unreadable", cause=str(error))
            due = time.monotonic() + _PAUSE_SECONDS
            await asyncio.sleep(_LOOK_SECONDS)
            while self._ended() == ended and time.monotonic() < due:
                if usable_cache(self._config) is None:
                    break  # jobs may be waiting for the room that caches take
                await asyncio.sleep(_LOOK_SECONDS)

    async def tidy(self) -> list[str]:
        """One look; the names of what was removed."""
        # Asked before measuring: a job that starts meanwhile touches its cache after this moment.
        since = self._oldest_start()
        in_use_since = min(since, time.time()) if since is not None else time.time()
        await asyncio.to_thread(_finish_removals, self._config.cache_dir)
        caches = await asyncio.to_thread(measure, self._config.cache_dir)
        limit = self._config.cache_limit_bytes
        if usable_cache(self._config) is None:
            limit = 0
        removed = []
        for cache in evictions(caches, limit=limit, in_use_since=in_use_since):
            if await asyncio.to_thread(_remove, self._config.cache_dir, cache):
                _log.info("cache.evicted", repository=cache.name, bytes=cache.size)
                removed.append(cache)
        kept = sum(cache.size for cache in caches) - sum(cache.size for cache in removed)
        self._metrics.cache.set(kept)
        return [cache.name for cache in removed]


def measure(directory: Path) -> list[RepositoryCache]:
    """Every repository's cache below ``directory``."""
    with os.scandir(directory) as entries:
        return [
            RepositoryCache(
                name=entry.name,
                size=_size(entry.path),
                used_at=entry.stat(follow_symlinks=False).st_mtime,
            )
            for entry in entries
            if len(entry.name) == _ID_LENGTH and entry.is_dir(follow_symlinks=False)
        ]


def _size(path: str) -> int:
    total = 0
    for directory, _, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(directory, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return total


def _finish_removals(directory: Path) -> None:
    """Those that an agent was killed in the middle of."""
    for doomed in directory.glob(f"*{_DOOMED}"):
        shutil.rmtree(doomed, ignore_errors=True)


def _remove(directory: Path, cache: RepositoryCache) -> bool:
    """False: a restic has opened it since it was measured, and it stays."""
    path, doomed = directory / cache.name, directory / f"{cache.name}{_DOOMED}"
    if path.stat().st_mtime != cache.used_at:
        return False
    # Renamed first, so that a restic that starts now never meets half a cache.
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
    return True
