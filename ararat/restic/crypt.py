"""restic's cryptography, as its design document has it ("Keys, Encryption and MAC").

Problem: a key file and a repository's config are sealed in restic's own way, and we write both.
Decision: AES-256-CTR and Poly1305-AES (nonce, ciphertext, tag) over `cryptography`'s primitives, in
one place. A repository's inner keys are 256 bits for AES and 256 bits for the MAC, all of them
random; a password is stretched into a pair of the same form by scrypt.
Limits: small pieces only, whole in memory. Data is never sealed here: that is restic's work.
"""

from __future__ import annotations

import json
import secrets
from base64 import b64decode, b64encode
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.poly1305 import Poly1305

from ararat.errors import Damaged

_NONCE = 16
_TAG = 16
_AES = 32
_MAC_HALF = 16


class NotAuthentic(Exception):
    """The tag does not fit: another key, or damaged data."""


@dataclass(frozen=True)
class Keys:
    """What seals and opens: 32 bytes for AES-256, 32 for Poly1305-AES (k, then r)."""

    encrypt: bytes = field(repr=False)
    mac: bytes = field(repr=False)

    def seal(self, plain: bytes) -> bytes:
        """Nonce, ciphertext and tag, under a fresh nonce."""
        nonce = secrets.token_bytes(_NONCE)
        encryptor = Cipher(algorithms.AES256(self.encrypt), modes.CTR(nonce)).encryptor()
        sealed = encryptor.update(plain) + encryptor.finalize()
        return nonce + sealed + Poly1305.generate_tag(self._one_time_key(nonce), sealed)

    def open(self, data: bytes) -> bytes:
        """What was sealed. Raises NotAuthentic; Damaged: too short to be anything."""
        if len(data) < _NONCE + _TAG:
            raise Damaged("a sealed file of the repository is too short")
        nonce, sealed, tag = data[:_NONCE], data[_NONCE:-_TAG], data[-_TAG:]
        try:
            Poly1305.verify_tag(self._one_time_key(nonce), sealed, tag)
        except InvalidSignature:
            raise NotAuthentic from None
        decryptor = Cipher(algorithms.AES256(self.encrypt), modes.CTR(nonce)).decryptor()
        return decryptor.update(sealed) + decryptor.finalize()

    def encode(self) -> bytes:
        """As restic keeps them inside a key file. Never logged, never stored unsealed."""
        k, r = self.mac[:_MAC_HALF], self.mac[_MAC_HALF:]
        mac = {"k": b64encode(k).decode(), "r": b64encode(r).decode()}
        return json.dumps({"mac": mac, "encrypt": b64encode(self.encrypt).decode()}).encode()

    def _one_time_key(self, nonce: bytes) -> bytes:
        """Poly1305-AES: r as it is (Poly1305 masks it), and the nonce under AES with k."""
        k, r = self.mac[:_MAC_HALF], self.mac[_MAC_HALF:]
        # One block of AES is what Poly1305-AES is defined with; no mode of operation is involved.
        block = Cipher(algorithms.AES128(k), modes.ECB()).encryptor()  # noqa: S305
        return r + block.update(nonce) + block.finalize()


def random_keys() -> Keys:
    """The inner keys of a new repository."""
    return Keys(secrets.token_bytes(_AES), secrets.token_bytes(2 * _MAC_HALF))


def decode_keys(data: bytes) -> Keys:
    """What ``Keys.encode`` or restic wrote. Raises Damaged."""
    try:
        found = json.loads(data)
        mac = found["mac"]
        halves = [b64decode(mac[half], validate=True) for half in ("k", "r")]
        keys = Keys(b64decode(found["encrypt"], validate=True), b"".join(halves))
    except (KeyError, TypeError, ValueError) as exc:
        raise Damaged("the inner keys of a repository are not readable") from exc
    if len(keys.encrypt) != _AES or [len(half) for half in halves] != [_MAC_HALF, _MAC_HALF]:
        raise Damaged("the inner keys of a repository have the wrong length")
    return keys


def derive(password: str, salt: bytes, *, n: int, r: int, p: int) -> Keys:
    """The keys that a password stands for: the first and second 32 bytes of scrypt's output."""
    raw = Scrypt(salt=salt, length=64, n=n, r=r, p=p).derive(password.encode())
    return Keys(raw[:_AES], raw[_AES:])
