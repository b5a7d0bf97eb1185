"""Second factors of one's own, proving oneself again, and taking away what somebody lost."""

import json
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from api.dependencies import ActorDep, Caller, ServicesDep, require_platform
from api.enrolment import (
    confirm,
    new_recovery_codes,
    overview,
    passkey_options,
    register_passkey,
    set_up_totp,
)
from api.errors import problems
from api.mails import mailing
from api.proof import ProvenSessionDep, SessionDep, require_recent_proof
from api.routes.access.me import Me, me_of
from api.second_factor import CODE_LENGTH_MAX, ShownProof, check_proof
from api.sign_in import renew_session, set_session_cookie
from api.strict_route import StrictRoute
from database.models.credentials import Passkey
from database.store.access.factors import remove_passkey, remove_totp, rename_passkey, reset_factors
from database.store.access.identities import user_by_name
from database.store.access.rights import held_by
from domain.access.factors import PASSKEY_NAME_LENGTH_MAX, check_passkey_name
from domain.access.passwords import LENGTH_MAX as PASSWORD_LENGTH_MAX
from domain.access.permissions import EVERYTHING, Permission
from domain.errors import NotFound, PermissionMissing

router = APIRouter(prefix="/api/v1", tags=["access"], route_class=StrictRoute)

UsersAdmin = Annotated[Caller, Depends(require_recent_proof(require_platform(Permission.ADMIN_USERS)))]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PasskeyView(BaseModel):
    """A passkey without its key."""

    id: UUID
    name: str
    created_at: AwareDatetime
    last_used_at: AwareDatetime | None


class FactorsView(BaseModel):
    """What follows your password."""

    totp_since: AwareDatetime | None = Field(description="When the authenticator app was confirmed; null without one")
    passkeys: list[PasskeyView]
    recovery_codes_left: int
    recovery_codes_few: bool = Field(description="Whether it is time to make new ones")


class TotpSecret(BaseModel):
    """The secret of an authenticator app, shown this once."""

    secret: str = Field(description="Base32, to type it")
    uri: str = Field(description="`otpauth://`, for a device that opens it")
    qr_svg: str = Field(description="The same as a QR code, SVG")


class Code(_Asked):
    """A code that was read off."""

    code: str = Field(max_length=CODE_LENGTH_MAX)


class RecoveryCodes(BaseModel):
    """Codes for whoever loses the second factor, each good once. They are shown this once."""

    recovery_codes: list[str] | None = Field(description="Null where there are codes that are still good")


class NewPasskey(_Asked):
    """A passkey that a browser made."""

    name: str = Field(max_length=PASSKEY_NAME_LENGTH_MAX, description="For you, to recognise it by")
    credential: dict[str, Any] = Field(description="The `PublicKeyCredential` as its `toJSON()` gives it")


class NewPasskeyAnswer(PasskeyView, RecoveryCodes):
    """The passkey, and recovery codes if it is the first second factor."""


class PasskeyName(_Asked):
    """What a passkey shall be called."""

    name: str = Field(max_length=PASSKEY_NAME_LENGTH_MAX)


class Proof(_Asked):
    """One of the three. With a second factor the password alone does not count."""

    code: str | None = Field(
        default=None, max_length=CODE_LENGTH_MAX, description="Of the authenticator app, or a recovery code"
    )
    password: str | None = Field(default=None, max_length=PASSWORD_LENGTH_MAX)
    passkey: dict[str, Any] | None = Field(default=None, description="What the browser answered with a passkey")


@router.post(
    "/sessions/current/proof",
    summary="Prove again that it is you",
    responses=problems(400, 401, 403, 413, 429),
)
async def post_proof(
    body: Proof, request: Request, response: Response, caller: SessionDep, services: ServicesDep
) -> Me:
    """Lets the browser session do what asks for a recent proof, for a while; its cookie changes."""
    passkey = None if body.passkey is None else json.dumps(body.passkey)
    shown = ShownProof(code=body.code, password=body.password, passkey=passkey)
    factor = await check_proof(services, request, caller.actor, shown)
    actor, secret = await renew_session(services, caller.actor, factor=factor)
    set_session_cookie(response, services, secret)
    return await me_of(services, actor, caller.held)


@router.get("/me/factors", summary="Your second factors", responses=problems(401))
async def get_factors(actor: ActorDep, services: ServicesDep) -> FactorsView:
    """What follows your password when you sign in."""
    found = await overview(services, actor)
    return FactorsView(
        totp_since=found.totp.confirmed_at if found.totp else None,
        passkeys=[_shown(passkey) for passkey in found.passkeys],
        recovery_codes_left=found.factors.recovery_codes,
        recovery_codes_few=found.factors.few_recovery_codes,
    )


@router.post(
    "/me/factors/totp", status_code=201, summary="Set up an authenticator app", responses=problems(401, 403, 409)
)
async def post_totp(response: Response, caller: ProvenSessionDep, services: ServicesDep) -> TotpSecret:
    """Shows a new secret once. It counts when a first code has confirmed it. Needs a recent proof."""
    response.headers["cache-control"] = "no-store"
    made = await set_up_totp(services, caller.actor)
    return TotpSecret(secret=made.secret, uri=made.uri, qr_svg=made.qr_svg)


@router.post(
    "/me/factors/totp/confirm",
    summary="Confirm the authenticator app",
    responses=problems(400, 401, 403, 409, 413),
)
async def post_totp_code(
    body: Code, response: Response, caller: ProvenSessionDep, services: ServicesDep
) -> RecoveryCodes:
    """From now on signing in asks for its codes. Needs a recent proof."""
    response.headers["cache-control"] = "no-store"
    return RecoveryCodes(recovery_codes=await confirm(services, caller.actor, body.code))


@router.delete(
    "/me/factors/totp", status_code=204, summary="Remove the authenticator app", responses=problems(401, 403, 404)
)
async def delete_totp(caller: ProvenSessionDep, services: ServicesDep) -> None:
    """Its codes are no good any more. Needs a recent proof."""
    async with mailing(services) as session:
        removed = await remove_totp(session, caller.actor)
    if not removed:
        raise NotFound("You have no authenticator app.")


@router.post(
    "/me/factors/recovery-codes",
    status_code=201,
    summary="Make new recovery codes",
    responses=problems(401, 403, 409),
)
async def post_recovery_codes(response: Response, caller: ProvenSessionDep, services: ServicesDep) -> RecoveryCodes:
    """Ten codes, each good once; those of before are dead. Needs a recent proof."""
    response.headers["cache-control"] = "no-store"
    return RecoveryCodes(recovery_codes=await new_recovery_codes(services, caller.actor))


@router.post(
    "/me/factors/passkeys/options",
    summary="What a browser needs to make a passkey",
    responses=problems(400, 401, 403),
)
async def post_passkey_options(caller: SessionDep, services: ServicesDep) -> dict[str, Any]:
    """`PublicKeyCredentialCreationOptions` as JSON, with a challenge for this session that is good once."""
    found = await overview(services, caller.actor)
    options: dict[str, Any] = json.loads(passkey_options(services, caller.actor, found.passkeys))
    return options


@router.post(
    "/me/factors/passkeys",
    status_code=201,
    summary="Register a passkey",
    responses=problems(400, 401, 403, 409, 413),
)
async def post_passkey(
    body: NewPasskey, response: Response, caller: ProvenSessionDep, services: ServicesDep
) -> NewPasskeyAnswer:
    """Keeps the passkey that the browser made. Needs a recent proof."""
    response.headers["cache-control"] = "no-store"
    passkey, codes = await register_passkey(services, caller.actor, body.name, json.dumps(body.credential))
    return NewPasskeyAnswer(recovery_codes=codes, **_shown(passkey).model_dump())


PasskeyPath = Annotated[UUID, Path(description="The passkey's id")]


@router.patch(
    "/me/factors/passkeys/{passkey_id}",
    summary="Rename a passkey",
    responses=problems(400, 401, 403, 404, 413),
)
async def patch_passkey(
    passkey_id: PasskeyPath, body: PasskeyName, caller: SessionDep, services: ServicesDep
) -> PasskeyView:
    """Calls a passkey of yours something else."""
    name = check_passkey_name(body.name)
    async with services.database.transaction() as session:
        return _shown(await rename_passkey(session, caller.actor, passkey_id, name))


@router.delete(
    "/me/factors/passkeys/{passkey_id}",
    status_code=204,
    summary="Remove a passkey",
    responses=problems(400, 401, 403, 404),
)
async def delete_passkey(passkey_id: PasskeyPath, caller: ProvenSessionDep, services: ServicesDep) -> None:
    """It signs you in no more. Needs a recent proof."""
    async with mailing(services) as session:
        await remove_passkey(session, caller.actor, passkey_id)


@router.delete(
    "/users/{name}/factors",
    status_code=204,
    summary="Take away somebody's second factors",
    responses=problems(400, 401, 403, 404),
)
async def delete_factors(
    name: Annotated[str, Path(max_length=64, description="Login name")], caller: UsersAdmin, services: ServicesDep
) -> None:
    """For somebody who lost them all: they sign in with the password alone, until they set up new ones.

    See first that it is really they who ask. Needs a recent proof.
    """
    async with mailing(services) as session:
        user = await user_by_name(session, name)
        if user is None:
            raise NotFound(f"There is nobody called {name!r}.")
        theirs = await held_by(session, user.id)
        if EVERYTHING in theirs.permissions and EVERYTHING not in caller.held.permissions:
            raise PermissionMissing(
                f"{name} administers the platform, and only who does so too may take their second factors away. "
                "Nothing was changed.",
                details={"permission": EVERYTHING},
            )
        await reset_factors(session, caller.actor, user.id)


def _shown(passkey: Passkey) -> PasskeyView:
    return PasskeyView(
        id=passkey.id, name=passkey.name, created_at=passkey.created_at, last_used_at=passkey.last_used_at
    )
