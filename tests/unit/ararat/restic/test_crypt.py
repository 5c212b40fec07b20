from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.poly1305 import Poly1305

from ararat.errors import Damaged
from ararat.restic.config import new_config, seal_config
from ararat.restic.crypt import Keys, NotAuthentic, decode_keys, random_keys


def test_what_is_sealed_opens_with_the_same_keys_only() -> None:
    keys = random_keys()
    sealed = keys.seal(b"a config")
    assert b"a config" not in sealed
    assert keys.open(sealed) == b"a config"
    assert keys.seal(b"a config") != sealed, "a nonce was used twice"
    with pytest.raises(NotAuthentic):
        random_keys().open(sealed)


@pytest.mark.parametrize("place", [0, 20, -1])
def test_a_changed_bit_is_noticed(place: int) -> None:
    keys = random_keys()
    sealed = bytearray(keys.seal(b"a config"))
    sealed[place] ^= 1
    with pytest.raises(NotAuthentic):
        keys.open(bytes(sealed))


def test_what_is_too_short_is_damaged() -> None:
    with pytest.raises(Damaged):
        random_keys().open(bytes(31))


def test_keys_survive_their_encoding_and_are_not_shown() -> None:
    keys = random_keys()
    assert decode_keys(keys.encode()) == keys
    assert keys.encrypt.hex() not in repr(keys)
    assert repr(keys) == "Keys()"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"mac":{"k":"AAAAAAAAAAAAAAAAAAAAAA==","r":"AQEBAQEBAQEBAQEBAQEBAQ=="}}',
        b'{"mac":{"k":"AAAA","r":"AAAA"},"encrypt":"AAAA"}',
    ],
)
def test_what_are_no_keys_is_damaged(data: bytes) -> None:
    with pytest.raises(Damaged):
        decode_keys(data)


def test_poly1305_aes_against_its_published_example() -> None:
    """D. J. Bernstein, "The Poly1305-AES message-authentication code", appendix B, first row."""
    r = bytes.fromhex("851fc40c3467ac0be05cc20404f3f700")
    k = bytes.fromhex("ec074c835580741701425b623235add6")
    nonce = bytes.fromhex("fb447350c4e868c52ac3275cf9d4327e")
    keys = Keys(encrypt=bytes(32), mac=k + r)
    tag = Poly1305.generate_tag(keys._one_time_key(nonce), bytes.fromhex("f3f6"))
    assert tag.hex() == "f4c633c3044fc145f84f335cb81953de"


def test_a_config_is_sealed_and_its_likeness_cuts_alike() -> None:
    keys, config = random_keys(), new_config()
    assert json.loads(keys.open(seal_config(config, keys))) == {
        "version": 2,
        "id": config.id,
        "chunker_polynomial": config.chunker_polynomial,
    }
    second = new_config(like=config)
    assert second.chunker_polynomial == config.chunker_polynomial
    assert second.id != config.id
