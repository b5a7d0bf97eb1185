"""The one error family. Every refusal and failure that a caller may see is one of these.

    PerdureError                code, status, retryable, details
    ├── InvalidInput            400  the request itself is wrong
    │   └── InvalidPipeline     422  a pipeline file with problems, all of them listed
    ├── Unauthenticated         401  who are you?
    ├── PermissionMissing       403  you may see it, but not do this; names the permission
    │   └── ProofRequired       403  you may do this, once you have shown again that it is you
    ├── NotFound                404  does not exist, or is not for you to see
    ├── Conflict                409  the state does not allow this
    ├── TooLarge                413  over a limit that is named
    ├── RangeNotSatisfiable     416  no such bytes
    ├── TooManyRequests         429  later, and when
    └── Unavailable             503  a neighbour is down; retried, and says when to come back

``api/errors.py`` turns them into RFC 9457 problem documents and ``temporal/interceptors.py`` into
``ApplicationError``: these two, and nobody else. Nobody branches on message text; the ``code`` is stable.
"""

from typing import ClassVar


class PerdureError(Exception):
    """A failure that has a reader.

    Args:
        message: What happened, what was kept, what to do next; shown to the user as it is.
        details: Structured facts for programs (JSON values only).
        code: A stable, more precise code than the class's own.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong on our side"
    retryable: ClassVar[bool] = True

    def __init__(self, message: str, *, code: str | None = None, details: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.specific_code = code or self.code
        self.details = details or {}


class InvalidInput(PerdureError):
    """The request is malformed or breaks a rule that its sender can read."""

    code = "invalid_input"
    status = 400
    title = "The request is not valid"
    retryable = False


class InvalidPipeline(InvalidInput):
    """A pipeline file cannot be used; ``details['problems']`` lists every problem with line and column."""

    code = "invalid_pipeline"
    status = 422
    title = "The pipeline file is not valid"


class Unauthenticated(PerdureError):
    """No credential, or one that is unknown, expired or revoked."""

    code = "unauthenticated"
    status = 401
    title = "Sign in first"
    retryable = False


class PermissionMissing(PerdureError):
    """The caller may see the thing but not do this; ``details['permission']`` names what is missing.

    Attributes:
        is_audited: Whether an audit row tells of the attempt; whoever answers writes one otherwise.
    """

    code = "permission_missing"
    status = 403
    title = "A permission is missing"
    retryable = False
    is_audited: bool = False


class ProofRequired(PermissionMissing):
    """The caller may do this, but proved too long ago who they are; ``details['how']`` says how to do it again."""

    code = "proof_required"
    title = "Show again that it is you"
    is_audited = True  # by whoever asks for the proof, before it is raised


class NotFound(PerdureError):
    """It does not exist, or the caller may not know that it does."""

    code = "not_found"
    status = 404
    title = "Not found"
    retryable = False


class Conflict(PerdureError):
    """The present state does not allow the change."""

    code = "conflict"
    status = 409
    title = "Not possible in this state"
    retryable = False


class TooLarge(PerdureError):
    """Over a limit; the message names the limit and the size."""

    code = "too_large"
    status = 413
    title = "Too large"
    retryable = False


class RangeNotSatisfiable(PerdureError):
    """The bytes asked for do not exist (RFC 9110, 15.5.17)."""

    code = "range_not_satisfiable"
    status = 416
    title = "No such range"
    retryable = False


class TooManyRequests(PerdureError):
    """Come back after ``retry_after_seconds``."""

    code = "too_many_requests"
    status = 429
    title = "Too many requests"

    def __init__(self, message: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(message, details={"retry_after_seconds": retry_after_seconds})
        self.retry_after_seconds = retry_after_seconds


class Unavailable(PerdureError):
    """A neighbour (database, object store, Temporal, bus) does not answer; nothing acknowledged is lost."""

    code = "unavailable"
    status = 503
    title = "A part of the platform is not reachable"

    def __init__(self, message: str, *, neighbour: str, retry_after_seconds: int = 5) -> None:
        super().__init__(message, details={"neighbour": neighbour})
        self.neighbour = neighbour
        self.retry_after_seconds = retry_after_seconds
