from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from domain.access.signing import (
    ALGORITHMS,
    PUBLISHED_BEFORE,
    SIGNS_FOR,
    TOKEN_LIFETIME_MAX,
    KeyTimes,
    PlannedKey,
    identity_claims,
    keys_to_make,
    signing_key,
    successors,
)
from domain.actors import Actor

BEGIN = datetime(2030, 1, 1, tzinfo=UTC)


def made(plan: PlannedKey, name: str) -> KeyTimes:
    return KeyTimes(name, plan.algorithm, plan.signs_from, plan.signs_until, plan.verifies_until)


def test_the_first_keys_sign_at_once() -> None:
    plans = keys_to_make([], BEGIN)
    assert [(plan.algorithm, plan.signs_from) for plan in plans] == [(one, BEGIN) for one in ALGORITHMS]
    keys = [made(plan, plan.algorithm) for plan in plans]
    assert keys_to_make(keys, BEGIN) == []
    assert signing_key(keys, "RS256", BEGIN) == keys[0]
    assert signing_key(keys, "ES256", BEGIN) is None


@given(st.lists(st.integers(min_value=1, max_value=200), min_size=1, max_size=300))
def test_however_often_the_clock_comes_somebody_signs_and_nobody_signs_unseen(hours: list[int]) -> None:
    now, keys = BEGIN, [made(plan, f"first-{plan.algorithm}") for plan in keys_to_make([], BEGIN)]
    published = {key.kid: BEGIN for key in keys}
    for number, step in enumerate(hours):
        now += timedelta(hours=step)
        for plan in keys_to_make(keys, now):
            key = made(plan, f"{number}-{plan.algorithm}")
            published[key.kid] = now
            keys.append(key)
        for algorithm in ALGORITHMS:
            signing = signing_key(keys, algorithm, now)
            assert signing is not None
            assert signing.verifies_until >= now + TOKEN_LIFETIME_MAX
            assert published[signing.kid] <= signing.signs_from
    assert len(keys) <= 2 * (2 + (now - BEGIN) // timedelta(days=1))


def test_a_successor_is_published_before_it_signs_and_the_old_one_verifies_after_it_signed() -> None:
    first = [made(plan, "1-" + plan.algorithm) for plan in keys_to_make([], BEGIN)]
    early = BEGIN + SIGNS_FOR - PUBLISHED_BEFORE - timedelta(seconds=1)
    assert keys_to_make(first, early) == []
    plans = keys_to_make(first, early + timedelta(seconds=1))
    assert [plan.signs_from for plan in plans] == [first[0].signs_until] * 2
    both = [*first, *(made(plan, "2-" + plan.algorithm) for plan in plans)]
    change = first[0].signs_until
    before, after = signing_key(both, "EdDSA", change - timedelta(seconds=1)), signing_key(both, "EdDSA", change)
    assert (before and before.kid, after and after.kid) == ("1-EdDSA", "2-EdDSA")
    assert before is not None
    assert before.verifies_until == change + TOKEN_LIFETIME_MAX


def test_on_demand_new_keys_wait_until_they_are_known_unless_the_old_ones_are_not_to_be_believed() -> None:
    assert {plan.signs_from for plan in successors(BEGIN, at_once=False)} == {BEGIN + PUBLISHED_BEFORE}
    assert {plan.signs_from for plan in successors(BEGIN, at_once=True)} == {BEGIN}


def test_an_identity_token_tells_the_chain_and_how_narrow_the_credential_is() -> None:
    ann, agent, helper, project = (UUID(int=number) for number in range(1, 5))
    alone = identity_claims(Actor(user_id=ann, name="ann"))
    assert alone == {"sub": str(ann), "preferred_username": "ann", "kind": "user"}
    acting = Actor(
        user_id=helper,
        name="helper",
        kind="agent",
        rights_of=ann,
        on_behalf_of=(agent, ann),
        scopes=frozenset({"b:c", "a:b"}),
        project_id=project,
    )
    assert identity_claims(acting) == {
        "sub": str(ann),
        "act": {"sub": str(helper), "act": {"sub": str(agent)}, "preferred_username": "helper", "kind": "agent"},
        "scope": "a:b b:c",
        "project_id": str(project),
    }
