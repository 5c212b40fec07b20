"""A Blob store that goes silent: its location says so in time, and work resumes by itself."""

from __future__ import annotations

import base64

import pytest

from ararat.api import BackupLocation
from ararat.kube.resources import SECRETS
from controller.location import reconcile
from tests.cluster.azurite import Azurite
from tests.component.blob.conftest import azurite
from tests.component.blob.locations import account_key, location, new_container
from tests.component.controller.backup.world import LOCATIONS, World, eventually

__all__ = ["azurite"]


def test_an_outage_is_known_within_30_seconds() -> None:
    assert reconcile._TOUCH_SECONDS + reconcile._TOUCH_PATIENCE < 30


async def test_a_silent_store(
    world: World, azurite: Azurite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is stopped: connections are accepted, and nothing ever comes back."""
    monkeypatch.setattr(reconcile, "_UNAVAILABLE_RETRY_SECONDS", 1.0)
    monkeypatch.setattr(reconcile, "_TOUCH_SECONDS", 1.0)
    monkeypatch.setattr(reconcile, "_TOUCH_PATIENCE", 2.0)
    container = await new_container(azurite)
    secret = {k: base64.b64encode(v).decode() for k, v in account_key(azurite).items()}
    await world.create(SECRETS, "azure", world.namespace, data=secret)
    azure = location(azurite, container).to_dict()
    # So rarely looked at that only being touched can tell.
    await world.create(
        LOCATIONS, "blob", world.namespace, spec={"azure": azure, "syncPeriodSeconds": 3600}
    )

    async def phase(wanted: str) -> BackupLocation:
        async def look() -> BackupLocation | None:
            raw = await world.api.get(LOCATIONS, "blob", namespace=world.namespace)
            found = BackupLocation.parse(raw)
            return found if found.status.phase == wanted else None

        return await eventually(look, what=f"location blob is {wanted}")

    await world.workload_of("one")
    async with world.running():
        await phase("Available")
        azurite.service.pause()
        try:
            away = await phase("Unavailable")
            assert "has not answered for 2 s" in (away.status.message or "")
            assert len(await world.events("StoreUnreachable")) == 1
            await world.backup(location="blob")
        finally:
            azurite.service.resume()
        await phase("Available")
        await world.phase("Completed")
