from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.access.delegations import Borrower, Holding, Offer, check_offer, choose_sources
from domain.access.permissions import EVERYTHING, Permission
from domain.actors import Actor
from domain.errors import PerdureError, PermissionMissing

ME, BOB, ANN, PROJECT, ELSEWHERE = (UUID(int=number) for number in range(1, 6))
NOW = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)

LENDER = Actor(user_id=ME, name="me")
BORROWER = Borrower(BOB, "bob", "agent", is_active=True)
RUN = Permission.PIPELINE_RUN
OFFER = Offer(frozenset({RUN}), PROJECT)
OWN = Holding("pipeline:run", "role ops")
LENT = Holding("pipeline:run", "lent by ann", (ANN,), UUID(int=9), NOW + HOUR, redelegations_left=1)


@pytest.mark.parametrize(
    ("lender", "borrower", "offer", "code"),
    [
        ({"rights_of": ANN}, {}, {}, "lent_by_exchange"),
        ({"is_exchanged": True}, {}, {}, "lent_by_exchange"),
        ({}, {"id": ME}, {}, "lent_to_oneself"),
        ({}, {"kind": "organization"}, {}, "borrower_cannot_act"),
        ({}, {"is_active": False}, {}, "borrower_inactive"),
        ({}, {}, {"permissions": frozenset()}, "nothing_to_lend"),
        ({}, {}, {"permissions": frozenset({EVERYTHING})}, "not_lendable"),
        ({}, {}, {"permissions": frozenset({Permission.ADMIN_USERS})}, "not_of_a_project"),
        ({}, {}, {"redelegations": 6}, "too_many_redelegations"),
        ({}, {}, {"redelegations": -1}, "too_many_redelegations"),
        ({}, {}, {"expires_at": NOW}, "already_over"),
    ],
)
def test_an_offer_that_breaks_a_rule(
    lender: dict[str, Any], borrower: dict[str, Any], offer: dict[str, Any], code: str
) -> None:
    with pytest.raises(PerdureError) as refused:
        check_offer(LENDER.model_copy(update=lender), replace(BORROWER, **borrower), replace(OFFER, **offer), NOW)
    assert refused.value.specific_code == code


def test_a_good_offer() -> None:
    check_offer(LENDER, BORROWER, replace(OFFER, expires_at=NOW + HOUR, redelegations=5), NOW)
    check_offer(LENDER, BORROWER, Offer(frozenset({Permission.ADMIN_USERS})), NOW)


@pytest.mark.parametrize(
    ("lender", "offer", "holdings", "code"),
    [
        ({}, {}, [], "permission_missing"),
        ({}, {}, [Holding("project:read", "role viewer")], "permission_missing"),
        ({"scopes": frozenset({"project:read"})}, {}, [OWN], "permission_missing"),
        ({"project_id": ELSEWHERE}, {}, [OWN], "permission_missing"),
        ({"project_id": PROJECT}, {"project_id": None}, [OWN], "permission_missing"),
        ({}, {}, [replace(LENT, redelegations_left=0)], "redelegation_not_allowed"),
        ({}, {"redelegations": 1}, [LENT], "redelegation_not_allowed"),
        ({}, {"expires_at": NOW + 2 * HOUR}, [LENT], "outlives_parent"),
        ({}, {}, [replace(LENT, lenders=(ANN, BOB))], "lent_back"),
    ],
)
def test_what_is_not_held_so_far_is_not_lent(
    lender: dict[str, Any], offer: dict[str, Any], holdings: list[Holding], code: str
) -> None:
    with pytest.raises(PermissionMissing) as refused:
        choose_sources(LENDER.model_copy(update=lender), BORROWER, replace(OFFER, **offer), holdings)
    assert refused.value.specific_code == code
    assert refused.value.details["permission"] == "pipeline:run"


def test_ones_own_right_is_lent_before_one_that_was_lent() -> None:
    assert choose_sources(LENDER, BORROWER, OFFER, [OWN, LENT]) == {RUN: OWN}
    everything = Holding(EVERYTHING, "role admin")
    assert choose_sources(LENDER, BORROWER, OFFER, [everything]) == {RUN: everything}


def test_of_several_the_one_is_passed_on_that_lasts_longest() -> None:
    short = replace(LENT, expires_at=NOW + HOUR / 2, delegation_id=UUID(int=10))
    endless = replace(LENT, expires_at=None, delegation_id=UUID(int=11), lenders=(ANN, UUID(int=7)))
    far = replace(LENT, expires_at=NOW + HOUR / 3, redelegations_left=3, delegation_id=UUID(int=12))
    assert choose_sources(LENDER, BORROWER, OFFER, [short, LENT]) == {RUN: LENT}
    assert choose_sources(LENDER, BORROWER, OFFER, [LENT, endless]) == {RUN: endless}
    assert choose_sources(LENDER, BORROWER, replace(OFFER, redelegations=2), [LENT, far]) == {RUN: far}


HOLDINGS = st.lists(
    st.builds(
        Holding,
        permission=st.sampled_from(["pipeline:run", "project:read", EVERYTHING]),
        path=st.just("somehow"),
        lenders=st.lists(st.sampled_from([ANN, BOB]), min_size=1, unique=True).map(tuple),
        delegation_id=st.uuids(),
        expires_at=st.none() | st.sampled_from([NOW + HOUR, NOW + 2 * HOUR]),
        redelegations_left=st.integers(0, 5),
    )
    | st.just(OWN),
    max_size=4,
)


@given(
    HOLDINGS,
    st.none() | st.sampled_from([NOW + HOUR / 2, NOW + HOUR, NOW + 3 * HOUR]),
    st.integers(0, 5),
    st.none() | st.frozensets(st.sampled_from(["pipeline:run", "project:read"])),
)
def test_nothing_is_ever_lent_longer_wider_or_further_than_it_is_held(
    holdings: list[Holding], expires_at: datetime | None, redelegations: int, scopes: frozenset[str] | None
) -> None:
    offer = replace(OFFER, expires_at=expires_at, redelegations=redelegations)
    lender = LENDER.model_copy(update={"scopes": scopes})
    try:
        source = choose_sources(lender, BORROWER, offer, holdings)[RUN]
    except PermissionMissing:
        return
    assert source in holdings
    assert source.permission in (RUN, EVERYTHING)
    assert scopes is None or RUN in scopes
    if source.delegation_id is not None:
        assert source.redelegations_left > redelegations
        assert source.expires_at is None or expires_at is None or expires_at <= source.expires_at
        assert BOB not in source.lenders
