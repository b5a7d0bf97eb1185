"""A fault in a pipeline file, at its place, for the person who wrote it."""

from collections.abc import Iterable
from difflib import get_close_matches

from pydantic import BaseModel, ConfigDict

from domain.errors import InvalidPipeline

PROBLEMS_SHOWN_MAX = 50
SHOWN_CHARACTERS_MAX = 60


class Problem(BaseModel):
    """One thing to correct.

    Attributes:
        path: The file, relative to the root of the repository.
        line: 1-based.
        column: 1-based, in characters.
        message: What is wrong, and what would be right.
        suggestion: The word that was probably meant.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    line: int
    column: int
    message: str
    suggestion: str | None = None

    def render(self) -> str:
        """The problem as one line, in the form that editors and terminals make a link of."""
        meant = f"; did you mean '{self.suggestion}'?" if self.suggestion else ""
        return f"{self.path}:{self.line}:{self.column}: {self.message}{meant}"


def invalid_pipeline(path: str, problems: Iterable[Problem]) -> InvalidPipeline:
    """The error that carries the problems of one file, in the order of their places, each once.

    Beyond ``PROBLEMS_SHOWN_MAX`` the rest is counted in one last problem.
    """
    ordered = sorted(dict.fromkeys(problems), key=lambda problem: (problem.line, problem.column))
    shown = ordered[:PROBLEMS_SHOWN_MAX]
    if len(ordered) > len(shown):
        first_hidden = ordered[len(shown)]
        message = f"and {len(ordered) - len(shown)} more problems from here on"
        shown.append(first_hidden.model_copy(update={"message": message, "suggestion": None}))
    count = "a problem" if len(ordered) == 1 else f"{len(ordered)} problems"
    lines = "\n".join(problem.render() for problem in shown)
    return InvalidPipeline(
        f"{path} has {count}, so none of its steps ran. Correct the file and push again.\n{lines}",
        details={"problems": [problem.model_dump() for problem in shown]},
    )


def quoted(text: str) -> str:
    """What somebody wrote, safe and short enough for a message: escaped, and cut off after 60 characters."""
    short = text if len(text) <= SHOWN_CHARACTERS_MAX else text[: SHOWN_CHARACTERS_MAX - 1] + "…"
    return "'" + "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in short) + "'"


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` was probably meant to be, if one is near."""
    if len(word) > SHOWN_CHARACTERS_MAX:  # Nobody meant a short word with it, and comparing costs its square.
        return None
    by_folded = {name.casefold(): name for name in known}
    matches = get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[matches[0]] if matches else None
