"""The judge of the storm can say no: what it must find is planted."""

from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.chaos.workload import LINES, Pusher, Verdict, judge_executions, judge_log, judge_runs
from tests.support.platform import Platform

LOG = "".join(f"line {number} of first\n" for number in range(1, LINES + 1))
RETRIED = "line 1 of first\nline 2 of first\nperdure: attempt 2, because the one before ended: lost\n" + LOG


def judged_log(log: str) -> tuple[int, int]:
    verdict = Verdict()
    judge_log(verdict, "here", "first", log)
    return len(verdict.lost), len(verdict.doubled)


@pytest.mark.parametrize("log", [LOG, RETRIED])
def test_a_whole_log_is_fine(log: str) -> None:
    assert judged_log(log) == (0, 0)


@pytest.mark.parametrize("log", ["", LOG.replace("line 5 of first\n", ""), LOG + "perdure: attempt 2, because\n"])
def test_a_gap_is_lost(log: str) -> None:
    assert judged_log(log) == (1, 0)


@pytest.mark.parametrize("log", [LOG + LOG, LOG.replace("line 5 of first\n", "line 5 of first\nline 5 of first\n")])
def test_a_repeated_line_is_doubled(log: str) -> None:
    assert judged_log(log) == (0, 1)


def test_an_attempt_that_ran_twice_is_doubled_and_one_without_trace_is_lost() -> None:
    verdict = Verdict()
    judge_executions(verdict, "here", "first 1\nfirst 1\nleft 1\n", {"first": 1, "left": 1, "right": 1, "report": 1})

    assert (len(verdict.lost), len(verdict.doubled)) == (1, 1)


def test_a_commit_has_exactly_one_run_and_it_succeeds(tmp_path: Path) -> None:
    pusher = Pusher(Platform(tmp_path), "p", tmp_path, Random(1), commits=["a", "b", "c"])  # noqa: S311  # a test's dice

    def run(sha: str, status: str = "success") -> dict[str, Any]:
        return {"id": sha, "commit_sha": sha, "status": status, "error": None, "steps": []}

    verdict = Verdict()
    judge_runs(verdict, pusher, [run("a"), run("a"), run("b", "error")])

    assert (len(verdict.lost), len(verdict.doubled)) == (2, 1)
