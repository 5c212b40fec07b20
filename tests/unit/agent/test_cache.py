"""Which caches go, and that they go whole."""

import os
import time
from pathlib import Path

from prometheus_client import CollectorRegistry

from agent.cache import CacheKeeper, RepositoryCache, evictions, measure, usable_cache
from agent.config import AgentConfig
from agent.metrics import AgentMetrics


def cache(name: str, size: int, used_at: float) -> RepositoryCache:
    return RepositoryCache(name=name, size=size, used_at=used_at)


OLD, MIDDLE, NEW = cache("a", 10, 1), cache("b", 20, 2), cache("c", 30, 3)


def test_least_recently_used_first_and_no_more_than_needed():
    everything = [NEW, OLD, MIDDLE]
    assert evictions(everything, limit=60, in_use_since=9) == []
    assert evictions(everything, limit=59, in_use_since=9) == [OLD]
    assert evictions(everything, limit=49, in_use_since=9) == [OLD, MIDDLE]
    assert evictions(everything, limit=0, in_use_since=9) == [OLD, MIDDLE, NEW]


def test_what_may_be_in_use_stays():
    assert evictions([OLD, MIDDLE, NEW], limit=0, in_use_since=2) == [OLD]


def config(path: Path, *, limit: int, minimum: int = 0) -> AgentConfig:
    return AgentConfig(
        node="n", namespace="ararat", pod_name="p", pod_uid="u", kubelet_dir=path,
        cache_dir=path, scratch_dir=path, cache_limit_bytes=limit, minimum_free_bytes=minimum,
    )  # fmt: skip


async def test_caches_are_removed_whole(tmp_path: Path):
    for number, letter in enumerate("abc"):
        folder = tmp_path / (letter * 64) / "index"
        folder.mkdir(parents=True)
        (folder / "x").write_bytes(b"x" * 100_000)
        os.utime(tmp_path / (letter * 64), (number, number))
    (tmp_path / "CACHEDIR.TAG").write_text("not a cache")
    metrics = AgentMetrics(CollectorRegistry())
    keeper = CacheKeeper(
        config(tmp_path, limit=250_000), metrics, oldest_start=lambda: None, ended=lambda: 0
    )
    assert await keeper.tidy() == ["a" * 64]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["CACHEDIR.TAG", "b" * 64, "c" * 64]
    assert await keeper.tidy() == []
    busy = CacheKeeper(
        config(tmp_path, limit=0),
        metrics,
        oldest_start=lambda: time.time() - 1e10,
        ended=lambda: 0,
    )
    assert await busy.tidy() == []
    assert len(measure(tmp_path)) == 2


def test_a_disk_without_room_means_no_cache(tmp_path: Path):
    assert usable_cache(config(tmp_path, limit=1)) == tmp_path
    assert usable_cache(config(tmp_path, limit=1, minimum=1 << 60)) is None
    assert usable_cache(config(tmp_path / "gone", limit=1)) is None
