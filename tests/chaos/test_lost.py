"""What nobody can speak for is lost, and too much memory is its own story (promise D3)."""

import os
import signal

import pytest

from tests.chaos.project import Project, processes_of
from tests.chaos.storm import step_supervisors
from tests.support.eventually import eventually

pytestmark = pytest.mark.chaos

COUNT = "commands: for i in $(seq 1 30); do echo line $i; sleep 0.1; done"
ONCE = f"steps:\n  - name: only\n    retry: {{on: lost, limit: 0}}\n    {COUNT}\n"
AGAIN = f"steps:\n  - name: only\n    {COUNT}\n"
HOG = "steps:\n  - name: only\n    commands: echo eats; exec python3 -c 'x = bytearray(1 << 30); print(len(x))'\n"
PIPELINES = {"once": ONCE, "again": AGAIN, "hog": HOG}


async def test_a_killed_supervisor_makes_a_step_lost(project: Project) -> None:
    run_id = await project.trigger("once")
    await eventually(lambda: "line 5\n" in project.output(run_id))

    kill_supervisor(project, run_id)

    run = await project.platform.ended(project.name, run_id)
    (step,) = run["steps"]
    assert (run["status"], step["status"], step["cause"], step["attempt"]) == ("error", "lost", "lost", 1)
    assert "supervisor" in step["reason"]
    assert step["reason"] in await project.log(run_id, "only")
    assert processes_of(run_id) == []


async def test_a_lost_step_is_tried_again_and_the_log_says_why(project: Project) -> None:
    run_id = await project.trigger("again")
    await eventually(lambda: "line 5\n" in project.output(run_id))

    kill_supervisor(project, run_id)

    run = await project.platform.ended(project.name, run_id)
    (step,) = run["steps"]
    assert (run["status"], step["status"], step["attempt"]) == ("success", "success", 2)
    before, _, after = (await project.log(run_id, "only")).partition("perdure: attempt 2, because")
    assert "line 5\n" in before
    assert "line 30\n" not in before
    assert [line for line in after.splitlines() if line.startswith("line")] == [f"line {n}" for n in range(1, 31)]


async def test_a_step_that_eats_the_memory_is_told_so(project: Project) -> None:
    run_id = await project.trigger("hog")

    run = await project.platform.ended(project.name, run_id)

    (step,) = run["steps"]
    assert (run["status"], step["status"], step["cause"]) == ("failure", "failure", "oom")
    assert "memory" in step["reason"]


def kill_supervisor(project: Project, run_id: str) -> None:
    """Kills the supervisor and nothing else."""
    pid = project.supervisor(run_id)
    assert pid is not None
    assert pid in [process.pid for process in step_supervisors(project.platform.home)]
    os.kill(pid, signal.SIGKILL)
