"""On whose authority the present activity runs; set by the interceptor, read by permission checks, audit and logs."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from domain.actors import SYSTEM, Actor

_actor: ContextVar[Actor] = ContextVar("perdure_actor", default=SYSTEM)


def current_actor() -> Actor:
    """The actor of the workflow that asked for this activity; ``SYSTEM`` where it named none (schedules)."""
    return _actor.get()


@contextmanager
def acting(actor: Actor) -> Iterator[None]:
    """Makes ``actor`` the current one for the block."""
    token = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(token)
