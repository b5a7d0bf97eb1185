"""The pipeline files of a commit, read for whoever makes runs of them: a push or a caller of the API."""

from collections.abc import Mapping
from dataclasses import dataclass

from adapters.repositories.base import ObjectReader
from domain.errors import TooLarge
from domain.pipelines.files import DIRECTORY, ROOT_FILE, pipeline_files
from domain.pipelines.problems import Problem

READ_SIZE_BYTES_MAX = 1024**2
"""Longer files are not even read; the language's own limit is far below and gives its own message."""


@dataclass(frozen=True, slots=True)
class PipelineSources:
    """What a commit says about its pipelines.

    Attributes:
        contents: Path to content, in the order of ``domain.pipelines.files``.
        too_large: Pipeline files that were not read.
        not_meant: Files that look like pipelines and are none, each with the reason.
    """

    contents: Mapping[str, bytes]
    too_large: tuple[Problem, ...] = ()
    not_meant: tuple[Problem, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """Every pipeline file, read or not."""
        return (*self.contents, *(problem.path for problem in self.too_large))

    def only(self, path: str) -> "PipelineSources":
        """The same with no other pipeline file than this."""
        return PipelineSources(
            {path: self.contents[path]} if path in self.contents else {},
            tuple(problem for problem in self.too_large if problem.path == path),
            self.not_meant,
        )


async def read_pipeline_files(reader: ObjectReader, commit_sha: str) -> PipelineSources:
    """Finds and reads them; a commit without any is an answer, not an error."""
    directory = DIRECTORY.rstrip("/")
    top = await reader.tree(commit_sha)
    ids = {entry.name: entry.sha for entry in top if entry.kind == "blob"}
    if any(entry.name == directory and entry.kind == "tree" for entry in top):
        inside = await reader.tree(commit_sha, directory)
        ids |= {DIRECTORY + entry.name: entry.sha for entry in inside if entry.kind == "blob"}
    found = pipeline_files(name for name in ids if name.startswith(ROOT_FILE.removesuffix(".yaml")))
    contents: dict[str, bytes] = {}
    too_large = []
    for path in found.paths:
        try:
            contents[path] = await reader.blob(ids[path], size_bytes_max=READ_SIZE_BYTES_MAX)
        except TooLarge as error:
            too_large.append(Problem(path=path, line=1, column=1, message=error.message))
    return PipelineSources(contents, tuple(too_large), found.problems)
