"""Signing in through a real OpenID provider, whole: over HTTP, with every redirect."""

import re

import pytest
from sqlalchemy import text

from tests.support.factories import make_user
from tests.support.openid_scene import Scene


async def audit_of(scene: Scene, action: str) -> list[str]:
    async with scene.server.transaction() as session:
        rows = await session.execute(
            text("SELECT outcome || ' ' || COALESCE(detail->>'answer', '') FROM audit_log WHERE action = :action"),
            {"action": action},
        )
        return [str(one).strip() for one in rows.scalars()]


async def test_a_provider_that_is_not_in_the_settings_is_not_found(oidc: Scene) -> None:
    async with oidc.browser() as browser:
        assert (await browser.get("/login/oidc/nobody")).status_code == 404
        assert (await browser.get("/login/oidc/nobody/callback?state=x")).status_code == 404


async def test_the_login_page_shows_a_button_for_each_provider_and_keeps_where_one_was_going(oidc: Scene) -> None:
    async with oidc.browser() as browser:
        page = await browser.get("/login?next=/projects%3Fa=b")
        assert re.search(r'href="/login/oidc/open\?next=/projects%3Fa%3Db">Sign in with Corp open', page.text)


async def test_a_first_login_makes_a_user_with_what_the_provider_vouches_for(oidc: Scene) -> None:
    login = await oidc.account(
        preferred_username="Änne Müller!", name="Änne Müller", email=f"Anne{id(oidc)}@corp.example", email_verified=True
    )
    async with oidc.browser() as browser:
        answer = await browser.sign_in("open", login, "/me/providers")
        assert (answer.status_code, answer.headers["location"]) == (303, "/me/providers")
        assert not [cookie for cookie in browser.http.cookies if "oidc" in cookie]
        me = await browser.me()
        assert me is not None
        assert me["name"] == "anne-muller"
        page = await browser.get("/me/providers")
        assert login in page.text
    async with oidc.server.transaction() as session:
        row = (
            await session.execute(
                text(
                    "SELECT display_name, email, email_verified_at IS NOT NULL AS verified, password_hash FROM users "
                    "WHERE name = 'anne-muller'"
                )
            )
        ).one()
    assert row == ("Änne Müller", f"anne{id(oidc)}@corp.example", True, None)


async def test_a_second_login_is_the_same_user_whatever_is_called_otherwise_now(oidc: Scene) -> None:
    login = await oidc.account(preferred_username="first-name")
    async with oidc.browser() as browser:
        await browser.sign_in("open", login)
        before = await browser.me()
    oidc.accounts[login] = {"preferred_username": "second-name"}
    await oidc.provider.control(accounts=oidc.accounts)
    async with oidc.browser() as browser:
        await browser.sign_in("open", login)
        after = await browser.me()
    assert before is not None
    assert after is not None
    assert (after["id"], after["name"]) == (before["id"], "first-name")


async def test_a_name_that_is_taken_or_reserved_gets_a_number(oidc: Scene) -> None:
    names = []
    for _ in range(2):
        login = await oidc.account(preferred_username="login")
        async with oidc.browser() as browser:
            await browser.sign_in("open", login)
            me = await browser.me()
            assert me is not None
            names.append(me["name"])
    assert names == ["login-2", "login-3"]


async def test_who_is_not_known_is_refused_where_nobody_may_sign_up(oidc: Scene) -> None:
    login = await oidc.account(preferred_username="stranger")
    async with oidc.browser() as browser:
        answer = await browser.sign_in("closed", login)
        assert answer.status_code == 403
        assert "Nobody here is linked with that account" in answer.text
        assert await browser.me() is None
    assert "denied not_known" in await audit_of(oidc, "session:create")


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"email": "ann@corp.example"},
        {"email": "ann@corp.example", "email_verified": False},
        {"email": "ann@corp.example.evil.example", "email_verified": True},
        {"email": "ann@evil.example, ann@corp.example", "email_verified": True},
    ],
)
async def test_only_a_verified_address_of_an_allowed_domain_signs_in(oidc: Scene, claims: dict[str, object]) -> None:
    login = await oidc.account(**claims)
    async with oidc.browser() as browser:
        answer = await browser.sign_in("company", login)
        assert answer.status_code == 403
        assert "corp.example" in answer.text
    oidc.accounts[login] = {"email": f"{login}@Corp.Example", "email_verified": True}
    await oidc.provider.control(accounts=oidc.accounts)
    async with oidc.browser() as browser:
        assert (await browser.sign_in("company", login)).status_code == 303


async def test_an_address_never_leads_to_an_account_that_exists(oidc: Scene) -> None:
    async with oidc.server.transaction() as session:
        victim = await make_user(session)
    address = f"{victim.name}@example.org"
    unverified = await oidc.account(preferred_username="mallory", email=address)
    async with oidc.browser() as browser:
        await browser.sign_in("open", unverified)
        me = await browser.me()
        assert me is not None
        assert me["id"] != str(victim.id)
    verified = await oidc.account(preferred_username="mallory", email=address.upper(), email_verified=True)
    async with oidc.browser() as browser:
        answer = await browser.sign_in("open", verified)
        assert answer.status_code == 403
        assert "Sign in to it as usual" in answer.text
        assert await browser.me() is None
    async with oidc.server.transaction() as session:
        linked = await session.execute(
            text("SELECT count(*) FROM external_identities WHERE user_id = :id"), {"id": victim.id}
        )
        assert linked.scalar_one() == 0


async def test_a_deactivated_user_is_refused(oidc: Scene) -> None:
    login = await oidc.account(preferred_username="gone")
    async with oidc.browser() as browser:
        await browser.sign_in("open", login)
        me = await browser.me()
        assert me is not None
        async with oidc.server.transaction() as session:
            await session.execute(text("UPDATE users SET is_active = false WHERE id = :id"), {"id": me["id"]})
        answer = await browser.sign_in("open", login)
        assert answer.status_code == 403
        assert "deactivated" in answer.text
        assert await browser.me() is None


async def test_groups_give_and_take_roles_at_each_login_and_leave_alone_what_people_gave(oidc: Scene) -> None:
    login = await oidc.account(preferred_username="grouped", groups=["devs", "unknown", 7])

    async def log_in(*groups: str) -> str:
        oidc.accounts[login] = {"preferred_username": "grouped", "groups": list(groups)}
        await oidc.provider.control(accounts=oidc.accounts)
        async with oidc.browser() as browser:
            await browser.sign_in("open", login)
            me = await browser.me()
            assert me is not None
            return str(me["name"])

    name = await log_in("devs", "x")
    assert await oidc.roles_of(name) == {("developer", True)}
    async with oidc.server.transaction() as session:
        user = (await session.execute(text("SELECT id FROM users WHERE name = :name"), {"name": name})).scalar_one()
        await session.execute(
            text(
                "INSERT INTO user_roles (user_id, role_id) "
                "SELECT :user, id FROM roles WHERE name IN ('developer', 'ops')"
            ),
            {"user": user},
        )
    await log_in()
    assert await oidc.roles_of(name) == {("developer", False), ("ops", False)}
    await log_in("devs", "admins")
    assert ("admin", True) in await oidc.roles_of(name)
    await log_in("devs")
    assert await oidc.roles_of(name) == {("developer", False), ("developer", True), ("ops", False)}


async def test_keys_that_the_provider_exchanges_are_followed(oidc: Scene) -> None:
    login = await oidc.account()
    async with oidc.browser() as browser:
        assert (await browser.sign_in("open", login)).status_code == 303
    before = (await oidc.provider.control(rotate=True))["asked"]["jwks"]
    oidc.clock.seconds += 31
    async with oidc.browser() as browser:
        assert (await browser.sign_in("open", login)).status_code == 303
    assert (await oidc.provider.control())["asked"]["jwks"] == before + 1
    # Made-up key ids cost one question in half a minute, not one each.
    async with oidc.lying("unknown-key"):
        for _ in range(3):
            async with oidc.browser() as browser:
                assert (await browser.sign_in("open", login)).status_code == 403
    assert (await oidc.provider.control())["asked"]["jwks"] == before + 1


LIES = {
    "nonce": "its nonce is not ours",
    "no-nonce": "its nonce is not ours",
    "issuer": "was issued by",
    "audience": "another audience",
    "audiences-without-azp": "several audiences",
    "azp": "another client",
    "expired": "has expired",
    "old": "ago",
    "future": "in the future",
    "none": "is not accepted",
    "hs256": "is not accepted",
    "unknown-key": "does not publish",
    "other-key": "signature is not right",
    "userinfo-of-another": "somebody else",
}


@pytest.mark.parametrize("lie", LIES)
async def test_an_id_token_that_is_wrong_signs_nobody_in(oidc: Scene, lie: str) -> None:
    login = await oidc.account(preferred_username="liar")
    async with oidc.lying(lie), oidc.browser() as browser:
        answer = await browser.sign_in("open", login)
        assert answer.status_code == 403
        assert LIES[lie] in answer.text.replace("&#39;", "'")
        assert await browser.me() is None


async def test_state_code_and_issuer_of_the_way_back_belong_to_the_browser_that_began(oidc: Scene) -> None:
    login = await oidc.account()
    async with oidc.browser() as mine, oidc.browser() as theirs:
        callback = await mine.way_there_and_back("open", login)
        for wrong in (
            callback.replace("state=", "state=x"),
            re.sub(r"state=[^&]+", "state=", callback),
            callback.replace("/open/", "/closed/"),
        ):
            assert (await mine.http.get(wrong)).status_code == 403
        # An attacker's way back in another's browser would sign that one in as the attacker.
        assert (await theirs.http.get(callback)).status_code == 403
        assert await theirs.me() is None
        assert (
            await mine.http.get(re.sub(r"iss=[^&]+", "iss=https%3A%2F%2Felsewhere.example", callback))
        ).status_code == 403
        assert await mine.me() is None


async def test_an_answer_without_its_issuer_is_refused_where_the_provider_always_names_it(oidc: Scene) -> None:
    login = await oidc.account()
    async with oidc.browser() as browser:
        callback = await browser.way_there_and_back("open", login)
        answer = await browser.http.get(re.sub(r"&iss=[^&]+", "", callback))
        assert answer.status_code == 403
        assert "(iss)" in answer.text


async def test_a_way_back_is_good_once_even_with_its_cookie(oidc: Scene) -> None:
    login = await oidc.account()
    async with oidc.browser() as browser:
        callback = await browser.way_there_and_back("open", login)
        cookies = dict(browser.http.cookies)
        assert (await browser.http.get(callback)).status_code == 303
    async with oidc.browser() as again:
        again.http.cookies.update(cookies)
        answer = await again.http.get(callback)
        assert answer.status_code == 403
        assert "used already" in answer.text


async def test_a_code_of_another_sign_in_is_refused_by_the_provider(oidc: Scene) -> None:
    login = await oidc.account()
    async with oidc.browser() as one, oidc.browser() as other:
        stolen = re.search(r"code=([^&]+)", await one.way_there_and_back("open", login))
        assert stolen is not None
        callback = re.sub(r"code=[^&]+", f"code={stolen.group(1)}", await other.way_there_and_back("open", login))
        answer = await other.http.get(callback)
        assert answer.status_code == 403
        assert "invalid_grant" in answer.text


async def test_a_no_of_the_provider_is_told_without_its_words(oidc: Scene) -> None:
    login = await oidc.account()
    async with oidc.browser() as browser:
        form = await browser.get("/login/oidc/open")
        answer = await browser.http.get(await browser.login_there(form, login, deny="yes"))
        assert answer.status_code == 403
        assert "access_denied" in answer.text
    async with oidc.browser() as browser:
        form = await browser.get("/login/oidc/open")
        callback = await browser.login_there(form, login, deny="yes")
        answer = await browser.http.get(re.sub(r"error=[^&]+", "error=%3Cb%3Eclick%3C%2Fb%3E", callback))
        assert "click" not in answer.text


async def test_a_provider_that_is_away_gives_a_clear_page_and_comes_back(oidc: Scene) -> None:
    login = await oidc.account()
    async with oidc.browser() as browser:
        callback = await browser.way_there_and_back("open", login)
        await oidc.provider.control(offline=True)
        try:
            answer = await browser.http.get(callback)
            assert answer.status_code == 503
            assert "Corp open cannot be used at the moment" in answer.text
            assert answer.headers["retry-after"]
        finally:
            await oidc.provider.control(offline=False)
        assert (await browser.sign_in("open", login)).status_code == 303


async def test_a_second_factor_here_is_asked_for_after_the_provider(oidc: Scene) -> None:
    login = await oidc.account(preferred_username="careful")
    async with oidc.browser() as browser:
        await browser.sign_in("open", login)
        me = await browser.me()
        assert me is not None
    async with oidc.server.transaction() as session:
        await session.execute(
            text("INSERT INTO totp_factors (user_id, secret, confirmed_at) VALUES (:user, '\\x00', now())"),
            {"user": me["id"]},
        )
    async with oidc.browser() as browser:
        answer = await browser.sign_in("open", login, "/projects")
        assert await browser.me() is None
        page = await browser.onward(answer)
        assert str(page.url).endswith("/login/second-factor?next=%2Fprojects")
        assert page.status_code == 200
        assert "careful" in page.text
