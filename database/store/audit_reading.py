"""Acts of the audit log, found by who, what, when and from where, with personal data in clear as far as it is kept."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from database.engine import Database
from database.store.audit_content import opened, opened_actor, people_in
from database.store.audit_keys import AuditKeys, keys_of

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Act:
    """One row, for a reader.

    Attributes:
        actor_name: As it was at the time; ``(erased)`` where the person was erased.
        chain: On whose behalf, nearest first.
        hash: Hex; with ``log`` and ``seq`` it names the row in an export.
    """

    id: UUID
    created_at: datetime
    log: int
    seq: int
    hash: str
    actor_id: UUID
    actor_kind: str
    actor_name: str
    address: str | None
    user_agent: str | None
    chain: tuple[UUID, ...]
    token_id: UUID | None
    session_id: UUID | None
    action: str
    outcome: str
    resource: str
    resource_id: UUID | None
    project_id: UUID | None
    request_id: str | None
    trace_id: str | None
    detail: Any
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Filter:
    """What is looked for; what is ``None`` does not matter.

    Attributes:
        actor: Id or present name of who acted.
        anyone: Id or present name of who acted or of somebody on whose behalf.
        target: Id of what was acted on.
        action: The beginning of the action, for instance ``token:``.
        email: Searched in what changed; this reads every row that the rest of the filter leaves.
        since: From here on.
        until: Before this.
        project_id: Only what belongs to this project.
        token_id: Only acts with this token.
        only_of: Only acts of this identity or on its behalf: what a reader without ``audit:read`` may see.
    """

    actor: str | None = None
    anyone: str | None = None
    target: UUID | None = None
    resource: str | None = None
    action: str | None = None
    outcome: str | None = None
    address: str | None = None
    email: str | None = None
    request_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    project_id: UUID | None = None
    token_id: UUID | None = None
    only_of: UUID | None = None


_IS_ANYONE = "(actor_id = {0} OR (on_behalf_of <> '{{}}'::uuid[] AND on_behalf_of @> ARRAY[{0}]))"
_NAMED = "(SELECT id FROM users WHERE name = :{0})"


def _person(name: str, value: str, values: dict[str, object]) -> str:
    """The SQL of an identity that is given by id or by present name."""
    try:
        values[name] = UUID(value)
    except ValueError:
        values[name] = value
        return _NAMED.format(name)
    return f"CAST(:{name} AS uuid)"


def _conditions(wanted: Filter, keys: AuditKeys) -> tuple[list[str], dict[str, object]]:
    values: dict[str, object] = {}
    found = [condition for name, condition in _EQUAL if (value := getattr(wanted, name)) is not None]
    values |= {name: value for name, _ in _EQUAL if (value := getattr(wanted, name)) is not None}
    if wanted.actor is not None:
        found.append(f"actor_id = {_person('actor', wanted.actor, values)}")
    if wanted.anyone is not None:
        found.append(_IS_ANYONE.format(_person("anyone", wanted.anyone, values)))
    if wanted.action is not None:
        values["action"] = _like(wanted.action) + "%"
        found.append("action LIKE :action")
    if wanted.address is not None:
        values["address"] = keys.address_hash(wanted.address)
        found.append("address_hash = :address")
    if wanted.email is not None:
        values["email"] = keys.email_hash(wanted.email)
        found.append("position(CAST(:email AS text) IN content) > 0")
    return found, values


_EQUAL = (
    ("target", "resource_id = :target"),
    ("resource", "resource = :resource"),
    ("outcome", "outcome = :outcome"),
    ("request_id", "request_id = :request_id"),
    ("project_id", "project_id = :project_id"),
    ("token_id", "token_id = :token_id"),
    ("only_of", _IS_ANYONE.format("CAST(:only_of AS uuid)")),
    ("since", "created_at >= :since"),
    ("until", "created_at < :until"),
)
"""Fields of the filter whose value goes into the statement as it is."""


def _like(prefix: str) -> str:
    return prefix.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def statement_of(
    wanted: Filter,
    keys: AuditKeys,
    *,
    place: tuple[datetime, UUID] | None = None,
    limit: int,
    newest_first: bool = True,
) -> tuple[str, dict[str, object]]:
    """The SELECT of ``acts``, whose arguments these are, and its values; told apart so that its plan can be tested."""
    conditions, values = _conditions(wanted, keys)
    if place is not None:
        conditions.append(f"(created_at, id) {'<' if newest_first else '>'} (:place_at, :place_id)")
        values |= {"place_at": place[0], "place_id": place[1]}
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    order = "DESC" if newest_first else "ASC"
    statement = (
        "SELECT content, hash, log, seq, created_at FROM audit_log "  # noqa: S608  # built of constants
        f"{where} ORDER BY created_at {order}, id {order} LIMIT :limit"
    )
    return statement, {**values, "limit": limit}


async def acts(
    session: AsyncSession,
    keys: AuditKeys,
    wanted: Filter,
    *,
    place: tuple[datetime, UUID] | None = None,
    limit: int,
    newest_first: bool = True,
) -> list[Act]:
    """Acts in the order of time.

    Args:
        place: Time and id of the act that the page before ended with.
        limit: At most.
        newest_first: Or oldest first.
    """
    # The values decide the plan (one person did half of everything, another one nothing), so it is made for them.
    await session.execute(text("SET LOCAL plan_cache_mode = force_custom_plan"))
    statement, values = statement_of(wanted, keys, place=place, limit=limit, newest_first=newest_first)
    rows = await session.execute(text(statement), values)
    return await _opened(session, keys, rows.mappings().all())


async def _opened(session: AsyncSession, keys: AuditKeys, rows: Sequence[Mapping[Any, Any]]) -> list[Act]:
    read = [(row, json.loads(row["content"])["act"]) for row in rows]
    people = await keys_of(session, keys, set().union(*(people_in(act) for _, act in read)))
    found = []
    for row, act in read:
        actor, target, act_id = opened_actor(act, people), act["target"], UUID(act["id"])
        found.append(
            Act(
                id=act_id,
                created_at=row["created_at"],
                log=row["log"],
                seq=row["seq"],
                hash=row["hash"].hex(),
                actor_id=UUID(act["actor"]["id"]),
                actor_kind=act["actor"]["kind"],
                actor_name=actor["name"] or "",
                address=actor["ip"],
                user_agent=actor["user_agent"],
                chain=tuple(UUID(one) for one in act.get("chain", [])),
                token_id=_id(act, "token"),
                session_id=_id(act, "session"),
                action=act["action"],
                outcome=act["outcome"],
                resource=target["kind"],
                resource_id=_id(target, "id"),
                project_id=_id(act, "project"),
                request_id=act.get("request"),
                trace_id=act.get("trace"),
                detail=opened(act.get("detail"), act_id, people),
                before=opened(act.get("before"), act_id, people),
                after=opened(act.get("after"), act_id, people),
            )
        )
    return found


def _id(facts: Mapping[str, Any], name: str) -> UUID | None:
    return UUID(facts[name]) if name in facts else None


async def all_acts(database: Database, wanted: Filter) -> AsyncIterator[Act]:
    """Every act that is found, oldest first, read in small transactions; what comes in meanwhile is left out."""
    async with database.transaction() as session:
        now: datetime = (await session.execute(text("SELECT clock_timestamp()"))).scalar_one()
    bounded = replace(wanted, until=min(wanted.until, now) if wanted.until else now)
    place: tuple[datetime, UUID] | None = None
    while True:
        async with database.transaction() as session:
            batch = await acts(session, database.audit_keys, bounded, place=place, limit=_BATCH, newest_first=False)
        for act in batch:
            yield act
        if len(batch) < _BATCH:
            return
        place = (batch[-1].created_at, batch[-1].id)


async def names_of(session: AsyncSession, people: set[UUID]) -> dict[UUID, str]:
    """The present names of identities that are still there."""
    if not people:
        return {}
    rows = await session.execute(text("SELECT id, name FROM users WHERE id = ANY(:people)"), {"people": sorted(people)})
    return {row.id: row.name for row in rows}


async def project_names(session: AsyncSession, projects: set[UUID]) -> dict[UUID, str]:
    """``owner/name`` of projects that are still there."""
    if not projects:
        return {}
    rows = await session.execute(
        text(
            "SELECT p.id, o.name || '/' || p.name AS full_name FROM projects p JOIN users o ON o.id = p.owner_id "
            "WHERE p.id = ANY(:projects)"
        ),
        {"projects": sorted(projects)},
    )
    return {row.id: row.full_name for row in rows}
