"""One's own second factors: the authenticator app, passkeys, recovery codes."""

from dataclasses import dataclass, replace
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from api.dependencies import Caller, ServicesDep
from api.enrolment import (
    FactorsOverview,
    NewTotp,
    confirm,
    new_recovery_codes,
    overview,
    passkey_options,
    passkey_site,
    register_passkey,
    set_up_totp,
)
from api.mails import mailing
from api.pages.access.visit import local_path
from api.pages.frame import Frame, frame_for
from api.passkeys import ANSWER_LENGTH_MAX
from api.proof import ProvenSessionDep, SessionDep
from api.rendering import render
from api.second_factor import CODE_LENGTH_MAX
from api.services import Services
from database.store.access.factors import remove_passkey, remove_totp, rename_passkey
from domain.access.factors import PASSKEY_NAME_LENGTH_MAX, check_passkey_name
from domain.errors import Conflict, InvalidInput, Unauthenticated

router = APIRouter(include_in_schema=False)

HERE = "/me/factors"
FORM_NAME_LENGTH_MAX = 4 * PASSKEY_NAME_LENGTH_MAX


@dataclass(frozen=True, slots=True)
class FactorsPage:
    """What ``access/factors.html`` shows.

    Attributes:
        passkey_options: For the browser to make another one; ``None`` where passkeys do not work.
        elsewhere: The address where they work, if that is another one than this.
        next_path: Where the reader was on the way to; ``None`` if nowhere.
        new_totp: An authenticator app that is being set up: its secret is shown this once.
        waits: Whether a code of it is asked for without showing its secret again.
        new_codes: Recovery codes, shown this once.
        error: Why the last attempt failed.
    """

    frame: Frame
    found: FactorsOverview
    passkey_options: str | None
    elsewhere: str | None
    next_path: str | None = None
    new_totp: NewTotp | None = None
    waits: bool = False
    new_codes: tuple[str, ...] = ()
    error: str | None = None


async def _page_for(request: Request, services: Services, caller: Caller) -> FactorsPage:
    found = await overview(services, caller.actor)
    site = passkey_site(services)
    here = site is not None and site.is_address_of(request)
    return FactorsPage(
        frame=frame_for(services, caller, section="account"),
        found=found,
        passkey_options=passkey_options(services, caller.actor, found.passkeys) if here else None,
        elsewhere=site.origin if site is not None and not here else None,
    )


def _shown(page: FactorsPage, status_code: int = 200) -> Response:
    return render("access/factors.html", status_code=status_code, page=page, frame=page.frame)


def _back() -> Response:
    return RedirectResponse(HERE, status_code=303)


@router.get(HERE, summary="Your second factors")
async def get_factors(
    request: Request,
    caller: SessionDep,
    services: ServicesDep,
    next_path: Annotated[str | None, Query(alias="next")] = None,
) -> Response:
    """What follows your password, and how many recovery codes are left."""
    page = await _page_for(request, services, caller)
    return _shown(replace(page, next_path=None if next_path is None else local_path(next_path)))


@router.post(f"{HERE}/totp", summary="Set up an authenticator app")
async def post_totp(request: Request, caller: ProvenSessionDep, services: ServicesDep) -> Response:
    """Shows a new secret once, and asks for the first code."""
    made = await set_up_totp(services, caller.actor)
    return _shown(replace(await _page_for(request, services, caller), new_totp=made))


@router.post(f"{HERE}/totp/confirm", summary="Confirm the authenticator app")
async def post_totp_code(
    request: Request,
    caller: ProvenSessionDep,
    services: ServicesDep,
    code: Annotated[str, Form(max_length=CODE_LENGTH_MAX)],
) -> Response:
    """From now on signing in asks for its codes."""
    try:
        codes = await confirm(services, caller.actor, code)
    except InvalidInput as refused:
        page = await _page_for(request, services, caller)
        return _shown(replace(page, waits=True, error=refused.message), refused.status)
    page = await _page_for(request, services, caller)
    return _shown(replace(page, new_codes=tuple(codes or ())))


@router.post(f"{HERE}/totp/remove", summary="Remove the authenticator app")
async def post_totp_removal(caller: ProvenSessionDep, services: ServicesDep) -> Response:
    """Its codes are no good any more; removing it twice is fine."""
    async with mailing(services) as session:
        await remove_totp(session, caller.actor)
    return _back()


@router.post(f"{HERE}/recovery-codes", summary="Make new recovery codes")
async def post_recovery_codes(request: Request, caller: ProvenSessionDep, services: ServicesDep) -> Response:
    """Shows ten new codes once; those of before are dead."""
    codes = await new_recovery_codes(services, caller.actor)
    return _shown(replace(await _page_for(request, services, caller), new_codes=tuple(codes)))


@router.post(f"{HERE}/passkeys", summary="Register a passkey")
async def post_passkey(
    request: Request,
    caller: ProvenSessionDep,
    services: ServicesDep,
    name: Annotated[str, Form(max_length=FORM_NAME_LENGTH_MAX)],
    answer: Annotated[str, Form(max_length=ANSWER_LENGTH_MAX)] = "",
) -> Response:
    """Keeps the passkey that the browser made."""
    try:
        _, codes = await register_passkey(services, caller.actor, name, answer)
    except (InvalidInput, Conflict, Unauthenticated) as refused:
        page = await _page_for(request, services, caller)
        return _shown(replace(page, error=refused.message), refused.status)
    if codes is None:
        return _back()
    return _shown(replace(await _page_for(request, services, caller), new_codes=tuple(codes)))


@router.post(f"{HERE}/passkeys/{{passkey_id}}/name", summary="Rename a passkey")
async def post_passkey_name(
    passkey_id: UUID,
    request: Request,
    caller: SessionDep,
    services: ServicesDep,
    name: Annotated[str, Form(max_length=FORM_NAME_LENGTH_MAX)],
) -> Response:
    """Calls a passkey of yours something else."""
    try:
        checked = check_passkey_name(name)
    except InvalidInput as refused:
        page = await _page_for(request, services, caller)
        return _shown(replace(page, error=refused.message), refused.status)
    async with services.database.transaction() as session:
        await rename_passkey(session, caller.actor, passkey_id, checked)
    return _back()


@router.post(f"{HERE}/passkeys/{{passkey_id}}/remove", summary="Remove a passkey")
async def post_passkey_removal(passkey_id: UUID, caller: ProvenSessionDep, services: ServicesDep) -> Response:
    """It signs you in no more."""
    async with mailing(services) as session:
        await remove_passkey(session, caller.actor, passkey_id)
    return _back()
