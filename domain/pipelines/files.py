"""Which files of a commit are pipelines, and when a push asks for none."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from domain.pipelines.problems import Problem

ROOT_FILE = ".platform.yaml"
DIRECTORY = ".platform/"
FILES_MAX = 20

_SKIP_MARK = re.compile(r"\[(?:skip[ -]ci|ci[ -]skip|no[ -]ci|skip[ -]pipeline)\]", re.IGNORECASE | re.ASCII)
_SKIP_OPTIONS = frozenset({"ci.skip", "ci.skip=true", "ci.skip=1", "ci.skip=yes"})


@dataclass(frozen=True, slots=True)
class PipelineFiles:
    """The pipeline files of a commit.

    Attributes:
        paths: To be read, ``.platform.yaml`` first, then by name.
        problems: Files that look like pipelines and will not be read, each with the reason.
    """

    paths: tuple[str, ...]
    problems: tuple[Problem, ...] = ()


def pipeline_files(listing: Iterable[str]) -> PipelineFiles:
    """Chooses the pipeline files of a tree: ``.platform.yaml`` and ``.platform/*.yaml``, not deeper.

    Args:
        listing: Paths of regular files in the commit; all of them, or those whose name begins with ``.platform``.
    """
    found: list[str] = []
    problems: list[Problem] = []
    for path in sorted(set(listing), key=lambda path: (path != ROOT_FILE, path)):
        stem, _, extension = path.rpartition(".")
        if not (stem == ".platform" or (path.startswith(DIRECTORY) and "/" not in path.removeprefix(DIRECTORY))):
            continue
        if extension == "yaml" and stem != DIRECTORY:
            found.append(path)
        elif extension.lower() in {"yml", "yaml"}:
            message = f"this file is not read, because its name does not end with '.yaml'; rename it to {stem}.yaml"
            problems.append(Problem(path=path, line=1, column=1, message=message))
    for path in found[FILES_MAX:]:
        message = f"this file is not read; {len(found)} pipeline files are more than the limit of {FILES_MAX}"
        problems.append(Problem(path=path, line=1, column=1, message=message))
    return PipelineFiles(tuple(found[:FILES_MAX]), tuple(problems))


def default_name(path: str) -> str:
    """What a pipeline is called that does not say: its file's name without dots in front and the extension."""
    return path.rsplit("/", 1)[-1].lstrip(".").rsplit(".", 1)[0]


def skip_requested(message: str, push_options: Sequence[str]) -> bool:
    """Whether a push asks that no pipeline runs for it.

    Args:
        message: Of the commit that was pushed last to the ref; ``[skip ci]``, ``[ci skip]``, ``[no ci]`` or
            ``[skip pipeline]`` anywhere in it, in any case, count.
        push_options: Of ``git push -o``; ``ci.skip`` counts.
    """
    return _SKIP_MARK.search(message) is not None or any(
        option.strip().lower() in _SKIP_OPTIONS for option in push_options
    )
