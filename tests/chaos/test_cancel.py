"""A run that is cancelled leaves nothing, whatever it was doing (promise D9)."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.chaos.project import Project
from tests.chaos.storm import leftovers
from tests.support.eventually import eventually
from tests.support.platform import Platform

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

GONE_SECONDS = 10.0
# Deaf to everything but SIGKILL, with children of its own in other sessions.
DEAF = """trap '' TERM INT HUP QUIT
        (trap '' TERM HUP; while :; do sleep 0.2; done) &
        setsid sh -c "trap '' TERM HUP; sleep 600" &
        nohup sleep 600 > nohup.txt 2>&1 &
        echo up from $PERDURE_STEP attempt $PERDURE_ATTEMPT
        while :; do sleep 0.1; echo busy; done"""
UP = "\nup from "  # the output; before it the log shows the command


def step(name: str, after: str, script: str = DEAF, extra: str = "") -> str:
    return f"  - name: {name}\n    depends_on: {after}\n{extra}    commands:\n      - |\n        {script}\n"


RETRY = "    retry: {on: exit, limit: 3, delay: DELAY}\n"
FAIL_THEN_HANG = f"""if test "$PERDURE_ATTEMPT" = 1; then exit 1; fi
        {DEAF}"""
PIPELINES = {
    "one": "steps:\n" + step("only", "[]"),
    "two": "steps:\n" + step("left", "[]") + step("right", "[]"),
    "second": "steps:\n" + step("left", "[]", "echo done") + step("right", "[]"),
    "serial": "steps:\n" + step("left", "[]", "echo done") + step("right", "[left]"),
    "delay": "steps:\n" + step("only", "[]", "exit 1", RETRY.replace("DELAY", "5m")),
    "again": "steps:\n" + step("only", "[]", FAIL_THEN_HANG, RETRY.replace("DELAY", "0s")),
    "upload": "steps:\n" + step("only", "[]", "truncate -s 600M large", "    artifacts: large\n"),
    "ignored": "steps:\n" + step("only", "[]", DEAF, "    failure: ignore\n    timeout: 1h\n") + step("next", "[only]"),
}
FILES = {f"many/{n // 100}/{n}.txt": f"{n}\n" for n in range(400)}

Moment = Callable[[Project, str], Awaitable[object]]


def at(predicate: Callable[[Project, str], object], *, interval_seconds: float = 0.01) -> Moment:
    """The moment at which something is true on this host."""

    async def wait(project: Project, run_id: str) -> object:
        return await eventually(
            lambda: predicate(project, run_id), timeout_seconds=60, interval_seconds=interval_seconds
        )

    return wait


async def at_once(_project: Project, _run_id: str) -> None:
    """Right after the answer to the trigger."""


async def waiting_to_retry(project: Project, run_id: str) -> None:
    """The first attempt has failed and the second is minutes away."""

    async def waits() -> bool:
        return "attempt 2" in ((await project.run(run_id))["waiting_for"] or "")

    await eventually(waits, timeout_seconds=60)


def running_for(seconds: float) -> Moment:
    """A time after the first output."""

    async def wait(project: Project, run_id: str) -> None:
        await eventually(lambda: UP in project.output(run_id), timeout_seconds=60, interval_seconds=0.01)
        await asyncio.sleep(seconds)  # the moment itself

    return wait


MOMENTS: dict[str, tuple[str, Moment]] = {
    "just triggered": ("one", at_once),
    "checking out": ("one", at(lambda project, run: project.checks_out(run), interval_seconds=0.003)),
    "checked out": ("one", at(lambda project, run: project.has_workspace(run))),
    "sandbox named": ("one", at(lambda project, run: project.sandboxes(run))),
    "sandbox begun": ("one", at(lambda project, run: project.has_begun(run))),
    "first output": ("one", running_for(0)),
    "mid-step": ("one", running_for(0.7)),
    "mid-step, failure ignored": ("ignored", running_for(0.2)),
    "two begin": ("two", at(lambda project, run: len(project.sandboxes(run)) == 2)),
    "two run": ("two", at(lambda project, run: project.output(run).count(UP) == 2)),
    "one of two has ended": ("second", at(lambda project, run: project.has_ended(run))),
    "the second of two runs": ("second", at(lambda p, run: p.has_ended(run) and f"{UP}right" in p.output(run))),
    "between two steps": ("serial", at(lambda project, run: project.has_ended(run))),
    "waiting to retry": ("delay", waiting_to_retry),
    "attempt 2 begins": ("again", at(lambda project, run: len(project.sandboxes(run)) == 2)),
    "attempt 2 runs": ("again", running_for(0.1)),
    "uploading": ("upload", at(lambda project, run: project.has_ended(run))),
}


async def cancelled_at(project: Project, name: str, gone_seconds: float) -> list[str]:
    """Cancels a run at a moment; returns what is wrong about its end."""
    pipeline, moment = MOMENTS[name]
    run_id = await project.trigger(pipeline)
    try:
        await moment(project, run_id)
    finally:
        answer = await project.cancel(run_id)
    assert answer.status_code == httpx.codes.OK, answer.text
    began = time.monotonic()
    run = await project.platform.ended(project.name, run_id, timeout_seconds=60)
    try:
        await eventually(lambda: project.is_gone(run_id), timeout_seconds=30, interval_seconds=0.1)
    except AssertionError:
        return [f"{name}: left behind {project.left_behind(run_id)}"]
    wrong = []
    if time.monotonic() - began > gone_seconds:
        wrong.append(f"{name}: gone only after {time.monotonic() - began:.1f} s")
    if run["status"] != "cancelled":
        wrong.append(f"{name}: ended as {run['status']}: {run['error']}")
    wrong += [
        f"{name}: step {step['name']} is {step['status']}"
        for step in run["steps"]
        if step["status"] not in ("cancelled", "skipped", "success")
    ]
    return wrong


async def nothing_is_left(platform: Platform) -> bool:
    found = await leftovers(platform)
    assert not found, found
    return True


async def test_a_run_that_is_cancelled_at_any_moment_leaves_nothing(project: Project) -> None:
    wrong = await asyncio.gather(*(cancelled_at(project, name, GONE_SECONDS) for name in MOMENTS))

    assert [line for lines in wrong for line in lines] == []
    await eventually(lambda: nothing_is_left(project.platform))


async def test_a_run_that_is_cancelled_while_the_worker_dies_leaves_nothing(project: Project) -> None:
    """The next worker hears of it once the dead one's tasks are given up (10 s) and has its 10 s then."""
    names = ("just triggered", "checked out", "mid-step", "two run", "waiting to retry")
    runs = [await project.trigger(MOMENTS[name][0]) for name in names[1:]]
    await asyncio.gather(*(MOMENTS[name][1](project, run) for name, run in zip(names[1:], runs, strict=True)))
    runs.append(await project.trigger(MOMENTS[names[0]][0]))
    identity = project.platform.identity("worker")
    assert identity is not None

    answers = asyncio.gather(*(project.cancel(run) for run in runs))
    identity.send(signal.SIGKILL)
    assert [answer.status_code for answer in await answers] == [httpx.codes.OK] * len(runs)

    ended = [await project.platform.ended(project.name, run, timeout_seconds=60) for run in runs]
    assert [run["status"] for run in ended] == ["cancelled"] * len(runs)
    await eventually(lambda: nothing_is_left(project.platform))
    assert [project.left_behind(run) for run in runs] == [[]] * len(runs)
