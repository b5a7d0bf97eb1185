"""Following one pipeline run in a terminal: its log lines as they are written, and its end."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import httpx

POLL_SECONDS = 0.5
DRAIN_SECONDS = 3.0
"""How long the log may still come in after the run ended."""
RUN_ENDED = frozenset({"success", "failure", "cancelled", "error"})


@dataclass
class _Lines:
    """Cuts each step's output into whole lines."""

    print_line: Callable[[str, str], None]
    rest: dict[str, str] = field(default_factory=dict)

    def add(self, step: str, text: str) -> None:
        *whole, last = (self.rest.get(step, "") + text).split("\n")
        for line in whole:
            self.print_line(step, line.rstrip("\r"))
        self.rest[step] = last

    def finish(self) -> None:
        for step, text in self.rest.items():
            if text:
                self.print_line(step, text)
        self.rest.clear()


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
        print_status: Called with step and its new status.

    Returns:
        The status in which the run ended.

    Raises:
        httpx.HTTPError: The API refuses, or is away for longer than its client waits.
    """
    lines = _Lines(print_line)
    log = asyncio.create_task(_copy_log(client, run_path, lines))
    seen: dict[str, str] = {}
    try:
        while True:
            run = (await client.get(run_path)).raise_for_status().json()
            for step in run["steps"]:
                if seen.get(step["name"]) != step["status"]:
                    seen[step["name"]] = step["status"]
                    print_status(step["name"], step["status"])
            if run["status"] in RUN_ENDED:
                break
            await asyncio.sleep(POLL_SECONDS)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(log), DRAIN_SECONDS)
    finally:
        log.cancel()
        await asyncio.gather(log, return_exceptions=True)
    lines.finish()
    return str(run["status"])


async def _copy_log(client: httpx.AsyncClient, run_path: str, lines: _Lines) -> None:
    """Reads the run's events until the server ends them; a broken connection goes on where it stopped."""
    last_id = ""
    while True:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
        with contextlib.suppress(httpx.TransportError):
            async with client.stream("GET", f"{run_path}/events", headers=headers, timeout=None) as answer:
                answer.raise_for_status()
                async for event in read_events(answer):
                    last_id = event.id or last_id
                    if event.name == "log":
                        content = json.loads(event.data)
                        lines.add(content["step"], content["text"])
                    elif event.name == "end":
                        return
        await asyncio.sleep(POLL_SECONDS)


@dataclass(frozen=True)
class Event:
    """One server-sent event (HTML standard, section 9.2)."""

    name: str
    data: str
    id: str


async def read_events(answer: httpx.Response) -> AsyncIterator[Event]:
    """The events of a response, each as soon as its blank line has come."""
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
