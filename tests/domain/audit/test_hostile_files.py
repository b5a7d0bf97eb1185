"""What somebody without the key could make of an export: whatever passes is what was written."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.audit.export_file import Header, end_line, row_line, verify_lines
from tests.domain.audit.chains import BEGAN, KEY, OTHER_KEY, Chains, edited

GENUINE = Chains().write(3).write(2, log=5).checkpoint().write(3).write(1, log=5).checkpoint()
BOUNDS = ({3: 0, 5: 0}, {3: 3, 5: 2}, {3: 6, 5: 3})
"""Where each checkpoint stands, after the beginning."""

SIGNED = [one.to_json() for one in GENUINE.checkpoints]
BARE = [replace(one, leaves=b"").to_json() for one in GENUINE.checkpoints]
FORGED = Chains().write(2).checkpoint(OTHER_KEY).checkpoints[0].to_json()


def _rewritten(log: int, index: int) -> list[str]:
    """The rows of a chain with one changed and every hash after it computed anew."""
    chains = Chains({log: list(GENUINE.rows[log])})
    chains.rows[log][index] = edited(chains.rows[log][index])
    chains.recompute(log, index)
    return [row_line(one) for one in chains.rows[log]]


ROWS = {log: [row_line(one) for one in GENUINE.rows[log]] for log in (3, 5)}
VERSIONS = {log: [rows, rows, *(_rewritten(log, index) for index in range(len(rows)))] for log, rows in ROWS.items()}
# Begin, end, and the checkpoints that belong to a file of that part.
PARTS = [
    (0, 2, SIGNED),
    (0, 1, SIGNED[:1]),
    (1, 2, [BARE[0], SIGNED[1]]),
    (2, 2, [BARE[1]]),
]
ODD_CHECKPOINTS = st.lists(st.sampled_from([*SIGNED, *BARE, FORGED]), max_size=3)


def seldom(draw: st.DrawFn) -> bool:
    return draw(st.integers(0, 3)) == 0


@st.composite
def hostile_files(draw: st.DrawFn) -> list[str]:
    """A genuine file; then, each seldom: odd checkpoints, rows written anew, blocks in another order, other lines."""
    begin, end, signed = draw(st.sampled_from(PARTS))
    if seldom(draw):
        signed = draw(ODD_CHECKPOINTS)
    blocks = [signed]
    for log in (3, 5):
        if seldom(draw):
            begin, end = draw(st.integers(0, 2)), draw(st.integers(0, 2))
        blocks.append(draw(st.sampled_from(VERSIONS[log]))[BOUNDS[begin][log] : BOUNDS[end][log]])
    if seldom(draw):
        blocks = draw(st.permutations(blocks))
    lines = [line for block in blocks for line in block]
    if seldom(draw):
        lines = _moved(draw, lines)
    rows = sum('"type":"row"' in line for line in lines)
    header = Header(is_whole=(begin == 0) != seldom(draw), made_at=BEGAN).line()
    return [header, *lines, end_line(rows, len(lines) - rows)]


def _moved(draw: st.DrawFn, lines: list[str]) -> list[str]:
    if not lines:
        return lines
    what = draw(st.sampled_from(["take out", "double", "move"]))
    at = draw(st.integers(0, len(lines) - 1))
    line = lines[at] if what == "double" else lines.pop(at)
    if what != "take out":
        lines.insert(draw(st.integers(0, len(lines))), line)
    return lines


def rows_between(begin: int, end: int) -> set[str]:
    return {row_line(one) for log in (3, 5) for one in GENUINE.rows[log][BOUNDS[begin][log] : BOUNDS[end][log]]}


ALLOWED = [rows_between(begin, end) for begin in range(3) for end in range(begin, 3)]


@settings(max_examples=500, deadline=None)
@given(hostile_files())
def test_whatever_passes_is_what_was_written(lines: list[str]) -> None:
    """Only the genuine rows pass, each once, from a checkpoint (or the beginning) to another."""
    if verify_lines(lines, KEY.public.is_signed).problems:
        return
    rows = [line for line in lines if '"type":"row"' in line]
    assert len(rows) == len(set(rows))
    assert set(rows) in ALLOWED
