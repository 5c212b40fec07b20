from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from ararat.errors import Damaged
from ararat.kube import ApiUnavailable, Elector, KubeObject
from ararat.kube.resources import LEASES

from .fake import FakeApi
from .virtual import VirtualLoop, now, settle, virtual

NAMESPACE, NAME = "ararat", "controller"


class Body:
    """Work that never ends by itself and notes when it ran."""

    def __init__(self) -> None:
        self.started: list[float] = []
        self.stopped: list[float] = []
        self.end = asyncio.Event()
        self.error: Exception | None = None
        self.wind_down = 0.0

    async def __call__(self) -> None:
        self.started.append(now())
        try:
            await self.end.wait()
            if self.error:
                raise self.error
        finally:
            if self.wind_down:
                await asyncio.sleep(self.wind_down)
            self.stopped.append(now())


class Network:
    """The way of one elector to the server; can be cut without telling anybody."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.cut = False

    def __getattr__(self, name: str) -> Callable[..., object]:
        async def call(*args: object, **kwargs: object) -> object:
            if self.cut:
                await asyncio.Event().wait()
            return await getattr(self.api, name)(*args, **kwargs)

        return call


def elector(api: object, identity: str, abort: Callable[[], None] | None = None) -> Elector:
    def unexpected() -> None:
        raise AssertionError("the process would have ended")

    return Elector(
        api,  # type: ignore[arg-type]
        namespace=NAMESPACE,
        name=NAME,
        identity=identity,
        abort=abort or unexpected,
    )


def lease(api: FakeApi) -> KubeObject:
    spec: KubeObject = api.store["leases", NAMESPACE, NAME]["spec"]
    return spec


@virtual
async def test_the_first_leads_and_the_second_waits():
    api = FakeApi()
    one, two = Body(), Body()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(elector(api, "one").run(one))
        await asyncio.sleep(1)
        second = group.create_task(elector(api, "two").run(two))
        await asyncio.sleep(600)
        assert one.started
        assert not one.stopped
        assert not two.started
        assert lease(api)["holderIdentity"] == "one"
        assert lease(api)["leaseDurationSeconds"] == 15
        second.cancel()
        first.cancel()
    assert lease(api)["holderIdentity"] == ""


@virtual
async def test_a_partitioned_leader_has_stopped_before_the_next_starts():
    for offset in range(20):
        api = FakeApi()
        network = Network(api)
        one, two = Body(), Body()
        one.wind_down = 3
        async with asyncio.TaskGroup() as group:
            first = group.create_task(elector(network, "one").run(one))
            await asyncio.sleep(1)
            second = group.create_task(elector(api, "two").run(two))
            await asyncio.sleep(30 + offset / 10)
            network.cut = True
            cut = now()
            await asyncio.sleep(40)
            assert len(two.started) == 1
            assert one.stopped[0] < two.started[0]
            assert one.stopped[0] - cut <= 13.1  # renew 10 s + wind down 3 s
            assert two.started[0] - cut <= 20
            second.cancel()
            first.cancel()


@virtual
async def test_a_leader_that_is_killed_is_followed_within_20_seconds():
    for offset in range(20):
        api = FakeApi()
        network = Network(api)
        two = Body()

        async def killed(api: Network = network) -> None:
            async def forever() -> None:
                await asyncio.sleep(1e6)

            await elector(api, "one").run(forever)

        async with asyncio.TaskGroup() as group:
            first = group.create_task(killed())
            await asyncio.sleep(1)
            second = group.create_task(elector(api, "two").run(two))
            await asyncio.sleep(30 + offset / 7)
            network.cut = True  # nothing more is heard of it: no release either
            cut = now()
            await asyncio.sleep(30)
            assert two.started[0] - cut <= 20
            first.cancel()
            second.cancel()


@virtual
async def test_work_that_resists_its_end_takes_the_process_with_it():
    api = FakeApi()
    network = Network(api)
    body, aborted = Body(), []
    body.wind_down = 1000
    leader = elector(network, "one", abort=lambda: aborted.append(now()))
    task = asyncio.ensure_future(leader.run(body))
    await asyncio.sleep(31)
    renewed = leader._renewed_at
    network.cut = True
    await asyncio.sleep(20)
    assert len(aborted) == 1
    assert aborted[0] - renewed < 15
    task.cancel()
    await asyncio.sleep(2000)


@virtual
async def test_being_cancelled_while_lost_work_winds_down_is_not_forgotten():
    api = FakeApi()
    network = Network(api)
    body = Body()
    body.wind_down = 3
    task = asyncio.ensure_future(elector(network, "one").run(body))
    await asyncio.sleep(1)
    network.cut = True
    while now() < body.started[0] + 10.5:
        await asyncio.sleep(0.5)
    task.cancel()
    await asyncio.sleep(10)
    assert body.stopped
    assert task.cancelled()


@pytest.mark.parametrize("resists", [False, True])
@virtual
async def test_after_a_freeze_work_is_stopped_at_once(resists: bool):
    api = FakeApi()
    body, aborted = Body(), []
    body.wind_down = 1000 if resists else 0
    task = asyncio.ensure_future(elector(api, "one", abort=lambda: aborted.append(now())).run(body))
    await asyncio.sleep(5)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.now += 100  # SIGSTOP … SIGCONT
    thawed = now()
    await asyncio.sleep(1)
    if resists:
        assert aborted[0] - thawed < 0.5
    else:
        assert body.stopped[0] == thawed
        assert not aborted
    task.cancel()
    await asyncio.sleep(2000)


@virtual
async def test_a_crash_releases_the_lease_and_is_raised():
    api = FakeApi()
    one, two = Body(), Body()
    one.error = Damaged("the index is broken")
    second = asyncio.ensure_future(asyncio.sleep(0))

    async def lead() -> None:
        with pytest.raises(Damaged, match="index"):
            await elector(api, "one").run(one)

    async with asyncio.TaskGroup() as group:
        group.create_task(lead())
        await asyncio.sleep(5)
        second = group.create_task(elector(api, "two").run(two))
        await asyncio.sleep(5)
        crashed = now()
        one.end.set()
        await asyncio.sleep(10)
        assert two.started[0] - crashed <= 3
        second.cancel()


@virtual
async def test_a_crash_is_noticed_while_a_renewal_hangs():
    api = FakeApi()
    one = Body()
    one.error = Damaged("the index is broken")

    async def hang(verb: str, _: str) -> None:
        if verb == "replace":
            await asyncio.Event().wait()

    async def lead() -> None:
        with pytest.raises(Damaged):
            await elector(api, "one").run(one)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(lead())
        await asyncio.sleep(1)
        api.before = hang
        await asyncio.sleep(2)
        one.end.set()
        await asyncio.sleep(0.1)
        api.before = None
        await asyncio.sleep(4)
        assert task.done()


@virtual
async def test_work_that_ends_ends_the_election():
    api = FakeApi()
    body = Body()
    body.end.set()
    await elector(api, "one").run(body)
    assert lease(api)["holderIdentity"] == ""


@virtual
async def test_while_cancelled_work_winds_down_the_lease_is_kept():
    api = FakeApi()
    one, two = Body(), Body()
    one.wind_down = 60
    async with asyncio.TaskGroup() as group:
        first = group.create_task(elector(api, "one").run(one))
        await asyncio.sleep(1)
        second = group.create_task(elector(api, "two").run(two))
        await asyncio.sleep(10)
        first.cancel()
        await asyncio.sleep(55)
        assert not two.started
        await asyncio.sleep(20)
        assert one.stopped[0] < two.started[0] < one.stopped[0] + 3
        assert first.cancelled()
        second.cancel()


@virtual
async def test_a_lease_taken_by_force_ends_the_work_at_the_next_renewal():
    api = FakeApi()
    body = Body()
    task = asyncio.ensure_future(elector(api, "one").run(body))
    await asyncio.sleep(10)
    stolen = api.store["leases", NAMESPACE, NAME]
    api.put(LEASES, {**stolen, "spec": {**stolen["spec"], "holderIdentity": "thief"}})
    await asyncio.sleep(3)
    assert body.stopped
    assert lease(api)["holderIdentity"] == "thief"
    await asyncio.sleep(20)
    assert len(body.started) == 2  # the thief did not renew: our turn again
    task.cancel()
    await settle(200)


@virtual
async def test_short_failures_and_lost_answers_do_not_cost_the_leadership():
    api = FakeApi()
    body = Body()
    task = asyncio.ensure_future(elector(api, "one").run(body))
    await asyncio.sleep(5)
    count = 0

    async def sometimes(verb: str, _: str) -> None:
        nonlocal count
        count += 1
        if count % 3:
            raise ApiUnavailable("reset")  # after the server has executed it

    api.after = sometimes
    await asyncio.sleep(300)
    assert len(body.started) == 1
    assert not body.stopped
    task.cancel()
    await asyncio.sleep(5)


@virtual
async def test_a_container_that_restarts_goes_on_at_once():
    api = FakeApi()
    await elector(api, "one")._acquire()  # and is killed
    body = Body()
    task = asyncio.ensure_future(elector(api, "one").run(body))
    await asyncio.sleep(0.5)
    assert body.started
    task.cancel()
    await asyncio.sleep(1)


@virtual
async def test_clocks_of_other_machines_do_not_matter():
    api = FakeApi()
    await elector(api, "one")._acquire()
    held = api.store["leases", NAMESPACE, NAME]
    # Its holder's clock is a day behind; it is alive and renews.
    past = {**held["spec"], "renewTime": "2001-01-01T00:00:00.000000Z"}
    body = Body()
    task = asyncio.ensure_future(elector(api, "two").run(body))
    for _ in range(30):
        api.put(LEASES, {**api.store["leases", NAMESPACE, NAME], "spec": past})
        await asyncio.sleep(2)
    assert not body.started
    await asyncio.sleep(20)  # now it is silent
    assert body.started
    task.cancel()
    await asyncio.sleep(1)


def test_times_must_make_sense():
    with pytest.raises(ValueError, match="retry < renew < lease"):
        Elector(FakeApi(), namespace="a", name="b", identity="c", lease=10, renew=10)
