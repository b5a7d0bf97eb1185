"""Recorded histories and how they are replayed: with the runner, the interceptors and the converter of production.

``histories/<WorkflowType>/<name>.json`` holds Temporal's JSON of a history with its payloads *decrypted* (JSON, which
that format shows as base64), so that no key is needed: our codec hands on payloads that are not encrypted. A file
whose name begins with ``known-bad`` must fail; it proves that the replay would notice.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from temporalio.client import WorkflowHistory
from temporalio.common import HeaderCodecBehavior
from temporalio.worker import Replayer

from temporal.interceptors import PerdureInterceptor
from tests.support.temporal import converter_for_tests
from worker.registry import WORKFLOWS
from worker.sandbox import workflow_runner

HISTORIES = Path(__file__).with_name("histories")
KNOWN_BAD = "known-bad"


@dataclass(frozen=True)
class Recorded:
    """One file."""

    path: Path

    @property
    def workflow_type(self) -> str:
        """The name of its folder."""
        return self.path.parent.name

    @property
    def is_bad(self) -> bool:
        """Whether its replay must fail."""
        return self.path.stem.startswith(KNOWN_BAD)

    @property
    def id(self) -> str:
        """For test ids."""
        return f"{self.workflow_type}/{self.path.stem}"


def recorded_histories() -> Iterator[Recorded]:
    """Every file, sorted."""
    for path in sorted(HISTORIES.glob("*/*.json")):
        yield Recorded(path)


def replayer(workflows: tuple[type, ...] = WORKFLOWS) -> Replayer:
    """As a worker would run them."""
    return Replayer(
        workflows=workflows,
        data_converter=converter_for_tests(),
        workflow_runner=workflow_runner("tests"),
        interceptors=[PerdureInterceptor()],
        header_codec_behavior=HeaderCodecBehavior.CODEC,
    )


async def replay_failure(text: str, workflows: tuple[type, ...] = WORKFLOWS) -> Exception | None:
    """Replays one history; what made it fail, or ``None``."""
    history = WorkflowHistory.from_json("replayed", text)
    return (await replayer(workflows).replay_workflow(history, raise_on_replay_failure=False)).replay_failure
