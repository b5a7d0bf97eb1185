"""What a token of a token exchange came from: it is good only while every step before it is, and never wider.

A token names the token and the browser session that it was exchanged for, and the identities that stand between
(``on_behalf_of``). Nobody has to find the descendants of what is revoked: each use looks up the steps before it.
"""

EXCHANGES_MAX = 8
"""Exchanges in a row; more than agents, their sub-agents and theirs need, and few enough to look up at every use."""


def origin_join(token_is_good: str, session_is_good: str) -> str:
    """SQL that joins the api token ``t`` with ``origin.scopes``, and leaves it out where its origin is not good.

    For a token of no exchange, ``origin.scopes`` are its own and it is never left out. Scopes and project of a token
    before it narrow it also when they were narrowed later.

    Args:
        token_is_good: SQL about the token ``p`` that another came from.
        session_is_good: SQL about the browser session ``s``.
    """
    return f"""CROSS JOIN LATERAL (
            WITH RECURSIVE up AS (
                SELECT t.parent_id, t.scopes
                UNION ALL
                SELECT p.parent_id, ARRAY(SELECT unnest(up.scopes) INTERSECT SELECT unnest(p.scopes))
                FROM up JOIN api_tokens p ON p.id = up.parent_id
                WHERE {token_is_good} AND (p.project_id IS NULL OR p.project_id = t.project_id)
            )
            SELECT CASE WHEN s.scopes IS NULL THEN up.scopes
                ELSE ARRAY(SELECT unnest(up.scopes) INTERSECT SELECT unnest(s.scopes)) END AS scopes
            FROM up LEFT JOIN auth_sessions s ON s.id = t.parent_session_id
            WHERE up.parent_id IS NULL AND (t.parent_session_id IS NULL OR (
                {session_is_good} AND (s.project_id IS NULL OR s.project_id = t.project_id)
            )) AND cardinality(t.on_behalf_of) = (
                SELECT count(*) FROM users x WHERE x.id = ANY(t.on_behalf_of) AND x.is_active
            )
        ) origin"""  # noqa: S608  # built of constants


GOOD_ORIGIN = origin_join(
    "p.revoked_at IS NULL AND (p.expires_at IS NULL OR p.expires_at > now())", "s.expires_at > now()"
)
"""For a request: nothing before the token may be revoked, gone or expired, nor anybody of the chain deactivated."""
