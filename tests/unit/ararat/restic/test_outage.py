from __future__ import annotations

import asyncio

from ararat.blob.errors import ContainerNotFound, StoreUnreachable
from ararat.errors import AccessDenied, AraratError
from ararat.restic.outage import Outage
from tests.unit.ararat.kube.virtual import virtual

GONE = StoreUnreachable("gone")


def outage(over: list[AraratError]) -> Outage:
    return Outage(patience=0.2, start_patience=0.05, on_over=over.append)


def now() -> float:
    return asyncio.get_running_loop().time()


@virtual
async def test_a_store_that_never_answered_gets_little_time() -> None:
    over: list[AraratError] = []
    outage(over).failed(GONE, began=now())
    await asyncio.sleep(0.03)
    assert over == []
    await asyncio.sleep(0.04)
    assert over == [GONE]


@virtual
async def test_one_that_did_gets_more() -> None:
    over: list[AraratError] = []
    watched = outage(over)
    watched.answered()
    watched.failed(GONE, began=now())
    await asyncio.sleep(0.1)
    assert over == []
    await asyncio.sleep(0.15)
    assert over == [GONE]


@virtual
async def test_refusals_and_missing_containers_do_not() -> None:
    for exc in (AccessDenied("no"), ContainerNotFound("none")):
        over: list[AraratError] = []
        watched = outage(over)
        watched.answered()
        watched.failed(exc, began=now())
        await asyncio.sleep(0.1)
        assert over == [exc]


@virtual
async def test_an_answer_ends_it() -> None:
    over: list[AraratError] = []
    watched = outage(over)
    watched.failed(GONE, began=now())
    watched.answered()
    await asyncio.sleep(0.1)
    assert over == []


@virtual
async def test_it_began_with_the_first_failure_and_that_with_its_request() -> None:
    over: list[AraratError] = []
    watched = outage(over)
    watched.failed(GONE, began=now() - 0.04)
    watched.failed(StoreUnreachable("later"), began=now())
    await asyncio.sleep(0.03)
    assert [exc.message for exc in over if isinstance(exc, StoreUnreachable)] == ["later"]


@virtual
async def test_closing_disarms_it() -> None:
    over: list[AraratError] = []
    watched = outage(over)
    watched.failed(GONE, began=now())
    watched.close()
    await asyncio.sleep(0.1)
    assert over == []
