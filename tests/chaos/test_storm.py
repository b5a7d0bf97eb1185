from pathlib import Path

import pytest

from tests.chaos.storm import run_storm

# A sample for every run of the tests; `make chaos` is the long one.
KILLS = 6


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_kills_cost_time_and_never_work(tmp_path: Path) -> None:
    storm, verdict = await run_storm(tmp_path / "home", kills=KILLS, pushers=2, seed=7)

    assert storm.killed.total() == KILLS
    assert verdict.clean, verdict
