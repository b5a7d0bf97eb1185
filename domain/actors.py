"""Who acts, on whose behalf, and narrowed by what. A field of every workflow input and of every audit row."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

ActorKind = Literal["user", "agent", "service", "system"]


class Origin(BaseModel):
    """Where a request came from; kept in audit rows and handed on with the actor."""

    model_config = ConfigDict(frozen=True)

    ip: str | None = None
    user_agent: str | None = None
    request_id: str | None = None
    trace_id: str | None = None


class Actor(BaseModel):
    """An authenticated identity together with the credential that it used.

    Attributes:
        user_id: The row in ``users``; for ``system`` the nil UUID.
        name: The login handle at the time of the act (audit rows keep it when the user is gone).
        kind: What sort of identity acts.
        rights_of: Whose rights the credential gives (RFC 8693: the subject whose actor this is); ``None``: one's own.
        on_behalf_of: The chain of identities that lent their rights, nearest first; empty for oneself.
        token_id: The API token used, if one was.
        session_id: The browser session used, if one was.
        scopes: What the credential narrows the actor's rights to; ``None`` means no narrowing.
        project_id: The only project that the credential is good for; ``None`` means any.
        proved_at: When the user of a browser session last proved who they are; ``None`` for a token.
        origin: Where the request came from.
        is_exchanged: Whether the credential is a token of a token exchange (RFC 8693): it ends with what it came from.
    """

    model_config = ConfigDict(frozen=True)

    user_id: UUID
    name: str
    kind: ActorKind = "user"
    rights_of: UUID | None = None
    on_behalf_of: tuple[UUID, ...] = ()
    token_id: UUID | None = None
    session_id: UUID | None = None
    scopes: frozenset[str] | None = None
    project_id: UUID | None = None
    proved_at: datetime | None = None
    origin: Origin = Origin()
    is_exchanged: bool = False

    @property
    def gives_nothing_lasting(self) -> bool:
        """Whether the credential ends with another one or gives another's rights, so that nothing may outlive it."""
        return self.is_exchanged or self.rights_of is not None

    @property
    def subject_id(self) -> UUID:
        """The identity whose rights are looked up."""
        return self.rights_of or self.user_id

    def acting_for(self, lenders: tuple[UUID, ...]) -> "Actor":
        """The same actor with lenders added to the end of the chain, each named once."""
        more = tuple(lender for lender in lenders if lender not in self.on_behalf_of)
        return self.model_copy(update={"on_behalf_of": (*self.on_behalf_of, *more)}) if more else self


SYSTEM = Actor(user_id=UUID(int=0), name="system", kind="system")
"""The platform itself: repair schedules, sweeps, expiry."""

NOBODY = Actor(user_id=UUID(int=0), name="unknown")
"""Whoever tried to be somebody that there is not. What they typed as a name is not kept: it may be a password."""
