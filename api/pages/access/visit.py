"""A browser that is not signed in yet: its visit cookie, its pending sign-in, and where a sign-in leads."""

import secrets
from dataclasses import dataclass
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from api.challenges import LIFETIME_SECONDS, pending_sign_in, pending_user
from api.csrf import check_csrf, csrf_token
from api.services import Services
from domain.errors import InvalidInput

VISIT_COOKIE_SECONDS = 3600
NEXT_LENGTH_MAX = 2000


def local_path(text: str) -> str:
    """``text`` if it is a path of this platform, else ``/``: a login never sends anybody to another site.

    Browsers read a path that begins with two slashes, or with a slash and a backslash, as another host, and drop tabs
    and line breaks before they look.
    """
    plain = text.isprintable() and "\\" not in text
    if plain and text.startswith("/") and not text.startswith("//") and len(text) <= NEXT_LENGTH_MAX:
        return text
    return "/"


@dataclass(frozen=True, slots=True)
class Visit:
    """A browser on its way to a session: what its forms and challenges are bound to.

    Attributes:
        secret: The cookie's value; no other browser has it.
    """

    services: Services
    secret: str

    @property
    def id(self) -> str:
        """What the visit's CSRF tokens and challenges are bound to; the prefix keeps it apart from sessions' ids."""
        return f"visit/{self.secret}"

    @property
    def csrf_token(self) -> str:
        """For the forms of the login pages."""
        return csrf_token(self.services.secret_key, self.id)

    def factor_id(self, user_id: UUID) -> str:
        """What the challenges of a second factor are bound to."""
        return f"{self.id}/{user_id}"

    def keep(self, response: Response) -> None:
        """Hands the browser its visit cookie."""
        self._set_cookie(response, "visit", self.secret, VISIT_COOKIE_SECONDS)

    def keep_pending(self, response: Response, user_id: UUID) -> None:
        """Lets the browser go on to the second factor of ``user_id``."""
        pending = pending_sign_in(self.services.secret_key, user_id, self.id)
        self._set_cookie(response, "pending", pending, LIFETIME_SECONDS)

    def pending_user(self, request: Request) -> UUID:
        """Whose password this browser knew.

        Raises:
            Unauthenticated: Nobody's, or it is too long ago (code ``sign_in_expired``).
        """
        kept = request.cookies.get(_cookie_name(self.services, "pending"), "")
        return pending_user(self.services.secret_key, kept, self.id)

    def drop_pending(self, response: Response) -> None:
        """The sign-in is complete. The visit stays: another tab may show the login page."""
        response.delete_cookie(
            _cookie_name(self.services, "pending"),
            path="/",
            secure=self.services.secure_cookies,
            httponly=True,
            samesite="strict",
        )

    def _set_cookie(self, response: Response, name: str, value: str, seconds: int) -> None:
        response.set_cookie(
            _cookie_name(self.services, name),
            value,
            max_age=seconds,
            path="/",
            secure=self.services.secure_cookies,
            httponly=True,
            samesite="strict",
        )


def _cookie_name(services: Services, name: str) -> str:
    return f"__Host-perdure_{name}" if services.secure_cookies else f"perdure_{name}"


def visit_of(request: Request, services: Services) -> Visit | None:
    """The visit of this browser; ``None`` if it has none."""
    secret = request.cookies.get(_cookie_name(services, "visit"))
    return Visit(services, secret) if secret else None


def new_visit(services: Services) -> Visit:
    """A visit that begins."""
    return Visit(services, secrets.token_urlsafe(24))


async def checked_visit(request: Request, services: Services) -> Visit:
    """The visit that a form was sent from.

    Raises:
        InvalidInput: There is none (code ``visit_expired``).
        PermissionMissing: The form is not one of this visit's.
    """
    visit = visit_of(request, services)
    if visit is None:
        raise InvalidInput(
            "The login page was open too long, or this browser keeps no cookies. Open it again and sign in.",
            code="visit_expired",
        )
    await check_csrf(request, services.secret_key, visit.id, services.public_url)
    return visit
