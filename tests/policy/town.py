"""An administrator at a browser and everything that a route may be asked to change, each made when it is needed."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from sqlalchemy import text

from database.models.credentials import ExternalIdentity, Passkey, SignInBan
from domain.access.bans import address_subject, name_subject
from domain.projects import ProjectView
from tests.policy.doings import DOINGS
from tests.policy.routes import ROUTES
from tests.support.api import ApiServer, Person
from tests.support.factories import make_session
from tests.support.mails import Mailbox
from tests.support.pipelines import HELLO, fill_repository, make_run
from tests.support.second_factor import Desk, code_now, desk, secret_of


@dataclass
class Town:
    """The scene of one call.

    Attributes:
        values: What the things that were made are called, by the names in paths, bodies and forms.
    """

    desk: Desk
    project: ProjectView
    directory: Path
    values: dict[str, str] = field(default_factory=dict)

    @property
    def server(self) -> ApiServer:
        return self.desk.server

    @property
    def admin(self) -> Person:
        return self.desk.person

    async def make(self, thing: str) -> None:
        """Makes a thing; those that it stands on were made before."""
        await THINGS[thing](self)

    async def api(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """A request that prepares something."""
        answer = await self.desk.send(method, path, body)
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found

    async def change(self, statement: str, **values: object) -> None:
        async with self.server.transaction() as session:
            await session.execute(text(statement), values)

    async def add(self, row: object) -> None:
        async with self.server.transaction() as session:
            session.add(row)

    async def call(self, key: str) -> httpx.Response:
        """Does what the route is for."""
        doing, known = DOINGS[key], ROUTES[key]
        method, path = key.split(" ", 1)
        owner_and_name = {"owner": self.project.owner_name, "name": self.project.name}
        for name, value in {**owner_and_name, **known.values, **self.values}.items():
            path = path.replace(f"{{{name}}}", value)
        headers = {"x-csrf-token": self.desk.csrf}
        form = doing.form if doing.form is not None else known.form
        if form is not None and doing.body is None:
            data = {**self._filled(form), "csrf_token": self.desk.csrf}
            return await self.desk.client.request(method, path, data=data)
        body = doing.body if doing.body is not None else known.body
        json = None if body is None else self._filled(body)
        return await self.desk.client.request(method, path, json=json, headers=headers)

    def _filled(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: value.format_map(self.values) if isinstance(value, str) else value for name, value in facts.items()
        }


@asynccontextmanager
async def town(server: ApiServer, directory: Path) -> AsyncIterator[Town]:
    """A town of its own, whose administrator has just signed in."""
    admin = await server.user(role="admin")
    project = await server.project(admin)
    async with desk(server, admin) as made:
        values = {"admin": admin.name, "fresh": f"fresh-{secrets.token_hex(4)}"}
        yield Town(made, project, directory, values)


async def _person(town: Town) -> None:
    person = await town.server.user(role=None)
    town.values |= {"person": person.name, "name": person.name, "member": person.name, "user_id": str(person.user.id)}


async def _holder(town: Town) -> None:
    """A person who is in no path."""
    town.values["person"] = (await town.server.user(role=None)).name


async def _agent(town: Town) -> None:
    town.values["name"] = f"agent-{secrets.token_hex(4)}"
    await town.api("POST", "/users", {"name": town.values["name"], "kind": "agent"})


async def _invited(town: Town) -> None:
    town.values["name"] = name = f"invited-{secrets.token_hex(4)}"
    await town.api("POST", "/users", {"name": name, "email": f"{name}@example.org"})


async def _deactivated(town: Town) -> None:
    await town.api("POST", f"/users/{town.values['person']}/deactivation")


async def _team(town: Town) -> None:
    town.values |= {"organization": f"org-{secrets.token_hex(4)}", "team": "crew"}
    await town.api("POST", "/organizations", {"name": town.values["organization"]})
    await town.api("POST", f"/organizations/{town.values['organization']}/teams", {"name": "crew"})


async def _organization_deactivated(town: Town) -> None:
    await town.api("POST", f"/organizations/{town.values['organization']}/deactivation")


async def _member(town: Town) -> None:
    await town.api("PUT", "/organizations/{organization}/teams/crew/members/{person}".format_map(town.values))


async def _role(town: Town) -> None:
    town.values["name"] = f"role-{secrets.token_hex(4)}"
    await town.api("POST", "/roles", {"name": town.values["name"], "permissions": []})


async def _binding(town: Town) -> None:
    made = await town.api("POST", "/roles/bindings", {"role": "viewer", "holder": town.values["person"]})
    town.values["binding_id"] = made["id"]


async def _project_binding(town: Town) -> None:
    body = {"role": "viewer", "holder": town.values["person"]}
    made = await town.api("POST", f"/projects/{town.project.full_name}/access/bindings", body)
    # The path speaks of the project; the person is in no path.
    town.values |= {"binding_id": made["id"], "name": town.project.name}


async def _token(town: Town) -> None:
    made = await town.api("POST", "/tokens", {"name": "swept", "scopes": ["project:read"], "renewable": True})
    town.values |= {"token_id": made["id"], "token": made["token"]}


async def _session(town: Town) -> None:
    async with town.server.transaction() as session:
        session_id, _ = await make_session(session, town.admin.user)
    town.values["session_id"] = str(session_id)


async def _their_session(town: Town) -> None:
    await town.change(
        "INSERT INTO auth_sessions (user_id, token_hash, expires_at) "
        "VALUES (CAST(:user AS uuid), :hash, now() + interval '1 h')",
        user=town.values["user_id"],
        hash=secrets.token_hex(32),
    )


async def _delegation(town: Town) -> None:
    made = await town.api("POST", "/delegations", {"to": town.values["person"], "permissions": ["project:read"]})
    town.values |= {"delegation_id": made["id"], "grant_id": made["id"]}


async def _link(town: Town, ask: str, body: object) -> None:
    await town.api("POST" if ask.startswith("/password") else "PUT", ask, body)
    mailbox = Mailbox(town.directory, town.server.services)
    await mailbox.deliver()
    town.values["link"] = mailbox.tokens_to(str(dict(body)["email"]))[-1]  # type: ignore[call-overload]  # a dict


async def _reset_link(town: Town) -> None:
    await town.change("UPDATE users SET email_verified_at = now() WHERE id = :id", id=town.admin.user.id)
    await _link(town, "/password/resets", {"email": f"{town.admin.name}@example.org"})


async def _verify_link(town: Town) -> None:
    email = f"{town.values['fresh']}@example.org"
    await _link(town, "/me/email", {"email": email, "password": "correct horse battery staple"})


async def _name_ban(town: Town) -> None:
    subject = name_subject(town.server.services.secret_key, "sign_in", town.values["person"])
    await town.add(SignInBan(kind="name", subject=subject.text, failures=9, bans=1))


async def _address_ban(town: Town) -> None:
    town.values["address"] = address = f"198.51.100.{secrets.randbelow(250) + 1}"
    await town.add(SignInBan(kind="address", subject=address_subject(address).text, failures=9, bans=1))


async def _app_begun(town: Town) -> None:
    made = await town.api("POST", "/me/factors/totp")
    town.values["code"] = code_now(secret_of(made["uri"]))


async def _app(town: Town) -> None:
    await town.desk.set_up_totp()


async def _their_app(town: Town) -> None:
    statement = "INSERT INTO totp_factors (user_id, secret, confirmed_at) VALUES (CAST(:user AS uuid), :secret, now())"
    await town.change(statement, user=town.values["user_id"], secret=b"sealed")


async def _passkey(town: Town) -> None:
    passkey = Passkey(
        user_id=town.admin.user.id, name="swept", credential_id=secrets.token_bytes(16), public_key=b"k", transports=[]
    )
    await town.add(passkey)
    town.values["passkey_id"] = str(passkey.id)


async def _link_elsewhere(town: Town, user_id: UUID | None = None) -> None:
    identity = ExternalIdentity(
        user_id=user_id or town.admin.user.id, issuer="https://swept.example", subject=secrets.token_hex(8)
    )
    await town.add(identity)
    town.values["external_id"] = str(identity.id)


async def _their_link_elsewhere(town: Town) -> None:
    await _link_elsewhere(town, UUID(town.values["user_id"]))


async def _repository(town: Town) -> None:
    await fill_repository(town.server, town.project, {".platform.yaml": HELLO}, town.directory)


async def _run(town: Town) -> None:
    run = await make_run(town.server.services.database, town.project, town.admin.user)
    town.values["run_id"] = str(run.run_id)


THINGS: dict[str, Callable[[Town], Awaitable[None]]] = {
    "agent": _agent,
    "app": _app,
    "app begun": _app_begun,
    "ban of a name": _name_ban,
    "ban of an address": _address_ban,
    "binding": _binding,
    "binding on the project": _project_binding,
    "deactivated": _deactivated,
    "delegation": _delegation,
    "holder": _holder,
    "invited": _invited,
    "link elsewhere": _link_elsewhere,
    "member": _member,
    "organization deactivated": _organization_deactivated,
    "passkey": _passkey,
    "person": _person,
    "repository": _repository,
    "reset link": _reset_link,
    "role": _role,
    "run": _run,
    "session": _session,
    "team": _team,
    "their app": _their_app,
    "their link elsewhere": _their_link_elsewhere,
    "their session": _their_session,
    "token": _token,
    "verify link": _verify_link,
}
