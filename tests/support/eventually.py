"""Polling with a deadline, in place of sleeps."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")


@overload
async def eventually(
    predicate: Callable[[], Awaitable[T]], *, timeout_seconds: float = 10, interval_seconds: float = 0.02
) -> T: ...


@overload
async def eventually(
    predicate: Callable[[], T], *, timeout_seconds: float = 10, interval_seconds: float = 0.02
) -> T: ...


async def eventually(
    predicate: Callable[[], T | Awaitable[T]],
    *,
    timeout_seconds: float = 10,
    interval_seconds: float = 0.02,
) -> T:
    """Calls ``predicate`` until it returns something true, and returns that.

    Raises:
        AssertionError: It never did; shows the last value, or the last error.
    """
    deadline = time.monotonic() + timeout_seconds
    last: object = None
    while True:
        try:
            answer = predicate()
            value = await answer if inspect.isawaitable(answer) else answer
            if value:
                return value
            last = value
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_seconds} s; last: {last!r}")
        await asyncio.sleep(interval_seconds)
