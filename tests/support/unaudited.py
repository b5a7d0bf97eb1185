"""A request that changes something and writes no audit row fails, in every test that serves the API.

The sweep of `tests/policy` calls each route once; this watches every way in which any test makes a route change
something. A table is watched unless it stands in ``NOT_ACTS`` with the reason.
"""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any

from sqlalchemy import Connection, event

from database.engine import Database

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]

NOT_ACTS = {
    "audit_person_keys": "is of the audit log itself",
    "email_tokens": "a link is made with the act that it is for, and sent by a workflow that tells of it",
    "events": "tells what happened to a run, which has its row",
    "idempotency_keys": "an answer that is kept for a day",
    "log_segments": "the output of a step",
    "pushes": "the outbox of a push, whose row is written when git has moved its refs",
    "security_notices": "a mail that is to be sent about an act that has its row",
    "sign_in_bans": "counts attempts; each failure and each ban has its row",
    "spent_proofs": "remembers what must not be used twice",
}

NO_ACTS = {
    r"UPDATE external_identities e SET last_used_at": "an account elsewhere was used; signing in has its row",
    r"UPDATE passkeys SET sign_count": "a passkey was used; what it was used for has its row",
    r"UPDATE totp_factors SET last_step": "a code was used; what it was used for has its row",
    r"UPDATE users SET password_hash = \S+ WHERE id = \S+ AND password_hash": "the same password, hashed more slowly",
    r"UPDATE pipelines SET status=\S+ waiting_for=": "the end of a run that was told to stop: the order has its row",
    r"WITH changed AS \(": "the state of a step, and the event that tells of it; as above",
}
"""What statements begin with that change a watched table without being an act, and why they are none."""

_REQUEST: ContextVar[str | None] = ContextVar("request", default=None)
_CHANGE = re.compile(r"\b(?:INSERT INTO|(?<!FOR )(?<!DO )UPDATE|DELETE FROM)\s+(?:ONLY\s+)?\"?(\w+)", re.IGNORECASE)
_NO_ACT = re.compile(r"\s*(?:" + "|".join(NO_ACTS) + ")")
_CHANGED = "changed in a request"


def watched(app: App, database: Database) -> App:
    """The application, with every transaction of its requests looked at before it is committed."""
    engine = database._engine.sync_engine
    if not event.contains(engine, "after_cursor_execute", _note):
        event.listen(engine, "after_cursor_execute", _note)
        event.listen(engine, "commit", _judge)
        event.listen(engine, "rollback", _forget)

    async def within(scope: Scope, receive: Any, send: Any) -> None:  # noqa: ANN401  # ASGI's callables
        if scope["type"] == "http":
            _REQUEST.set(f"{scope['method']} {scope['path']}")
        await app(scope, receive, send)

    return within


def tables_changed_by(statement: str) -> set[str]:
    """The tables that a statement inserts into, updates or deletes from."""
    if _NO_ACT.match(statement):
        return set()
    return {table.lower() for table in _CHANGE.findall(statement)} - {"set", "of"}


def _note(connection: Connection, cursor: Any, statement: str, *_: object) -> None:  # noqa: ANN401  # of the driver
    if _REQUEST.get() is not None and cursor.rowcount != 0:
        connection.info.setdefault(_CHANGED, set()).update(tables_changed_by(statement))


def _judge(connection: Connection) -> None:
    changed: set[str] = connection.info.pop(_CHANGED, set())
    if "audit_log" not in changed and (acted_on := sorted(changed - set(NOT_ACTS))):
        raise AssertionError(f"{_REQUEST.get()} changed {', '.join(acted_on)} and wrote no audit row")


def _forget(connection: Connection) -> None:
    connection.info.pop(_CHANGED, None)
