"""Starts the parts in order, keeps them running, stops them in the reverse order.

up      stage by stage; within a stage at the same time
serve   a part that dies alone is started again after a growing pause (0.25 to 10 s, forgotten after 60 s of health)
down    last stage first; each part has its own time to end, then SIGKILL
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from deploy.local.identity import ProcessIdentity
from deploy.local.orphans import free_the_ports, stop_orphans
from deploy.local.part import Launch, Part, PartFailed
from deploy.local.process import Child, start
from deploy.local.state import STATE_VARIABLE, PartRecord, RunRecord, StateDirectory

PAUSE_FIRST_SECONDS = 0.25
PAUSE_MAX_SECONDS = 10.0
HEALTHY_AFTER_SECONDS = 60.0
STARTS_MAX = 3
"""How often a part that is killed while it starts is started anew before `up` gives up."""

LOG_SIZE_BYTES_MAX = 16 * 1024 * 1024
LOG_EXCERPT_LINES = 15


class Kind(StrEnum):
    """What happened to a part."""

    READY = "ready"
    DONE = "done"
    DIED = "died"
    AGAIN = "ready again"
    STOPPED = "stopped"
    KILLED = "killed"
    NOTE = "note"


@dataclass(frozen=True)
class Happening:
    """One line of the terminal."""

    kind: Kind
    part: str
    seconds: float = 0.0
    text: str = ""


@dataclass(frozen=True)
class Task:
    """A program that does one thing between two stages and ends (migrations).

    It may be killed at any point and is run again by the next start.
    """

    name: str
    launch: Launch
    timeout_seconds: float = 120.0


@dataclass(frozen=True)
class Stage:
    """Parts that start at the same time.

    Attributes:
        one_by_one: Whether the last part must have ended before the one before it is asked to.
    """

    parts: Sequence[Part]
    one_by_one: bool = False


class Supervisor:
    """Runs stages of parts in a locked state directory.

    Args:
        announce: Told of everything that a person wants to see; must not block.
    """

    def __init__(
        self,
        state: StateDirectory,
        stages: Sequence[Stage | Task],
        *,
        external: Sequence[PartRecord] = (),
        announce: Callable[[Happening], None],
    ) -> None:
        self.state = state
        self.stages = stages
        self.announce = announce
        self._children: dict[str, Child] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._records = {
            part.name: PartRecord(
                name=part.name,
                address=part.address,
                ports=list(part.ports),
                stop_signal=int(part.stop_signal),
                stop_timeout_seconds=part.stop_timeout_seconds,
            )
            for part in self.parts
        }
        self._external = list(external)

    @property
    def parts(self) -> list[Part]:
        """All, in the order of their start."""
        return [part for stage in self.stages if isinstance(stage, Stage) for part in stage.parts]

    async def up(self) -> None:
        """Stops what an earlier run left, then starts everything.

        Raises:
            PartFailed: A port is taken or a part did not become ready; everything that was started is stopped again.
        """
        await asyncio.to_thread(stop_orphans, self.state, announce=self._note)
        await asyncio.to_thread(free_the_ports, self.parts, self.state, announce=self._note)
        self._save()
        try:
            for stage in self.stages:
                if isinstance(stage, Task):
                    await self._run(stage)
                else:
                    await self._start_stage(stage)
        except BaseException:
            await self.down()
            raise

    async def down(self) -> None:
        """Stops everything, the last stage first. May be called while ``up`` runs and more than once."""
        for keeper in self._keepers.values():
            keeper.cancel()
        await asyncio.gather(*self._keepers.values(), return_exceptions=True)
        self._keepers.clear()
        for stage in reversed([stage for stage in self.stages if isinstance(stage, Stage)]):
            if stage.one_by_one:
                for part in reversed(stage.parts):
                    await self._stop(part)
            else:
                await asyncio.gather(*(self._stop(part) for part in stage.parts))

    async def _start_stage(self, stage: Stage) -> None:
        starts = [asyncio.create_task(self._start_first(part)) for part in stage.parts]
        try:
            await asyncio.gather(*starts)
        except BaseException:
            for task in starts:
                task.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
            raise

    async def _start_first(self, part: Part) -> None:
        began = time.monotonic()
        for attempt in range(1, STARTS_MAX + 1):
            try:
                await self._start(part)
                break
            except _Ended as ended:
                # A program that says "no" would say it again; one that was shot may be started again.
                if ended.code >= 0 or attempt == STARTS_MAX:
                    raise PartFailed(self._explain(part.name, f"ended at its start ({ended})")) from None
                self.announce(Happening(Kind.DIED, part.name, text=f"{ended} at its start; starting it again"))
        self.announce(Happening(Kind.READY, part.name, seconds=time.monotonic() - began, text=part.address))
        self._keepers[part.name] = asyncio.create_task(self._keep(part))

    async def _start(self, part: Part) -> None:
        await part.prepare()
        log_path = self._log_path(part.name)
        launch = part.launch()
        environment = {**launch.env, STATE_VARIABLE: str(self.state.path)}
        try:
            child = await start(
                Launch(launch.argv, launch.cwd, environment), log_path=log_path, stop_signal=part.stop_signal
            )
        except OSError as error:
            raise PartFailed(f"{part.name} cannot be run: {error}") from error
        self._children[part.name] = child
        self._change(part.name, state="starting", identity=child.identity)
        ended = asyncio.create_task(child.wait())
        ready = asyncio.create_task(_ready_and_complete(part))
        try:
            async with asyncio.timeout(part.ready_timeout_seconds):
                await asyncio.wait({ended, ready}, return_when=asyncio.FIRST_COMPLETED)
                if ready.done() and ready.exception() is not None:
                    # Perhaps because the part is about to be gone; its end tells more than our half-done request.
                    await asyncio.wait({ended}, timeout=1)
        except TimeoutError:
            await child.kill()
            seconds = part.ready_timeout_seconds
            raise PartFailed(self._explain(part.name, f"was not ready after {seconds:.0f} s and was killed")) from None
        finally:
            ready.cancel()
            ended.cancel()
            outcome, _ = await asyncio.gather(ready, ended, return_exceptions=True)
        if not child.alive:
            raise _Ended(await child.wait())
        if outcome is not None:
            await child.kill()
            raise PartFailed(self._explain(part.name, f"runs but cannot be set up ({outcome}) and was killed"))
        self._change(part.name, state="ready")

    async def _keep(self, part: Part) -> None:
        """Starts the part again whenever it ends, until it is cancelled."""
        failures = 0
        while True:
            ready_at = time.monotonic()
            how = _describe(await self._children[part.name].wait())
            if time.monotonic() - ready_at > HEALTHY_AFTER_SECONDS:
                failures = 0
            while True:
                pause_seconds = min(PAUSE_MAX_SECONDS, PAUSE_FIRST_SECONDS * 2**failures)
                failures += 1
                restarts = self._records[part.name].restarts + 1
                self._change(part.name, state="restarting", restarts=restarts, last_end=how)
                self.announce(Happening(Kind.DIED, part.name, text=f"{how}; starting it again in {pause_seconds:g} s"))
                self._children[part.name].kill_group()
                await asyncio.sleep(pause_seconds)
                began = time.monotonic()
                try:
                    await self._start(part)
                except _Ended as ended:
                    how = f"{ended} at its start"
                except Exception as error:  # noqa: BLE001  # whatever it is, the next attempt is the answer
                    how = f"did not start: {error}"
                else:
                    break
            seconds = time.monotonic() - began
            self.announce(Happening(Kind.AGAIN, part.name, seconds=seconds, text=part.address))

    async def _stop(self, part: Part) -> None:
        child = self._children.pop(part.name, None)
        if child is None:
            return
        began = time.monotonic()
        orderly = await child.stop(part.stop_signal, timeout_seconds=part.stop_timeout_seconds)
        await part.clean_up()
        self._change(part.name, state="stopped")
        kind = Kind.STOPPED if orderly else Kind.KILLED
        self.announce(Happening(kind, part.name, seconds=time.monotonic() - began))

    async def _run(self, task: Task) -> None:
        began = time.monotonic()
        launch = Launch(task.launch.argv, task.launch.cwd, {**task.launch.env, STATE_VARIABLE: str(self.state.path)})
        child = await start(launch, log_path=self._log_path(task.name), stop_signal=signal.SIGTERM)
        try:
            async with asyncio.timeout(task.timeout_seconds):
                code = await child.wait()
        except TimeoutError:
            raise PartFailed(self._explain(task.name, f"took more than {task.timeout_seconds:.0f} s")) from None
        finally:
            await child.stop(signal.SIGTERM, timeout_seconds=5)
        if code != 0:
            raise PartFailed(self._explain(task.name, f"failed ({_describe(code)})"))
        self.announce(Happening(Kind.DONE, task.name, seconds=time.monotonic() - began))

    def _log_path(self, name: str) -> Path:
        """The log of a part; a long one is moved aside first."""
        path = self.state.logs / f"{name}.log"
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > LOG_SIZE_BYTES_MAX:
                path.replace(path.with_suffix(".log.1"))
        return path

    def _explain(self, name: str, what: str) -> str:
        path = self.state.logs / f"{name}.log"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        excerpt = "\n".join(f"  {line}" for line in lines[-LOG_EXCERPT_LINES:])
        return (
            f"{name} {what}. Everything that was started is stopped again; all data is kept.\n"
            f"The end of {path}:\n{excerpt}"
        )

    def _change(
        self,
        name: str,
        *,
        state: str,
        identity: ProcessIdentity | None = None,
        restarts: int | None = None,
        last_end: str | None = None,
    ) -> None:
        record = self._records[name]
        record.state = state
        record.identity = identity or record.identity
        record.restarts = record.restarts if restarts is None else restarts
        record.last_end = last_end or record.last_end
        self._save()

    def _save(self) -> None:
        me = ProcessIdentity.of(os.getpid())
        try:
            RunRecord(me, [*self._external, *self._records.values()]).save(self.state.record_path)
        except OSError as error:
            # A full disk must not end the supervision of what runs.
            self._note(f"{self.state.record_path} cannot be written: {error}")

    def _note(self, text: str) -> None:
        self.announce(Happening(Kind.NOTE, "", text=text))


class _Ended(Exception):
    """A part ended before it was ready."""

    def __init__(self, code: int) -> None:
        super().__init__(_describe(code))
        self.code = code


async def _ready_and_complete(part: Part) -> None:
    while not await part.is_ready():  # noqa: ASYNC110  # another process gets ready; nothing here could set an event
        await asyncio.sleep(0.03)
    await part.complete()


def _describe(code: int) -> str:
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"exit code {code}"
