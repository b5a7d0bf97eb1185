from pathlib import Path

import pytest

from tests.chaos.storm import run_storm


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_kills_cost_time_and_never_work(tmp_path: Path) -> None:
    storm, verdict = await run_storm(tmp_path / "home", kills=12, pushers=2, seed=7)

    assert storm.killed.total() == 12
    assert verdict.clean, verdict
