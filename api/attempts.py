"""Attempts to prove something, counted before they are made and refused when there were too many (bans)."""

from dataclasses import dataclass

from starlette.requests import Request

from api.requests import origin_of
from api.services import Services
from database.engine import Session
from database.models.access import User
from database.store.access.bans import Banned, CountedAttempt, count_attempt, count_failure, forgive, withdraw
from database.store.access.identities import user_by_name
from database.store.audit import record
from domain.access.bans import Proof, address_subject, name_subject
from domain.actors import NOBODY, Actor, Origin
from domain.audit.actions import AuditAction

NAME_LENGTH_MAX = 200


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt, counted as failed until ``succeeded`` or ``withdrawn`` says otherwise.

    Attributes:
        user: Whoever is called so, active or not; ``None`` if nobody is, and for ``mail``.
    """

    services: Services
    counted: CountedAttempt
    origin: Origin
    user: User | None

    async def succeeded(self, session: Session) -> None:
        """The proof was right: the name's failures are forgotten, in the transaction of what follows from it."""
        await forgive(session, self.counted)

    async def withdrawn(self) -> None:
        """The proof was not looked at."""
        async with self.services.database.transaction() as session:
            await withdraw(session, self.counted)

    async def counts(self) -> None:
        """Nothing was proven and nothing was wrong, but it must not be done often: it counts like a failure."""
        actor = NOBODY.model_copy(update={"origin": self.origin})
        async with self.services.database.transaction() as session:
            await count_failure(session, actor, self.counted, self.services.bans)

    async def failed(self, actor: Actor, action: AuditAction) -> None:
        """The proof was wrong: an audit row for it, and one for each ban that it leads to.

        Args:
            actor: Whom somebody tried to be; ``domain.actors.NOBODY`` if there is none of that name.
            action: What was tried, for instance ``session:create``.
        """
        async with self.services.database.transaction() as session:
            user_id = actor.user_id if actor.user_id.int else None
            await record(session, actor, action, "user", user_id, outcome="failure")
            await count_failure(session, actor, self.counted, self.services.bans)


async def begin_attempt(
    services: Services, request: Request, proof: Proof, name: str, *, action: AuditAction
) -> Attempt:
    """Counts an attempt to prove ``proof`` for ``name`` from the request's address, before it is checked.

    Call it before anything else that costs time or tells something, then one of the methods of what it returns.

    Args:
        name: The login name as typed (for ``mail`` the e-mail address), whether or not it is anybody's.
        action: For the audit row of a refusal, for instance ``session:create``.

    Raises:
        Banned: There were too many failures for this name or from this address; an audit row tells of the attempt.
    """
    name = name[:NAME_LENGTH_MAX]
    origin = origin_of(request)
    subject = name_subject(services.secret_key, proof, name)
    address = None if origin.ip is None else address_subject(origin.ip)
    try:
        async with services.database.transaction() as session:
            counted = await count_attempt(session, subject, address, services.bans)
            return Attempt(services, counted, origin, await _user(session, proof, name))
    except Banned:
        async with services.database.transaction() as session:
            user = await _user(session, proof, name)
            actor = NOBODY if user is None else Actor(user_id=user.id, name=user.name)
            refused = actor.model_copy(update={"origin": origin})
            await record(
                session, refused, action, "user", user.id if user else None, outcome="denied", detail={"why": "banned"}
            )
        raise


async def _user(session: Session, proof: Proof, name: str) -> User | None:
    return None if proof == "mail" else await user_by_name(session, name)
