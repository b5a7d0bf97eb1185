"""Accounts at a provider linked to one's own, taken away again, and used to prove again who one is."""

from sqlalchemy import text

from tests.support.factories import make_session, make_user
from tests.support.openid_scene import Scene


async def test_only_the_owner_who_is_signed_in_and_proved_it_lately_links_an_account(oidc: Scene) -> None:
    async with oidc.server.transaction() as session:
        owner = await make_user(session)
        _, secret = await make_session(session, owner)
    login = await oidc.account(preferred_username="owner-there", groups=["devs"])
    async with oidc.browser() as browser:
        answer = await browser.post("/me/providers/link/open", {})
        assert answer.status_code == 401
        browser.http.cookies.set("perdure_session", secret)
        assert (await browser.post("/me/providers/link/open", {})).status_code == 403
        form = {"csrf_token": await browser.csrf()}
        callback = await browser.login_there(
            await browser.onward(await browser.post("/me/providers/link/open", form)), login
        )
        # The proof gets old while the browser is at the provider.
        async with oidc.server.transaction() as session:
            await session.execute(
                text("UPDATE auth_sessions SET proved_at = now() - interval '1 hour' WHERE user_id = :id"),
                {"id": owner.id},
            )
        assert (await browser.http.get(callback)).status_code in (303, 307, 403)
        async with oidc.server.transaction() as session:
            linked = await session.execute(
                text("SELECT count(*) FROM external_identities WHERE subject = :s"), {"s": login}
            )
            assert linked.scalar_one() == 0
            await session.execute(
                text("UPDATE auth_sessions SET proved_at = now() WHERE user_id = :id"), {"id": owner.id}
            )
        callback = await browser.login_there(
            await browser.onward(await browser.post("/me/providers/link/open", form)), login
        )
        assert (await browser.http.get(callback)).headers["location"] == "/me/providers"
        assert await oidc.roles_of(owner.name) == {("developer", False), ("developer", True)}
    async with oidc.browser() as browser:
        await browser.sign_in("closed", login)
        me = await browser.me()
        assert me is not None
        assert me["id"] == str(owner.id)


async def test_a_link_ends_in_the_session_that_began_it_and_in_no_other(oidc: Scene) -> None:
    async with oidc.server.transaction() as session:
        victim, attacker = await make_user(session), await make_user(session)
        _, victims = await make_session(session, victim)
        _, attackers = await make_session(session, attacker)
    login = await oidc.account()
    async with oidc.browser() as browser:
        browser.http.cookies.set("perdure_session", attackers)
        form = {"csrf_token": await browser.csrf()}
        callback = await browser.login_there(
            await browser.onward(await browser.post("/me/providers/link/open", form)), login
        )
        browser.http.cookies.delete("perdure_session")
        browser.http.cookies.set("perdure_session", victims)
        assert (await browser.http.get(callback)).status_code == 403
    async with oidc.server.transaction() as session:
        linked = await session.execute(
            text("SELECT count(*) FROM external_identities WHERE subject = :s"), {"s": login}
        )
        assert linked.scalar_one() == 0


async def test_an_account_that_is_somebodys_is_not_linked_again(oidc: Scene) -> None:
    login = await oidc.account()
    async with oidc.browser() as browser:
        await browser.sign_in("open", login)
    async with oidc.server.transaction() as session:
        other = await make_user(session)
        _, secret = await make_session(session, other)
    async with oidc.browser() as browser:
        browser.http.cookies.set("perdure_session", secret)
        form = {"csrf_token": await browser.csrf()}
        callback = await browser.login_there(
            await browser.onward(await browser.post("/me/providers/link/open", form)), login
        )
        answer = await browser.http.get(callback)
        assert answer.status_code == 409
        assert "another account here" in answer.text


async def test_a_link_is_taken_away_with_its_roles_but_never_the_last_way_to_sign_in(oidc: Scene) -> None:
    login = await oidc.account(preferred_username="leaving", groups=["devs"])
    async with oidc.browser() as browser:
        await browser.sign_in("open", login)
        me = await browser.me()
        assert me is not None
        listed = (await browser.http.get(f"{oidc.server.base_url}/api/v1/me/external-identities")).json()["items"]
        [link] = [one["id"] for one in listed if one["subject"] == login]
        form = {"csrf_token": await browser.csrf()}
        assert (await browser.post(f"/me/providers/{link}/unlink", form)).status_code == 409
        async with oidc.server.transaction() as session:
            await session.execute(text("UPDATE users SET password_hash = 'x' WHERE id = :id"), {"id": me["id"]})
        page = await browser.post(f"/me/providers/{link}/unlink", form)
        assert (page.status_code, login in page.text) == (200, False)
        assert await oidc.roles_of(me["name"]) == set()
        assert (await browser.post(f"/me/providers/{link}/unlink", form)).status_code == 404


async def test_a_fresh_login_at_the_provider_proves_again_who_one_is(oidc: Scene) -> None:
    login = await oidc.account(preferred_username="prover")
    async with oidc.browser() as browser:
        await browser.sign_in("open", login)
        me = await browser.me()
        assert me is not None
        async with oidc.server.transaction() as session:
            await session.execute(
                text("UPDATE auth_sessions SET proved_at = now() - interval '1 hour' WHERE user_id = :id"),
                {"id": me["id"]},
            )
        form = {"csrf_token": await browser.csrf()}
        async with oidc.lying("no-auth-time"):
            there = await browser.onward(await browser.post("/me/proof/oidc/open?next=/me/providers", form))
            # Though the session at the provider is open, it asks again.
            assert there.status_code == 200
            assert (await browser.http.get(await browser.login_there(there, login))).status_code == 403
        there = await browser.onward(await browser.post("/me/proof/oidc/open?next=/me/providers", form))
        answer = await browser.http.get(await browser.login_there(there, login))
        assert answer.headers["location"] == "/me/providers"
    async with oidc.server.transaction() as session:
        fresh = await session.execute(
            text("SELECT now() - proved_at < interval '1 minute', factor FROM auth_sessions WHERE user_id = :id"),
            {"id": me["id"]},
        )
        assert fresh.one() == (True, "provider")
