"""Restores while the API server throttles, and while one of its aggregated APIs does not answer."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from aiohttp import web

from ararat.kube import ResourceType, connect
from ararat.kube.resources import CONFIG_MAPS
from tests.cluster.apiserver import ControlPlane
from tests.component.controller.restore.scene import data, database, ended, moved
from tests.component.controller.restore.test_hooks import fill
from tests.component.controller.restore.world import World, until
from tests.component.kube.proxy import Proxy, answer
from tests.unit.controller.restore.make import stored

API_SERVICES = ResourceType(
    "apiregistration.k8s.io", "v1", "apiservices", "APIService", namespaced=False
)
#: Every so many writes are refused for a second.
_EVERY = 4


async def broken_api(world: World) -> str:
    """An aggregated API whose service does not exist: discovery of its group fails."""
    group = f"broken-{world.wp}.example.org"
    name = f"v1.{group}"
    spec = {
        "group": group,
        "version": "v1",
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "insecureSkipTLSVerify": True,
        "service": {"name": "nobody", "namespace": "default", "port": 443},
    }
    await world.api.create(API_SERVICES, {"metadata": {"name": name}, "spec": spec})
    return name


async def test_a_throttled_restore_ends_well(control_plane: ControlPlane, tmp_path: Path) -> None:
    refuse = answer(429, reason="TooManyRequests", retry_after=1)
    numbers = itertools.count()
    refused = 0

    async def throttle(proxy: Proxy, request: web.Request) -> Any:
        nonlocal refused
        if next(numbers) % _EVERY:
            return None
        refused += 1
        return await refuse(proxy, request)

    async with (
        Proxy(control_plane.kubeconfig, tmp_path) as proxy,
        connect(str(proxy.kubeconfig)) as api,
        World(api, control_plane, tmp_path).running() as world,
    ):
        broken = await broken_api(world)
        try:
            maps = [moved(stored("ConfigMap", f"m{n}", data={}), world.wp) for n in range(30)]
            await world.backup(*database(world), *maps, volumes=[data(world)])
            proxy.on("^(POST|PATCH)", throttle)
            await world.restore()
            await until(lambda: world.pod("db-0"), seconds=60, what="pod db-0")
            await world.schedule("db-0")
            await fill(world, "db-0")
            await world.pass_gate("db-0", ready=True)
            status = await ended(world, "Completed")
        finally:
            proxy.heal()
            await world.api.delete(API_SERVICES, broken)
        assert refused > len(maps) / _EVERY
        assert status["objects"]["created"] == len(maps) + 7
        found = [obj async for obj in world.api.list(CONFIG_MAPS, namespace=world.wp)]
        assert len([obj for obj in found if obj["metadata"]["name"].startswith("m")]) == len(maps)
