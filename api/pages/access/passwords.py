"""Pages that the links in mails lead to, and the one that asks for such a mail. Nobody is signed in on them.

A link only shows a form; what it is for happens when the form is sent, because mail scanners and previews open links.
"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import Response

from api.csrf import check_origin
from api.dependencies import ServicesDep
from api.links import (
    TOKEN_LENGTH_MAX,
    ask_for_reset,
    link_that_sets_password,
    set_password_by_link,
    verify_by_link,
)
from api.rendering import render
from database.store.access.mails import Followed
from domain.access.identities import EMAIL_LENGTH_MAX
from domain.access.mails import MailPurpose
from domain.access.passwords import LENGTH_MAX, WeakPassword
from domain.errors import InvalidInput, PerdureError, TooManyRequests

router = APIRouter(include_in_schema=False)

Token = Annotated[str, Query(max_length=TOKEN_LENGTH_MAX)]
FormToken = Annotated[str, Form(max_length=TOKEN_LENGTH_MAX)]


@dataclass(frozen=True, slots=True)
class ForgottenPage:
    """What ``access/forgotten.html`` shows.

    Attributes:
        email: What was typed before.
        error: Why it was refused.
        is_sent: Whether it was taken; the same whether or not the address is anybody's.
    """

    email: str = ""
    error: str | None = None
    is_sent: bool = False


@dataclass(frozen=True, slots=True)
class NewPasswordPage:
    """What ``access/new_password.html`` shows.

    Attributes:
        name: Whose password it is.
        is_first: Whether this is an invitation.
        length_min: Of the new password, in characters.
        error: Why the one before was refused.
    """

    token: str
    name: str
    is_first: bool
    length_min: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class TellPage:
    """What ``access/told.html`` shows: that something is done, and where to go on."""

    title: str
    message: str
    link_text: str
    link: str


@router.get("/password/reset", summary="Forgotten password")
async def get_forgotten() -> Response:
    """The form that asks for the address."""
    return render("access/forgotten.html", page=ForgottenPage())


@router.post("/password/reset", summary="Ask for a new password")
async def post_forgotten(
    request: Request, services: ServicesDep, email: Annotated[str, Form(max_length=EMAIL_LENGTH_MAX)]
) -> Response:
    """Orders the mail and says the same to everybody."""
    check_origin(request, services.public_url)
    try:
        await ask_for_reset(services, request, email)
    except (InvalidInput, TooManyRequests) as refused:
        page = ForgottenPage(email=email, error=refused.message)
        return _refused("access/forgotten.html", refused, page)
    return render("access/forgotten.html", page=ForgottenPage(email=email, is_sent=True))


@router.get("/password/new", summary="Set a new password")
async def get_new_password(services: ServicesDep, token: Token = "") -> Response:
    """The form; a link that is not good is told at once."""
    link = await link_that_sets_password(services, token)
    return render("access/new_password.html", page=_new_password(services, link, token))


@router.post("/password/new", summary="Set a new password")
async def post_new_password(
    request: Request,
    services: ServicesDep,
    token: FormToken,
    password: Annotated[str, Form(max_length=LENGTH_MAX)],
    again: Annotated[str, Form(max_length=LENGTH_MAX)],
) -> Response:
    """Sets it; one that is refused shows the form again, and the link stays good."""
    check_origin(request, services.public_url)
    link = await link_that_sets_password(services, token)
    try:
        if password != again:
            raise InvalidInput("The two passwords are not the same. Nothing was changed.", code="passwords_differ")
        await set_password_by_link(services, request, token, password)
    except (WeakPassword, InvalidInput, TooManyRequests) as refused:
        page = _new_password(services, link, token, error=refused.message)
        return _refused("access/new_password.html", refused, page)
    told = f"The password of {link.name} is set, and every browser that was signed in is signed out."
    return render("access/told.html", page=TellPage("Your password is set", told, "Sign in", "/login"))


@router.get("/verify", summary="Verify an e-mail address")
async def get_verify(token: Token = "") -> Response:
    """A button: opening a link must not be enough."""
    return render("access/verify.html", token=token)


@router.post("/verify", summary="Verify an e-mail address")
async def post_verify(request: Request, services: ServicesDep, token: FormToken) -> Response:
    """Makes the address that the link was mailed to the verified one."""
    check_origin(request, services.public_url)
    link = await verify_by_link(services, request, token)
    told = f"{link.email} is the verified e-mail address of {link.name}."
    return render("access/told.html", page=TellPage("Your address is confirmed", told, "Go on", "/"))


def _new_password(services: ServicesDep, link: Followed, token: str, *, error: str | None = None) -> NewPasswordPage:
    return NewPasswordPage(
        token=token,
        name=link.name,
        is_first=link.purpose is MailPurpose.INVITE,
        length_min=services.passwords.rules.length_min,
        error=error,
    )


def _refused(template: str, refused: PerdureError, page: object) -> Response:
    response = render(template, status_code=refused.status, page=page)
    if isinstance(refused, TooManyRequests):
        response.headers["retry-after"] = str(refused.retry_after_seconds)
    return response
