from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from ararat.kube import (
    ApiUnavailable,
    Gone,
    Informer,
    KubeObject,
    WatchEvent,
    WatchEventType,
    key_of,
    split_key,
)
from ararat.kube.resources import PODS

from .fake import FakeApi
from .virtual import now, settle, virtual


def pod(name: str, *, node: str = "n1", **meta: Any) -> KubeObject:
    return {"metadata": {"name": name, "namespace": "web", **meta}, "spec": {"nodeName": node}}


@asynccontextmanager
async def running(informer: Informer) -> AsyncIterator[list[tuple[str, str]]]:
    changes: list[tuple[str, str]] = []
    informer.on_change(lambda change, obj, _: changes.append((change, key_of(obj))))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(informer.run())
        await informer.synced()
        await asyncio.sleep(0.1)
        yield changes
        task.cancel()


def by_node(obj: KubeObject) -> list[str]:
    return [obj["spec"]["nodeName"]]


@virtual
async def test_lists_in_pages_then_follows():
    api = FakeApi()
    for number in range(7):
        api.put(PODS, pod(f"p{number}"))
    informer = Informer(api, PODS, page=3)
    async with running(informer) as changes:
        assert len(informer) == 7
        assert [call for call in api.calls if call[0] == "list"] == [
            ("list", "0"),
            ("list", "3"),
            ("list", "6"),
        ]
        changes.clear()
        api.put(PODS, pod("new"))
        api.put(PODS, pod("p1", node="n2"))
        api.remove(PODS, "p2", "web")
        await settle()
        assert changes == [("added", "web/new"), ("modified", "web/p1"), ("deleted", "web/p2")]
        found = informer.get("p1", "web")
        assert found is not None
        assert found["spec"]["nodeName"] == "n2"
        assert informer.get("p2", "web") is None


@virtual
async def test_handlers_see_the_object_before():
    api = FakeApi()
    api.put(PODS, pod("a", node="n1"))
    informer = Informer(api, PODS)
    seen: list[tuple[Any, ...]] = []

    def handler(change: str, obj: KubeObject, old: KubeObject | None) -> None:
        seen.append((change, old and old["spec"]["nodeName"], obj["spec"]["nodeName"]))

    informer.on_change(handler)
    async with running(informer):
        api.put(PODS, pod("a", node="n2"))
        await settle()
    assert seen == [("added", None, "n1"), ("modified", "n1", "n2")]


@virtual
async def test_a_late_handler_hears_of_what_is_there():
    api = FakeApi()
    api.put(PODS, pod("a"))
    informer = Informer(api, PODS)
    async with running(informer):
        late: list[str] = []
        informer.on_change(lambda change, obj, _: late.append(f"{change} {key_of(obj)}"))
        assert late == ["added web/a"]


@virtual
async def test_indexes_follow_changes_and_deletions():
    api = FakeApi()
    api.put(PODS, pod("a", node="n1"))
    api.put(PODS, pod("b", node="n1"))
    informer = Informer(api, PODS, indexers={"node": by_node})
    async with running(informer):
        assert [key_of(o) for o in informer.by_index("node", "n1")] == ["web/a", "web/b"]
        api.put(PODS, pod("a", node="n2"))
        await settle()
        assert [key_of(o) for o in informer.by_index("node", "n1")] == ["web/b"]
        assert [key_of(o) for o in informer.by_index("node", "n2")] == ["web/a"]
        api.remove(PODS, "a", "web")
        await settle()
        assert informer.by_index("node", "n2") == []
        assert informer.by_index("node", "nowhere") == []


@virtual
async def test_a_handler_or_indexer_that_raises_hurts_nobody_else():
    api = FakeApi()
    api.put(PODS, pod("a"))

    def broken(*_: Any) -> Any:
        raise RuntimeError("bug")

    informer = Informer(api, PODS, indexers={"broken": broken, "node": by_node})
    informer.on_change(broken)
    async with running(informer) as changes:
        assert changes == [("added", "web/a")]
        assert len(informer.by_index("node", "n1")) == 1


@virtual
async def test_managed_fields_are_dropped():
    api = FakeApi()
    api.put(PODS, pod("a", managedFields=[{"manager": "kubectl"}]))
    informer = Informer(api, PODS)
    async with running(informer):
        assert "managedFields" not in informer.items()[0]["metadata"]


@virtual
async def test_an_expired_version_lists_again_and_reports_what_vanished():
    api = FakeApi()
    api.put(PODS, pod("stays"))
    api.put(PODS, pod("changes"))
    api.put(PODS, pod("goes"))
    api.put(PODS, pod("comes-back"))
    informer = Informer(api, PODS)
    async with running(informer) as changes:
        changes.clear()
        # All of it happens unseen.
        api.remove(PODS, "goes", "web", notify=False)
        api.put(PODS, pod("changes", node="n2"), notify=False)
        api.put(PODS, pod("new"), notify=False)
        api.remove(PODS, "comes-back", "web", notify=False)
        api.put(PODS, pod("comes-back"), notify=False)  # with another UID
        api.watches[0].queue.put_nowait(Gone("too old"))
        await asyncio.sleep(5)
        assert sorted(changes) == sorted(
            [
                ("deleted", "web/comes-back"),
                ("added", "web/comes-back"),
                ("modified", "web/changes"),
                ("added", "web/new"),
                ("deleted", "web/goes"),
            ]
        )
        assert changes.index(("deleted", "web/comes-back")) < changes.index(
            ("added", "web/comes-back")
        )
        assert sorted(informer) == ["web/changes", "web/comes-back", "web/new", "web/stays"]


@virtual
async def test_a_broken_watch_goes_on_from_the_last_version_without_listing():
    api = FakeApi()
    api.put(PODS, pod("a"))
    informer = Informer(api, PODS)
    async with running(informer) as changes:
        api.put(PODS, pod("b"))
        await settle()
        version = api.version
        api.watches[0].queue.put_nowait(ApiUnavailable("connection reset"))
        await settle()
        api.put(PODS, pod("c"), notify=False)  # while nobody watches
        await asyncio.sleep(5)
        assert api.watched_from[-1] == str(version)
        assert len(api.listed) == 1
        assert ("added", "web/c") in changes


@virtual
async def test_bookmarks_move_the_version_and_change_nothing():
    api = FakeApi()
    api.put(PODS, pod("a"))
    informer = Informer(api, PODS)
    async with running(informer) as changes:
        before = list(changes)
        mark = {"metadata": {"resourceVersion": "5000"}}
        api.watches[0].queue.put_nowait(WatchEvent(WatchEventType.BOOKMARK, mark))
        api.watches[0].queue.put_nowait(None)
        await asyncio.sleep(1)
        assert api.watched_from[-1] == "5000"
        assert changes == before


@virtual
async def test_failures_back_off_and_the_first_success_resets_that():
    api = FakeApi()
    attempts: list[float] = []

    async def refuse(verb: str, _: str) -> None:
        attempts.append(now())
        if len(attempts) <= 8:
            raise ApiUnavailable("refused")

    api.before = refuse
    api.put(PODS, pod("a"))
    informer = Informer(api, PODS)
    async with running(informer):
        gaps = [b - a for a, b in pairwise(attempts[:9])]
        assert gaps[0] <= 0.76
        assert 15 <= gaps[7] <= 30.1
        del attempts[:]
        attempts.extend([0.0] * 8)
        api.watches[0].queue.put_nowait(ApiUnavailable("reset"))
        start = now()
        await asyncio.sleep(2)
        assert attempts[-1] - start <= 0.8


@virtual
async def test_a_server_that_ends_every_watch_at_once_is_not_hammered():
    api = FakeApi()
    api.put(PODS, pod("a"))
    informer = Informer(api, PODS)
    async with running(informer):
        for _ in range(200):
            for stream in list(api.watches):
                stream.queue.put_nowait(None)
            await asyncio.sleep(0.5)
    assert len(api.watched_from) < 30


@virtual
async def test_silence_is_measured():
    api = FakeApi()
    api.put(PODS, pod("a"))
    informer = Informer(api, PODS)
    assert informer.silence() == float("inf")
    async with running(informer):
        await asyncio.sleep(50)
        assert informer.silence() == pytest.approx(50, abs=1)
        api.put(PODS, pod("b"))
        await settle()
        assert informer.silence() < 1


@virtual
async def test_cached_lists_ask_the_servers_cache_but_never_go_back_in_time():
    api = FakeApi()
    api.put(PODS, pod("a"))
    informer = Informer(api, PODS, cached=True)
    async with running(informer):
        assert api.listed == [(0, "0")]
        seen = str(api.version)
        api.watches[0].queue.put_nowait(Gone("too old"))
        await asyncio.sleep(5)
        assert api.listed[1] == (0, seen)

        # A server that was restored from a backup never gets there: then etcd is asked.
        async def refuse(verb: str, name: str) -> None:
            if verb == "list" and api.listed[-1][1] is not None:
                raise ApiUnavailable("Too large resource version")

        api.before = refuse
        api.watches[0].queue.put_nowait(Gone("too old"))
        await asyncio.sleep(10)
        assert api.listed[2:] == [(0, seen), (500, None)]


def test_keys():
    assert key_of({"metadata": {"name": "a", "namespace": "b"}}) == "b/a"
    assert key_of({"metadata": {"name": "a"}}) == "a"
    assert split_key("b/a") == ("b", "a")
    assert split_key("a") == (None, "a")
