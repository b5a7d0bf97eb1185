"""Our signing keys over their lives: made, published before they sign, verified by others, removed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import uuid4

from joserfc.jwk import KeySet
from joserfc.jws import deserialize_compact
from sqlalchemy import text
from temporalio.client import Client

from activities.access.signing_keys import SigningKeyActivities
from adapters.keyring.secret_box import SecretBox
from adapters.keyring.signing import Keyring
from database.engine import Database
from database.store.access.signing_keys import published_keys, rotate, sign_identity_token, times_of
from domain.access.signing import ALGORITHMS, PUBLISHED_BEFORE, SIGNS_FOR, TOKEN_LIFETIME_MAX, signing_key
from domain.actors import SYSTEM
from tests.support.temporal import working
from workflows.access import RotateSigningKeysWorkflow

KEYRING = Keyring(SecretBox(b"the installation's secret key ..."))


async def run_rotation(client: Client, database: Database) -> str:
    workflow_id = str(uuid4())
    activities = SigningKeyActivities(database, KEYRING)
    async with working(client, workflows=[RotateSigningKeysWorkflow], activities=[activities.rotate_signing_keys]) as [
        worker
    ]:
        await client.execute_workflow(RotateSigningKeysWorkflow.run, id=workflow_id, task_queue=worker.task_queue)
    return workflow_id


@asynccontextmanager
async def later(database: Database, passed: timedelta) -> AsyncIterator[None]:
    """As if so much time had passed: every moment of the keys lies so much earlier."""
    async with database.transaction() as session:
        await session.execute(
            text(
                "UPDATE signing_keys SET signs_from = signs_from - CAST(:passed AS interval), "
                "signs_until = signs_until - CAST(:passed AS interval), "
                "verifies_until = verifies_until - CAST(:passed AS interval)"
            ),
            {"passed": passed},
        )
    yield


async def kids(database: Database) -> dict[str, str]:
    async with database.transaction() as session:
        return {key.kid: key.algorithm for key in await published_keys(session)}


async def test_a_key_lives_from_its_publication_to_the_last_token_that_it_signed(
    temporal_client: Client, database: Database
) -> None:
    await run_rotation(temporal_client, database)
    first = await kids(database)
    assert sorted(first.values()) == sorted(ALGORITHMS)
    await run_rotation(temporal_client, database)
    assert await kids(database) == first

    async with later(database, SIGNS_FOR - PUBLISHED_BEFORE + timedelta(minutes=1)):
        await run_rotation(temporal_client, database)
    both = await kids(database)
    assert set(first) < set(both)
    assert len(both) == 4
    async with database.transaction() as session:
        keys = await published_keys(session)
        token = await sign_identity_token(
            session, KEYRING, {"sub": "ann", "aud": "them"}, TOKEN_LIFETIME_MAX, issuer="https://us.example"
        )
    published = KeySet.import_key_set({"keys": [key.public_jwk for key in keys]})
    assert deserialize_compact(token, published).headers()["kid"] in first

    async with later(database, PUBLISHED_BEFORE):
        await run_rotation(temporal_client, database)
    assert await kids(database) == both
    async with database.transaction() as session:
        keys = await published_keys(session)
        signing = signing_key([times_of(key) for key in keys], "RS256", keys[0].signs_from + timedelta(seconds=1))
    assert signing is not None
    assert signing.kid not in first
    # What the old key signed a moment before it stopped is still verified by what is published.
    assert deserialize_compact(token, KeySet.import_key_set({"keys": [key.public_jwk for key in keys]}))

    async with later(database, TOKEN_LIFETIME_MAX):
        await run_rotation(temporal_client, database)
    assert set(await kids(database)) == set(both) - set(first)
    async with database.transaction() as session:
        left = await session.execute(text("SELECT count(*) FROM signing_keys"))
        actions = await session.execute(text("SELECT action FROM audit_log ORDER BY seq, id"))
        assert left.scalar_one() == 2
        assert list(actions.scalars()).count("signing_key:create") == 4


async def test_rotations_at_once_make_one_key_each(database: Database) -> None:
    activities = SigningKeyActivities(database, KEYRING)
    await asyncio.gather(*(activities.rotate_signing_keys() for _ in range(4)))
    assert len(await kids(database)) == 2


async def test_who_began_earlier_and_waited_finds_the_keys_that_were_made_meanwhile(database: Database) -> None:
    async with database.transaction() as waiting:
        await waiting.execute(text("SELECT now()"))
        await SigningKeyActivities(database, KEYRING).rotate_signing_keys()
        assert (await rotate(waiting, SYSTEM, KEYRING)).made == ()
        claims = {"sub": "ann", "aud": "them"}
        assert await sign_identity_token(waiting, KEYRING, claims, TOKEN_LIFETIME_MAX, issuer="https://us.example")
    assert len(await kids(database)) == 2


async def test_private_keys_lie_sealed_in_the_table(database: Database) -> None:
    await SigningKeyActivities(database, KEYRING).rotate_signing_keys()
    async with database.transaction() as session:
        for key in await published_keys(session):
            assert b'"d"' not in key.private_key
            assert "d" not in key.public_jwk
            assert set(key.public_jwk) <= {"kty", "kid", "alg", "use", "n", "e", "crv", "x"}
