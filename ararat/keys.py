"""Keys: one master key, and everything that is derived from it.

Problem: repositories need passwords that agents may be given one by one, that a person can escrow
as one secret, and that no node can use to compute another's.
Decision: HKDF-SHA256 of a random 256-bit master key; every derived secret has its own info, made of
length-prefixed parts so that no two lists of parts are the same bytes. The derived password has
full entropy, which is what makes a cheap key-derivation in restic's key files sound
(``ararat.restic.keyfile``).
Limits: the master key itself never leaves the controller and the export file.
"""

from __future__ import annotations

import hmac
import secrets
from datetime import datetime

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import Field, ValidationError

from ararat.api.base import Model, utcnow
from ararat.errors import InvalidSpec, WrongKey

KEY_BYTES = 32
_PASSWORD = "ararat/v1"  # noqa: S105 - a label, not a secret
_MANIFEST = "ararat/v1/manifest"
_FINGERPRINT = "ararat/v1/fingerprint"
_SEAL = "ararat/v1/former-manifest-keys"
_NONCE_BYTES = 12
_FINGERPRINT_BYTES = 8
EXPORT_VERSION = 1


def new_master_key() -> bytes:
    return secrets.token_bytes(KEY_BYTES)


def decode_master_key(text: str | bytes) -> bytes:
    """From the 64 hex digits of the Secret. Raises InvalidSpec, never showing what it got."""
    try:
        raw = text.decode("ascii") if isinstance(text, bytes) else text
        key = bytes.fromhex(raw.strip())
    except (ValueError, UnicodeDecodeError):
        key = b""
    if len(key) != KEY_BYTES:
        raise InvalidSpec("the master key must be 64 hexadecimal digits", reason="InvalidKey")
    return key


def fingerprint(master: bytes) -> str:
    """16 hex digits that name a master key and tell nothing about it."""
    return _derive(master, _FINGERPRINT, length=_FINGERPRINT_BYTES).hex()


def repository_password(master: bytes, location_id: str, repository_name: str) -> str:
    """The password of one repository: 64 hex digits."""
    return _derive(master, _PASSWORD, location_id, repository_name).hex()


def manifest_mac_key(master: bytes, location_id: str) -> bytes:
    """The HMAC key of all manifests of a location."""
    return _derive(master, _MANIFEST, location_id)


def seal_manifest_key(key: bytes, *, master: bytes, location_id: str, former: str) -> str:
    """The manifest key of the former master key with fingerprint ``former``, for whoever has
    ``master``: what was signed before a rotation stays provable after it."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    sealed = _sealer(master, location_id).encrypt(nonce, key, former.encode())
    return (nonce + sealed).hex()


def open_manifest_key(sealed: str, *, master: bytes, location_id: str, former: str) -> bytes:
    """Raises WrongKey: sealed by another master key, or changed since."""
    try:
        raw = bytes.fromhex(sealed)
        return _sealer(master, location_id).decrypt(
            raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], former.encode()
        )
    except (ValueError, InvalidTag) as exc:
        raise WrongKey(
            f"location.json does not hold the manifest key of master key {former}: it was changed"
        ) from exc


def check_fingerprint(master: bytes, expected: str, *, what: str) -> None:
    """Raises WrongKey where ``what`` was made with another master key; "" is not checked."""
    ours = fingerprint(master)
    if expected and not hmac.compare_digest(ours, expected):
        raise WrongKey(
            f"{what} was made with master key {expected}, and this installation has {ours}: "
            "import the right key with 'ararat key import'"
        )


class ExportedLocation(Model):
    name: str
    id: str


class KeyExport(Model):
    """What ``ararat key export`` writes and a person keeps in a safe."""

    version: int = EXPORT_VERSION
    #: The master key, 64 hex digits: the secret itself.
    key: str = Field(repr=False)
    fingerprint: str
    created: datetime
    locations: list[ExportedLocation] = []

    @property
    def master(self) -> bytes:
        return decode_master_key(self.key)


def export_key(master: bytes, locations: dict[str, str]) -> KeyExport:
    """``locations``: ids by the name of the BackupLocation."""
    return KeyExport(
        key=master.hex(),
        fingerprint=fingerprint(master),
        created=utcnow(),
        locations=[ExportedLocation(name=name, id=id_) for name, id_ in sorted(locations.items())],
    )


def read_export(data: bytes) -> KeyExport:
    """Raises InvalidSpec: not an export, of a newer version, or its key is not what it says."""
    try:
        found = KeyExport.model_validate_json(data)
    except ValidationError as exc:
        # The cause would show the input, and the input holds the key.
        raise InvalidSpec(
            f"this is not a file written by 'ararat key export' ({exc.error_count()} errors)"
        ) from None
    if found.version > EXPORT_VERSION:
        raise InvalidSpec(f"this key export has version {found.version}: use a newer Ararat")
    if fingerprint(found.master) != found.fingerprint:
        raise InvalidSpec("this key export is damaged: its key does not have its fingerprint")
    return found


def _sealer(master: bytes, location_id: str) -> AESGCM:
    return AESGCM(_derive(master, _SEAL, location_id))


def _derive(master: bytes, *parts: str, length: int = 32) -> bytes:
    encoded = [part.encode() for part in parts]
    info = b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(master)
