"""Children of a supervisor that was killed: found by their recorded identity, stopped in order."""

import signal
import time
from collections.abc import Callable, Iterable

from deploy.local.identity import ProcessIdentity, environment_value
from deploy.local.part import Part, PartFailed
from deploy.local.ports import PortHolder, holder_of, is_free
from deploy.local.state import STATE_VARIABLE, RunRecord, StateDirectory

DYING_SECONDS_MAX = 5.0
DYING_POLL_SECONDS = 0.05


def stop_orphans(state: StateDirectory, *, announce: Callable[[str], None]) -> int:
    """Stops what is left of an earlier run, in the reverse of the order in which it was started.

    Call it with the state directory locked: then no supervisor owns these processes any more.

    Returns:
        How many there were.
    """
    record = RunRecord.load(state.record_path)
    stopped = 0
    for part in reversed(record.parts if record else []):
        if part.identity is None or not part.identity.alive:
            continue
        announce(f"stopping {part.name} (pid {part.identity.pid}) of an earlier run")
        part.identity.stop_with_group(signal.Signals(part.stop_signal), timeout_seconds=part.stop_timeout_seconds)
        stopped += 1
    return stopped


def free_the_ports(parts: Iterable[Part], state: StateDirectory, *, announce: Callable[[str], None]) -> None:
    """Makes sure that every part finds its ports free.

    A holder that an earlier supervisor of this state directory started is stopped; anybody else's is not touched.

    Raises:
        PartFailed: Ports are taken; names each port, its part and its holder.
    """
    taken: list[tuple[Part, PortHolder]] = []
    for part in parts:
        for port in part.ports:
            if is_free(port):
                continue
            holder = _settled_holder(port)
            if holder is None:
                continue
            orphan = _orphan(holder, state)
            if orphan is None:
                taken.append((part, holder))
                continue
            announce(f"stopping {part.name} (pid {orphan.pid}) of an earlier run")
            orphan.stop_with_group(part.stop_signal, timeout_seconds=part.stop_timeout_seconds)
            left = _settled_holder(port)
            if left is not None:
                taken.append((part, left))
    if taken:
        lines = "\n".join(f"  {part.name}: {holder}" for part, holder in taken)
        raise PartFailed(
            f"Ports that Perdure needs are taken; nothing was started.\n{lines}\n"
            "Stop their holders, or choose other ports: `perdure up --port-base 7500`, `perdure up --port "
            f"{taken[0][0].name}=N`, or `perdure up --ports auto`."
        )


def _settled_holder(port: int) -> PortHolder | None:
    """Who holds ``port``, once it is certain; ``None`` if it became free meanwhile.

    A process that was just killed may be gone from every list while the kernel still closes its sockets; then the
    port seems to be held by nobody whom this user may see.
    """
    deadline = time.monotonic() + DYING_SECONDS_MAX
    while not is_free(port):
        holder = holder_of(port)
        if holder.pid is not None or time.monotonic() > deadline:
            return holder
        time.sleep(DYING_POLL_SECONDS)
    return None


def _orphan(holder: PortHolder, state: StateDirectory) -> ProcessIdentity | None:
    if holder.pid is None or environment_value(holder.pid, STATE_VARIABLE) != str(state.path):
        return None
    return ProcessIdentity.of(holder.pid)
