"""The master key: made once, kept in a namespace that agents cannot read.

Problem: a key that is made anew without anybody noticing makes every later backup unreadable with
the escrowed one.
Decision: the key is made only when a *new* location is initialised in an installation that has no
key. A location that exists is opened with the key its location.json names, or not at all.
"""

from __future__ import annotations

import base64
import binascii

from ararat import keys
from ararat.errors import Conflict, InvalidSpec, NotFound, WrongKey
from ararat.kube.api import KubeApi
from ararat.kube.resources import SECRETS

SECRET = "master-key"  # noqa: S105 - its name, not its content
FIELD = "key"


class MasterKey:
    def __init__(self, api: KubeApi, *, namespace: str) -> None:
        self._api = api
        self._namespace = namespace

    async def get(self) -> bytes | None:
        """The key, or None where the installation has none yet. Raises WrongKey: malformed."""
        try:
            secret = await self._api.get(SECRETS, SECRET, namespace=self._namespace)
        except NotFound:
            return None
        try:
            return keys.decode_master_key(base64.b64decode(secret["data"][FIELD]))
        except (KeyError, binascii.Error, InvalidSpec) as exc:
            raise WrongKey(
                f"secret {self._namespace}/{SECRET} does not hold a master key of 64 hex digits "
                f"in {FIELD!r}: import it again with `ararat key import`"
            ) from exc

    async def get_or_create(self) -> bytes:
        """The key, made now where there is none; ten callers at once get the same one."""
        existing = await self.get()
        if existing is not None:
            return existing
        key = keys.new_master_key()
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET, "namespace": self._namespace},
            "type": "Opaque",
            "data": {FIELD: base64.b64encode(key.hex().encode()).decode()},
        }
        try:
            await self._api.create(SECRETS, body, namespace=self._namespace)
        except Conflict:
            winner = await self.get()
            if winner is None:
                raise
            return winner
        return key
