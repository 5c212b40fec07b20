"""restic's key files, read and written by us.

Problem: every restic command spends about 0.6 s of CPU and 64 MiB on scrypt, which hardens a
password that people chose. Ours are 256-bit keys: there is nothing to guess, so it buys nothing.
Decision: after ``init`` the key file is written anew with scrypt at its lowest cost, in restic's
documented format (doc/design.rst, "Keys, Encryption and MAC"): AES-256-CTR and Poly1305-AES over
the repository's own keys, named by the SHA-256 of its content. Any restic opens it. Its free host
and user fields say which location, repository and master key it belongs to, so that an escrowed
key finds its repositories when everything else is lost.
Limits: sound only for passwords of full entropy; ``rewrap`` refuses others.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.poly1305 import Poly1305

from ararat.errors import Damaged, InvalidSpec

from .errors import WrongPassword

#: The lowest scrypt allows: N must be a power of two above 1; r and p are restic's usual r, and 1.
LOW_N, LOW_R, LOW_P = 2, 8, 1
_SALT = 64
_NONCE = 16
_TAG = 16
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


def rewrap(
    data: bytes, *, password: str, new_password: str, who: KeyIdentity, now: datetime | None = None
) -> KeyFile:
    """The same repository keys under ``new_password``, at low cost.

    Takes as long as the old file's scrypt: call it in a thread. Raises WrongPassword, Damaged.
    """
    if len(new_password) != _PASSWORD_LENGTH:
        raise InvalidSpec("a key of low cost needs a derived password, not one that people choose")
    plain = unwrap(data, password=password)
    salt = secrets.token_bytes(_SALT)
    encrypt, mac = _derive(new_password, salt, LOW_N, LOW_R, LOW_P)
    content = {
        "created": (now or datetime.now(UTC)).isoformat(),
        "username": who.user,
        "hostname": who.host,
        "kdf": "scrypt",
        "N": LOW_N,
        "r": LOW_R,
        "p": LOW_P,
        "salt": b64encode(salt).decode(),
        "data": b64encode(_seal(encrypt, mac, plain)).decode(),
    }
    encoded = json.dumps(content).encode()
    return KeyFile(hashlib.sha256(encoded).hexdigest(), encoded)


def unwrap(data: bytes, *, password: str) -> bytes:
    """The repository's own keys, as restic's JSON. Never logged, never stored."""
    found = _decode(data)
    if found.get("kdf") != "scrypt":
        raise Damaged(f"a key file uses the unknown derivation {found.get('kdf')!r}")
    try:
        salt = b64decode(found["salt"], validate=True)
        sealed = b64decode(found["data"], validate=True)
        encrypt, mac = _derive(password, salt, int(found["N"]), int(found["r"]), int(found["p"]))
    except (KeyError, TypeError, ValueError) as exc:
        raise Damaged("a key file of the repository is not readable") from exc
    return _open(encrypt, mac, sealed)


def _decode(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError as exc:
        raise Damaged("a key file of the repository is not readable") from exc
    if not isinstance(found, dict):
        raise Damaged("a key file of the repository is not readable")
    return found


def _derive(password: str, salt: bytes, n: int, r: int, p: int) -> tuple[bytes, bytes]:
    """(AES-256 key, MAC key): the first and second 32 bytes of scrypt's output."""
    raw = Scrypt(salt=salt, length=64, n=n, r=r, p=p).derive(password.encode())
    return raw[:32], raw[32:]


def _seal(encrypt: bytes, mac: bytes, plain: bytes) -> bytes:
    nonce = secrets.token_bytes(_NONCE)
    encryptor = Cipher(algorithms.AES256(encrypt), modes.CTR(nonce)).encryptor()
    sealed = encryptor.update(plain) + encryptor.finalize()
    return nonce + sealed + Poly1305.generate_tag(_one_time_key(mac, nonce), sealed)


def _open(encrypt: bytes, mac: bytes, data: bytes) -> bytes:
    if len(data) < _NONCE + _TAG:
        raise Damaged("a key file of the repository is too short")
    nonce, sealed, tag = data[:_NONCE], data[_NONCE:-_TAG], data[-_TAG:]
    try:
        Poly1305.verify_tag(_one_time_key(mac, nonce), sealed, tag)
    except InvalidSignature:
        raise WrongPassword("this password does not open the key file") from None
    decryptor = Cipher(algorithms.AES256(encrypt), modes.CTR(nonce)).decryptor()
    return decryptor.update(sealed) + decryptor.finalize()


def _one_time_key(mac: bytes, nonce: bytes) -> bytes:
    """Poly1305-AES: r as it is (Poly1305 masks it), and the nonce under AES with k."""
    k, r = mac[:16], mac[16:]
    # One block of AES is what Poly1305-AES is defined with; no mode of operation is involved.
    block = Cipher(algorithms.AES128(k), modes.ECB()).encryptor()  # noqa: S305
    return r + block.update(nonce) + block.finalize()
