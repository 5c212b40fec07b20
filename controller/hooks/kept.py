"""A record of a pod's hooks, outside of this process: a Secret, for commands may hold passwords.

Problem: whoever goes on after a crash must know what was begun; and of two controllers that take
themselves for the leader only one may begin it.
Decision: the record is written before what it announces is done, and only over the version that
was read. A write whose answer was lost is read back.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from ararat.api.base import Model
from ararat.errors import Conflict, Damaged, NotFound, Retryable
from ararat.kube.api import KubeApi
from ararat.kube.resources import SECRETS

R = TypeVar("R", bound=Model)
_KEY = "record"
_PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0)
#: Between two attempts in the long run, in seconds.
LONGEST_PAUSE = _PAUSES[-1]


def pauses() -> Iterator[float]:
    """Seconds between attempts, without end."""
    yield from _PAUSES
    while True:
        yield LONGEST_PAUSE


def encode(record: Model, metadata: Mapping[str, Any], *, version: str | None) -> dict[str, Any]:
    """The Secret. ``version``: the resource version it replaces."""
    data = gzip.compress(json.dumps(record.to_dict(), ensure_ascii=False).encode(), mtime=0)
    replaced = {"resourceVersion": version} if version is not None else {}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {**metadata, **replaced},
        "type": "Opaque",
        "data": {_KEY: base64.b64encode(data).decode()},
    }


def decode(secret: Mapping[str, Any], model: type[R]) -> R:
    """Raises Damaged: somebody else wrote it."""
    name = secret["metadata"]["name"]
    try:
        data = base64.b64decode(secret["data"][_KEY], validate=True)
        return model.model_validate_json(gzip.decompress(data))
    except (KeyError, TypeError, ValueError, OSError, EOFError, zlib.error) as exc:
        raise Damaged(f"Secret {name} is not the record of a pod's hooks any more") from exc


async def write(api: KubeApi, body: dict[str, Any]) -> str:
    """Keep it, tried until it is, for what follows depends on it; returns its version.

    Raises Conflict: somebody else wrote in between.
    """
    metadata = body["metadata"]
    name, namespace = metadata["name"], metadata["namespace"]
    unsure = False
    for pause in pauses():
        try:
            if "resourceVersion" in metadata:
                made = await api.replace(SECRETS, name, body, namespace=namespace)
            else:
                made = await api.create(SECRETS, body, namespace=namespace)
        except NotFound:
            # Deleted by hand: what it said is known here.
            metadata.pop("resourceVersion", None)
        except Retryable:
            unsure = True  # it may have been written all the same
            await asyncio.sleep(pause)
        except Conflict:
            made = await api.get(SECRETS, name, namespace=namespace)
            if not unsure or made.get("data") != body["data"]:
                raise
            break
        else:
            break
    return str(made["metadata"]["resourceVersion"])
