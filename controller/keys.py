"""The master key: made once, kept in a namespace that agents cannot read.

Problem: a key that is made anew without anybody noticing makes every later backup unreadable with
the escrowed one.
Decision: the key is made only when a *new* location is initialised in an installation that has no
key. A location that exists is opened with the key its location.json names, or not at all.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any

from ararat import keys
from ararat.api.base import utcnow
from ararat.api.names import KEY_REENCRYPT, KEY_ROTATED_AT, KEY_ROTATION
from ararat.errors import Conflict, InvalidSpec, NotFound, WrongKey
from ararat.kube.api import KubeApi
from ararat.kube.resources import SECRETS

SECRET = "master-key"  # noqa: S105 - its name, not its content
FIELD = "key"
#: Asked for by `ararat key rotate`: what FIELD is to become.
NEXT_FIELD = "next"
#: What FIELD was, for as long as something may still be opened with it.
FORMER_FIELD = "former"


@dataclass(frozen=True)
class KeyRing:
    """The master key, and what a rotation is on its way to (``next``) or from (``former``)."""

    current: bytes = field(repr=False)
    next: bytes | None = field(default=None, repr=False)
    former: bytes | None = field(default=None, repr=False)
    #: When ``next`` became the key, ISO 8601.
    rotated_at: str = ""
    #: What the rotation waits for.
    message: str = ""
    version: str = ""
    #: What is stored is to be encrypted anew under the present key, when the rotation is done.
    reencrypt: bool = False

    @property
    def all(self) -> tuple[bytes, ...]:
        """All that may open something, the most likely first."""
        return tuple(key for key in (self.current, self.former, self.next) if key is not None)


def encoded(key: bytes) -> str:
    """As a Secret's data holds it."""
    return base64.b64encode(key.hex().encode()).decode()


class MasterKey:
    def __init__(self, api: KubeApi, *, namespace: str) -> None:
        self._api = api
        self._namespace = namespace

    async def get(self) -> bytes | None:
        """The key, or None where the installation has none yet. Raises WrongKey: malformed."""
        found = await self.ring()
        return None if found is None else found.current

    async def ring(self) -> KeyRing | None:
        """The key with those that a rotation is on its way to or from."""
        try:
            secret = await self._api.get(SECRETS, SECRET, namespace=self._namespace)
        except NotFound:
            return None
        current = self._decoded(secret, FIELD)
        if current is None:
            raise self._malformed(FIELD)
        annotations = secret["metadata"].get("annotations") or {}
        return KeyRing(
            current=current,
            next=self._decoded(secret, NEXT_FIELD),
            former=self._decoded(secret, FORMER_FIELD),
            rotated_at=annotations.get(KEY_ROTATED_AT, ""),
            message=annotations.get(KEY_ROTATION, ""),
            version=secret["metadata"].get("resourceVersion", ""),
            reencrypt=KEY_REENCRYPT in annotations,
        )

    async def advance(self, ring: KeyRing) -> None:
        """``next`` becomes the key, and the key ``former``. Raises Conflict: it changed since."""
        assert ring.next is not None
        await self._patch(
            ring,
            data={
                FIELD: encoded(ring.next),
                FORMER_FIELD: encoded(ring.current),
                NEXT_FIELD: None,
            },
            annotations={KEY_ROTATED_AT: utcnow().isoformat(), KEY_ROTATION: None},
        )

    async def retire(self, ring: KeyRing) -> None:
        """Forget ``former``: nothing needs it any more. Raises Conflict: it changed since."""
        await self._patch(
            ring,
            data={FORMER_FIELD: None},
            annotations={KEY_ROTATED_AT: None, KEY_ROTATION: None},
        )

    async def reencrypted(self, ring: KeyRing) -> None:
        """Everything was encrypted anew. Raises Conflict: it changed since."""
        await self._patch(ring, data={}, annotations={KEY_REENCRYPT: None, KEY_ROTATION: None})

    async def say(self, ring: KeyRing, message: str) -> None:
        """What the rotation waits for, for whoever asked for it."""
        await self._patch(ring, data={}, annotations={KEY_ROTATION: message})

    async def _patch(
        self, ring: KeyRing, *, data: dict[str, str | None], annotations: dict[str, str | None]
    ) -> None:
        patch = {
            "metadata": {"resourceVersion": ring.version, "annotations": annotations},
            "data": data,
        }
        await self._api.patch(SECRETS, SECRET, patch, namespace=self._namespace)

    def _decoded(self, secret: dict[str, Any], field: str) -> bytes | None:
        text = (secret.get("data") or {}).get(field)
        if text is None:
            return None
        try:
            return keys.decode_master_key(base64.b64decode(text))
        except (binascii.Error, InvalidSpec) as exc:
            raise self._malformed(field) from exc

    def _malformed(self, field: str) -> WrongKey:
        return WrongKey(
            f"secret {self._namespace}/{SECRET} does not hold a master key of 64 hex digits "
            f"in {field!r}: import it again with `ararat key import`"
        )

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
            "data": {FIELD: encoded(key)},
        }
        try:
            await self._api.create(SECRETS, body, namespace=self._namespace)
        except Conflict:
            winner = await self.get()
            if winner is None:
                raise
            return winner
        return key
