"""A rotation of the master key, asked for and watched; the controller does it.

Decision: the new key is put into the master key's Secret beside the present one, in one write that
fails if anything changed meanwhile; what the controller does with it is to be seen there.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from ararat import keys
from ararat.api.base import utcnow
from ararat.api.names import KEY_REENCRYPT, KEY_ROTATION
from ararat.cli import keyring
from ararat.cli.settings import Settings
from ararat.errors import Conflict, InvalidSpec, NotFound
from ararat.kube import ApiNotFound, KubeApi, KubeObject
from ararat.kube.resources import SECRETS

LOOK_SECONDS = 2.0
_NEXT, _FORMER = "next", "former"


@dataclass(frozen=True)
class State:
    #: Of the key that new work uses.
    fingerprint: str
    #: Fingerprint of the key that is to come.
    next: str = ""
    #: Fingerprint of the key whose access is still to be removed.
    former: str = ""
    waits_for: str = ""
    #: What is stored is being encrypted anew, or will be when the rotation is done.
    reencrypts: bool = False
    locations: dict[str, str] = field(default_factory=dict)

    @property
    def under_way(self) -> bool:
        return bool(self.next or self.former or self.reencrypts)

    @property
    def text(self) -> str:
        why = f": {self.waits_for}" if self.waits_for else ""
        if self.next:
            return f"adding key {self.next} to every repository{why}"
        if self.former:
            return f"key {self.fingerprint} is the key now; removing {self.former}{why}"
        return f"key {self.fingerprint} is the only key; encrypting everything anew{why}"


async def look(api: KubeApi, settings: Settings) -> State:
    """How far it is. Raises NotFound: there is no key to rotate."""
    secret = await _secret(api, settings)
    annotations = secret["metadata"].get("annotations") or {}
    return State(
        fingerprint=keys.fingerprint(keyring.master_of(secret)),
        next=_fingerprint(secret, _NEXT),
        former=_fingerprint(secret, _FORMER),
        waits_for=annotations.get(KEY_ROTATION, ""),
        reencrypts=KEY_REENCRYPT in annotations,
        locations=await keyring.location_ids(api, settings),
    )


async def begin(
    api: KubeApi, settings: Settings, master: bytes, *, reencrypt: bool = False
) -> State:
    """Ask for it. Raises Conflict: somebody else did, or it is the key already."""
    secret = await _secret(api, settings)
    asked = KEY_REENCRYPT in (secret["metadata"].get("annotations") or {})
    if _fingerprint(secret, _NEXT) or _fingerprint(secret, _FORMER) or asked:
        raise Conflict("a rotation is under way already: see 'ararat key rotate'")
    if keyring.master_of(secret) == master:
        raise InvalidSpec("that key is this installation's key already")
    patch = {
        "metadata": {
            "resourceVersion": secret["metadata"]["resourceVersion"],
            "annotations": {
                KEY_ROTATION: None,
                **({KEY_REENCRYPT: utcnow().isoformat()} if reencrypt else {}),
            },
        },
        "data": {_NEXT: base64.b64encode(master.hex().encode()).decode()},
    }
    await api.patch(SECRETS, keyring.SECRET, patch, namespace=settings.keys_namespace)
    return await look(api, settings)


async def _secret(api: KubeApi, settings: Settings) -> KubeObject:
    try:
        return await api.get(SECRETS, keyring.SECRET, namespace=settings.keys_namespace)
    except ApiNotFound as error:
        raise NotFound(
            f"there is no key in namespace {settings.keys_namespace} that could be rotated"
        ) from error


def _fingerprint(secret: KubeObject, name: str) -> str:
    text = (secret.get("data") or {}).get(name)
    return "" if text is None else keys.fingerprint(keys.decode_master_key(base64.b64decode(text)))
