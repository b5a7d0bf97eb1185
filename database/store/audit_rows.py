"""Rows of the audit log as they lie in the database, for verification and export."""

from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import text

from database.engine import Database
from domain.audit.canonical import uuid_or_none
from domain.audit.checkpoints import Head
from domain.audit.rows import LOGS, Place, Row, read_content

_BATCH = 2000

# In parts that each read an index: rows after the end, before the beginning, of no log, and of one without an end.
_STRAY = """
SELECT a.content, a.hash FROM audit_heads h JOIN audit_log a ON a.log = h.log AND a.seq > h.seq
UNION ALL SELECT a.content, a.hash FROM audit_heads h JOIN audit_log a ON a.log = h.log AND a.seq < 1
UNION ALL SELECT content, hash FROM audit_log WHERE log < 0 OR log >= :logs
UNION ALL SELECT a.content, a.hash FROM generate_series(0, :logs - 1) AS l JOIN audit_log a ON a.log = l
WHERE NOT EXISTS (SELECT 1 FROM audit_heads h WHERE h.log = l)
"""


async def stored_rows(
    database: Database, *, after: Mapping[int, Head], upto: Mapping[int, Head]
) -> AsyncIterator[tuple[Row, str | None]]:
    """The rows by log and number, each with what is wrong with its columns, if something is.

    Args:
        after: Where each log is known already.
        upto: Where to stop; rows beyond are left out.
    """
    for log, head in sorted(upto.items()):
        seq = after[log].seq if log in after else 0
        seen_rows = -1
        while seen_rows and seq < head.seq:
            async with database.transaction() as session:
                rows = (
                    (
                        await session.execute(
                            text(
                                "SELECT * FROM audit_log WHERE log = :log AND seq > :seq AND seq <= :last "
                                "ORDER BY seq LIMIT :n"
                            ),
                            {"log": log, "seq": seq, "last": head.seq, "n": _BATCH},
                        )
                    )
                    .mappings()
                    .all()
                )
            for row in rows:
                yield Row(row["content"], row["hash"].hex()), column_flaw(row)
            seen_rows = len(rows)
            seq = rows[-1]["seq"] if rows else seq


async def stray_rows(database: Database) -> list[Row]:
    """Rows outside of what the database has noted of their chain, or of no chain: nobody appended them there."""
    async with database.transaction() as session:
        rows = await session.execute(text(_STRAY), {"logs": LOGS})
        return [Row(row.content, row.hash.hex()) for row in rows]


def column_flaw(row: Mapping[Any, Any]) -> str | None:
    """Which column of a row says something else than its content, for a person; ``None`` if none does."""
    try:
        place, act = read_content(row["content"])
    except ValueError:
        return None
    try:
        wanted = _columns(place, act)
    except (KeyError, TypeError, ValueError, AttributeError):
        return "its content lacks something"
    for column, value in wanted.items():
        if row[column] != value:
            return f"its column {column} says something else than its content"
    return None


def _columns(place: Place, act: Mapping[str, Any]) -> dict[str, object]:
    return {
        "log": place.log,
        "seq": place.seq,
        "prev_hash": bytes.fromhex(place.prev),
        "created_at": place.at,
        "id": UUID(act["id"]),
        "actor_id": UUID(act["actor"]["id"]),
        "actor_kind": act["actor"]["kind"],
        "on_behalf_of": [UUID(one) for one in act.get("chain", [])],
        "token_id": uuid_or_none(act.get("token")),
        "session_id": uuid_or_none(act.get("session")),
        "action": act["action"],
        "resource": act["target"]["kind"],
        "resource_id": uuid_or_none(act["target"].get("id")),
        "project_id": uuid_or_none(act.get("project")),
        "outcome": act["outcome"],
        "detail": act.get("detail"),
        "address_hash": act.get("address"),
        "request_id": act.get("request"),
        "trace_id": act.get("trace"),
    }
