from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from domain.access.held import held_by_role
from domain.access.identities import (
    RESERVED_NAMES,
    Identity,
    answers_for,
    check_email,
    check_label,
    check_not_above,
    check_responsible,
    check_user_name,
    manages_itself,
)
from domain.access.permissions import Permission
from domain.actors import Actor
from domain.errors import InvalidInput, PermissionMissing


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "a b", "ü", "a" * 40, "a\n", *sorted(RESERVED_NAMES)])
def test_a_name_that_breaks_a_rule_or_is_an_address_of_ours_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be called"):
        check_user_name(name)


@pytest.mark.parametrize("name", ["a", "admin", "a-b", "a1", "a" * 39])
def test_plain_names_are_fine(name: str) -> None:
    assert check_user_name(name) == name


@pytest.mark.parametrize("name", ["", "Upper", "a/b", "-a", "a" * 40])
def test_a_team_or_role_with_such_a_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="A team cannot be called"):
        check_label(name, "team")


@pytest.mark.parametrize(
    "email", ["", "a", "@b", "a@", "a@@b", "a b@c", "a@b..c", "a@.b", "a\n@b", "a\x00@b", f"{'a' * 250}@b.de", "<a@b>"]
)
def test_what_no_mail_can_be_sent_to_is_no_address(email: str) -> None:
    with pytest.raises(InvalidInput, match="no e-mail address"):
        check_email(email)


@pytest.mark.parametrize("email", ["a@b", "Ann.Lee+x@Example.ORG", " ann@example.org ", "ü@bücher.example"])
def test_two_writings_of_an_address_are_one(email: str) -> None:
    assert check_email(email) == email.strip().lower()


def _identity(kind: str = "user", **more: Any) -> Identity:  # noqa: ANN401  # handed on to Identity
    fields: dict[str, Any] = {
        "id": UUID(int=9),
        "name": "it",
        "kind": kind,
        "display_name": None,
        "email": None,
        "is_active": True,
        "email_verified_at": None,
        "has_password": True,
        "responsible_id": None,
        "responsible_name": None,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "updated_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return Identity(**(fields | more))


ANN = Actor(user_id=UUID(int=1), name="ann")


@pytest.mark.parametrize(
    ("kind", "responsible", "allowed"),
    [
        ("user", None, True),
        ("user", _identity(), False),
        ("agent", None, False),
        ("agent", _identity(), True),
        ("service", _identity("agent"), False),
        ("service", _identity("organization"), False),
        ("service", _identity(is_active=False), False),
    ],
)
def test_agents_and_services_need_a_person_and_people_none(
    kind: str, responsible: Identity | None, allowed: bool
) -> None:
    if allowed:
        check_responsible(kind, responsible)
        return
    with pytest.raises(InvalidInput):
        check_responsible(kind, responsible)


@pytest.mark.parametrize(
    "narrowing",
    [
        {"token_id": UUID(int=5), "scopes": frozenset(Permission)},
        {"scopes": frozenset({"project:read"})},
        {"project_id": UUID(int=5)},
        {"rights_of": UUID(int=5)},
    ],
)
def test_whatever_narrows_a_credential_keeps_it_from_managing_its_owner(narrowing: dict[str, Any]) -> None:
    me = _identity(id=ANN.user_id)
    assert manages_itself(ANN, me)
    assert not manages_itself(ANN, _identity())
    assert not manages_itself(ANN.model_copy(update=narrowing), me)


@pytest.mark.parametrize(
    ("narrowing", "answers"),
    [
        ({}, True),
        ({"scopes": frozenset({"agent:run"})}, True),
        ({"scopes": frozenset({"project:read"})}, False),
        ({"project_id": UUID(int=5)}, False),
        ({"rights_of": UUID(int=5)}, False),
    ],
)
def test_who_answers_for_an_agent_manages_it_with_a_credential_for_that(
    narrowing: dict[str, Any], answers: bool
) -> None:
    actor = ANN.model_copy(update=narrowing)
    assert answers_for(actor, _identity("agent", responsible_id=ANN.user_id)) is answers
    assert not answers_for(actor, _identity("agent", responsible_id=UUID(int=7)))
    assert not answers_for(actor, _identity("user", responsible_id=ANN.user_id))


@pytest.mark.parametrize(
    ("mine", "scopes", "theirs", "allowed"),
    [
        ({"admin:users"}, None, {"project:read", "secret:write"}, True),
        ({"admin:users"}, None, {"admin:users"}, True),
        ({"admin:users"}, None, {"admin:roles"}, False),
        ({"admin:users", "admin:roles"}, None, {"*:*"}, False),
        ({"*:*"}, None, {"*:*"}, True),
        ({"*:*"}, {"admin:users"}, {"*:*"}, False),
        ({"*:*"}, {"admin:users", "admin:roles"}, {"*:*"}, True),
        ({"*:*"}, {"admin:users"}, {"project:read"}, True),
    ],
)
def test_nobody_manages_who_administers_more(
    mine: set[str], scopes: set[str] | None, theirs: set[str], allowed: bool
) -> None:
    actor = ANN.model_copy(update={"scopes": None if scopes is None else frozenset(scopes)})
    arguments = actor, held_by_role("mine", frozenset(mine)), _identity(), held_by_role("theirs", frozenset(theirs))
    if allowed:
        check_not_above(*arguments)
        return
    with pytest.raises(PermissionMissing) as refused:
        check_not_above(*arguments)
    assert refused.value.specific_code == "outranked"
