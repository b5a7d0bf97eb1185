"""Who asks: the one SELECT of every request, and what they hold, which is mostly known already."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from database.engine import Database
from database.store.access.cache import Rights
from database.store.access.origins import GOOD_ORIGIN
from database.store.access.rights import version_sql
from database.store.project_view import VIEW_COLUMNS, view_of
from domain.access.claims import CLOCK_SKEW
from domain.access.held import Held, Version
from domain.actors import Actor, Origin
from domain.projects import ProjectView


@dataclass(frozen=True, slots=True)
class Credential:
    """What a request proves itself with.

    Attributes:
        kind: An API token, the cookie of a browser session, or a signed token of an issuer that we trust.
        secret_hash: ``domain.access.tokens.hash_secret`` of it; of a signed token, which was verified before, what it
            says (``external_credential``).
    """

    kind: Literal["token", "session", "external"]
    secret_hash: str


def external_credential(
    issuer: str, subject: str, actors: Sequence[str], scopes: Collection[str], expires_at: datetime
) -> Credential:
    """The credential of a signed token of another issuer, whose signature and claims were found good.

    Args:
        subject: Whose rights it gives, by the issuer's name for them.
        actors: Who acts with them, the present one first (RFC 8693, ``act``); empty for the subject itself.
        scopes: What it is narrowed to.
        expires_at: After it, and the skew that clocks are allowed, it is good no more.
    """
    said = {
        "issuer": issuer,
        "subject": subject,
        "actors": list(actors),
        "scopes": sorted(scopes),
        "expires_at": (expires_at + CLOCK_SKEW).isoformat(),
    }
    return Credential("external", json.dumps(said))


@dataclass(frozen=True, slots=True)
class Grant:
    """Who asks, what they hold here, and the project that they asked for.

    Attributes:
        actor: With the narrowing of the credential.
        held: What the identity holds whose rights the actor uses, on ``project`` or on the platform; not narrowed.
        project: ``None`` if none was asked for or there is none of that name. Nothing says yet that the actor may
            see it: that is ``domain.access.decide.require``'s to say.
        lasts: How long until the credential or something held ends by itself; ``None`` if nothing does.
    """

    actor: Actor
    held: Held
    project: ProjectView | None
    lasts: timedelta | None


_IS_ORDINARY = "num_nonnulls(t.parent_id, t.parent_session_id, t.acting_id) = 0 AND t.on_behalf_of = '{}'"

# A credential is good while the identities whose rights it gives and who act with it are active, and a token of a token
# exchange while all that it came from is good. Looking for that costs more than all the rest, so an ordinary token is
# looked for without; a statement finds either one or the other kind, never both.
_CREDENTIALS = {
    "token": f"""
        SELECT u.id AS subject_id, u.id AS user_id, u.name AS user_name, u.kind, t.id AS token_id,
            NULL::uuid AS session_id, t.on_behalf_of, t.scopes, t.project_id AS only_project_id,
            NULL::timestamptz AS proved_at, t.expires_at, false AS is_exchanged
        FROM api_tokens t JOIN users u ON u.id = t.user_id AND u.is_active
        WHERE t.token_hash = $1 AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > now())
            AND {_IS_ORDINARY}""",  # noqa: S608  # built of constants
    "exchanged": f"""
        SELECT u.id AS subject_id, COALESCE(a.id, u.id) AS user_id, COALESCE(a.name, u.name) AS user_name,
            COALESCE(a.kind, u.kind) AS kind, t.id AS token_id, t.parent_session_id AS session_id, t.on_behalf_of,
            origin.scopes, t.project_id AS only_project_id, NULL::timestamptz AS proved_at, t.expires_at,
            true AS is_exchanged
        FROM api_tokens t JOIN users u ON u.id = t.user_id AND u.is_active LEFT JOIN users a ON a.id = t.acting_id
        {GOOD_ORIGIN}
        WHERE t.token_hash = $1 AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > now())
            AND (t.acting_id IS NULL OR a.is_active) AND NOT ({_IS_ORDINARY})""",  # noqa: S608  # built of constants
    "session": """
        SELECT u.id AS subject_id, u.id AS user_id, u.name AS user_name, u.kind, NULL::uuid AS token_id,
            s.id AS session_id, '{}'::uuid[] AS on_behalf_of, s.scopes, s.project_id AS only_project_id, s.proved_at,
            s.expires_at, false AS is_exchanged
        FROM auth_sessions s JOIN users u ON u.id = s.user_id AND u.is_active
        WHERE s.token_hash = $1 AND s.expires_at > now()""",
    # Who acts now must be known; of those before, the ones that are known go into the chain. None may be deactivated.
    "external": """
        SELECT u.id AS subject_id, COALESCE(a.id, u.id) AS user_id, COALESCE(a.name, u.name) AS user_name,
            COALESCE(a.kind, u.kind) AS kind, NULL::uuid AS token_id, NULL::uuid AS session_id,
            CASE WHEN a.id IS NULL OR a.id = u.id THEN '{}'::uuid[] ELSE chain.before || u.id END AS on_behalf_of,
            ARRAY(SELECT jsonb_array_elements_text(said.it->'scopes')) AS scopes, NULL::uuid AS only_project_id,
            NULL::timestamptz AS proved_at, (said.it->>'expires_at')::timestamptz AS expires_at, false AS is_exchanged
        FROM (SELECT CAST(CAST($1 AS text) AS jsonb) AS it) said
        JOIN external_identities e ON e.issuer = said.it->>'issuer' AND e.subject = said.it->>'subject'
        JOIN users u ON u.id = e.user_id AND u.is_active
        LEFT JOIN external_identities ae ON ae.issuer = said.it->>'issuer' AND ae.subject = said.it->'actors'->>0
        LEFT JOIN users a ON a.id = ae.user_id
        CROSS JOIN LATERAL (
            SELECT COALESCE(array_agg(b.id ORDER BY n.place), '{}'::uuid[]) AS before,
                COALESCE(bool_and(b.is_active), true) AS are_active
            FROM jsonb_array_elements_text(said.it->'actors') WITH ORDINALITY AS n(subject, place)
            JOIN external_identities be ON be.issuer = said.it->>'issuer' AND be.subject = n.subject
            JOIN users b ON b.id = be.user_id WHERE n.place > 1
        ) chain
        WHERE (said.it->>'expires_at')::timestamptz > now() AND chain.are_active
            AND (jsonb_array_length(said.it->'actors') = 0 OR a.is_active)""",
}

_VERSION = version_sql("(SELECT subject_id FROM credential)")
_ASKED = f"c.*, now() AS asked_at, {_VERSION} AS version"

_WHO = f"WITH credential AS ({{credential}}) SELECT {_ASKED} FROM credential c"  # noqa: S608  # built of constants

_WHO_AND_PROJECT = f"""
    WITH credential AS ({{credential}}),
    project AS (
        SELECT {VIEW_COLUMNS} FROM projects p WHERE p.owner_name = $2 AND p.name = $3 AND p.is_active
    )
    SELECT {_ASKED}, p.* FROM credential c LEFT JOIN project p ON true"""  # noqa: S608  # built of constants

_STATEMENTS = {
    kind: (_WHO.replace("{credential}", credential), _WHO_AND_PROJECT.replace("{credential}", credential))
    for kind, credential in _CREDENTIALS.items()
}


async def _row(
    database: Database, kind: str, secret_hash: str, owner: str | None, name: str | None
) -> Mapping[str, Any] | None:
    who, who_and_project = _STATEMENTS[kind]
    if owner is None:
        rows = await database.read(who, secret_hash)
    else:
        rows = await database.read(who_and_project, secret_hash, owner, name)
    return rows[0] if rows else None


async def authorize(
    database: Database,
    credential: Credential,
    *,
    rights: Rights,
    origin: Origin,
    owner: str | None = None,
    name: str | None = None,
) -> Grant | None:
    """Finds out who asks, what they hold, and the project ``owner``/``name``, in one SELECT where rights are known.

    Expiry, revocation and deactivation are judged by the database's clock in that statement, which also tells the
    version of the rights: what is remembered of another version is not used.

    Args:
        credential: What the request carries.
        rights: Where what they hold is found.
        origin: Where it came from; handed on in the actor.
        owner: With ``name``: the project asked for; both or neither.

    Returns:
        ``None`` if the credential is unknown, expired or revoked, or its user was deactivated.

    Raises:
        Unavailable: The database does not answer.
    """
    row = await _row(database, credential.kind, credential.secret_hash, owner, name)
    if row is None and credential.kind == "token":
        row = await _row(database, "exchanged", credential.secret_hash, owner, name)
    if row is None:
        return None
    scopes = row["scopes"]
    actor = Actor(
        user_id=row["user_id"],
        name=row["user_name"],
        kind=row["kind"],
        rights_of=row["subject_id"] if row["subject_id"] != row["user_id"] else None,
        on_behalf_of=tuple(row["on_behalf_of"]),
        token_id=row["token_id"],
        session_id=row["session_id"],
        scopes=None if scopes is None else frozenset(scopes),
        project_id=row["only_project_id"],
        proved_at=row["proved_at"],
        origin=origin,
        is_exchanged=row["is_exchanged"],
    )
    project = view_of(row) if owner is not None and row["id"] is not None else None
    moment = row["asked_at"]
    held = await rights.held(
        database,
        actor.subject_id,
        project.id if project else None,
        version=Version.parse(row["version"]),
        moment=moment,
    )
    ends = [end for end in (held.until, row["expires_at"]) if end is not None]
    return Grant(actor, held, project, min(ends) - moment if ends else None)
