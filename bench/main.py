"""``make bench``: measures one fresh installation, prints a table, writes ``bench/results.json``.

Every figure with a ratio was measured beside its limit or peer in the same run; absolute times depend on the machine.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.access import access_verdicts
from bench.api import api_throughput
from bench.audit import audit_appends
from bench.git import git_transfer
from bench.logs import log_throughput
from bench.pipelines import first_log_line, run_overhead, sustained_runs
from bench.result import Figure, print_table, write_results
from tests.support.platform import Platform

RESULTS = Path(__file__).parent / "results.json"

Measure = Callable[[Platform, Path], Awaitable[list[Figure]]]
MEASURES: dict[str, Measure] = {
    "first-line": lambda platform, scratch: first_log_line(platform, scratch, pushes=25),
    "overhead": lambda platform, scratch: run_overhead(platform, scratch, runs=40),
    "sustained": lambda platform, scratch: sustained_runs(platform, scratch, rounds=3, runs=80, at_once=16),
    "logs": log_throughput,
    "api": api_throughput,
    "git": git_transfer,
    "audit": audit_appends,
    "access": access_verdicts,
}


async def measure(names: list[str], scratch: Path) -> list[Figure]:
    """Runs the named measures on one installation."""
    platform = Platform(scratch / "home")
    await platform.up()
    figures: list[Figure] = []
    try:
        for name in names:
            print(f"measuring {name} ...", flush=True)
            place = scratch / name
            place.mkdir()
            figures.extend(await MEASURES[name](platform, place))
    finally:
        await platform.down()
    return figures


def main() -> None:
    """Measures all, or what was named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(MEASURES)}; all if none")
    chosen = parser.parse_args().names or list(MEASURES)
    with tempfile.TemporaryDirectory(prefix="perdure-bench-") as scratch:
        figures = asyncio.run(measure(chosen, Path(scratch)))
    print_table(figures)
    if chosen == list(MEASURES):
        write_results(figures, RESULTS)


if __name__ == "__main__":
    main()
