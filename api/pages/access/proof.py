"""The page that asks once more who it is, and then goes on with what was wanted (``api/proof.py``).

A form that met ``ProofRequired`` is sent on to this page by its browser (307), with all its fields. They wait in
hidden fields, and after the proof a second 307 makes the browser send them to where they were meant for. Nothing is
kept on the server meanwhile, and nothing of it needs JavaScript.
"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from api.csrf import FIELD
from api.dependencies import Caller, ServicesDep
from api.pages.access.visit import local_path
from api.pages.frame import Frame, frame_for
from api.passkeys import authentication_options, passkey_site
from api.proof import SessionDep
from api.rendering import render
from api.second_factor import ShownProof, check_proof, session_bound
from api.services import Services
from api.sign_in import renew_session, set_session_cookie
from database.store.access.factors import factors_of, passkeys_of
from domain.access.factors import Factors
from domain.errors import InvalidInput, TooManyRequests, Unauthenticated

router = APIRouter(include_in_schema=False)

CODE, PASSWORD, PASSKEY, SHOWN = "proof_code", "proof_password", "proof_passkey", "proof_shown"
"""The page's own fields; every other one is of the form that waits."""


@dataclass(frozen=True, slots=True)
class ProofPage:
    """What ``access/proof.html`` shows.

    Attributes:
        factors: What counts.
        providers: Name and title of those to prove it through; only where nothing here counts but the password.
        waiting: The fields of the form that is sent on after the proof; ``None`` where there is none.
        passkey_options: For the browser; ``None`` without passkeys, or where they do not work.
        elsewhere: The address where the passkeys work, if that is another one than this.
        error: Why the last attempt failed.
    """

    frame: Frame
    factors: Factors
    next_path: str
    providers: tuple[tuple[str, str], ...]
    waiting: tuple[tuple[str, str], ...] | None
    passkey_options: str | None
    elsewhere: str | None
    error: str | None = None


async def _page(
    request: Request,
    services: Services,
    caller: Caller,
    next_path: str,
    *,
    waiting: tuple[tuple[str, str], ...] | None = None,
    refused: Unauthenticated | TooManyRequests | InvalidInput | None = None,
) -> Response:
    actor = caller.actor
    async with services.database.transaction() as session:
        factors = await factors_of(session, actor.user_id)
        passkeys = await passkeys_of(session, actor.user_id)
    site = passkey_site(services.public_url) if passkeys else None
    providers = []
    if factors.provider and not factors.needed:
        providers = [(name, provider.settings.title) for name, provider in services.identity_providers.items()]
    options = None
    if site is not None and site.is_address_of(request):
        options = authentication_options(site, services.secret_key, "prove", session_bound(actor), passkeys)
    page = ProofPage(
        frame=frame_for(services, caller, section="account"),
        factors=factors,
        next_path=local_path(next_path),
        providers=tuple(providers),
        waiting=waiting,
        passkey_options=options,
        elsewhere=site.origin if site is not None and options is None else None,
        error=refused.message if refused else None,
    )
    response = render("access/proof.html", status_code=refused.status if refused else 200, page=page, frame=page.frame)
    if isinstance(refused, TooManyRequests):
        response.headers["retry-after"] = str(refused.retry_after_seconds)
    return response


NextQuery = Annotated[str, Query(alias="next")]


@router.get("/me/proof", summary="Prove again that it is you")
async def get_proof(
    request: Request, caller: SessionDep, services: ServicesDep, next_path: NextQuery = "/"
) -> Response:
    """Asks for the second factor, or for the password of who has none."""
    return await _page(request, services, caller, next_path)


@router.post("/me/proof", summary="Prove again that it is you, and go on")
async def post_proof(
    request: Request,
    caller: SessionDep,
    services: ServicesDep,
    next_path: NextQuery = "/",
    resend: Annotated[bool, Query()] = False,
) -> Response:
    """Takes a form that has to wait, or the proof itself.

    ``resend`` is only ever said by this page's own form: a link to the page cannot make it send anything.
    """
    form = await request.form()
    fields = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
    if len(fields) < len(form.multi_items()):
        await request.close()
        raise InvalidInput(
            "A file cannot wait until you have proven who you are; nothing was changed. Open /me/proof first, then "
            "send it again.",
            code="file_cannot_wait",
        )
    waiting = tuple((name, value) for name, value in fields if name not in (CODE, PASSWORD, PASSKEY, SHOWN, FIELD))
    if SHOWN not in form:
        return await _page(request, services, caller, next_path, waiting=waiting)
    shown = {name: value for name, value in fields if value}
    proof = ShownProof(code=shown.get(CODE), password=shown.get(PASSWORD), passkey=shown.get(PASSKEY))
    try:
        factor = await check_proof(services, request, caller.actor, proof)
    except (Unauthenticated, TooManyRequests, InvalidInput) as refused:
        kept = waiting if resend else None
        return await _page(request, services, caller, next_path, waiting=kept, refused=refused)
    _, secret = await renew_session(services, caller.actor, factor=factor)
    response = RedirectResponse(local_path(next_path), status_code=307 if resend else 303)
    set_session_cookie(response, services, secret)
    return response
