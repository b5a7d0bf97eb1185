from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.access.exchange import ExchangeRefused, chain_of, narrowed_scopes
from domain.access.permissions import Permission
from domain.actors import Actor

IDS = st.integers(1, 5).map(lambda number: UUID(int=number))
ACTORS = st.builds(
    Actor,
    user_id=IDS,
    name=st.just("somebody"),
    rights_of=st.none() | IDS,
    on_behalf_of=st.lists(IDS, max_size=3, unique=True).map(tuple),
)


@pytest.mark.parametrize("asked", [" ", "no:such", "*:*", "project:write", "project:read project:write"])
def test_scopes_never_grow(asked: str) -> None:
    subject = Actor(user_id=UUID(int=1), name="bot", scopes=frozenset({"project:read"}))
    with pytest.raises(ExchangeRefused) as refused:
        narrowed_scopes(subject, asked)
    assert refused.value.error == "invalid_scope"


def test_everything_is_no_scope_and_the_refusal_says_so() -> None:
    with pytest.raises(ExchangeRefused) as refused:
        narrowed_scopes(Actor(user_id=UUID(int=1), name="root"), "*:*")
    assert "the admin role's alone" in refused.value.description


def test_scopes_that_are_not_named_stay() -> None:
    subject = Actor(user_id=UUID(int=1), name="bot", scopes=frozenset({"project:read", "pipeline:run"}))
    assert narrowed_scopes(subject, None) == {"project:read", "pipeline:run"}
    assert narrowed_scopes(subject, "pipeline:run") == {"pipeline:run"}
    assert narrowed_scopes(Actor(user_id=UUID(int=1), name="ann"), None) == set(Permission)


@given(ACTORS, st.none() | ACTORS)
def test_rights_stay_whose_they_were_and_nobody_is_lost_from_the_chain(subject: Actor, acting: Actor | None) -> None:
    chain = chain_of(subject, acting)
    assert chain.rights_of == subject.subject_id
    assert chain.acting_id == (subject if acting is None else acting).user_id
    assert {chain.acting_id, *chain.on_behalf_of} >= {subject.user_id, *subject.on_behalf_of} - {chain.acting_id}
    assert len(set(chain.on_behalf_of)) == len(chain.on_behalf_of)
