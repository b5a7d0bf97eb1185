"""``PERDURE_SETTINGS=... python -m tests.replay.record WORKFLOW_ID NAME``: keeps a real history for the replay tests.

Payloads are decoded with the keys of the settings, and the names of hosts and processes are removed. Where the type
has no ``known-bad`` file yet, one is made from the same history by exchanging the first activity that it scheduled.
Look at the file before you commit it: inputs and results stand in it in clear.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.converter import DataConverter

from adapters.objects.s3 import S3Objects
from settings.values import Settings, load_settings
from temporal.client import connect
from temporal.codec import PayloadKeys
from temporal.converter import data_converter
from tests.replay.replaying import HISTORIES, KNOWN_BAD
from tests.support.temporal import decode_in_place

RECORDER = "recorder"


async def readable_events(client: Client, workflow_id: str, converter: DataConverter) -> list[dict[str, Any]]:
    """The events of the latest execution with this id, payloads decoded, hosts removed."""
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    return [await _readable(event, converter) for event in history.events]


async def _readable(event: HistoryEvent, converter: DataConverter) -> dict[str, Any]:
    await decode_in_place(event, converter)
    plain: dict[str, Any] = MessageToDict(event)
    _remove_hosts(plain)
    return plain


def _remove_hosts(plain: object) -> None:
    if isinstance(plain, dict):
        for key, value in plain.items():
            if key == "identity":
                plain[key] = RECORDER
            elif key == "stickyAttributes" or (key == "taskQueue" and isinstance(value, dict)):
                if isinstance(value, dict) and value.get("kind") == "TASK_QUEUE_KIND_STICKY":
                    value["name"] = RECORDER
                _remove_hosts(value)
            else:
                _remove_hosts(value)
    elif isinstance(plain, list):
        for one in plain:
            _remove_hosts(one)


def known_bad(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """The same history as if the code had called another activity first; ``None`` if it called none."""
    changed: list[dict[str, Any]] = json.loads(json.dumps(events))
    for event in changed:
        scheduled = event.get("activityTaskScheduledEventAttributes")
        if scheduled is not None:
            scheduled["activityType"]["name"] = "what_the_code_never_calls"
            return changed
    return None


def keep(events: list[dict[str, Any]], name: str, directory: Path = HISTORIES) -> list[Path]:
    """Writes the history, and a known-bad one if its type has none; returns what was written."""
    workflow_type = events[0]["workflowExecutionStartedEventAttributes"]["workflowType"]["name"]
    folder = directory / workflow_type
    folder.mkdir(parents=True, exist_ok=True)
    written = {folder / f"{name}.json": events}
    bad = known_bad(events)
    if bad is not None and not list(folder.glob(f"{KNOWN_BAD}*.json")):
        written[folder / f"{KNOWN_BAD}-activity.json"] = bad
    for path, content in written.items():
        path.write_text(json.dumps({"events": content}, indent=1) + "\n", encoding="utf-8")
    return list(written)


async def _record(settings: Settings, workflow_id: str, name: str) -> list[Path]:
    keys = PayloadKeys(settings.temporal.revealed_keys(), settings.temporal.payload_key_id)
    objects = S3Objects(**settings.objects.connection())
    converter = data_converter(keys, objects)
    client = await connect(settings.temporal.address, settings.temporal.namespace, converter, program=RECORDER)
    try:
        return keep(await readable_events(client, workflow_id, converter), name)
    finally:
        await objects.close()


def main() -> None:
    """Records one history."""
    parser = argparse.ArgumentParser(description="Keeps a real history for the replay tests.")
    parser.add_argument("workflow_id", help="for example pipeline-run/<uuid>, from the Temporal UI")
    parser.add_argument("name", help="what the history shows, in words-with-dashes")
    arguments = parser.parse_args()
    for path in asyncio.run(_record(load_settings(), arguments.workflow_id, arguments.name)):
        sys.stdout.write(f"wrote {path.relative_to(HISTORIES.parent)}\n")


if __name__ == "__main__":
    main()
