import asyncio
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text
from temporalio.client import Client

from api.mails import start_mail
from api.services import Services
from database.store.access.mails import order_invitation, order_verification
from domain.actors import SYSTEM
from domain.ids import mail_workflow_id
from temporal.client import connect
from temporal.names import ORCHESTRATION_QUEUE
from tests.support.api import ApiServer, Person
from tests.support.eventually import eventually
from tests.support.factories import PASSWORD, make_user
from tests.support.mails import Mailbox
from tests.support.temporal import working
from workflows.access import RepairMailsWorkflow, SendMailWorkflow

NEW = "vierzehn kamele trinken tee"


@pytest.fixture
async def person(api_server: ApiServer) -> Person:
    return await api_server.user()


@pytest.fixture
def mailbox(api_server: ApiServer, tmp_path: Path) -> Mailbox:
    return Mailbox(tmp_path / "outbox", api_server.services)


def _address(person: Person) -> str:
    return f"{person.name}@example.org"


async def _verify(server: ApiServer, person: Person) -> None:
    await _change(server, person, "email_verified_at = now()")


async def _change(server: ApiServer, person: Person, assignment: str) -> None:
    statement = f"UPDATE users SET {assignment} WHERE id = :id"  # noqa: S608  # written by the tests below
    async with server.transaction() as session:
        await session.execute(text(statement), {"id": person.user.id})


async def _ask(server: ApiServer, email: str) -> httpx.Response:
    return await server.client.post("/api/v1/password/resets", json={"email": email})


async def _reset_token(server: ApiServer, person: Person, mailbox: Mailbox) -> str:
    await _verify(server, person)
    assert (await _ask(server, _address(person))).status_code == 202
    await mailbox.deliver()
    return mailbox.tokens_to(_address(person))[-1]


async def _set(server: ApiServer, token: str, password: str = NEW) -> httpx.Response:
    return await server.client.post("/api/v1/password", json={"token": token, "password": password})


async def _signs_in(server: ApiServer, person: Person, password: str) -> bool:
    answer = await server.client.post("/api/v1/sessions", json={"name": person.name, "password": password})
    return answer.status_code == 201


async def _connected(services: Services, like: Client) -> Client:
    """The API's client connects when it is first used, which a worker's may not."""
    address = like.service_client.config.target_host
    return await connect(address, like.namespace, services.temporal.data_converter, program="test")


async def _email(server: ApiServer, person: Person) -> tuple[str, bool]:
    async with server.transaction() as session:
        rows = await session.execute(
            text("SELECT email, email_verified_at IS NOT NULL FROM users WHERE id = :id"), {"id": person.user.id}
        )
        email, is_verified = rows.one()
        return email, is_verified


@pytest.mark.parametrize("email", ["", "nobody", "@example.org", "a b@example.org", "a@b@c", "a@example.org\nBcc: x@y"])
async def test_a_reset_for_what_is_no_address_is_400(api_server: ApiServer, email: str) -> None:
    assert (await _ask(api_server, email)).status_code == 400


@pytest.mark.parametrize("token", ["", "x", "A" * 43, "ä" * 43, "\x00"])
async def test_a_link_that_nobody_was_sent_is_not_good(api_server: ApiServer, token: str) -> None:
    for path, body in (
        ("/api/v1/password", {"token": token, "password": NEW}),
        ("/api/v1/email/verifications", {"token": token}),
    ):
        answer = await api_server.client.post(path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_link")


async def test_a_link_is_good_for_nothing_but_its_purpose(
    api_server: ApiServer, person: Person, mailbox: Mailbox
) -> None:
    token = await _reset_token(api_server, person, mailbox)
    answer = await api_server.client.post("/api/v1/email/verifications", json={"token": token})
    assert answer.json()["code"] == "invalid_link"
    assert (await _set(api_server, token)).status_code == 204


@pytest.mark.parametrize(
    "change",
    ["is_active = false", "email = 'moved-' || email", "kind = 'service'"],
    ids=["deactivated", "address changed", "no person"],
)
async def test_a_link_is_not_good_after_its_account_changed(
    api_server: ApiServer, person: Person, mailbox: Mailbox, change: str
) -> None:
    token = await _reset_token(api_server, person, mailbox)
    await _change(api_server, person, change)
    assert (await _set(api_server, token)).json()["code"] == "invalid_link"


async def test_an_expired_link_is_not_good(api_server: ApiServer, person: Person, mailbox: Mailbox) -> None:
    token = await _reset_token(api_server, person, mailbox)
    async with api_server.transaction() as session:
        await session.execute(
            text("UPDATE email_tokens SET expires_at = now() WHERE user_id = :id"), {"id": person.user.id}
        )
    assert (await _set(api_server, token)).json()["code"] == "invalid_link"


async def test_asking_answers_and_leaves_alike_whether_or_not_the_address_is_anybodys(
    api_server: ApiServer, person: Person, mailbox: Mailbox
) -> None:
    await _verify(api_server, person)

    async def traces(email: str) -> tuple[Mapping[str, str], list[str]]:
        async with api_server.transaction() as session:
            before = (await session.execute(text("SELECT count(*) FROM audit_log"))).scalar_one()
        answer = await _ask(api_server, email)
        assert answer.status_code == 202
        async with api_server.transaction() as session:
            rows = await session.execute(
                text(
                    "SELECT action FROM audit_log ORDER BY created_at DESC LIMIT (SELECT count(*) FROM audit_log) - :n"
                ),
                {"n": before},
            )
            return answer.json(), list(rows.scalars())

    assert await traces(_address(person)) == await traces(f"nobody-{person.name}@example.org")
    await mailbox.deliver()
    assert len(mailbox.mails_to(_address(person))) == 1
    assert mailbox.mails_to(f"nobody-{person.name}@example.org") == []


@pytest.mark.parametrize("change", ["email_verified_at = NULL", "password_hash = NULL", "is_active = false"])
async def test_no_link_goes_to_an_address_that_nobody_proved_or_an_account_that_cannot_use_it(
    api_server: ApiServer, person: Person, mailbox: Mailbox, change: str
) -> None:
    await _verify(api_server, person)
    await _change(api_server, person, change)
    assert (await _ask(api_server, _address(person))).status_code == 202
    await mailbox.deliver()
    assert mailbox.mails_to(_address(person)) == []


async def test_a_strangers_mailbox_is_not_filled(api_server: ApiServer, person: Person, mailbox: Mailbox) -> None:
    await _verify(api_server, person)
    answers = [await _ask(api_server, _address(person).upper()) for _ in range(8)]
    assert [answer.status_code for answer in answers] == [202] * 5 + [429] * 3
    assert 50 <= int(answers[-1].headers["retry-after"]) <= 60
    await mailbox.deliver()
    assert len(mailbox.mails_to(_address(person))) == 5
    assert await _signs_in(api_server, person, PASSWORD), "that is no reason to keep its owner out"


async def test_a_weak_password_does_not_use_up_the_link(
    api_server: ApiServer, person: Person, mailbox: Mailbox
) -> None:
    token = await _reset_token(api_server, person, mailbox)
    for weak in ("short", "password2026!!", _address(person)):
        answer = await _set(api_server, token, weak)
        assert (answer.status_code, answer.json()["code"]) == (400, "weak_password")
    assert (await _set(api_server, token)).status_code == 204


async def test_a_reset_sets_the_password_once_and_signs_everybody_out(
    api_server: ApiServer, person: Person, mailbox: Mailbox
) -> None:
    token = await _reset_token(api_server, person, mailbox)
    other = await _reset_token(api_server, person, mailbox)
    for _ in range(5):
        assert not await _signs_in(api_server, person, "wrong")
    assert not await _signs_in(api_server, person, PASSWORD), "banned"
    async with await api_server.browser(person) as browser:
        answers = await asyncio.gather(*(_set(api_server, token) for _ in range(4)))
        assert sorted(answer.status_code for answer in answers) == [204, 400, 400, 400]
        assert (await browser.get("/api/v1/me")).status_code == 401
    assert (await _set(api_server, other)).status_code == 400, "no other link of before is good either"
    assert await _signs_in(api_server, person, NEW), "whoever reads the mail is not the one who guessed"
    assert not await _signs_in(api_server, person, PASSWORD)
    assert (await api_server.client.get("/api/v1/me", headers=person.headers)).status_code == 200, "tokens stay"


async def test_a_reset_asked_for_by_a_page_of_another_site_is_refused(api_server: ApiServer) -> None:
    headers = {"Origin": "https://evil.example"}
    body = {"email": "a@example.org"}
    for answer in (
        await api_server.client.post("/password/reset", headers=headers, data=body),
        await api_server.client.post("/api/v1/password/resets", headers=headers, json=body),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "cross_origin")


async def test_a_new_address_takes_over_only_when_its_reader_says_so(
    api_server: ApiServer, person: Person, mailbox: Mailbox
) -> None:
    await _verify(api_server, person)
    new = f"new-{person.name}@example.org"
    wrong = await api_server.client.put(
        "/api/v1/me/email", headers=person.headers, json={"email": new, "password": "wrong"}
    )
    assert wrong.status_code == 401
    asked = await api_server.client.put(
        "/api/v1/me/email", headers=person.headers, json={"email": new.upper(), "password": PASSWORD}
    )
    assert asked.status_code == 202
    await mailbox.deliver()
    assert await _email(api_server, person) == (_address(person), True)
    [token] = mailbox.tokens_to(new)
    old_link = await _reset_token(api_server, person, mailbox)
    answer = await api_server.client.post("/api/v1/email/verifications", json={"token": token})
    assert (answer.status_code, answer.json()) == (200, {"email": new})
    assert await _email(api_server, person) == (new, True)
    again = await api_server.client.post("/api/v1/email/verifications", json={"token": token})
    assert again.json()["code"] == "invalid_link"
    assert (await _set(api_server, old_link)).status_code == 400, "a link to the old address sets no password"


async def test_verification_can_be_asked_for_again_and_only_the_last_link_is_good(
    api_server: ApiServer, person: Person, mailbox: Mailbox
) -> None:
    for _ in range(2):
        answer = await api_server.client.post("/api/v1/me/email/verification", headers=person.headers)
        assert answer.status_code == 202
        await mailbox.deliver()
    first, second = mailbox.tokens_to(_address(person))
    answers = [
        await api_server.client.post("/api/v1/email/verifications", json={"token": token}) for token in (first, second)
    ]
    assert [answer.status_code for answer in answers] == [400, 200]
    assert await _email(api_server, person) == (_address(person), True)
    answer = await api_server.client.post("/api/v1/me/email/verification", headers=person.headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "already_verified")


async def test_an_address_that_became_somebody_elses_is_not_taken_from_them(
    api_server: ApiServer, person: Person, mailbox: Mailbox
) -> None:
    wanted = f"wanted-{person.name}@example.org"
    body = {"email": wanted, "password": PASSWORD}
    assert (await api_server.client.put("/api/v1/me/email", headers=person.headers, json=body)).status_code == 202
    await mailbox.deliver()
    other = await api_server.user()
    await _change(api_server, other, f"email = '{wanted}'")
    [token] = mailbox.tokens_to(wanted)
    answer = await api_server.client.post("/api/v1/email/verifications", json={"token": token})
    assert (answer.status_code, answer.json()["code"]) == (409, "email_taken")
    assert await _email(api_server, person) == (_address(person), False)


async def test_an_invitation_sets_the_first_password_and_proves_the_address(
    api_server: ApiServer, mailbox: Mailbox
) -> None:
    async with api_server.transaction() as session:
        invited = await make_user(session)
        await session.execute(text("UPDATE users SET password_hash = NULL WHERE id = :id"), {"id": invited.id})
        key = api_server.services.secret_key
        for _ in range(2):
            await order_invitation(session, SYSTEM, invited.id, f"{invited.name}@example.org", key)
    await mailbox.deliver()
    # The first one was void before it was sent.
    [token] = mailbox.tokens_to(f"{invited.name}@example.org")
    assert (await _set(api_server, token)).status_code == 204
    person = Person(api_server, invited, (await api_server.user()).token)
    assert await _signs_in(api_server, person, NEW)
    assert await _email(api_server, person) == (f"{invited.name}@example.org", True)


async def test_the_mail_is_for_people_and_holds_no_more_than_it_must(
    api_server: ApiServer, person: Person, mailbox: Mailbox
) -> None:
    token = await _reset_token(api_server, person, mailbox)
    [mail] = mailbox.mails_to(_address(person))
    body = mail.get_content()
    assert f"{api_server.services.public_url}/password/new?token={token}\n" in body.replace("\r\n", "\n")
    assert "one hour" in body
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Message-ID"].endswith("@localhost>")
    async with api_server.transaction() as session:
        rows = await session.execute(
            text("SELECT row_to_json(e)::text FROM email_tokens e WHERE user_id = :id"), {"id": person.user.id}
        )
        assert token not in rows.scalar_one()


async def test_a_mail_is_sent_by_its_workflow_whose_history_does_not_know_the_link(
    api_server: ApiServer, person: Person, mailbox: Mailbox, temporal_client: Client
) -> None:
    services = api_server.services
    acts = mailbox.activities
    async with working(
        await _connected(services, temporal_client),
        workflows=[SendMailWorkflow, RepairMailsWorkflow],
        activities=[acts.send_mail, acts.unsent_mails],
        queues=[ORCHESTRATION_QUEUE],
    ):
        async with services.database.transaction() as session:
            mail_id = await order_verification(
                session, person.user.actor, person.user.id, _address(person), services.secret_key
            )
        await start_mail(services, mail_id)
        await start_mail(services, mail_id)
        await eventually(lambda: mailbox.mails_to(_address(person)))
        handle = services.temporal.get_workflow_handle(mail_workflow_id(mail_id))
        await handle.result()
        [token] = mailbox.tokens_to(_address(person))
        history = await handle.fetch_history()
        assert services.temporal.data_converter.payload_codec is not None
        for event in history.events:
            payloads = event.workflow_execution_started_event_attributes.input.payloads
            payloads = payloads or event.activity_task_scheduled_event_attributes.input.payloads
            for plain in await services.temporal.data_converter.payload_codec.decode(payloads):
                assert token.encode() not in plain.data
                assert str(mail_id).encode() in plain.data


async def test_what_a_crash_between_commit_and_start_left_is_sent_by_the_repair(
    api_server: ApiServer, person: Person, mailbox: Mailbox, temporal_client: Client
) -> None:
    services = api_server.services
    acts = mailbox.activities
    async with services.database.transaction() as session:
        mail_id = await order_verification(
            session, person.user.actor, person.user.id, _address(person), services.secret_key
        )
        await session.execute(
            text("UPDATE email_tokens SET created_at = now() - interval '1 minute' WHERE id = :id"), {"id": mail_id}
        )
    async with working(
        await _connected(services, temporal_client),
        workflows=[SendMailWorkflow, RepairMailsWorkflow],
        activities=[acts.send_mail, acts.unsent_mails],
        queues=[ORCHESTRATION_QUEUE],
    ):
        for number in range(2):
            await services.temporal.execute_workflow(
                RepairMailsWorkflow.run, id=f"repair/{mail_id}/{number}", task_queue=ORCHESTRATION_QUEUE
            )
        await eventually(lambda: mailbox.mails_to(_address(person)))
    assert len(mailbox.mails_to(_address(person))) == 1
    async with services.database.transaction() as session:
        rows = await session.execute(
            text("SELECT count(*) FROM email_tokens WHERE sent_at IS NULL AND id = :id"), {"id": mail_id}
        )
        assert rows.scalar_one() == 0
