from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.access.decide import PLATFORM, Resource, decide, require
from domain.access.permissions import EVERYTHING, OWNER_PERMISSIONS, Permission
from domain.actors import SYSTEM, Actor
from domain.errors import NotFound, PermissionMissing

ME, OTHER = UUID(int=1), UUID(int=2)
PROJECT, ELSEWHERE = UUID(int=3), UUID(int=4)
MINE = Resource(project_id=PROJECT, owner_id=ME)
THEIRS = Resource(project_id=PROJECT, owner_id=OTHER)

PERMISSIONS = st.sampled_from(list(Permission))
HELD = st.frozensets(st.sampled_from([*map(str, Permission), EVERYTHING]))
SCOPES = st.none() | st.frozensets(st.sampled_from(list(map(str, Permission))))
RESOURCES = st.sampled_from([PLATFORM, MINE, THEIRS, Resource(project_id=PROJECT, owner_id=OTHER, visibility="public")])


def test_nothing_held_allows_nothing_on_a_private_project_of_others() -> None:
    me = Actor(user_id=ME, name="me")
    assert not any(decide(me, permission, THEIRS, held=frozenset()).allowed for permission in Permission)


def test_owning_gives_what_owners_have_and_no_more() -> None:
    me = Actor(user_id=ME, name="me")
    allowed = {permission for permission in Permission if decide(me, permission, MINE, held=frozenset()).allowed}
    assert allowed == OWNER_PERMISSIONS


@given(PERMISSIONS, HELD, RESOURCES, SCOPES, st.sampled_from([None, PROJECT, ELSEWHERE]))
def test_a_credential_only_ever_narrows(
    permission: Permission,
    held: frozenset[str],
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
def test_require_raises_exactly_when_the_verdict_is_no(
    permission: Permission, held: frozenset[str], resource: Resource
) -> None:
    me = Actor(user_id=ME, name="me")
    if decide(me, permission, resource, held=held).allowed:
        require(me, permission, resource, held=held)
        return
    readable = decide(me, Permission.PROJECT_READ, resource, held=held).allowed
    hidden = resource.project_id is not None and not readable
    with pytest.raises(NotFound if hidden else PermissionMissing):
        require(me, permission, resource, held=held)


def test_the_platform_itself_may() -> None:
    assert decide(SYSTEM, Permission.PROJECT_DELETE, THEIRS, held=frozenset()).allowed
