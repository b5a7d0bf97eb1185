import json
import os

import pytest
from joserfc.jwk import OKPKey, RSAKey
from joserfc.jws import deserialize_compact

from adapters.keyring.secret_box import SecretBox, SecretUnreadable
from adapters.keyring.signing import RSA_BITS, Keyring
from domain.access.signing import ALGORITHMS

BOX = SecretBox(b"the installation's secret key ...")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_key_that_another_installation_or_row_sealed_signs_nothing(algorithm: str) -> None:
    made = await Keyring(BOX).make(algorithm)
    with pytest.raises(SecretUnreadable):
        await Keyring(SecretBox(os.urandom(32))).sign(made.kid, algorithm, made.private_key, {})
    with pytest.raises(SecretUnreadable):
        await Keyring(BOX).sign("another key's id", algorithm, made.private_key, {})
    damaged = made.private_key[:-1] + bytes([made.private_key[-1] ^ 1])
    with pytest.raises(SecretUnreadable):
        await Keyring(BOX).sign(made.kid, algorithm, damaged, {})


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_what_a_key_signs_is_verified_by_its_public_part(algorithm: str) -> None:
    keyring = Keyring(BOX)
    made = await keyring.make(algorithm)
    token = await keyring.sign(made.kid, algorithm, made.private_key, {"sub": "änne"})
    if algorithm == "RS256":
        key = RSAKey.import_key(made.public_jwk)
        assert key.raw_value.key_size == RSA_BITS
        found = deserialize_compact(token, key, algorithms=["RS256"])
        assert found.payload is not None
        assert json.loads(found.payload) == {"sub": "änne"}
        assert found.headers() == {"alg": "RS256", "kid": made.kid, "typ": "JWT"}
    else:
        assert OKPKey.import_key(made.public_jwk).thumbprint() == made.kid


async def test_the_private_part_is_nowhere_to_be_seen() -> None:
    made = await Keyring(BOX).make("EdDSA")
    assert set(made.public_jwk) == {"kty", "crv", "x", "kid", "alg", "use"}
    assert "private_key" not in repr(made)


async def test_a_retired_secret_still_opens_what_it_sealed() -> None:
    made = await Keyring(BOX).make("EdDSA")
    later = SecretBox(os.urandom(32), [b"the installation's secret key ..."])
    assert await Keyring(later).sign(made.kid, "EdDSA", made.private_key, {"sub": "a"})
