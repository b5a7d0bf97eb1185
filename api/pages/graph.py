"""The steps of a run as a drawing: columns by depth, lines for dependencies. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

NODE_WIDTH = 176
NODE_HEIGHT = 44
GAP_X = 44
GAP_Y = 14
MARGIN = 4
LABEL_CHARACTERS = 17


class Step(Protocol):
    """What is drawn of a step."""

    @property
    def name(self) -> str: ...  # noqa: D102  # documented at StepView
    @property
    def depends_on(self) -> Sequence[str]: ...  # noqa: D102  # as above


@dataclass(frozen=True, slots=True)
class Node:
    """A step at its place, in pixels."""

    name: str
    label: str
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Graph:
    """The drawing.

    Attributes:
        edges: SVG paths, from the step that goes first.
    """

    width: int
    height: int
    nodes: tuple[Node, ...]
    edges: tuple[str, ...]


def draw(steps: Sequence[Step]) -> Graph:
    """Puts every step into the column behind its deepest dependency, and rows in the order of the file."""
    columns: list[list[str]] = []
    depth: dict[str, int] = {}
    known = {step.name for step in steps}
    waits = {step.name: [name for name in step.depends_on if name in known] for step in steps}
    for name in _in_order(waits):
        depth[name] = max((depth[before] + 1 for before in waits[name]), default=0)
    for step in steps:
        while len(columns) <= depth[step.name]:
            columns.append([])
        columns[depth[step.name]].append(step.name)
    place = {
        name: (MARGIN + column * (NODE_WIDTH + GAP_X), MARGIN + row * (NODE_HEIGHT + GAP_Y))
        for column, names in enumerate(columns)
        for row, name in enumerate(names)
    }
    return Graph(
        width=2 * MARGIN + len(columns) * (NODE_WIDTH + GAP_X) - GAP_X if columns else 0,
        height=2 * MARGIN + max((len(names) for names in columns), default=0) * (NODE_HEIGHT + GAP_Y) - GAP_Y,
        nodes=tuple(Node(step.name, _label(step.name), *place[step.name]) for step in steps),
        edges=tuple(_edge(place[before], place[step.name]) for step in steps for before in waits[step.name]),
    )


def _in_order(waits: dict[str, list[str]]) -> list[str]:
    """Dependencies first. A step may name one that stands later in the file; plans have no cycles."""
    done: list[str] = []
    left = dict(waits)
    while left:
        ready = [name for name, before in left.items() if all(other not in left for other in before)]
        for name in ready or list(left):
            done.append(name)
            del left[name]
    return done


def _label(name: str) -> str:
    return name if len(name) <= LABEL_CHARACTERS else name[: LABEL_CHARACTERS - 1] + "…"


def _edge(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1 = start[0] + NODE_WIDTH, start[1] + NODE_HEIGHT // 2
    x2, y2 = end[0], end[1] + NODE_HEIGHT // 2
    bend = x2 - GAP_X // 2
    return f"M{x1} {y1}H{bend - GAP_X // 2}C{bend} {y1} {bend} {y2} {x2} {y2}"
