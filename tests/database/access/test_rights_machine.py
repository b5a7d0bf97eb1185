"""Whatever happens in whatever order, nobody ever holds what the root lender lacks: found by trying, on PostgreSQL.

A machine of rules grants, lends, lends on, cuts scopes, exchanges, deactivates, moves people between teams and takes
back. After each step every answer of the database (what is held, which projects are seen, who may, what a token may,
with the cache in between) is compared with an oracle that knows nothing of SQL.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from database.engine import Database
from database.models.access import Team, User
from database.store.access.cache import Rights
from database.store.access.delegations import lend, take_back
from database.store.access.exchange import Exchange, exchange_token
from database.store.access.explain import holders_of
from database.store.access.requests import Credential, Grant, authorize
from database.store.access.rights import held_by
from database.store.access.visible import visible_projects
from domain.access.decide import PLATFORM, decide
from domain.access.delegations import Offer
from domain.access.exchange import ExchangeRefused
from domain.access.permissions import EVERYTHING, Permission
from domain.access.tokens import hash_secret
from domain.actors import Origin
from domain.errors import Conflict, InvalidInput, PermissionMissing, Unauthenticated
from tests.support.audit import AUDIT_KEYS
from tests.support.factories import TestUser, make_project, make_token, make_user
from tests.support.rights_oracle import EVERY_PERMISSION, Binding, Loan, Oracle, Token
from tests.support.stack import TestDatabase

T = TypeVar("T")

READ, RUN, MANAGE = Permission.PROJECT_READ, Permission.PIPELINE_RUN, Permission.PROJECT_MANAGE
PEOPLE = 3
TOKENS_CHECKED = 3

ANY = st.integers(0, 11)
"""Picks one of however many there are."""
ROLES = st.sampled_from(["viewer", "viewer", "developer", "ops", "admin"])
PERMISSIONS = st.sampled_from([frozenset({READ}), frozenset({RUN}), frozenset({READ, RUN}), frozenset({READ, MANAGE})])
SCOPES = st.sampled_from([EVERY_PERMISSION, frozenset({"project:read"}), frozenset({"project:read", "pipeline:run"})])


@dataclass
class World:
    """One database for all examples; each has people, teams and projects of its own."""

    runner: asyncio.Runner
    database: Database

    def run(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        async def transaction() -> T:
            async with self.database.transaction() as session:
                return await work(session)

        return self.runner.run(transaction())

    def sql(self, statement: str, **values: object) -> None:
        async def work(session: AsyncSession) -> None:
            await session.execute(text(statement), values)

        self.run(work)


class Machine(RuleBasedStateMachine):
    """The rules; ``self.oracle`` follows every one of them."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.rights = Rights()
        self.people: list[TestUser] = []
        self.names: dict[UUID, str] = {}
        self.projects: dict[UUID, str] = {}
        self.roles: dict[str, UUID] = {}
        self.oracle = world.run(self._begin)

    async def _begin(self, session: AsyncSession) -> Oracle:
        self.roles = {row.name: row.id for row in await session.execute(text("SELECT id, name FROM roles"))}
        self.people = [await make_user(session, role=None) for _ in range(PEOPLE)]
        organization = User(name=f"org-{secrets.token_hex(5)}", kind="organization")
        session.add(organization)
        await session.flush()
        teams = [Team(organization_id=organization.id, name=name) for name in ("owners", "crew")]
        session.add_all(teams)
        await session.flush()
        owners = [self.people[0], TestUser(organization.id, organization.name)]
        made = [await make_project(session, owner) for owner in owners]
        self.projects = {project.id: project.name for project in made}
        self.names = {one.id: one.name for one in (*self.people, owners[1])}
        return Oracle(
            organization=organization.id,
            owners=teams[0].id,
            teams=(teams[0].id, teams[1].id),
            project_owner={project.id: owner.id for project, owner in zip(made, owners, strict=True)},
        )

    def person(self, pick: int) -> TestUser:
        return self.people[pick % PEOPLE]

    def place(self, pick: int) -> UUID | None:
        return [*self.projects, None][pick % 3]

    @initialize()
    def begin_with_chains(self) -> None:
        """What is rare by chance: a right lent three times in a row, and a token that was exchanged twice."""
        both, everything = frozenset({READ, RUN}), EVERY_PERMISSION
        for lender in range(PEOPLE - 1):
            self.lend(lender, lender + 1, 0, permissions=both, redelegations=PEOPLE - 2 - lender, scopes=None)
        self.make_token(0, everything, 2)
        self.exchange(0, 1, everything)
        self.exchange(1, 2, everything)
        assert (len(self.oracle.loans), len(self.oracle.tokens)) == (2 * (PEOPLE - 1), 3)

    # Roles, teams, identities, ownership.

    @rule(pick=ANY, role=ROLES, where=ANY)
    def bind(self, pick: int, role: str, where: int) -> None:
        holders = [*(one.id for one in self.people), self.oracle.organization, *self.oracle.teams]
        binding = Binding(holders[pick % len(holders)], role, self.place(where))
        is_team = binding.holder in self.oracle.teams
        if any((one.holder, one.role, one.project) == (binding.holder, role, binding.project) for one in self.bound):
            return
        self.world.sql(
            f"INSERT INTO user_roles ({'team_id' if is_team else 'user_id'}, role_id, project_id) "  # noqa: S608  # constants
            "VALUES (:holder, :role, :project)",
            holder=binding.holder,
            project=binding.project,
            role=self.roles[role],
        )
        self.oracle.bindings.append(binding)

    @property
    def bound(self) -> list[Binding]:
        return self.oracle.bindings

    @precondition(lambda self: self.bound)
    @rule(pick=ANY, by_time=st.booleans())
    def unbind(self, pick: int, by_time: bool) -> None:
        binding = self.bound[pick % len(self.bound)]
        change = "UPDATE user_roles SET expires_at = now()" if by_time else "DELETE FROM user_roles"
        self.world.sql(
            f"{change} WHERE COALESCE(user_id, team_id) = :holder AND role_id = :role "
            "AND project_id IS NOT DISTINCT FROM :project",
            holder=binding.holder,
            project=binding.project,
            role=self.roles[binding.role],
        )
        binding.is_over = True
        if not by_time:
            self.bound.remove(binding)

    @rule(pick=ANY, team=st.integers(0, 1))
    def join_or_leave(self, pick: int, team: int) -> None:
        member = (self.oracle.teams[team], self.person(pick).id)
        if member in self.oracle.members:
            self.world.sql("DELETE FROM team_members WHERE team_id = :t AND user_id = :u", t=member[0], u=member[1])
        else:
            self.world.sql("INSERT INTO team_members (team_id, user_id) VALUES (:t, :u)", t=member[0], u=member[1])
        self.oracle.members ^= {member}

    @rule(pick=ANY)
    def deactivate_or_reactivate(self, pick: int) -> None:
        one = [*(person.id for person in self.people), self.oracle.organization][pick % (PEOPLE + 1)]
        self.world.sql("UPDATE users SET is_active = NOT is_active WHERE id = :id", id=one)
        self.oracle.inactive ^= {one}

    @rule(pick=ANY, project=st.integers(0, 1))
    def hand_over(self, pick: int, project: int) -> None:
        owners = [*(person.id for person in self.people), self.oracle.organization]
        project_id = list(self.projects)[project]
        owner = self.oracle.project_owner[project_id] = owners[pick % len(owners)]
        self.world.sql("UPDATE projects SET owner_id = :owner WHERE id = :id", owner=owner, id=project_id)

    @rule(project=st.integers(0, 1))
    def show_or_hide(self, project: int) -> None:
        project_id = list(self.projects)[project]
        self.oracle.internal ^= {project_id}
        visibility = "internal" if project_id in self.oracle.internal else "private"
        self.world.sql("UPDATE projects SET visibility = :to WHERE id = :id", to=visibility, id=project_id)

    # Delegations.

    @rule(
        pick=ANY, to=ANY, where=ANY, permissions=PERMISSIONS, redelegations=st.integers(0, 3), scopes=st.none() | SCOPES
    )
    def lend(
        self,
        pick: int,
        to: int,
        where: int,
        *,
        permissions: frozenset[Permission],
        redelegations: int,
        scopes: frozenset[str] | None,
    ) -> None:
        lender, borrower, place = self.person(pick), self.person(to), self.place(where)
        actor = lender.actor.model_copy(update={"scopes": scopes})
        offer = Offer(permissions, place, None, redelegations)
        lendable = self.oracle.held(lender.id, place) if scopes is None else self.oracle.held(lender.id, place) & scopes
        try:
            grant_id = self.world.run(lambda session: lend(session, actor, borrower.name, offer))
        except PermissionMissing as refusal:
            if refusal.specific_code == "permission_missing":
                assert not permissions <= lendable
        except (Conflict, InvalidInput, Unauthenticated):
            pass
        else:
            assert permissions <= lendable
            assert not {lender.id, borrower.id} & self.oracle.inactive
            self.world.run(lambda session: self._follow(session, grant_id))

    async def _follow(self, session: AsyncSession, grant_id: UUID) -> None:
        rows = await session.execute(
            text(
                "SELECT d.*, pm.name FROM delegations d JOIN permissions pm ON pm.id = d.permission_id "
                "WHERE d.grant_id = :id ORDER BY pm.name"
            ),
            {"id": grant_id},
        )
        known = {loan.id: loan for loan in self.oracle.loans}
        for row in rows:
            parent = None if row.parent_id is None else known[row.parent_id]
            loan = Loan(
                row.id, grant_id, row.delegator_id, row.delegate_id, row.name, row.project_id, parent,
                row.redelegations_left,
            )  # fmt: skip
            self.oracle.loans.append(loan)
            if parent is None:
                assert loan.permission in self.oracle.own(loan.lender, loan.project)
            else:
                assert (parent.borrower, parent.permission) == (loan.lender, loan.permission)
                assert parent.project in (None, loan.project)
                assert loan.redelegations < parent.redelegations
                assert loan.borrower not in parent.lenders

    @precondition(lambda self: self.oracle.loans)
    @rule(pick=ANY, by=st.none() | ANY)
    def take_back(self, pick: int, by: int | None) -> None:
        """By whoever lent it first, or by anybody, who may have no say in it."""
        loan = self.oracle.loans[pick % len(self.oracle.loans)]
        taker = next(one for one in self.people if one.id == loan.root.lender) if by is None else self.person(by)
        concerned = [
            one for one in self.oracle.loans if one.grant == loan.grant and not one.is_over and taker.id in one.lenders
        ]
        taken = self.world.run(lambda session: take_back(session, taker.actor, loan.grant))
        assert (taken is not None) == bool(concerned)
        for one in concerned:
            one.is_over = True

    @precondition(lambda self: self.oracle.loans)
    @rule(pick=ANY)
    def let_expire(self, pick: int) -> None:
        loan = self.oracle.loans[pick % len(self.oracle.loans)]
        self.world.sql("UPDATE delegations SET expires_at = now() WHERE id = :id AND revoked_at IS NULL", id=loan.id)
        loan.is_over = True

    # Tokens.

    @rule(pick=ANY, scopes=SCOPES, where=ANY)
    def make_token(self, pick: int, scopes: frozenset[str], where: int) -> None:
        person, place = self.person(pick), self.place(where)
        made = self.world.run(lambda session: make_token(session, person, scopes=scopes, project_id=place))
        token = Token(made.id, hash_secret(made.secret), person.id, person.id, (), scopes, place)
        self.oracle.tokens.append(token)

    def grant(self, token: Token, project: UUID | None = None) -> Grant | None:
        where: dict[str, str] = {}
        if project is not None:
            where = {"owner": self.names[self.oracle.project_owner[project]], "name": self.projects[project]}
        return self.world.runner.run(
            authorize(
                self.world.database,
                Credential("token", token.secret_hash),
                rights=self.rights,
                origin=Origin(),
                owner=where.get("owner"),
                name=where.get("name"),
            )
        )

    @precondition(lambda self: self.oracle.tokens)
    @rule(pick=ANY, by=ANY, scopes=SCOPES)
    def exchange(self, pick: int, by: int, scopes: frozenset[str]) -> None:
        token, acting = self.oracle.tokens[pick % len(self.oracle.tokens)], self.person(by)
        grant = self.grant(token)
        if grant is None or grant.actor.scopes is None:
            return
        narrowed = grant.actor.scopes & scopes
        hashed = hash_secret(secrets.token_hex(16))
        new = Exchange(grant.actor, acting.actor, hashed, narrowed, token.project, timedelta(hours=1))
        try:
            made = self.world.run(lambda session: exchange_token(session, new))
        except ExchangeRefused:
            return
        between = tuple(made.on_behalf_of)
        child = Token(made.id, hashed, token.subject, acting.id, between, narrowed, token.project, token)
        assert {token.acting, *token.between} <= {*between, acting.id}
        self.oracle.tokens.append(child)

    @precondition(lambda self: self.oracle.tokens)
    @rule(pick=ANY, scopes=SCOPES)
    def cut(self, pick: int, scopes: frozenset[str]) -> None:
        """Rather of what another token came from."""
        picked = self.oracle.tokens[pick % len(self.oracle.tokens)]
        token = picked.parent or picked
        token.scopes &= scopes
        self.world.sql("UPDATE api_tokens SET scopes = :to WHERE id = :id", id=token.id, to=sorted(token.scopes))

    @precondition(lambda self: self.oracle.tokens)
    @rule(pick=ANY, end=st.sampled_from(["revoked_at", "expires_at"]))
    def end(self, pick: int, end: str) -> None:
        token = self.oracle.tokens[pick % len(self.oracle.tokens)]
        self.world.sql(f"UPDATE api_tokens SET {end} = now() WHERE id = :id", id=token.id)  # noqa: S608  # a column
        token.is_over = True

    # What must hold after each of them.

    @invariant()
    def nobody_holds_more_or_less_than_the_oracle_says(self) -> None:
        self.world.run(self._compare_held)

    async def _compare_held(self, session: AsyncSession) -> None:
        active = [one for one in self.people if one.id not in self.oracle.inactive]
        for person in self.people:
            seen = set()
            for place in (None, *self.projects):
                held = await held_by(session, person.id, place)
                found = EVERY_PERMISSION if EVERYTHING in held.permissions else held.permissions
                assert found == self.oracle.held(person.id, place)
                for loan in self.oracle.loans:
                    if loan.borrower == person.id and self.oracle.is_good(loan, place):
                        assert loan.permission in self.oracle.own(loan.root.lender, place)
                if place is not None and (READ in found or place in self.oracle.internal):
                    seen.add(place)
            visible = await visible_projects(session, person.actor, limit=1000)
            assert {project.id for project in visible if project.id in self.projects} == seen
        for place in self.projects:
            holders = {one.user_id for one in await holders_of(session, RUN, place, limit=100_000)}
            assert holders & {one.id for one in self.people} == {
                one.id for one in active if RUN in self.oracle.held(one.id, place)
            }

    @invariant()
    def every_token_may_what_the_oracle_says(self) -> None:
        for token in self.oracle.tokens[-TOKENS_CHECKED:]:
            for place in (None, next(iter(self.projects))):
                grant = self.grant(token, place)
                assert (grant is not None) == self.oracle.works(token)
                if grant is None:
                    continue
                resource = PLATFORM if grant.project is None else grant.project.resource
                assert resource.project_id == place
                for permission in (READ, RUN, MANAGE):
                    verdict = decide(grant.actor, permission, resource, held=grant.held)
                    assert verdict.allowed == self.oracle.may(token, permission, place), verdict.reason


@pytest.mark.timeout(600)  # some 4,000 statements, on a machine that may be busy with others
def test_no_sequence_of_changes_yields_a_right_that_the_root_lender_lacks(migrated: TestDatabase) -> None:
    with asyncio.Runner() as runner:
        database = Database(migrated.url, pool_size=2, audit_keys=AUDIT_KEYS)
        world = World(runner, database)
        try:
            run_state_machine_as_test(
                lambda: Machine(world),  # type: ignore[arg-type]  # any factory is called; the annotation says less
                settings=settings(
                    max_examples=12,
                    stateful_step_count=20,
                    derandomize=True,
                    database=None,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(database.close())
