"""Rows for tests: each function makes one, with sensible random values for what the test does not care about."""

import secrets
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from argon2 import PasswordHasher
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from database.models.access import User
from database.models.credentials import ApiToken, AuthSession
from database.store.bootstrap import ensure_vocabulary
from database.store.projects import NewProject, create_project
from domain.access.permissions import Permission
from domain.access.tokens import format_token, hash_secret
from domain.actors import Actor
from domain.projects import ProjectView, Visibility

PASSWORD = "correct horse battery staple"

# Real argon2id with the least cost: what is tested is who may do what, not the cost of a guess.
CHEAP_HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
_PASSWORD_HASH = CHEAP_HASHER.hash(PASSWORD)


@dataclass(frozen=True)
class TestUser:
    """A user whose password is ``PASSWORD``."""

    __test__ = False

    id: UUID
    name: str

    @property
    def actor(self) -> Actor:
        """The user without a narrowing credential."""
        return Actor(user_id=self.id, name=self.name)


@dataclass(frozen=True)
class TestToken:
    """An API token in clear text."""

    __test__ = False

    id: UUID
    secret: str

    @property
    def headers(self) -> dict[str, str]:
        """The header that carries it."""
        return {"Authorization": f"Bearer {self.secret}"}


async def make_user(
    session: AsyncSession,
    name: str | None = None,
    *,
    role: str | None = "developer",
    role_project_id: UUID | None = None,
    kind: str = "user",
    is_active: bool = True,
) -> TestUser:
    """Makes a user with a system role: everywhere, or on ``role_project_id`` only; ``None`` for no role."""
    name = name or f"user-{secrets.token_hex(5)}"
    row = User(name=name, kind=kind, email=f"{name}@example.org", password_hash=_PASSWORD_HASH, is_active=is_active)
    session.add(row)
    await session.flush()
    user = TestUser(row.id, name)
    if role is not None:
        await give_role(session, user, role, project_id=role_project_id)
    return user


async def give_role(session: AsyncSession, user: TestUser, role: str, *, project_id: UUID | None = None) -> None:
    """Binds a system role to a user, everywhere or on one project."""
    binding = text(
        "INSERT INTO user_roles (user_id, role_id, project_id) SELECT :user, id, :project FROM roles "
        "WHERE name = :role RETURNING id"
    )
    values = {"user": user.id, "project": project_id, "role": role}
    if (await session.execute(binding, values)).first() is None:
        await ensure_vocabulary(session)
        await session.execute(binding, values)


async def make_project(
    session: AsyncSession,
    owner: TestUser,
    name: str | None = None,
    *,
    visibility: Visibility = "private",
    default_branch: str = "main",
) -> ProjectView:
    """Makes a project of ``owner``; its repository is not made."""
    new = NewProject(
        name=name or f"project-{secrets.token_hex(5)}", visibility=visibility, default_branch=default_branch
    )
    return await create_project(session, owner.actor, owner.name, new)


async def make_token(
    session: AsyncSession,
    user: TestUser,
    *,
    scopes: frozenset[str] = frozenset(Permission),
    project_id: UUID | None = None,
    lifetime: timedelta = timedelta(hours=1),
    is_revoked: bool = False,
) -> TestToken:
    """Makes an API token; a negative ``lifetime`` makes one that has expired."""
    secret = format_token(secrets.token_bytes(32))
    now = (await session.execute(select(func.now()))).scalar_one()
    row = ApiToken(
        user_id=user.id,
        name="test",
        token_hash=hash_secret(secret),
        scopes=sorted(scopes),
        project_id=project_id,
        expires_at=now + lifetime,
        revoked_at=now if is_revoked else None,
    )
    session.add(row)
    await session.flush()
    return TestToken(row.id, secret)


async def make_session(
    session: AsyncSession, user: TestUser, *, lifetime: timedelta = timedelta(hours=1)
) -> tuple[UUID, str]:
    """Opens a browser session; returns its id and the cookie's value."""
    secret = secrets.token_urlsafe(32)
    now = (await session.execute(select(func.now()))).scalar_one()
    row = AuthSession(user_id=user.id, token_hash=hash_secret(secret), expires_at=now + lifetime)
    session.add(row)
    await session.flush()
    return row.id, secret
