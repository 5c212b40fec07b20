"""A store that goes away once a restore has begun: said, given up at the deadline, gone on with."""

from __future__ import annotations

from typing import Any

import pytest

from ararat.api import Restore
from ararat.kube import of
from ararat.kube.errors import ApiUnavailable, Forbidden
from ararat.kube.resources import CONFIG_MAPS
from tests.component.controller.restore.scene import data, database, ended, job_of
from tests.component.controller.restore.world import World, until


async def test_a_store_that_stays_away_ends_it_and_a_retry_goes_on(world: World) -> None:
    await world.backup(*database(world), volumes=[data(world)])
    await world.restore(gate={"noProgressSeconds": 10})
    await until(lambda: world.pod("db-0"), what="pod db-0")
    await world.kill_controller()
    away = world.store_path.with_name("away")
    world.store_path.rename(away)
    world.start_controller()

    async def said() -> Any:
        return [c for c in (await world.status()).get("waiting") or [] if c["object"] == "restore"]

    (cause,) = await until(said, what="the cause")
    status = await ended(world, "PartiallyFailed")
    failure = next(f for f in status["failures"] if f["object"] == "restore")
    assert failure["reason"] == cause["reason"]
    assert "ararat restore retry r1" in failure["message"]
    # Nobody starts on nothing meanwhile.
    claim = await world.claim("data-db-0")
    assert "ararat.dev/restore-pending" in claim["metadata"]["annotations"]
    away.rename(world.store_path)
    patch = {"metadata": {"annotations": {"ararat.dev/retry": "now"}}}
    await world.api.patch(of(Restore), "r1", patch, namespace=world.namespace)

    async def again() -> Any:
        return (await world.status())["phase"] == "InProgress"

    await until(again, what="it to be tried again")
    await world.schedule("db-0")
    await world.set_job(await job_of(world, "db-0"), phase="Completed")
    status = await ended(world, "Completed")
    assert status["failures"] == []
    assert status["objects"]["text"] == "7 created"


@pytest.mark.parametrize("error", [ApiUnavailable("busy"), Forbidden("no room")])
async def test_a_plan_that_cannot_be_stored_is_waited_for_or_told(
    world: World, monkeypatch: pytest.MonkeyPatch, error: ApiUnavailable | Forbidden
) -> None:
    """By it a claim that is lost and made again is known to be owed its data."""
    await world.backup(*database(world), volumes=[data(world)])
    patch, refused = world.api.patch, 0

    async def refuse(rt: Any, *args: Any, **more: Any) -> dict[str, Any]:
        nonlocal refused
        if rt == CONFIG_MAPS and refused < 2:
            refused += 1
            raise error
        return await patch(rt, *args, **more)

    monkeypatch.setattr(world.api, "patch", refuse)
    await world.restore()

    async def made() -> Any:
        status = await world.status()
        return status if status.get("objectsDone") else None

    status = await until(made, what="the objects")
    told = [text for text in status["warnings"] if "plan could not be stored" in text]
    if isinstance(error, Forbidden):
        assert (refused, len(told)) == (1, 1)
        assert "no room" in told[0]
    else:
        assert (refused, told) == (2, [])
        await world.api.get(CONFIG_MAPS, status["plan"], namespace=world.namespace)
    assert status["objects"]["text"] == "7 created"
