"""The client and the informer when the way to a real API server, or the server itself, fails."""

from __future__ import annotations

import asyncio
import json
import random
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from ararat.kube import (
    AlreadyExists,
    ApiNotFound,
    ApiUnavailable,
    Gone,
    Informer,
    KubeApi,
    KubeClient,
    KubeObject,
    TooManyRequests,
    Unauthorized,
    connect,
    key_of,
)
from ararat.kube import informer as informing_module
from ararat.kube.resources import CONFIG_MAPS, LEASES, SECRETS
from tests.cluster.apiserver import ControlPlane

from .proxy import Proxy, answer, delay, drop, hang, lose_answer, stream


def config(name: str, **data: str) -> KubeObject:
    return {"metadata": {"name": name}, "data": data}


def clock() -> float:
    return asyncio.get_running_loop().time()


async def drain(items: AsyncIterator[Any], take: Callable[[Any], None] | None = None) -> None:
    async for item in items:
        if take is not None:
            take(item)


async def until(condition: Callable[[], object], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


# --- calls ---------------------------------------------------------------------------------------


async def test_a_dropped_connection_is_typed_and_names_the_call(
    far: KubeClient, proxy: Proxy, namespace: str
):
    proxy.on("POST", drop)
    with pytest.raises(ApiUnavailable) as caught:
        await far.create(CONFIG_MAPS, config("a"), namespace=namespace)
    assert f"create configmaps {namespace}/a" in caught.value.message
    proxy.heal()
    await far.create(CONFIG_MAPS, config("a"), namespace=namespace)


async def test_nobody_listening_is_typed(proxy: Proxy, far: KubeClient, namespace: str):
    await proxy._runner.cleanup()
    with pytest.raises(ApiUnavailable):
        await far.get(CONFIG_MAPS, "a", namespace=namespace)


async def test_a_call_that_hangs_ends_at_its_deadline(proxy: Proxy, namespace: str):
    proxy.on("GET", hang)
    async with connect(proxy.kubeconfig, timeout=1) as far:
        start = clock()
        with pytest.raises(ApiUnavailable) as caught:
            await far.get(CONFIG_MAPS, "a", namespace=namespace)
        assert clock() - start < 2
        assert caught.value.reason == "ApiTimeout"


async def test_a_caller_may_be_less_patient(far: KubeClient, proxy: Proxy, namespace: str):
    proxy.on("GET", hang)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await far.get(CONFIG_MAPS, "a", namespace=namespace)


async def test_slow_answers_are_answers(far: KubeClient, proxy: Proxy, namespace: str):
    proxy.on("POST", delay(1.5))
    await far.create(CONFIG_MAPS, config("a"), namespace=namespace)


async def test_retry_after_is_honoured_for_every_verb(
    far: KubeClient, proxy: Proxy, namespace: str
):
    proxy.on("POST", answer(429, reason="TooManyRequests", retry_after=1), times=2)
    start = clock()
    await far.create(CONFIG_MAPS, config("a"), namespace=namespace)
    assert 2 <= clock() - start < 4
    posts = [seen.at for seen in proxy.seen if seen.line.startswith("POST")]
    assert len(posts) == 3
    assert all(b - a >= 1 for a, b in pairwise(posts))


async def test_a_retry_after_beyond_the_deadline_is_the_callers(
    far: KubeClient, proxy: Proxy, namespace: str
):
    proxy.on("GET", answer(429, reason="TooManyRequests", retry_after=60))
    start = clock()
    with pytest.raises(TooManyRequests) as caught:
        await far.get(CONFIG_MAPS, "a", namespace=namespace)
    assert caught.value.retry_after == 60
    assert clock() - start < 1


async def test_a_server_error_is_repeated_only_where_it_is_safe(
    far: KubeClient, proxy: Proxy, namespace: str
):
    overloaded = answer(500, reason="InternalError", message="etcd leader changed", retry_after=0)
    proxy.on("GET", overloaded, times=1)
    proxy.on("POST", overloaded, times=1)
    with pytest.raises(ApiNotFound):
        await far.get(CONFIG_MAPS, "a", namespace=namespace)  # asked again, and told
    with pytest.raises(ApiUnavailable, match="etcd leader changed"):
        await far.create(CONFIG_MAPS, config("a"), namespace=namespace)
    assert proxy.count("^POST") == 1


async def test_answers_of_strangers_are_not_shown(far: KubeClient, proxy: Proxy, namespace: str):
    page = b"<html>gateway timeout, your request was: password=hunter2</html>"
    proxy.on("GET", answer(502, raw=page))
    with pytest.raises(ApiUnavailable) as caught:
        await far.get(SECRETS, "a", namespace=namespace)
    assert "hunter2" not in str(caught.value)
    assert caught.value.status == 502
    proxy.heal()
    proxy.on("GET", answer(200, raw=page))
    with pytest.raises(ApiUnavailable) as caught:
        await far.get(SECRETS, "a", namespace=namespace)
    assert "hunter2" not in str(caught.value)


async def test_a_404_of_a_stranger_is_no_missing_object(
    far: KubeClient, proxy: Proxy, namespace: str
):
    proxy.on("GET|DELETE", answer(404, raw=b"404 page not found"))
    with pytest.raises(ApiUnavailable):
        await far.get(CONFIG_MAPS, "a", namespace=namespace)
    with pytest.raises(ApiUnavailable):
        await far.delete(CONFIG_MAPS, "a", namespace=namespace)


async def test_a_lost_answer_shows_up_as_a_conflict_on_the_next_try(
    far: KubeClient, proxy: Proxy, namespace: str
):
    proxy.on("POST", lose_answer, times=1)
    with pytest.raises(ApiUnavailable):
        await far.create(CONFIG_MAPS, config("a"), namespace=namespace)
    with pytest.raises(AlreadyExists):
        await far.create(CONFIG_MAPS, config("a"), namespace=namespace)


async def test_long_texts_are_cut(far: KubeClient, proxy: Proxy, namespace: str):
    proxy.on("GET", answer(500, reason="InternalError", message="x " * 5000))
    with pytest.raises(ApiUnavailable) as caught:
        await far.get(CONFIG_MAPS, "a", namespace=namespace)
    assert len(caught.value.message) < 350


async def test_leases_do_not_wait_behind_lists(proxy: Proxy, namespace: str):
    proxy.on("configmaps", hang)
    async with connect(proxy.kubeconfig, timeout=5, parallel=2) as far, asyncio.TaskGroup() as tg:
        stuck = [tg.create_task(far.get(CONFIG_MAPS, "a", namespace=namespace)) for _ in range(4)]
        await until(lambda: proxy.count("configmaps") == 2)
        with pytest.raises(ApiNotFound):
            await far.get(LEASES, "a", namespace=namespace)
        await asyncio.sleep(0.2)
        assert proxy.count("configmaps") == 2  # never more than allowed
        for task in stuck:
            task.cancel()


async def test_an_expired_login_is_renewed_once(proxy: Proxy, namespace: str):
    proxy.on("GET", answer(401, reason="Unauthorized", message="Unauthorized"), times=1)
    async with connect(proxy.kubeconfig, timeout=5) as far:
        with pytest.raises(ApiNotFound):
            await far.get(CONFIG_MAPS, "a", namespace=namespace)
        proxy.heal()
        proxy.on("GET", answer(401, reason="Unauthorized", message="Unauthorized"))
        with pytest.raises(Unauthorized):
            await far.get(CONFIG_MAPS, "a", namespace=namespace)
    assert proxy.count("GET") == 4


async def test_a_page_that_fails_is_an_error_never_a_short_list(
    api: KubeClient, far: KubeClient, proxy: Proxy, namespace: str
):
    for number in range(6):
        await api.create(CONFIG_MAPS, config(f"c{number}"), namespace=namespace)
    proxy.on("continue=", drop)
    got: list[KubeObject] = []
    with pytest.raises(ApiUnavailable):
        await drain(far.list(CONFIG_MAPS, namespace=namespace, page=2), got.append)
    assert len(got) == 2


async def test_a_page_that_does_not_come_in_time_is_asked_for_again_and_smaller(
    api: KubeClient, proxy: Proxy, namespace: str
):
    """A server with too much to do: beginning anew would take as long again."""
    names = [f"c{number:02}" for number in range(30)]
    for name in names:
        await api.create(CONFIG_MAPS, config(name), namespace=namespace)
    async with connect(proxy.kubeconfig, timeout=2) as far:
        proxy.on(r"limit=10&continue=", hang)
        found = [obj["metadata"]["name"] async for obj in _listed(far, namespace)]
        assert found == names
        assert proxy.count(r"limit=10(&|$)") == 2
        assert proxy.count(r"limit=2&continue=") == 10
        # A first page, too; but a server that answers nothing is found out soon.
        proxy.heal()
        proxy.on("limit=10$", hang)
        found = [obj["metadata"]["name"] async for obj in _listed(far, namespace)]
        assert found == names
        proxy.seen.clear()
        proxy.on("limit=", hang)
        with pytest.raises(ApiUnavailable) as caught:
            await drain(_listed(far, namespace))
        assert caught.value.reason == "ApiTimeout"
        assert proxy.count("limit=") == 2


def _listed(client: KubeClient, namespace: str) -> AsyncIterator[KubeObject]:
    return client.list(CONFIG_MAPS, namespace=namespace, page=10)


async def test_a_list_outlives_its_snapshot(plane: ControlPlane, api: KubeClient, namespace: str):
    """etcd is compacted between two pages, as it is every five minutes."""
    for number in range(6):
        await api.create(CONFIG_MAPS, config(f"c{number}"), namespace=namespace)
    names: list[str] = []
    async for item in api.list(CONFIG_MAPS, namespace=namespace, page=2):
        names.append(item["metadata"]["name"])
        if len(names) == 1:
            await api.create(CONFIG_MAPS, config("c9"), namespace=namespace)
            await api.delete(CONFIG_MAPS, "c4", namespace=namespace)
            await compact(plane, api, namespace)
    assert names == ["c0", "c1", "c2", "c3", "c5", "c9"]
    pages = api.pages(CONFIG_MAPS, namespace=namespace, page=2)
    await anext(aiter(pages))
    await api.create(CONFIG_MAPS, config("d"), namespace=namespace)
    await compact(plane, api, namespace)
    with pytest.raises(Gone) as caught:
        await drain(pages)
    assert caught.value.continue_token


async def compact(plane: ControlPlane, api: KubeClient, namespace: str) -> None:
    pages = api.pages(CONFIG_MAPS, namespace=namespace, page=1)
    version = (await anext(aiter(pages))).resource_version
    body = json.dumps({"revision": version, "physical": True}).encode()
    url = f"http://127.0.0.1:{plane._etcd_port}/v3/kv/compaction"
    await asyncio.to_thread(lambda: urllib.request.urlopen(url, body, timeout=10).read())


# --- watches -------------------------------------------------------------------------------------


@asynccontextmanager
async def informing(
    api: KubeApi, namespace: str, **options: Any
) -> AsyncIterator[tuple[Informer, list[tuple[str, str]]]]:
    informer = Informer(api, CONFIG_MAPS, namespace=namespace, **options)
    changes: list[tuple[str, str]] = []
    informer.on_change(lambda change, obj, _: changes.append((change, split(obj))))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(informer.run())
        async with asyncio.timeout(20):
            await informer.synced()
        yield informer, changes
        task.cancel()


def split(obj: KubeObject) -> str:
    return key_of(obj).partition("/")[2]


async def matches(informer: Informer, api: KubeApi, namespace: str) -> bool:
    """Whether the copy is what the server has."""
    real = {
        key_of(obj): obj["metadata"]["resourceVersion"]
        async for obj in api.list(CONFIG_MAPS, namespace=namespace)
    }
    copy = {key_of(obj): obj["metadata"]["resourceVersion"] for obj in informer.items()}
    return real == copy


async def test_an_informer_follows_a_real_server(api: KubeClient, namespace: str):
    for number in range(12):
        await api.create(CONFIG_MAPS, config(f"c{number:02}"), namespace=namespace)
    async with informing(api, namespace, page=5) as (informer, changes):
        assert len(informer) == 12
        assert "managedFields" not in informer.items()[0]["metadata"]
        changes.clear()
        await api.create(CONFIG_MAPS, config("new"), namespace=namespace)
        await api.patch(CONFIG_MAPS, "c01", {"data": {"x": "1"}}, namespace=namespace)
        await api.delete(CONFIG_MAPS, "c02", namespace=namespace)
        await until(lambda: len(changes) == 3)
        assert changes == [("added", "new"), ("modified", "c01"), ("deleted", "c02")]
        assert await matches(informer, api, namespace)


async def test_a_watch_that_is_cut_in_mid_line_loses_nothing(
    api: KubeClient, far: KubeClient, proxy: Proxy, namespace: str
):
    await api.create(CONFIG_MAPS, config("a"), namespace=namespace)
    proxy.cut_watch_after = 900  # more than one event, less than two
    async with informing(far, namespace) as (informer, changes):
        await until(lambda: proxy.count("watch=true"))
        for number in range(5):
            await api.create(CONFIG_MAPS, config(f"c{number}", x="y" * 300), namespace=namespace)
            await asyncio.sleep(0.1)
        await until(lambda: proxy.count("watch=true") >= 3)
        proxy.cut_watch_after = None
        await until(lambda: len(informer) == 6)
        assert sorted(changes) == sorted([("added", "a"), *(("added", f"c{n}") for n in range(5))])
        assert proxy.count("limit=500") == 1  # went on, did not list again
        assert await matches(informer, api, namespace)


async def test_a_silent_watch_is_given_up(
    api: KubeClient, far: KubeClient, proxy: Proxy, namespace: str
):
    proxy.on("watch=true", stream(end=False), times=1)  # open, and nothing ever comes
    async with informing(far, namespace, inactivity_seconds=1) as (informer, _):
        await api.create(CONFIG_MAPS, config("a"), namespace=namespace)
        await until(lambda: len(informer) == 1, seconds=5)
        assert proxy.count("watch=true") >= 2


async def test_a_partition_is_survived(
    api: KubeClient, far: KubeClient, proxy: Proxy, namespace: str
):
    await api.create(CONFIG_MAPS, config("a"), namespace=namespace)
    await api.create(CONFIG_MAPS, config("b"), namespace=namespace)
    async with informing(far, namespace, inactivity_seconds=1) as (informer, changes):
        await until(lambda: proxy.count("watch=true"))
        proxy.partition()
        await api.delete(CONFIG_MAPS, "a", namespace=namespace)
        await api.create(CONFIG_MAPS, config("c"), namespace=namespace)
        await asyncio.sleep(3)
        assert len(informer) == 2
        proxy.heal()
        await until(lambda: {"c"} == {split(o) for o in informer.items()} - {"b"}, seconds=20)
        assert ("deleted", "a") in changes
        assert await matches(informer, api, namespace)


async def test_a_410_lists_again_and_reports_what_vanished(
    api: KubeClient, far: KubeClient, proxy: Proxy, namespace: str
):
    await api.create(CONFIG_MAPS, config("a"), namespace=namespace)
    await api.create(CONFIG_MAPS, config("b"), namespace=namespace)
    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    line = json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n"
    async with informing(far, namespace) as (informer, changes):
        await until(lambda: proxy.count("watch=true"))
        proxy.partition()  # it does not see what happens now …
        await api.delete(CONFIG_MAPS, "a", namespace=namespace)
        await api.create(CONFIG_MAPS, config("c"), namespace=namespace)
        proxy.on("watch=true", stream(line), times=1)
        proxy._healed.set()
        proxy.break_streams()  # … and when it asks, that is too long ago
        await until(lambda: ("deleted", "a") in changes)
        assert proxy.count("limit=500") == 2
        await until(lambda: len(informer) == 2)
        assert await matches(informer, api, namespace)


async def test_broken_lines_and_refusals_are_survived(
    api: KubeClient, far: KubeClient, proxy: Proxy, namespace: str
):
    proxy.on("watch=true", stream(b"not json\n"), times=1)
    proxy.on("watch=true", answer(500, reason="InternalError"), times=1)
    proxy.on("watch=true", answer(429, reason="TooManyRequests", retry_after=1), times=1)
    proxy.on("watch=true", drop, times=1)
    async with informing(far, namespace) as (informer, _):
        await api.create(CONFIG_MAPS, config("a"), namespace=namespace)
        await until(lambda: len(informer) == 1, seconds=30)
        assert proxy.count("watch=true") >= 5


async def test_a_first_listing_that_fails_is_tried_again(
    far: KubeClient, proxy: Proxy, namespace: str
):
    proxy.on("limit=", drop, times=2)
    async with informing(far, namespace) as (informer, _):
        assert informer.has_synced
        assert proxy.count("limit=") == 3


async def test_a_restart_of_the_api_server_is_survived(plane: ControlPlane, namespace: str):
    """The server comes back on the same port; in between nothing answers, then 403 and 5xx do."""
    async with connect(plane.kubeconfig, timeout=5) as api:
        old = await api.create(CONFIG_MAPS, config("a"), namespace=namespace)
        await api.create(CONFIG_MAPS, config("b"), namespace=namespace)
        async with informing(api, namespace) as (informer, changes):
            await asyncio.to_thread(plane.stop_apiserver)
            with pytest.raises(ApiUnavailable):
                await api.get(CONFIG_MAPS, "a", namespace=namespace)
            await asyncio.to_thread(plane.start_apiserver)
            name = f"after-{uuid.uuid4().hex[:4]}"
            await api.create(CONFIG_MAPS, config(name), namespace=namespace)
            await api.delete(CONFIG_MAPS, "b", namespace=namespace)
            await until(lambda: ("deleted", "b") in changes, seconds=40)
            assert ("added", name) in changes
            assert await matches(informer, api, namespace)
        # The restarted server's watch cache knows nothing of what was before.
        version = old["metadata"]["resourceVersion"]
        events = api.watch(
            CONFIG_MAPS, resource_version=version, namespace=namespace, inactivity_seconds=5
        )
        with pytest.raises(Gone) as caught:
            await drain(events)
        assert caught.value.reason == "ResourceExpired"


async def test_whatever_happens_the_copy_ends_up_right(
    api: KubeClient,
    far: KubeClient,
    proxy: Proxy,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
):
    """A writer goes on while the informer's way to the server fails in every way, at random."""
    monkeypatch.setattr(informing_module, "RETRY_FIRST", 0.05)
    monkeypatch.setattr(informing_module, "RETRY_CAP", 0.3)
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    seen: dict[str, str] = {}

    async def write() -> None:
        alive: set[str] = set()
        for number in range(150):
            name = f"c{dice.randrange(30):02}"
            if name not in alive:
                alive.add(name)
                await api.create(CONFIG_MAPS, config(name, n="0"), namespace=namespace)
            elif dice.random() < 0.4:
                alive.remove(name)
                await api.delete(CONFIG_MAPS, name, namespace=namespace)
            else:
                patch = {"data": {"n": str(number)}}
                await api.patch(CONFIG_MAPS, name, patch, namespace=namespace)
            await asyncio.sleep(0.05)

    async def disturb() -> None:
        gone = {"kind": "Status", "code": 410, "reason": "Expired"}
        expired = json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n"
        while True:
            await asyncio.sleep(dice.uniform(0.1, 0.8))
            match dice.randrange(6):
                case 0:
                    proxy.break_streams()
                case 1:
                    proxy.on("watch=true", stream(expired), times=1)
                    proxy.break_streams()
                case 2:
                    proxy.on(".", drop, times=2)
                    proxy.break_streams()
                case 3:
                    proxy.on(".", answer(500, reason="InternalError"), times=1)
                    proxy.break_streams()
                case 4:
                    proxy.on("watch=true", stream(end=False), times=1)
                    proxy.break_streams()
                case _:
                    proxy.cut_watch_after = dice.choice([None, 100, 1500])

    def follow(change: str, obj: KubeObject, _: KubeObject | None) -> None:
        """What a reconciler could know from the changes alone; none contradicts the last."""
        name = split(obj)
        assert (name in seen) == (change != "added"), (change, name, seed)
        if change == "deleted":
            del seen[name]
        else:
            seen[name] = obj["metadata"]["resourceVersion"]

    wrong: list[str] = []

    def checked(change: str, obj: KubeObject, old: KubeObject | None) -> None:
        try:
            follow(change, obj, old)
        except AssertionError as error:
            wrong.append(str(error))

    async with informing(far, namespace, inactivity_seconds=1, page=7) as (informer, _):
        informer.on_change(checked)
        async with asyncio.TaskGroup() as group:
            trouble = group.create_task(disturb())
            await write()
            trouble.cancel()
        proxy.heal()
        async with asyncio.timeout(40):
            while not await matches(informer, api, namespace):
                await asyncio.sleep(0.2)
        assert {key.partition("/")[2] for key in informer} == set(seen), seed
        assert not wrong
        assert proxy.count("watch=true") > 10
