from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.access.decide import PLATFORM, Resource, decide, require
from domain.access.held import NOTHING, Held, Path, held_by_role
from domain.access.permissions import EVERYTHING, Permission
from domain.actors import SYSTEM, Actor
from domain.errors import NotFound, PermissionMissing

ME, LENDER = UUID(int=1), UUID(int=2)
PROJECT, ELSEWHERE = UUID(int=3), UUID(int=4)
PRIVATE = Resource(project_id=PROJECT)

PERMISSIONS = st.sampled_from(list(Permission))
HELD = st.frozensets(st.sampled_from([*map(str, Permission), EVERYTHING])).map(lambda held: held_by_role("any", held))
SCOPES = st.none() | st.frozensets(st.sampled_from(list(map(str, Permission))))
RESOURCES = st.sampled_from([PLATFORM, PRIVATE, Resource(project_id=PROJECT, visibility="public")])


def test_nothing_held_allows_nothing_on_a_private_project_of_others() -> None:
    me = Actor(user_id=ME, name="me")
    assert not any(decide(me, permission, PRIVATE, held=NOTHING).allowed for permission in Permission)


def test_a_lent_permission_is_used_on_behalf_of_its_lenders() -> None:
    me = Actor(user_id=ME, name="me")
    held = Held({"pipeline:run": Path("lent by ann", (LENDER,))})
    assert require(me, Permission.PIPELINE_RUN, PRIVATE, held=held).on_behalf_of == (LENDER,)
    assert decide(me, Permission.PIPELINE_RUN, PRIVATE, held=held).reason == "lent by ann"


@pytest.mark.parametrize(
    ("permission", "resource", "rights_of", "reason"),
    [
        (Permission.PROJECT_READ, PRIVATE, None, "bot does not hold project:read here"),
        (Permission.PROJECT_READ, PLATFORM, None, "bot does not hold project:read everywhere"),
        (Permission.ADMIN_USERS, PLATFORM, None, "bot does not hold admin:users"),
        (
            Permission.PROJECT_READ,
            PRIVATE,
            LENDER,
            "the one with whose rights bot acts does not hold project:read here",
        ),
    ],
)
def test_the_refusal_says_who_lacks_it_and_where(
    permission: Permission, resource: Resource, rights_of: UUID | None, reason: str
) -> None:
    actor = Actor(user_id=ME, name="bot", rights_of=rights_of)
    assert decide(actor, permission, resource, held=NOTHING).reason == reason


@given(PERMISSIONS, HELD, RESOURCES, SCOPES, st.sampled_from([None, PROJECT, ELSEWHERE]))
def test_a_credential_only_ever_narrows(
    permission: Permission,
    held: Held,
    resource: Resource,
    scopes: frozenset[str] | None,
    project_id: UUID | None,
) -> None:
    plain = Actor(user_id=ME, name="me")
    narrowed = Actor(user_id=ME, name="me", scopes=scopes, project_id=project_id)
    allowed = decide(narrowed, permission, resource, held=held).allowed
    if allowed:
        assert decide(plain, permission, resource, held=held).allowed
        assert scopes is None or permission in scopes
        assert project_id in (None, resource.project_id)


@given(PERMISSIONS, HELD, RESOURCES)
def test_require_raises_exactly_when_the_verdict_is_no(permission: Permission, held: Held, resource: Resource) -> None:
    me = Actor(user_id=ME, name="me")
    if decide(me, permission, resource, held=held).allowed:
        require(me, permission, resource, held=held)
        return
    readable = decide(me, Permission.PROJECT_READ, resource, held=held).allowed
    hidden = resource.project_id is not None and not readable
    with pytest.raises(NotFound if hidden else PermissionMissing):
        require(me, permission, resource, held=held)


def test_the_platform_itself_may() -> None:
    assert decide(SYSTEM, Permission.PROJECT_DELETE, PRIVATE, held=NOTHING).allowed
