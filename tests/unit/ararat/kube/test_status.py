from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ararat.kube import (
    ApiConflict,
    ApiNotFound,
    ApiUnavailable,
    KubeObject,
    ResourceType,
    StatusWriter,
    patch_status,
)
from ararat.kube.status import _overlay, merge

from .fake import FakeApi
from .virtual import now, settle, virtual

JOBS = ResourceType("ararat.dev", "v1alpha1", "jobs", "Job")


def job(api: FakeApi, **status: object) -> KubeObject:
    return api.put(JOBS, {"metadata": {"name": "a", "namespace": "ararat"}, "status": status})


def stored(api: FakeApi) -> object:
    return api.store["jobs", "ararat", "a"]["status"]


def patches(api: FakeApi) -> int:
    return sum(1 for verb, _ in api.calls if verb == "patch")


@virtual
async def test_only_what_changes_is_written():
    api = FakeApi()
    obj = job(api, phase="New", progress={"bytesDone": 1})
    same = await patch_status(api, JOBS, obj, {"progress": {"bytesDone": 1}, "gone": None})
    assert same == obj
    assert patches(api) == 0
    new = await patch_status(api, JOBS, obj, {"progress": {"filesDone": 2}, "phase": None})
    assert new["status"] == stored(api) == {"progress": {"bytesDone": 1, "filesDone": 2}}


@virtual
async def test_a_write_on_an_old_version_is_made_again_on_the_new_one():
    api = FakeApi()
    old = job(api, phase="New")
    job(api, phase="New", other=1)
    written = await patch_status(api, JOBS, old, {"phase": "Done"})
    assert written["status"] == {"phase": "Done", "other": 1}


@virtual
async def test_a_write_for_one_version_is_for_that_version_only():
    api = FakeApi()
    old = job(api, phase="New")
    job(api, phase="Taken")
    version = old["metadata"]["resourceVersion"]
    with pytest.raises(ApiConflict) as caught:
        await patch_status(api, JOBS, old, {"phase": "Done"}, resource_version=version)
    assert caught.value.reason == "Conflict"
    assert stored(api) == {"phase": "Taken"}


@virtual
async def test_a_namesake_is_never_touched():
    api = FakeApi()
    old = job(api, phase="New")
    api.remove(JOBS, "a", "ararat")
    with pytest.raises(ApiNotFound):
        await patch_status(api, JOBS, old, {"phase": "Done"})
    job(api, phase="New")
    for version in (None, old["metadata"]["resourceVersion"]):
        with pytest.raises(ApiConflict) as caught:
            await patch_status(api, JOBS, old, {"phase": "Done"}, resource_version=version)
        assert caught.value.reason == "ObjectReplaced"
    bare = {"metadata": {"name": "a", "namespace": "ararat", "uid": old["metadata"]["uid"]}}
    with pytest.raises(ApiConflict):
        await patch_status(api, JOBS, bare, {"phase": "Done"})
    assert stored(api) == {"phase": "New"}


@virtual
async def test_endless_conflicts_end():
    api = FakeApi()
    obj = job(api, phase="New")

    async def interfere(verb: str, _: str) -> None:
        if verb == "patch":
            job(api, phase="New", n=api.version)

    api.before = interfere
    with pytest.raises(ApiConflict):
        await patch_status(api, JOBS, obj, {"phase": "Done"})
    assert patches(api) < 10


@virtual
async def test_progress_is_merged_and_written_at_most_once_per_interval():
    api = FakeApi()
    writer = StatusWriter(api, JOBS, job(api), interval=2)
    task = asyncio.ensure_future(writer.run())
    start = now()
    for step in range(100):
        writer.offer({"progress": {"bytesDone": step}})
        await asyncio.sleep(0.1)
    await asyncio.sleep(3)
    assert stored(api) == {"progress": {"bytesDone": 99}}
    assert patches(api) <= (now() - start) / 2 + 1
    task.cancel()


@virtual
async def test_what_matters_is_written_when_write_returns():
    api = FakeApi()
    writer = StatusWriter(api, JOBS, job(api), interval=2)
    writer.offer({"progress": {"bytesDone": 7}})
    done = await writer.write({"phase": "Completed"})
    assert done["status"] == stored(api) == {"progress": {"bytesDone": 7}, "phase": "Completed"}
    assert writer.current == done


@virtual
async def test_what_could_not_be_written_is_written_later():
    api = FakeApi()
    writer = StatusWriter(api, JOBS, job(api), interval=2)

    async def refuse(verb: str, _: str) -> None:
        raise ApiUnavailable("away")

    api.before = refuse
    with pytest.raises(ApiUnavailable):
        await writer.write({"phase": "Completed", "note": "old"})
    writer.offer({"note": None})
    api.before = None
    task = asyncio.ensure_future(writer.run())
    await asyncio.sleep(1)
    assert stored(api) == {"phase": "Completed"}
    task.cancel()


@virtual
async def test_the_writer_ends_when_its_object_is_gone():
    api = FakeApi()
    writer = StatusWriter(api, JOBS, job(api), interval=2)
    task = asyncio.ensure_future(writer.run())
    writer.offer({"x": 1})
    api.remove(JOBS, "a", "ararat")
    await asyncio.sleep(1)
    assert task.done()
    assert task.exception() is None
    await settle()


values = st.recursive(
    st.none() | st.integers(0, 3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
trees = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


@given(old=trees, patch=trees)
def test_a_merge_changes_neither_side_and_is_idempotent(
    old: dict[str, object], patch: dict[str, object]
):
    before = repr((old, patch))
    once = merge(old, patch)
    assert merge(once, patch) == once
    assert repr((old, patch)) == before


@given(first=trees, second=trees)
def test_one_patch_for_two_keeps_what_the_second_says(
    first: dict[str, object], second: dict[str, object]
):
    both = _overlay(first, second)
    for key, value in second.items():
        if not isinstance(value, dict):
            assert both[key] == value
    assert set(both) == set(first) | set(second)
