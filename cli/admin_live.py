"""What `perdure admin` does with an installation's database."""

import base64

from cli.installed import installed_settings, outcome_of
from database.engine import Database
from database.store.access.factors import reset_factors
from database.store.access.identities import identity_by_name
from database.store.access.mails import make_reset_link
from database.store.audit_keys import AuditKeys
from domain.access.mails import MailPurpose, link_url
from domain.actors import SYSTEM
from domain.errors import NotFound
from settings.values import Settings


def reset_password(name: str | None, *, second_factors: bool) -> None:
    """Prints a link that sets a password."""
    settings = installed_settings()
    name = name or settings.access.admin_name
    url = outcome_of(_reset_link(settings, name, second_factors=second_factors))
    print(f"With this link {name} sets a new password. It is good once and for one hour:\n\n{url}\n")
    if second_factors:
        print(f"The second factors of {name} are taken away: the password alone signs in.")


async def _reset_link(settings: Settings, name: str, *, second_factors: bool) -> str:
    key = base64.b64decode(settings.api.secret_key.get_secret_value())
    async with (
        Database(
            settings.database.url.get_secret_value(), pool_size=1, audit_keys=AuditKeys(settings.audit.secret())
        ) as database,
        database.transaction() as session,
    ):
        person = await identity_by_name(session, name)
        if person is None:
            raise NotFound(f"Nobody is called {name!r}. No link was made.", code="no_such_user")
        secret = await make_reset_link(session, person, key)
        if second_factors:
            await reset_factors(session, SYSTEM, person.id)
    return link_url(settings.api.public_url.rstrip("/"), MailPurpose.RESET, secret)
