"""Whether an order that was given some time ago would still be allowed: asked again by what works on it."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from database.store.access.origins import origin_join
from database.store.access.rights import HELD, held_from, rights_ctes, version_sql
from domain.access.decide import Resource, Verdict, decide
from domain.access.permissions import Permission
from domain.actors import Actor

# A credential that merely ran out, or a browser that signed out, takes nothing back: the order was given in time. What
# was revoked does, and so does the end of the session that a token was exchanged for, because the token is gone then.
_NOT_REVOKED = origin_join("p.revoked_at IS NULL", "s.id IS NOT NULL")

_STANDING = text(
    f"""
    WITH RECURSIVE project AS (SELECT id, visibility FROM projects WHERE id = :project AND is_active),
    {rights_ctes("CAST(:subject AS uuid)", "(SELECT id FROM project)")}
    SELECT p.id AS project_id, p.visibility,
        ARRAY(SELECT x.name FROM users x WHERE x.id = ANY(CAST(:parties AS uuid[])) AND NOT x.is_active) AS inactive,
        (
            SELECT origin.scopes FROM api_tokens t {_NOT_REVOKED}
            WHERE t.id = CAST(:token AS uuid) AND t.revoked_at IS NULL
        ) AS scopes,
        {HELD} AS held, {version_sql("CAST(:subject AS uuid)")} AS version
    FROM (VALUES (1)) AS one LEFT JOIN project p ON true
    """  # noqa: S608  # constants
)


@dataclass(frozen=True, slots=True)
class Standing:
    """What an actor of some time ago may now.

    Attributes:
        verdict: On the permission that was asked about, with the reason.
        actor: On behalf of the lenders too where the permission is lent.
    """

    verdict: Verdict
    actor: Actor


async def standing_of(session: AsyncSession, actor: Actor, permission: Permission, project_id: UUID) -> Standing:
    """Asks the verdict again, by what is true now of the identities, the credential and the rights; one SELECT.

    Args:
        actor: Who gave the order, as it was then; its narrowing still holds.
        permission: What the order needs.
        project_id: Where.
    """
    if actor.kind == "system":
        return Standing(Verdict(allowed=True, reason="system"), actor)
    values = {
        "project": project_id,
        "subject": actor.subject_id,
        "parties": [actor.user_id, actor.subject_id],
        "token": actor.token_id,
    }
    row = (await session.execute(_STANDING, values)).one()
    verdict = _verdict(actor, permission, row)
    return Standing(verdict, actor.acting_for(verdict.lenders))


def _verdict(actor: Actor, permission: Permission, row: Any) -> Verdict:  # noqa: ANN401  # a row of the statement
    if row.project_id is None:
        return Verdict(allowed=False, reason="the project was deleted")
    if row.inactive:
        return Verdict(allowed=False, reason=f"{', '.join(row.inactive)} is deactivated")
    present = actor
    if actor.token_id is not None:
        if row.scopes is None:
            return Verdict(allowed=False, reason=f"the API token that {actor.name} used was revoked")
        scopes = frozenset(row.scopes)
        present = actor.model_copy(update={"scopes": scopes if actor.scopes is None else scopes & actor.scopes})
    return decide(present, permission, Resource(row.project_id, row.visibility), held=held_from(row.held, row.version))
