"""Following one pipeline run in a terminal: its log lines as they are written, and its end."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

PATIENCE_SECONDS = 60.0
"""How long the API may be away (it is being started again) before following gives up."""
PAUSE_SECONDS = 0.3
STEP_STATUS = "pipeline:step:status"


class FollowingFailed(Exception):
    """The run cannot be followed any more; it goes on all the same."""


@dataclass(frozen=True)
class Event:
    """One server-sent event (HTML standard, section 9.2)."""

    name: str
    data: str
    id: str

    @property
    def json(self) -> Any:  # noqa: ANN401  # whatever JSON came
        """The data, decoded."""
        return json.loads(self.data)


async def follow_run(
    client: httpx.AsyncClient,
    *,
    run_path: str,
    print_line: Callable[[str, str], None],
    print_status: Callable[[str, str], None],
) -> str:
    """Prints a run until its end.

    Args:
        client: Signed in, with the API's address as its base.
        run_path: The run's resource below the API's address.
        print_line: Called with step and line.
        print_status: Called with step and its new status, for an ended step after its last line.

    Returns:
        The status in which the run ended.

    Raises:
        FollowingFailed: The API refuses, or is away for longer than ``PATIENCE_SECONDS``.
    """
    logs: dict[str, asyncio.Task[None]] = {}
    try:
        async for event in _events(client, f"{run_path}/events"):
            content = event.json
            if event.name == "end":
                return str(content["status"])
            if event.name != "status" or content.get("tag") != STEP_STATUS:
                continue
            step, status = content["step"], content["status"]
            if status == "running" and step not in logs:
                path = f"{run_path}/steps/{quote(step, safe='')}/log/stream"
                logs[step] = asyncio.create_task(_copy_log(client, path, step, print_line))
            elif status != "running" and step in logs:
                await logs[step]
            print_status(step, status)
    finally:
        for task in logs.values():
            task.cancel()
        await asyncio.gather(*logs.values(), return_exceptions=True)
    raise FollowingFailed("the run's events stopped before its end")


async def _copy_log(client: httpx.AsyncClient, path: str, step: str, print_line: Callable[[str, str], None]) -> None:
    """Prints the whole lines of a step's log until the step has ended."""
    rest = ""
    async for event in _events(client, path):
        if event.name == "end":
            break
        if event.name != "log":
            continue
        *whole, rest = (rest + event.json["text"]).split("\n")
        for line in whole:
            print_line(step, line.rstrip("\r"))
    if rest:
        print_line(step, rest)


async def _events(client: httpx.AsyncClient, path: str) -> AsyncIterator[Event]:
    """Every event of a stream up to and with its ``end``; a broken connection goes on behind the last event."""
    last_id = ""
    heard_at = time.monotonic()
    while True:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
        trouble = "the connection broke"
        try:
            async with client.stream("GET", path, headers=headers, timeout=httpx.Timeout(30, read=60)) as answer:
                if answer.is_client_error:
                    await answer.aread()
                    raise FollowingFailed(f"{path}: {answer.text[:500]}")
                answer.raise_for_status()
                async for event in read_events(answer):
                    heard_at = time.monotonic()
                    last_id = event.id or last_id
                    if event.name == "denied":
                        raise FollowingFailed(event.json["detail"])
                    yield event
                    if event.name == "end":
                        return
        except httpx.HTTPError as error:
            trouble = str(error) or type(error).__name__
        if time.monotonic() - heard_at > PATIENCE_SECONDS:
            raise FollowingFailed(f"{path}: {trouble}")
        await asyncio.sleep(PAUSE_SECONDS)


async def read_events(answer: httpx.Response) -> AsyncIterator[Event]:
    """The events of a response, each as soon as its blank line has come; one that was cut off is not given."""
    fields: dict[str, list[str]] = {}
    async for line in answer.aiter_lines():
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
            continue
        if "data" in fields:
            yield Event(fields.get("event", ["message"])[-1], "\n".join(fields["data"]), fields.get("id", [""])[-1])
        fields = {}
