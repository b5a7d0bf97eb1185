"""Bytes a second of step output made durable."""

import time
from pathlib import Path

from bench.pipelines import trigger, until_ended
from bench.result import Figure, figure
from tests.support.platform import Platform

SIZE_MIB = 512
PIPELINE = f"""
steps:
  - name: flood
    commands: ["yes 'a line of output as a compiler would print it, eighty characters long' | head -c {SIZE_MIB}M"]
"""


async def log_throughput(platform: Platform, scratch: Path) -> list[Figure]:
    """A step prints half a gibibyte as fast as it can; timed from its start until its whole log is one object."""
    directory = await platform.repository(scratch / "flood", {".platform.yaml": PIPELINE})
    await platform.push(directory, "flood", "main", "-o", "ci.skip")
    async with platform.client() as client:
        began = time.monotonic()
        run_id = await trigger(client, "flood")
        await until_ended(client, "flood", run_id)
        seconds = time.monotonic() - began
    run = await platform.run("flood", run_id)
    size_bytes = run["steps"][0]["log_size_bytes"]
    assert size_bytes >= SIZE_MIB * 1024**2, f"only {size_bytes} bytes of the log are there"
    return [figure("step output made durable", size_bytes / seconds / 1e6, "MB/s", goal=("at least", 30))]
