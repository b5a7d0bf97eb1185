from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.access.granting import OwnRights, check_grantable, check_in_own_name
from domain.access.permissions import EVERYTHING, PLATFORM_PERMISSIONS, Permission
from domain.actors import SYSTEM, Actor
from domain.errors import InvalidInput, PermissionMissing

ANN = Actor(user_id=UUID(int=1), name="ann")
SOON, LATER = datetime(2030, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)
EVERY = frozenset(permission.value for permission in Permission)


def give(
    *permissions: str, own: OwnRights, actor: Actor = ANN, on_project: bool = False, until: datetime | None = None
) -> str:
    try:
        check_grantable(actor, frozenset(permissions), own, on_project=on_project, until=until)
    except (PermissionMissing, InvalidInput) as refused:
        return refused.specific_code
    return "given"


def test_what_is_not_held_is_not_given_and_named() -> None:
    with pytest.raises(PermissionMissing) as refused:
        check_grantable(ANN, frozenset({"project:read", "secret:write"}), {"project:read": None}, on_project=False)
    assert refused.value.details["permissions"] == ["secret:write"]


def test_everything_is_given_by_who_holds_everything_only() -> None:
    assert give(EVERYTHING, own=dict.fromkeys(EVERY)) == "not_yours_to_give"
    assert give(EVERYTHING, *EVERY, own={EVERYTHING: None}) == "given"


def test_a_token_gives_what_its_scopes_name_and_everything_only_with_all_of_them() -> None:
    own: OwnRights = {EVERYTHING: None}
    for scopes, permission, answer in [
        ({"project:read"}, "project:read", "given"),
        ({"project:read"}, "project:write", "not_yours_to_give"),
        (EVERY - {"project:read"}, EVERYTHING, "not_yours_to_give"),
        (EVERY, EVERYTHING, "given"),
    ]:
        token = ANN.model_copy(update={"scopes": frozenset(scopes)})
        assert give(permission, own=own, actor=token) == answer


@pytest.mark.parametrize("how", [{"rights_of": UUID(int=2)}, {"is_exchanged": True}])
def test_rights_of_an_exchange_give_nothing_that_lasts(how: dict[str, object]) -> None:
    exchanged = ANN.model_copy(update=how)
    assert give("project:read", own={EVERYTHING: None}, actor=exchanged) == "granted_by_exchange"
    with pytest.raises(PermissionMissing):
        check_in_own_name(exchanged)


def test_what_ends_for_the_giver_ends_for_the_holder() -> None:
    own: OwnRights = {"project:read": SOON, "project:write": None, "secret:read": LATER}
    assert give("project:read", own=own) == "outlasts_your_own"
    assert give("project:read", own=own, until=LATER) == "outlasts_your_own"
    assert give("project:read", own=own, until=SOON) == "given"
    assert give("project:write", own=own) == "given"
    assert give("project:read", "secret:read", own=own, until=LATER) == "outlasts_your_own"
    # Of two ways to hold it the one that lasts longer counts.
    assert give("project:read", own={**own, EVERYTHING: None}) == "given"
    assert give("project:read", own={"project:read": None, EVERYTHING: SOON}) == "given"


def test_on_a_project_the_permissions_of_the_platform_need_not_be_held() -> None:
    platform = [permission.value for permission in PLATFORM_PERMISSIONS]
    assert give(*platform, own={}, on_project=True) == "given"
    assert give(*platform, own={}) == "not_yours_to_give"
    assert give(EVERYTHING, own={}, on_project=True) == "not_yours_to_give"


def test_the_platform_itself_gives_what_it_likes() -> None:
    assert give(EVERYTHING, own={}, actor=SYSTEM) == "given"


_RIGHTS = st.dictionaries(st.sampled_from(sorted(EVERY)), st.sampled_from([None, SOON, LATER]))


@given(
    own=_RIGHTS,
    wanted=st.frozensets(st.sampled_from(sorted(EVERY)), min_size=1),
    scopes=st.none() | st.frozensets(st.sampled_from(sorted(EVERY))),
    until=st.sampled_from([None, SOON, SOON + timedelta(days=1), LATER]),
)
def test_no_gift_holds_or_lasts_more_than_the_giver_has(
    own: dict[str, datetime | None], wanted: frozenset[str], scopes: frozenset[str] | None, until: datetime | None
) -> None:
    actor = ANN.model_copy(update={"scopes": scopes})
    if give(*wanted, own=own, actor=actor, until=until) != "given":
        return
    for permission in wanted:
        assert permission in own
        assert scopes is None or permission in scopes
        end = own[permission]
        assert end is None or (until is not None and until <= end)
