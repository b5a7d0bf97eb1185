"""The import contracts and the nested bans really bite: each is shown a violation and must refuse it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def ruff(source: str, as_file: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--stdin-filename", as_file, "-"],
        cwd=ROOT,
        input=source,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("package", ["domain", "workflows"])
@pytest.mark.parametrize(
    "source",
    [
        "from datetime import datetime as dt\n\nNOW = dt.now(None)\n",
        "import uuid\n\nID = uuid.uuid4()\n",
        "import random\n\nX = random.random()\n",
        "import os\n\nX = os.environ\n",
        "import time\n\nX = time.time()\n",
        "import subprocess\n",
    ],
)
def test_decisions_and_order_have_no_clock_chance_environment_or_process(package: str, source: str) -> None:
    answer = ruff(f'"""A module."""\n\n{source}', f"{package}/planted.py")
    assert "TID251" in answer.stdout, answer.stdout + answer.stderr


def test_import_contracts_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    answer = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout
