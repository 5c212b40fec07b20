from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from ararat.errors import WrongKey
from ararat.kube.resources import SECRETS
from controller.keys import MasterKey
from tests.unit.ararat.kube.fake import FakeApi

KEY = bytes(range(32))


def secret(data: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "master-key", "namespace": "ararat-keys"}, **data}


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def test_there_is_no_key_at_first() -> None:
    assert await MasterKey(FakeApi(), namespace="ararat-keys").get() is None


@pytest.mark.parametrize("text", [KEY.hex(), f"{KEY.hex()}\n", KEY.hex().upper()])
async def test_the_key_is_read(text: str) -> None:
    api = FakeApi()
    api.put(SECRETS, secret({"data": {"key": encoded(text)}}))
    assert await MasterKey(api, namespace="ararat-keys").get() == KEY


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"data": {}},
        {"data": {"other": encoded(KEY.hex())}},
        {"data": {"key": "%%%"}},
        {"data": {"key": encoded("zz" * 32)}},
        {"data": {"key": encoded(KEY.hex()[:-2])}},
        {"data": {"key": base64.b64encode(b"\xff" * 64).decode()}},
    ],
)
async def test_a_key_that_cannot_be_used_is_an_error_that_does_not_show_it(
    data: dict[str, Any],
) -> None:
    api = FakeApi()
    api.put(SECRETS, secret(data))
    with pytest.raises(WrongKey) as caught:
        await MasterKey(api, namespace="ararat-keys").get_or_create()
    assert caught.value.message == (
        "secret ararat-keys/master-key does not hold a master key of 64 hex digits in 'key': "
        "import it again with `ararat key import`"
    )


async def test_a_key_is_made_once() -> None:
    api = FakeApi()
    keys = await asyncio.gather(
        *(MasterKey(api, namespace="ararat-keys").get_or_create() for _ in range(10))
    )
    assert len(set(keys)) == 1
    assert len(keys[0]) == 32
    assert await MasterKey(api, namespace="ararat-keys").get() == keys[0]
