"""A KubeApi that waits for an API server that is away: for tests that take it away themselves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

from ararat.errors import Retryable
from ararat.kube import AlreadyExists, ApiConflict, KubeApi

_PATIENCE = 120.0


class PatientApi:
    """Repeats what failed because the server was away. A lost answer to a create is a success."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api

    async def get(self, *args: Any, **more: Any) -> Any:
        return await _again(lambda: self._api.get(*args, **more))

    async def patch(self, *args: Any, **more: Any) -> Any:
        return await _again(lambda: self._api.patch(*args, **more))

    async def delete(self, *args: Any, **more: Any) -> Any:
        return await _again(lambda: self._api.delete(*args, **more))

    async def create(self, rt: Any, body: Any, **more: Any) -> Any:
        try:
            return await _again(lambda: self._api.create(rt, body, **more))
        except AlreadyExists:
            namespace = more.get("namespace") or body["metadata"].get("namespace")
            return await self.get(rt, body["metadata"]["name"], namespace=namespace)

    async def list(self, *args: Any, **more: Any) -> AsyncIterator[Any]:
        async def collect() -> list[Any]:
            return [item async for item in self._api.list(*args, **more)]

        for item in await _again(collect):
            yield item


def patient(api: KubeApi) -> KubeApi:
    return cast(KubeApi, PatientApi(api))


async def _again(call: Callable[[], Awaitable[Any]]) -> Any:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return await call()
        except (Retryable, ApiConflict):
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.2)
