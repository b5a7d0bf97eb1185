"""The worker's own log: one JSON object a line on stderr, each with the workflow and activity that it is about."""

import json
import logging
import sys
from datetime import UTC, datetime

from temporalio import activity

from temporal.acting import current_actor

CONTEXT_KEYS = ("workflow_id", "run_id", "workflow_type", "activity_type", "attempt", "task_queue")


class JsonLines(logging.Formatter):
    """Formats a record as one line; messages are the program's, so no payload and no secret is in them."""

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter.format``."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_context(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def _context(record: logging.LogRecord) -> dict[str, object]:
    """What the SDK attached (inside a workflow), or else the activity that runs in this context."""
    for attached in ("temporal_workflow", "temporal_activity"):
        found = getattr(record, attached, None)
        if isinstance(found, dict):
            return {key: found[key] for key in CONTEXT_KEYS if key in found} | _actor_context()
    if not activity.in_activity():
        return {}
    info = activity.info()
    return {
        "workflow_id": info.workflow_id,
        "run_id": info.workflow_run_id,
        "activity_type": info.activity_type,
        "attempt": info.attempt,
        **_actor_context(),
    }


def _actor_context() -> dict[str, object]:
    if not activity.in_activity():
        return {}
    actor = current_actor()
    request = {"request_id": actor.origin.request_id} if actor.origin.request_id else {}
    return {"actor": actor.name, **request}


def log_to_stderr(level: int = logging.INFO) -> None:
    """Sends everything to stderr as JSON lines. Call it once, first."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # The SDK appends the same facts to the text of the message, where nobody can search them.
    activity.logger.activity_info_on_message = False
