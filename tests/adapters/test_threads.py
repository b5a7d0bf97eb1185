import asyncio
import threading

import pytest

from adapters.threads import run_in_thread
from tests.support.eventually import eventually


async def test_it_gives_what_the_function_gives_or_raises() -> None:
    assert await run_in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(divmod, 7, 0)


async def test_cancelled_however_often_it_ends_after_its_thread() -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait(timeout=10)
        ended.set()

    task = asyncio.create_task(run_in_thread(work))
    await eventually(begun.is_set)
    for _ in range(3):
        task.cancel()
        await asyncio.wait({task}, timeout=0.02)
        assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
