"""Whoever's account was changed learns of it by mail: what, when, from where, and by whom."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import text
from temporalio.client import Client

from database.store.access.external import link_by_name
from domain.access.notices import Notice
from temporal.client import connect
from temporal.names import ORCHESTRATION_QUEUE
from tests.support.api import ApiServer, Person
from tests.support.authenticator import Authenticator
from tests.support.browsers import browser_of, by_browser
from tests.support.eventually import eventually
from tests.support.factories import PASSWORD
from tests.support.mails import Mailbox
from tests.support.second_factor import Desk, desk, site_origin
from tests.support.temporal import working
from workflows.access import RepairMailsWorkflow, SendMailWorkflow

NEW = "vierzehn kamele trinken tee"
ISSUER = "https://issuer.example"


class Scene:
    """Somebody with a verified address, and the mails that they get."""

    def __init__(self, server: ApiServer, person: Person, mailbox: Mailbox) -> None:
        self.server, self.person, self.mailbox = server, person, mailbox

    @property
    def address(self) -> str:
        return f"{self.person.name}@example.org"

    async def change(self, statement: str, **values: object) -> None:
        async with self.server.transaction() as session:
            await session.execute(text(statement), {"user": self.person.user.id, **values})

    async def verify(self) -> None:
        await self.change("UPDATE users SET email_verified_at = now() WHERE id = :user")

    async def admin(self) -> Person:
        return await self.server.user(role="admin")

    async def mails(self, address: str | None = None) -> list[str]:
        """What was mailed to the person since the scene began, without links."""
        await self.mailbox.deliver()
        read = [mail.get_content().replace("\r\n", "\n") for mail in self.mailbox.mails_to(address or self.address)]
        return [mail for mail in read if "?token=" not in mail]

    async def ordered(self) -> list[str]:
        """The notices that there are, sent or not."""
        async with self.server.transaction() as session:
            rows = await session.execute(
                text("SELECT notice FROM security_notices WHERE user_id = :user ORDER BY created_at, id"),
                {"user": self.person.user.id},
            )
            return list(rows.scalars())


@pytest.fixture
async def scene(api_server: ApiServer, tmp_path: Path) -> Scene:
    made = Scene(api_server, await api_server.user(), Mailbox(tmp_path / "outbox", api_server.services))
    await made.verify()
    return made


async def change_password(scene: Scene) -> None:
    body = {"present": PASSWORD, "new": NEW}
    answer = await scene.server.client.put("/api/v1/me/password", headers=scene.person.headers, json=body)
    assert answer.status_code == 200, answer.text


async def set_password_by_link(scene: Scene) -> None:
    await scene.server.client.post("/api/v1/password/resets", json={"email": scene.address})
    await scene.mailbox.deliver()
    token = next(
        mail.get_content().split("?token=")[1].split()[0]
        for mail in scene.mailbox.mails_to(scene.address)
        if "?token=" in mail.get_content()
    )
    answer = await scene.server.client.post("/api/v1/password", json={"token": token, "password": NEW})
    assert answer.status_code == 204, answer.text


async def at_the_desk(scene: Scene, work: Callable[[Desk], Awaitable[None]]) -> None:
    async with desk(scene.server, scene.person) as at:
        await work(at)


async def add_totp(scene: Scene) -> None:
    async def work(at: Desk) -> None:
        await at.set_up_totp()

    await at_the_desk(scene, work)


async def remove_totp(scene: Scene) -> None:
    await add_totp(scene)

    async def work(at: Desk) -> None:
        assert (await at.send("DELETE", "/me/factors/totp")).status_code == 204

    await at_the_desk(scene, work)


async def replace_codes(scene: Scene) -> None:
    await add_totp(scene)

    async def work(at: Desk) -> None:
        assert (await at.send("POST", "/me/factors/recovery-codes")).status_code == 201

    await at_the_desk(scene, work)


async def add_passkey(scene: Scene) -> None:
    async def work(at: Desk) -> None:
        made = await at.register(Authenticator(site_origin(scene.server)), "phone")
        assert made.status_code == 201, made.text

    await at_the_desk(scene, work)


async def remove_passkey(scene: Scene) -> None:
    async def work(at: Desk) -> None:
        made = await at.register(Authenticator(site_origin(scene.server)), "phone")
        assert (await at.send("DELETE", f"/me/factors/passkeys/{made.json()['id']}")).status_code == 204

    await at_the_desk(scene, work)


async def reset_factors(scene: Scene) -> None:
    await add_totp(scene)
    path = f"/api/v1/users/{scene.person.name}/factors"
    assert (await by_browser(scene.server, await scene.admin(), "DELETE", path)).status_code == 204


async def link_by_admin(scene: Scene) -> None:
    admin = await scene.admin()
    async with scene.server.transaction() as session:
        await link_by_name(session, admin.user.actor, scene.person.user.id, ISSUER, scene.person.name)


async def unlink(scene: Scene) -> None:
    await scene.change(
        "INSERT INTO external_identities (user_id, issuer, subject) VALUES (:user, :issuer, :subject)",
        issuer=ISSUER,
        subject=scene.person.name,
    )
    async with browser_of(scene.server, scene.person) as browser:
        [link] = (await browser.get("/api/v1/me/external-identities")).json()["items"]
        assert (await browser.delete(f"/api/v1/me/external-identities/{link['id']}")).status_code == 204


async def make_token(scene: Scene) -> None:
    body = {"name": "laptop", "scopes": ["project:read"]}
    assert (await by_browser(scene.server, scene.person, "POST", "/api/v1/tokens", body)).status_code == 201


async def rotate_token(scene: Scene) -> None:
    path = f"/api/v1/tokens/{scene.person.token.id}/rotation"
    assert (await scene.server.client.post(path, headers=scene.person.headers, json={})).status_code == 201


CHANGES: dict[Callable[[Scene], Awaitable[None]], tuple[list[Notice], str]] = {
    change_password: ([Notice.PASSWORD_CHANGED], "Your password was changed"),
    set_password_by_link: ([Notice.PASSWORD_SET_BY_LINK], "A new password was set for you by a link"),
    add_totp: ([Notice.TOTP_ADDED], "An authenticator app was added"),
    remove_totp: ([Notice.TOTP_ADDED, Notice.TOTP_REMOVED], "The authenticator app was removed"),
    replace_codes: ([Notice.TOTP_ADDED, Notice.RECOVERY_CODES_REPLACED], "Your recovery codes were made anew"),
    add_passkey: ([Notice.PASSKEY_ADDED], "Which: phone"),
    remove_passkey: ([Notice.PASSKEY_ADDED, Notice.PASSKEY_REMOVED], "A passkey was removed"),
    reset_factors: ([Notice.TOTP_ADDED, Notice.FACTORS_RESET], "All second factors of your account were taken away"),
    link_by_admin: ([Notice.IDENTITY_LINKED], f"Which: {ISSUER}"),
    unlink: ([Notice.IDENTITY_UNLINKED], f"Which: {ISSUER}"),
    make_token: ([Notice.TOKEN_MADE], "Which: laptop"),
    rotate_token: ([Notice.TOKEN_MADE], "Which: test"),
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_every_change_of_what_protects_an_account_is_told(
    scene: Scene, change: Callable[[Scene], Awaitable[None]]
) -> None:
    notices, sentence = CHANGES[change]
    await change(scene)
    assert await scene.ordered() == notices
    mails = await scene.mails()
    assert len(mails) == len(notices)
    [told] = [mail for mail in mails if sentence in mail]
    assert "UTC\n" in told
    by_admin = change in (reset_factors, link_by_admin)
    assert ("  By:    user-" in told) is by_admin, "whoever did it is named where it is somebody else"
    if change is not link_by_admin:
        assert "  From:  127.0.0.1\n" in told
    await scene.mailbox.deliver()
    assert len(await scene.mails()) == len(notices), "each is sent once"


@pytest.mark.parametrize("change", [change_password, add_totp, make_token], ids=lambda change: change.__name__)
async def test_nobody_is_mailed_at_an_address_that_was_not_proven(
    scene: Scene, change: Callable[[Scene], Awaitable[None]]
) -> None:
    await scene.change("UPDATE users SET email_verified_at = NULL WHERE id = :user")
    await change(scene)
    assert await scene.ordered() == []
    assert await scene.mails() == []


async def test_what_is_refused_is_not_told(scene: Scene) -> None:
    client, headers = scene.server.client, scene.person.headers
    for present, new in (("wrong", NEW), (PASSWORD, "short")):
        body = {"present": present, "new": new}
        assert (await client.put("/api/v1/me/password", headers=headers, json=body)).status_code in (400, 401)
    async with desk(scene.server, scene.person) as at:
        await at.send("POST", "/me/factors/totp")
        assert (await at.send("POST", "/me/factors/totp/confirm", {"code": "000000"})).status_code == 400
        assert (await at.send("DELETE", "/me/factors/totp")).status_code == 204, "it never counted"
        assert (await at.send("POST", "/me/factors/recovery-codes")).status_code == 409
    wider = {"name": "t", "scopes": ["project:read"], "renewable": True}
    assert (await client.post("/api/v1/tokens", headers=headers, json=wider)).status_code == 403
    path = f"/api/v1/users/{scene.person.name}/factors"
    assert (await by_browser(scene.server, await scene.admin(), "DELETE", path)).status_code == 204, "there were none"
    assert await scene.ordered() == []


async def test_a_new_address_is_told_at_both(scene: Scene) -> None:
    new = f"new-{scene.address}"
    body = {"email": new, "password": PASSWORD}
    answer = await scene.server.client.put("/api/v1/me/email", headers=scene.person.headers, json=body)
    assert answer.status_code == 202
    assert await scene.mails() == [], "nothing has changed yet"
    [token] = scene.mailbox.tokens_to(new)
    answer = await scene.server.client.post("/api/v1/email/verifications", json={"token": token})
    assert answer.status_code == 200
    for address in (scene.address, new):
        [told] = await scene.mails(address)
        assert "The e-mail address of your account was changed" in told
        assert "administers" in told


async def test_verifying_the_present_address_changes_nothing_that_must_be_told(scene: Scene) -> None:
    await scene.change("UPDATE users SET email_verified_at = NULL WHERE id = :user")
    await scene.server.client.post("/api/v1/me/email/verification", headers=scene.person.headers)
    await scene.mailbox.deliver()
    [token] = scene.mailbox.tokens_to(scene.address)
    assert (await scene.server.client.post("/api/v1/email/verifications", json={"token": token})).status_code == 200
    assert await scene.ordered() == []


async def test_an_address_that_an_administrator_changes_is_told_at_the_old_one_only(scene: Scene) -> None:
    admin, new = await scene.admin(), f"new-{scene.address}"
    path = f"/api/v1/users/{scene.person.name}"
    answer = await by_browser(scene.server, admin, "PATCH", path, {"email": new})
    assert answer.status_code == 200, answer.text
    [told] = await scene.mails()
    assert f"By:    {admin.name}\n" in told
    assert await scene.mails(new) == [], "nobody has proven that it is theirs"


async def test_agents_and_services_have_no_mailbox(scene: Scene) -> None:
    name = f"bot-{scene.person.name[-10:]}"
    client, headers = scene.server.client, scene.person.headers
    made = await client.post("/api/v1/users", headers=headers, json={"name": name, "kind": "service"})
    assert made.status_code == 201, made.text
    token = await client.post(
        f"/api/v1/users/{name}/tokens", headers=headers, json={"name": "t", "scopes": ["project:read"]}
    )
    assert token.status_code == 201, token.text
    assert await scene.ordered() == []


async def test_a_notice_goes_out_also_when_the_account_is_taken_out_of_use(scene: Scene) -> None:
    await change_password(scene)
    path = f"/api/v1/users/{scene.person.name}/deactivation"
    assert (await by_browser(scene.server, await scene.admin(), "POST", path)).status_code == 200
    [told] = await scene.mails()
    assert "Your password was changed" in told


async def test_a_notice_is_sent_by_its_workflow_right_after_the_commit(scene: Scene, temporal_client: Client) -> None:
    services, acts = scene.server.services, scene.mailbox.activities
    address = temporal_client.service_client.config.target_host
    client = await connect(address, temporal_client.namespace, services.temporal.data_converter, program="test")
    async with working(
        client,
        workflows=[SendMailWorkflow, RepairMailsWorkflow],
        activities=[acts.send_mail, acts.unsent_mails],
        queues=[ORCHESTRATION_QUEUE],
    ):
        await change_password(scene)
        await eventually(lambda: scene.mailbox.mails_to(scene.address))
    [mail] = scene.mailbox.mails_to(scene.address)
    assert mail["Subject"] == "Your password was changed - Perdure"

    async def is_audited() -> bool:
        async with scene.server.transaction() as session:
            rows = await session.execute(
                text("SELECT detail->>'notice' FROM audit_log WHERE action = 'mail:send' AND resource_id = :id"),
                {"id": scene.person.user.id},
            )
            return list(rows.scalars()) == [Notice.PASSWORD_CHANGED]

    await eventually(is_audited)
