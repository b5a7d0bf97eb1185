"""Delegations: lent, listed, taken back.

A delegation gives nothing by itself: every use follows it to who lent first and looks there
(``database.store.access.rights``). So no order of lending, taking back and using can yield a right that the root lacks,
whatever locks are held; the locks here only make the answers definite: what was lent was held and not yet taken back
when it was committed. Locks are taken in this order, rows of one table by id: ``users`` (shared), ``delegations``
(shared those that are passed on, exclusive those that are taken back), and by the triggers, at commit, the row of
``rights_epoch``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from database.store.access.rights import rights_ctes
from database.store.audit import record
from database.store.clock import now
from domain.access.delegations import Borrower, Holding, Offer, check_offer, choose_sources
from domain.access.permissions import Permission
from domain.actors import Actor
from domain.audit.actions import AuditAction
from domain.errors import Conflict, NotFound, Unauthenticated

_PARTIES = text("SELECT id, name, kind, is_active FROM users WHERE id = :lender OR name = :name ORDER BY id FOR SHARE")

_HOLDINGS = text(
    f"WITH RECURSIVE {rights_ctes('CAST(:subject AS uuid)', 'CAST(:project AS uuid)')} "  # noqa: S608  # constants
    "SELECT h.permission, h.path, h.lenders, h.delegation_id, d.expires_at, "
    "COALESCE(d.redelegations_left, 0) AS redelegations_left "
    "FROM held h LEFT JOIN delegations d ON d.id = h.delegation_id ORDER BY h.rank, d.created_at"
)

_STILL_LENT = text(
    "SELECT id FROM delegations WHERE id = ANY(CAST(:ids AS uuid[])) AND revoked_at IS NULL ORDER BY id FOR SHARE"
)

# What has run out by itself no longer stands in the way of lending the same again.
_CLOSE_EXPIRED = text(
    """
    UPDATE delegations d SET revoked_at = d.expires_at FROM permissions pm
    WHERE pm.id = d.permission_id AND pm.name = ANY(CAST(:permissions AS text[])) AND d.delegator_id = :lender
        AND d.delegate_id = :borrower AND d.project_id IS NOT DISTINCT FROM CAST(:project AS uuid)
        AND d.revoked_at IS NULL AND d.expires_at <= now()
    """
)

_LEND = text(
    """
    INSERT INTO delegations (grant_id, delegator_id, delegate_id, permission_id, project_id, parent_id,
        redelegations_left, expires_at, reason)
    SELECT :grant, :lender, :borrower, pm.id, CAST(:project AS uuid), w.parent_id, :redelegations,
        COALESCE(CAST(:expires_at AS timestamptz), w.expires_at), CAST(:reason AS text)
    FROM unnest(CAST(:permissions AS text[]), CAST(:parents AS uuid[]), CAST(:ends AS timestamptz[]))
        AS w(permission, parent_id, expires_at)
    JOIN permissions pm ON pm.name = w.permission
    ON CONFLICT DO NOTHING RETURNING (SELECT x.name FROM permissions x WHERE x.id = permission_id)
    """
)


async def lend(session: AsyncSession, actor: Actor, to: str, offer: Offer) -> UUID:
    """Lends permissions in one act; returns its ``grant_id``.

    Args:
        actor: The lender, as narrowed by the credential.
        to: The name of the borrower.
        offer: What is lent; the caller has seen to it that the lender may know of the project.

    Raises:
        InvalidInput, PermissionMissing: See ``domain.access.delegations``.
        NotFound: Nobody is called so.
        Conflict: The borrower is deactivated, one of these is lent to it already (code ``already_lent``), or what it
            comes from was taken back at this moment (code ``taken_back``).
    """
    borrower = await _borrower(session, actor, to)
    check_offer(actor, borrower, offer, await now(session))
    found = await session.execute(_HOLDINGS, {"subject": actor.user_id, "project": offer.project_id})
    holdings = [Holding(**{**row, "lenders": tuple(row["lenders"])}) for row in found.mappings()]
    sources = choose_sources(actor, borrower, offer, holdings)
    await _keep_lent(session, [one.delegation_id for one in sources.values() if one.delegation_id is not None])
    grant_id = uuid4()
    await _insert(session, _rows(actor, borrower, offer, grant_id, sources), borrower)
    lenders = tuple(dict.fromkeys(lender for one in sources.values() for lender in one.lenders))
    detail: dict[str, object] = {
        "permissions": sorted(offer.permissions),
        "to": borrower.name,
        "to_id": str(borrower.id),
        "project_id": None if offer.project_id is None else str(offer.project_id),
        "expires_at": None if offer.expires_at is None else offer.expires_at.isoformat(),
        "redelegations": offer.redelegations,
        "reason": offer.reason,
        "from_delegations": sorted(str(one.delegation_id) for one in sources.values() if one.delegation_id),
    }
    await record(
        session,
        actor.acting_for(lenders),
        AuditAction.DELEGATION_CREATE,
        "delegation",
        grant_id,
        offer.project_id,
        detail=detail,
    )
    return grant_id


async def _borrower(session: AsyncSession, actor: Actor, to: str) -> Borrower:
    rows = (await session.execute(_PARTIES, {"lender": actor.user_id, "name": to})).all()
    lender = next((row for row in rows if row.id == actor.user_id), None)
    if lender is None or not lender.is_active:
        raise Unauthenticated("Your identity was deactivated. Nothing was lent.", code="invalid_credential")
    borrower = next((row for row in rows if row.name == to), None)
    if borrower is None:
        raise NotFound(f"Nobody is called {to!r}. Nothing was lent.")
    return Borrower(borrower.id, borrower.name, borrower.kind, borrower.is_active)


async def _keep_lent(session: AsyncSession, sources: Sequence[UUID]) -> None:
    """Locks what is passed on, so that taking it back comes before or after, and makes sure that it is still lent."""
    if sources and len((await session.execute(_STILL_LENT, {"ids": sources})).all()) < len(set(sources)):
        raise Conflict("What you would lend on was taken back just now. Nothing was lent.", code="taken_back")


def _rows(
    actor: Actor, borrower: Borrower, offer: Offer, grant_id: UUID, sources: dict[Permission, Holding]
) -> dict[str, Any]:
    chosen = sorted(sources.items())
    return {
        "grant": grant_id,
        "lender": actor.user_id,
        "borrower": borrower.id,
        "project": offer.project_id,
        "permissions": [permission.value for permission, _ in chosen],
        "parents": [source.delegation_id for _, source in chosen],
        "ends": [source.expires_at for _, source in chosen],
        "redelegations": offer.redelegations,
        "expires_at": offer.expires_at,
        "reason": offer.reason,
    }


async def _insert(session: AsyncSession, rows: dict[str, Any], borrower: Borrower) -> None:
    closing = {name: rows[name] for name in ("lender", "borrower", "project", "permissions")}
    await session.execute(_CLOSE_EXPIRED, closing)
    lent = set((await session.execute(_LEND, rows)).scalars())
    before = [name for name in rows["permissions"] if name not in lent]
    if before:
        raise Conflict(
            f"You lend {', '.join(before)} to {borrower.name} there already. Take that back first to change it. "
            "Nothing was lent.",
            code="already_lent",
            details={"permissions": before},
        )


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What was taken back of one grant."""

    permissions: tuple[str, ...]
    project_id: UUID | None


# A lender anywhere up the chain may take back, an administrator everything; a credential nothing that is wider than it.
_TO_TAKE_BACK = text(
    """
    WITH RECURSIVE up AS (
        SELECT d.id AS target, d.delegator_id, d.parent_id
        FROM delegations d JOIN permissions pm ON pm.id = d.permission_id
        WHERE d.grant_id = :grant AND d.revoked_at IS NULL AND (:is_admin OR (
            (CAST(:scopes AS text[]) IS NULL OR pm.name = ANY(CAST(:scopes AS text[])))
            AND (CAST(:only AS uuid) IS NULL OR d.project_id = CAST(:only AS uuid))
        ))
        UNION ALL
        SELECT up.target, p.delegator_id, p.parent_id FROM up JOIN delegations p ON p.id = up.parent_id
    )
    SELECT d.id FROM delegations d WHERE d.revoked_at IS NULL
        AND d.id IN (SELECT target FROM up WHERE :is_admin OR delegator_id = :user)
    ORDER BY d.id FOR UPDATE
    """
)

_TAKE_BACK = text(
    """
    UPDATE delegations d SET revoked_at = now(), revoked_by = :user FROM permissions pm
    WHERE pm.id = d.permission_id AND d.id = ANY(CAST(:ids AS uuid[]))
    RETURNING pm.name, d.project_id, d.delegator_id, d.delegate_id
    """
)


async def take_back(session: AsyncSession, actor: Actor, grant_id: UUID, *, as_admin: bool = False) -> TakenBack | None:
    """Takes a grant back, at once and with all that was lent on from it.

    Args:
        actor: Who lent it, or lent what it comes from; a token takes back only what it includes.
        grant_id: The act of lending.
        as_admin: The actor was found to hold ``admin:users`` on the platform.

    Returns:
        ``None`` if there is nothing of that id that is still lent and that the actor may take back.
    """
    found = await session.execute(
        _TO_TAKE_BACK,
        {
            "grant": grant_id,
            "user": actor.user_id,
            "is_admin": as_admin,
            "scopes": None if actor.scopes is None else sorted(actor.scopes),
            "only": actor.project_id,
        },
    )
    ids: list[UUID] = list(found.scalars())
    if not ids:
        return None
    rows = (await session.execute(_TAKE_BACK, {"ids": ids, "user": actor.user_id})).all()
    taken = TakenBack(tuple(sorted(row.name for row in rows)), rows[0].project_id)
    detail: dict[str, object] = {
        "permissions": list(taken.permissions),
        "lender_id": str(rows[0].delegator_id),
        "to_id": str(rows[0].delegate_id),
    }
    await record(session, actor, AuditAction.DELEGATION_REVOKE, "delegation", grant_id, taken.project_id, detail=detail)
    return taken
