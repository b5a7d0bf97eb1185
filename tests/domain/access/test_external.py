from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.access.external import (
    ExternalProfile,
    ExternalSignInRefused,
    SignUpPolicy,
    login_names,
    profile_of,
    wanted_claims_missing,
)
from domain.access.identities import check_user_name


def profile(**claims: object) -> ExternalProfile:
    return profile_of(claims, issuer="https://i.example", subject="s", groups_claim="realm.roles")


@pytest.mark.parametrize(
    "claims",
    [
        {"email": "ann@example.org"},
        {"email": "ann@example.org", "email_verified": False},
        {"email": "ann@example.org", "email_verified": "yes"},
        {"email": "ann@example.org", "email_verified": 1.5},
        {"email": "ann", "email_verified": True},
        {"email": "ann@example", "email_verified": True},
        {"email": "a b@example.org", "email_verified": True},
        {"email": "ann@evil.example\n@example.org", "email_verified": True},
        {"email": ["ann@example.org"], "email_verified": True},
        {"email": "a" * 300 + "@example.org", "email_verified": True},
        {"email_verified": True},
    ],
)
def test_an_address_that_is_not_surely_verified_is_not_taken_over(claims: dict[str, object]) -> None:
    assert profile(**claims).verified_email is None


def test_a_verified_address_is_taken_over_in_lower_case() -> None:
    assert profile(email="Ann@Example.org", email_verified=True).verified_email == "ann@example.org"
    assert profile(email="Ann@Example.org", email_verified="true").verified_email == "ann@example.org"


@pytest.mark.parametrize(
    ("claims", "groups"),
    [
        ({}, set()),
        ({"realm": {"roles": ["a", "b", 3, None]}}, {"a", "b"}),
        ({"realm": {"roles": "a"}}, {"a"}),
        ({"realm.roles": ["c"], "realm": {"roles": ["a"]}}, {"c"}),
        ({"realm": ["roles"]}, set()),
        ({"realm": {"roles": {"a": 1}}}, set()),
    ],
)
def test_groups_are_found_where_the_settings_say(claims: dict[str, object], groups: set[str]) -> None:
    assert profile(**claims).groups == groups


@pytest.mark.parametrize(
    ("claims", "first"),
    [
        ({"preferred_username": "ann"}, "ann"),
        ({"preferred_username": "Ann.O'Neil@corp.example"}, "ann-o-neil"),
        ({"preferred_username": "Änne Müller"}, "anne-muller"),
        ({"preferred_username": "--"}, "user"),
        ({"preferred_username": "日本"}, "user"),
        ({"preferred_username": "login"}, "login-2"),
        ({"preferred_username": "a" * 60}, "a" * 39),
        ({"email": "bob@example.org", "email_verified": True}, "bob"),
        ({"email": "bob@example.org"}, "user"),
        ({"name": "Bob Smith"}, "bob-smith"),
        ({}, "user"),
    ],
)
def test_a_login_name_is_made_of_what_somebody_is_called(claims: dict[str, object], first: str) -> None:
    assert next(login_names(profile(**claims))) == first


@given(st.text(max_size=250))
def test_every_login_name_is_one_that_is_allowed_and_no_two_are_the_same(text: str) -> None:
    names = list(islice(login_names(profile(preferred_username=text)), 200))
    assert [check_user_name(name) for name in names] == names
    assert len(set(names)) == len(names) > 40


def test_the_user_info_is_asked_for_what_is_missing_only() -> None:
    claims = {"preferred_username": "a", "email": "b", "email_verified": True, "name": "c"}
    assert not wanted_claims_missing(claims, None)
    assert wanted_claims_missing(claims, "groups")
    assert not wanted_claims_missing(claims | {"groups": []}, "groups")
    assert wanted_claims_missing({}, None)


def test_roles_are_those_of_the_groups_that_the_settings_name() -> None:
    policy = SignUpPolicy(roles_of_groups={"devs": "developer", "leads": "developer", "admins": "admin"})
    assert policy.roles({"devs", "leads", "others"}) == {"developer"}
    assert policy.roles(set()) == SignUpPolicy().roles({"devs"}) == frozenset()


def test_a_domain_is_asked_for_only_where_the_settings_do() -> None:
    SignUpPolicy().check_domain(profile())
    policy = SignUpPolicy(email_domains=frozenset({"corp.example"}))
    policy.check_domain(profile(email="a@Corp.example", email_verified=True))
    for claims in ({}, {"email": "a@corp.example"}, {"email": "a@sub.corp.example", "email_verified": True}):
        with pytest.raises(ExternalSignInRefused, match=r"corp\.example"):
            policy.check_domain(profile(**claims))
