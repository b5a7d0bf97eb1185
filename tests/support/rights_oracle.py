"""Who holds what, worked out a second time and as plainly as possible: the measure of what the database answers."""

from dataclasses import dataclass, field
from uuid import UUID

from domain.access.permissions import EVERYTHING, OWNER_PERMISSIONS, SYSTEM_ROLES, Permission

EVERY_PERMISSION = frozenset(map(str, Permission))


@dataclass
class Binding:
    """A role of an identity, an organisation or a team; everywhere, or on one project."""

    holder: UUID
    role: str
    project: UUID | None
    is_over: bool = False


@dataclass
class Loan:
    """One delegation."""

    id: UUID
    grant: UUID
    lender: UUID
    borrower: UUID
    permission: str
    project: UUID | None
    parent: "Loan | None"
    redelegations: int
    is_over: bool = False

    @property
    def lenders(self) -> tuple[UUID, ...]:
        """Nearest first."""
        return (self.lender, *(self.parent.lenders if self.parent else ()))

    @property
    def root(self) -> "Loan":
        """What was lent first."""
        return self.parent.root if self.parent else self


@dataclass
class Token:
    """An API token, or one of an exchange."""

    id: UUID
    secret_hash: str
    subject: UUID
    acting: UUID
    between: tuple[UUID, ...]
    scopes: frozenset[str]
    project: UUID | None
    parent: "Token | None" = None
    is_over: bool = False


@dataclass
class Oracle:
    """All facts, changed by a test beside the database.

    Attributes:
        organization: The only one; ``teams`` are all its teams, ``owners`` the one that owns it.
        project_owner: Of each project.
        internal: Projects that everybody signed in may read.
    """

    organization: UUID
    owners: UUID
    teams: tuple[UUID, ...]
    project_owner: dict[UUID, UUID]
    inactive: set[UUID] = field(default_factory=set)
    internal: set[UUID] = field(default_factory=set)
    members: set[tuple[UUID, UUID]] = field(default_factory=set)
    bindings: list[Binding] = field(default_factory=list)
    loans: list[Loan] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)

    def stands_for(self, user: UUID) -> set[UUID]:
        """The user, its teams and its organisation."""
        teams = {team for team, member in self.members if member == user}
        if not teams or self.organization in self.inactive:
            return {user}
        return {user, self.organization, *teams}

    def own(self, user: UUID, project: UUID | None) -> frozenset[str]:
        """What a user holds by roles and ownership, not lent."""
        selves = self.stands_for(user)
        held: set[str] = set()
        for binding in self.bindings:
            if not binding.is_over and binding.holder in selves and binding.project in (None, project):
                held |= set(map(str, SYSTEM_ROLES[binding.role]))
        if project is not None:
            owner = self.project_owner[project]
            if owner == user or (owner == self.organization and self.owners in selves):
                held |= set(map(str, OWNER_PERMISSIONS))
        return EVERY_PERMISSION if EVERYTHING in held else frozenset(held)

    def is_good(self, loan: Loan, project: UUID | None) -> bool:
        """Whether a delegation gives its permission there, at this moment."""
        if loan.is_over or loan.lender in self.inactive or loan.project not in (None, project):
            return False
        if loan.parent is not None:
            return self.is_good(loan.parent, project)
        return loan.permission in self.own(loan.lender, project)

    def held(self, user: UUID, project: UUID | None) -> frozenset[str]:
        """All that a user holds there."""
        lent = {loan.permission for loan in self.loans if loan.borrower == user and self.is_good(loan, project)}
        return self.own(user, project) | lent

    def ancestry(self, token: Token) -> list[Token]:
        """The token and all that it came from."""
        return [token, *(self.ancestry(token.parent) if token.parent else [])]

    def works(self, token: Token) -> bool:
        """Whether a token is accepted."""
        parties = {token.subject, token.acting, *token.between}
        return not parties & self.inactive and not any(one.is_over for one in self.ancestry(token))

    def may(self, token: Token, permission: str, project: UUID | None) -> bool:
        """Whether whoever brings a token that works may do something."""
        if token.project not in (None, project):
            return False
        if any(permission not in one.scopes for one in self.ancestry(token)):
            return False
        readable = permission == Permission.PROJECT_READ and project in self.internal
        return readable or permission in self.held(token.subject, project)
