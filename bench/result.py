"""One measured figure, the table and the file that it is reported in."""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Figure:
    """A figure that was measured in this run.

    Attributes:
        compared_with: The limit or peer of the same run that ``ratio`` relates to.
        ratio: ``value`` over the limit's value, where there is one.
        goal: What to reach, for people.
        met: Whether it was; ``None`` where there is no goal.
    """

    name: str
    value: float
    unit: str
    compared_with: str | None = None
    ratio: float | None = None
    goal: str | None = None
    met: bool | None = None


Direction = Literal["at least", "at most"]


def figure(
    name: str,
    value: float,
    unit: str,
    *,
    goal: tuple[Direction, float] | None = None,
    limit: tuple[str, float] | None = None,
    goal_ratio: tuple[Direction, float] | None = None,
) -> Figure:
    """Makes a figure and judges it.

    Args:
        goal: On the value itself.
        limit: Name and value of what it is compared with.
        goal_ratio: On the ratio to the limit; if both goals are given, both must hold.
    """
    ratio = None if limit is None else value / limit[1]
    goals, verdicts = [], []
    if goal is not None:
        goals.append(f"{goal[0]} {goal[1]:g} {unit}")
        verdicts.append(_holds(value, goal))
    if goal_ratio is not None and ratio is not None:
        goals.append(f"{goal_ratio[0]} {goal_ratio[1]:g} x")
        verdicts.append(_holds(ratio, goal_ratio))
    return Figure(
        name=name,
        value=round(value, 4),
        unit=unit,
        compared_with=None if limit is None else f"{limit[0]}: {limit[1]:.4g} {unit}",
        ratio=None if ratio is None else round(ratio, 3),
        goal=" and ".join(goals) or None,
        met=all(verdicts) if verdicts else None,
    )


def _holds(value: float, goal: tuple[Direction, float]) -> bool:
    return value >= goal[1] if goal[0] == "at least" else value <= goal[1]


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which ``percent`` of the values lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-percent * len(ordered) // 100) - 1))]


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def print_table(figures: Iterable[Figure]) -> None:
    """Prints a line per figure."""
    rows = [("figure", "value", "unit", "compared with", "ratio", "goal", "met")]
    rows.extend(
        (
            one.name,
            f"{one.value:g}",
            one.unit,
            one.compared_with or "",
            "" if one.ratio is None else f"{one.ratio:g}",
            one.goal or "",
            "" if one.met is None else ("yes" if one.met else "NO"),
        )
        for one in figures
    )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def write_results(figures: Iterable[Figure], path: Path) -> None:
    """Writes the list of figures as JSON."""
    path.write_text(json.dumps([asdict(one) for one in figures], indent=2) + "\n")
