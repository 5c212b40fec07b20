"""restic's key files, read and written by us.

Problem: every restic command spends about 0.6 s of CPU and 64 MiB on scrypt, which hardens a
password that people chose. Ours are 256-bit keys: there is nothing to guess, so it buys nothing.
Decision: we write the key files, with scrypt at its lowest cost, in restic's documented format
(doc/design.rst, "Keys, Encryption and MAC"): the repository's inner keys, sealed, named by the
SHA-256 of the content. Any restic opens it. Its free host and user fields say which location,
repository and master key it belongs to, so that an escrowed key finds its repositories when
everything else is lost.
Limits: sound only for passwords of full entropy; ``wrap`` refuses others.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ararat.errors import Damaged, InvalidSpec

from .crypt import Keys, NotAuthentic, decode_keys, derive
from .errors import WrongPassword

#: The lowest scrypt allows: N must be a power of two above 1; r and p are restic's usual r, and 1.
LOW_N, LOW_R, LOW_P = 2, 8, 1
_SALT = 64
_USER = "ararat/v1"
#: Hexadecimal digits of a derived password (``ararat.keys``).
_PASSWORD_LENGTH = 64


@dataclass(frozen=True)
class KeyIdentity:
    """What a key file says about itself, in the clear."""

    location_id: str
    #: ``volumes/<namespace>/<random>`` or ``objects/<random>``.
    repository_name: str
    #: Fingerprint of the master key.
    fingerprint: str

    @property
    def host(self) -> str:
        return self.location_id

    @property
    def text(self) -> str:
        return f"master key {self.fingerprint} for {self.repository_name}"

    @property
    def user(self) -> str:
        return f"{_USER} {self.repository_name} {self.fingerprint}"


@dataclass(frozen=True)
class KeyFile:
    """A key file's content and its name."""

    id: str
    data: bytes


def identity(data: bytes) -> KeyIdentity | None:
    """Who a key file was written for; None where it is not one of ours."""
    found = _decode(data)
    mark, _, rest = str(found.get("username", "")).partition(" ")
    name, _, fingerprint = rest.partition(" ")
    if mark != _USER or not name or not fingerprint:
        return None
    return KeyIdentity(str(found.get("hostname", "")), name, fingerprint)


def wrap(keys: Keys, *, password: str, who: KeyIdentity, now: datetime | None = None) -> KeyFile:
    """A repository's inner keys under ``password``, at low cost. Raises InvalidSpec."""
    if len(password) != _PASSWORD_LENGTH:
        raise InvalidSpec("a key of low cost needs a derived password, not one that people choose")
    salt = secrets.token_bytes(_SALT)
    outer = derive(password, salt, n=LOW_N, r=LOW_R, p=LOW_P)
    content = {
        "created": (now or datetime.now(UTC)).isoformat(),
        "username": who.user,
        "hostname": who.host,
        "kdf": "scrypt",
        "N": LOW_N,
        "r": LOW_R,
        "p": LOW_P,
        "salt": b64encode(salt).decode(),
        "data": b64encode(outer.seal(keys.encode())).decode(),
    }
    encoded = json.dumps(content).encode()
    return KeyFile(hashlib.sha256(encoded).hexdigest(), encoded)


def rewrap(
    data: bytes, *, password: str, new_password: str, who: KeyIdentity, now: datetime | None = None
) -> KeyFile:
    """The same inner keys under ``new_password``, at low cost.

    Takes as long as the old file's scrypt: call it in a thread. Raises WrongPassword, Damaged.
    """
    return wrap(unwrap(data, password=password), password=new_password, who=who, now=now)


def unwrap(data: bytes, *, password: str) -> Keys:
    """The repository's inner keys. Raises WrongPassword, Damaged."""
    found = _decode(data)
    if found.get("kdf") != "scrypt":
        raise Damaged(f"a key file uses the unknown derivation {found.get('kdf')!r}")
    try:
        salt = b64decode(found["salt"], validate=True)
        sealed = b64decode(found["data"], validate=True)
        outer = derive(password, salt, n=int(found["N"]), r=int(found["r"]), p=int(found["p"]))
    except (KeyError, TypeError, ValueError) as exc:
        raise Damaged("a key file of the repository is not readable") from exc
    try:
        return decode_keys(outer.open(sealed))
    except NotAuthentic:
        raise WrongPassword("this password does not open the key file") from None


def _decode(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError as exc:
        raise Damaged("a key file of the repository is not readable") from exc
    if not isinstance(found, dict):
        raise Damaged("a key file of the repository is not readable")
    return found
