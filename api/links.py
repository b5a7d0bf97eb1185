"""What the links in mails lead to; the JSON routes and the pages both end here."""

from starlette.requests import Request

from api.attempts import begin_attempt
from api.mails import mailing, start_mail
from api.requests import origin_of
from api.services import Services
from database.store.access.bans import lift_bans
from database.store.access.mails import Followed, link_of, order_reset, verify_email
from database.store.access.passwords import set_password
from domain.access.bans import name_subject
from domain.access.identities import check_email
from domain.access.mails import SETS_PASSWORD, MailPurpose
from domain.audit.actions import AuditAction

TOKEN_LENGTH_MAX = 100


async def ask_for_reset(services: Services, request: Request, email: str) -> None:
    """Orders a mail with which a forgotten password can be replaced.

    The same work, the same rows and the same answer for every address: whether it is anybody's is found out when the
    mail is sent.

    Raises:
        InvalidInput: It is no e-mail address.
        TooManyRequests: Too many were asked for, for this address or from the caller's.
    """
    email = check_email(email)
    await count_mail(services, request, email, action=AuditAction.PASSWORD_RESET)
    async with services.database.transaction() as session:
        mail_id = await order_reset(session, origin_of(request), email, services.secret_key)
    await start_mail(services, mail_id)


async def count_mail(services: Services, request: Request, email: str, *, action: AuditAction) -> None:
    """Counts a mail to an address that may be a stranger's, before it is ordered.

    Raises:
        TooManyRequests: There were too many, to this address or asked for from the caller's.
    """
    attempt = await begin_attempt(services, request, "mail", email, action=action)
    await attempt.counts()


async def link_that_sets_password(services: Services, token: str) -> Followed:
    """The link of a reset or an invitation, still good; it is not used up.

    Raises:
        InvalidLink: It is not good.
    """
    async with services.database.transaction() as session:
        return await link_of(session, SETS_PASSWORD, token)


async def set_password_by_link(services: Services, request: Request, token: str, password: str) -> Followed:
    """Sets the password of the link's owner and ends all their sessions. Nobody is signed in by it.

    Raises:
        InvalidLink: The link is not good.
        WeakPassword: The password may not be set; the link stays good.
        TooManyRequests: Too many passwords are being hashed.
    """
    link = await link_that_sets_password(services, token)
    facts = (link.name, link.email, link.display_name or "")
    password_hash = await services.passwords.hash_new(password, about=facts)
    actor = link.actor(origin_of(request))
    async with mailing(services) as session:
        link = await link_of(session, SETS_PASSWORD, token, follow=True)
        await set_password(session, actor, link.user_id, password_hash, by_link=True)
        if link.purpose is MailPurpose.INVITE:
            await verify_email(session, actor, link)
        # Whoever was locked out by somebody else's guesses has just shown who they are.
        own = name_subject(services.secret_key, "sign_in", link.name)
        await lift_bans(session, actor, [own], {"by": "name", "why": "password_set_by_mail"})
    return link


async def verify_by_link(services: Services, request: Request, token: str) -> Followed:
    """Makes the link's address the verified one of its owner.

    Raises:
        InvalidLink: The link is not good.
        Conflict: The address has become somebody else's (code ``email_taken``).
    """
    async with mailing(services) as session:
        link = await link_of(session, (MailPurpose.VERIFY,), token, follow=True)
        await verify_email(session, link.actor(origin_of(request)), link)
    return link
