from __future__ import annotations

import asyncio

from ararat.api import Backup
from ararat.kube import ApiUnavailable, EventRecorder
from ararat.kube.events import reference
from ararat.kube.resources import EVENTS

from .fake import FakeApi
from .virtual import now, virtual

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "db-0", "namespace": "web", "uid": "u1", "resourceVersion": "5"},
}


def events(api: FakeApi) -> list[dict[str, object]]:
    return [obj for (plural, _, _), obj in api.store.items() if plural == EVENTS.plural]


@virtual
async def test_an_event_names_its_object():
    api = FakeApi()
    recorder = EventRecorder(api, component="ararat-agent", instance="node-1")
    await recorder.event(POD, reason="Failed", message="no such volume", type="Warning")
    (event,) = events(api)
    assert event["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": "db-0",
        "namespace": "web",
        "uid": "u1",
        "resourceVersion": "5",
    }
    assert (event["type"], event["reason"], event["message"], event["count"]) == (
        "Warning",
        "Failed",
        "no such volume",
        1,
    )
    assert event["source"] == {"component": "ararat-agent", "host": "node-1"}


@virtual
async def test_cluster_scoped_objects_speak_in_default():
    api = FakeApi()
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "uid": "u"}}
    await EventRecorder(api, component="c").event(node, reason="R", message="m")
    assert [key[1] for key in api.store] == ["default"]


@virtual
async def test_repeats_are_counted_and_rarely_written():
    api = FakeApi()
    recorder = EventRecorder(api, component="c")
    for _ in range(100):
        await recorder.event(POD, reason="Waiting", message="for a lock")
        await asyncio.sleep(1)
    (event,) = events(api)
    assert 90 <= int(str(event["count"])) <= 100
    assert len(api.calls) <= 12
    await recorder.event(POD, reason="Waiting", message="for a disk")
    assert len(events(api)) == 2


@virtual
async def test_an_event_that_was_removed_is_said_anew():
    api = FakeApi()
    recorder = EventRecorder(api, component="c")
    await recorder.event(POD, reason="R", message="m")
    api.store.clear()
    await asyncio.sleep(60)
    await recorder.event(POD, reason="R", message="m")
    assert len(events(api)) == 1


@virtual
async def test_failures_and_hangs_hurt_nobody():
    api = FakeApi()
    recorder = EventRecorder(api, component="c")

    async def refuse(verb: str, _: str) -> None:
        raise ApiUnavailable("away")

    api.before = refuse
    await recorder.event(POD, reason="R", message="m")

    async def hang(verb: str, _: str) -> None:
        await asyncio.Event().wait()

    api.before = hang
    start = now()
    await recorder.event(POD, reason="R", message="m")
    assert now() - start <= 5.1
    api.before = None
    await recorder.event(POD, reason="R", message="m")
    assert len(events(api)) == 1


@virtual
async def test_messages_have_a_limit():
    api = FakeApi()
    await EventRecorder(api, component="c").event(POD, reason="R", message="x" * 5000)
    assert len(str(events(api)[0]["message"])) == 1024


def test_our_own_objects_can_be_named():
    meta = {"name": "a", "namespace": "ararat", "uid": "u"}
    made = Backup.parse({"metadata": meta, "spec": {}})
    assert reference(made) == {
        "apiVersion": "ararat.dev/v1alpha1",
        "kind": "Backup",
        "name": "a",
        "namespace": "ararat",
        "uid": "u",
    }
