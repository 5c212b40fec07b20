from __future__ import annotations

import hashlib
import json
from base64 import b64encode

import pytest

from ararat.errors import Damaged, InvalidSpec
from ararat.restic import keyfile
from ararat.restic.crypt import Keys, derive
from ararat.restic.errors import WrongPassword
from ararat.restic.keyfile import KeyIdentity

PASSWORD = "5a" * 32
WHO = KeyIdentity("location-id", "volumes/shop/0123456789abcdef", "00112233aabbccdd")
#: A repository's inner keys; worthless ones.
KEYS = Keys(encrypt=bytes(range(32)), mac=bytes(range(32, 64)))


def wrapped(password: str = PASSWORD) -> bytes:
    """A key file as ``key add`` makes it, with a cost that a test can afford."""
    salt = bytes(64)
    outer = derive(password, salt, n=16, r=8, p=1)
    return json.dumps(
        {
            "created": "2026-11-22T10:00:00.123456789Z",
            "username": "root",
            "hostname": "agent-x",
            "kdf": "scrypt",
            "N": 16,
            "r": 8,
            "p": 1,
            "salt": b64encode(salt).decode(),
            "data": b64encode(outer.seal(KEYS.encode())).decode(),
        }
    ).encode()


def test_the_inner_key_stays_the_same() -> None:
    new = keyfile.rewrap(wrapped(), password=PASSWORD, new_password="1b" * 32, who=WHO)
    assert keyfile.unwrap(new.data, password="1b" * 32) == KEYS
    assert new.id == hashlib.sha256(new.data).hexdigest()
    assert json.loads(new.data)["N"] == 2
    with pytest.raises(WrongPassword):
        keyfile.unwrap(new.data, password=PASSWORD)


def test_it_says_whose_it_is() -> None:
    new = keyfile.rewrap(wrapped(), password=PASSWORD, new_password=PASSWORD, who=WHO)
    assert keyfile.identity(new.data) == WHO
    assert keyfile.identity(wrapped()) is None


def test_two_wrappings_share_nothing() -> None:
    first, second = (
        json.loads(
            keyfile.rewrap(wrapped(), password=PASSWORD, new_password=PASSWORD, who=WHO).data
        )
        for _ in range(2)
    )
    assert first["salt"] != second["salt"]
    assert first["data"] != second["data"]


def test_passwords_that_people_choose_are_not_made_cheap() -> None:
    with pytest.raises(InvalidSpec):
        keyfile.rewrap(wrapped(), password=PASSWORD, new_password="correct horse", who=WHO)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"kdf":"argon2"}',
        b'{"kdf":"scrypt","N":2,"r":8,"p":1,"salt":"!","data":""}',
        b'{"kdf":"scrypt","N":3,"r":8,"p":1,"salt":"AAAA","data":"AAAA"}',
        b'{"kdf":"scrypt","N":2,"r":8,"p":1,"salt":"AAAA","data":"AAAA"}',
    ],
)
def test_what_is_no_key_file_is_damaged(data: bytes) -> None:
    with pytest.raises(Damaged):
        keyfile.unwrap(data, password=PASSWORD)


def test_a_changed_key_file_does_not_open() -> None:
    content = json.loads(wrapped())
    content["data"] = content["data"][:-6] + "AAAA=="
    with pytest.raises((WrongPassword, Damaged)):
        keyfile.unwrap(json.dumps(content).encode(), password=PASSWORD)
