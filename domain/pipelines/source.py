"""YAML text to a tree that knows its places: the only module of ``domain`` that imports ``yaml`` (ADR 0004).

The tree is built from libyaml's events, not with ``yaml.load``: nothing is constructed, no tag is resolved, a scalar is
the text that stands in the file (so ``on``, ``012``, ``1:30`` and ``yes`` mean what they look like), and every limit
is checked while reading, before memory or time is spent.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import yaml

from domain.pipelines.problems import Problem, invalid_pipeline, quoted

if not yaml.__with_libyaml__:
    raise ImportError("PyYAML is here without libyaml, which reads the pipeline files. Install PyYAML from its wheel.")

SIZE_BYTES_MAX = 256 * 1024
DEPTH_MAX = 20
NODES_MAX = 10_000
"""After aliases are expanded, so that a few lines of aliases to aliases cannot become millions of nodes."""
CHARACTERS_EXPANDED_MAX = 1024 * 1024
"""The text of all nodes after aliases are expanded, for the same reason."""

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_NOT_YAML = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # YAML 1.1, 5.1
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Scalar:
    """Text. ``plain`` is false if it was quoted or a block, so that an empty plain one can be told from ``""``."""

    text: str
    plain: bool
    line: int
    column: int

    @property
    def is_null(self) -> bool:
        """Whether the file gives no value here."""
        return self.plain and self.text in _NULLS


@dataclass(frozen=True, slots=True)
class Items:
    """A YAML sequence."""

    items: "tuple[Node, ...]"
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Mapping:
    """A YAML mapping without duplicate keys; merge keys (``<<``) are already merged in."""

    entries: "dict[str, tuple[Scalar, Node]]"
    line: int
    column: int


Node: TypeAlias = Scalar | Items | Mapping


@dataclass(slots=True)
class _Open:
    """A collection whose end was not read yet; a mapping's children alternate between keys and values."""

    mapping: bool
    anchor: str | None
    line: int
    column: int
    children: list[Node] = field(default_factory=list)
    nodes: int = 1
    characters: int = 0
    height: int = 1


@dataclass(frozen=True, slots=True)
class _Anchored:
    """A node that aliases may repeat, and what one repetition costs."""

    node: Node
    nodes: int
    characters: int
    height: int


class _Refused(Exception):
    """The rest of the text is not read, because this problem makes it meaningless or dangerous."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def read_source(data: bytes, path: str) -> tuple[Node, list[Problem]]:
    """Reads one YAML document.

    Args:
        data: The file as it is in the repository.
        path: Its name, for the problems.

    Returns:
        The tree, and problems that do not hide others (duplicate keys, tags), so that all can be told at once.

    Raises:
        InvalidPipeline: There is no tree: the file is too large, not UTF-8, not YAML, empty, or over a limit.
    """
    try:
        text = _decode(data, path)
        builder = _Builder(path)
        try:
            for event in yaml.parse(text, Loader=yaml.CBaseLoader):
                builder.feed(event)
        except yaml.YAMLError as error:
            raise _Refused(_syntax_problem(error, text, path)) from error
        if builder.root is None:
            raise _Refused(Problem(path=path, line=1, column=1, message="the file is empty; it needs at least 'steps'"))
    except _Refused as refused:
        raise invalid_pipeline(path, [refused.problem]) from refused
    return builder.root, builder.problems


def _decode(data: bytes, path: str) -> str:
    """The text, or a problem that says which byte is wrong and where."""

    def refused(before: str, message: str) -> _Refused:
        line = before.count("\n") + 1
        return _Refused(Problem(path=path, line=line, column=len(before) - before.rfind("\n"), message=message))

    if len(data) > SIZE_BYTES_MAX:
        raise refused("", f"the file has {len(data)} bytes; the limit is {SIZE_BYTES_MAX}")
    if data.startswith(_UTF16_MARKS):
        raise refused("", "the file is UTF-16; save it as UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        raise refused(before, f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8") from error
    text = text.removeprefix("\ufeff")  # The mark that some editors put before UTF-8 says nothing.
    stray = _NOT_YAML.search(text)
    if stray is not None:
        name = "a NUL character" if stray.group() == "\0" else f"the control character U+{ord(stray.group()):04X}"
        raise refused(text[: stray.start()], f"{name} may not stand in the file")
    return text


def _syntax_problem(error: yaml.YAMLError, text: str, path: str) -> Problem:
    """What the YAML parser found, in words that help."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    found = getattr(error, "problem", None) or "the text cannot be read"
    context = getattr(error, "context", None)
    message = f"this is not valid YAML: {found}" + (f" {context}" if context else "")
    lines = text.split("\n")
    if line <= len(lines) and lines[line - 1][column - 1 : column] == "\t":
        message = "a tab stands where YAML wants spaces; indent with spaces"
    elif "mapping values are not allowed" in message:
        message += "; if this is text with ': ' in it, quote it or write it below a '|'"
    return Problem(path=path, line=line, column=column, message=message)


class _Builder:
    """Builds the tree from events, without recursion."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self._open: list[_Open] = []
        self._anchors: dict[str, _Anchored] = {}
        self._nodes = 0
        self._characters = 0
        self._documents = 0

    def feed(self, event: yaml.Event) -> None:
        """Takes the next event.

        Raises:
            _Refused: A limit is passed, or the rest could not be understood.
        """
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self._refused(event, "a second document begins; put each pipeline into a file of its own")
        elif isinstance(event, yaml.AliasEvent):
            self._repeat(event)
        elif isinstance(event, yaml.ScalarEvent):
            self._check_tag(event)
            line, column = _place(event)
            plain = event.style is None or event.style == ""
            self._add(event, _Anchored(Scalar(event.value, plain, line, column), 1, len(event.value), 1), event.anchor)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._check_tag(event)
            if len(self._open) >= DEPTH_MAX:
                raise self._refused(event, f"the file is nested deeper than {DEPTH_MAX} levels")
            line, column = _place(event)
            self._open.append(_Open(isinstance(event, yaml.MappingStartEvent), event.anchor, line, column))
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._close(event)

    def _refused(self, event: yaml.Event, message: str) -> _Refused:
        line, column = _place(event)
        return _Refused(Problem(path=self.path, line=line, column=column, message=message))

    def _problem(self, node: Node, message: str) -> None:
        self.problems.append(Problem(path=self.path, line=node.line, column=node.column, message=message))

    def _check_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        if event.tag is not None:
            line, column = _place(event)
            message = f"the tag {quoted(event.tag)} is not allowed; values are text, lists and mappings"
            self.problems.append(Problem(path=self.path, line=line, column=column, message=message))

    def _repeat(self, event: yaml.AliasEvent) -> None:
        anchor = event.anchor or ""
        anchored = self._anchors.get(anchor)
        if anchored is None:
            inside = any(collection.anchor == anchor for collection in self._open)
            why = "stands inside itself" if inside else "names no anchor that was set before"
            raise self._refused(event, f"the alias {quoted('*' + anchor)} {why}")
        if len(self._open) + anchored.height > DEPTH_MAX + 1:
            raise self._refused(event, f"the file is nested deeper than {DEPTH_MAX} levels once aliases are expanded")
        self._add(event, anchored, None)

    def _add(self, event: yaml.Event, added: _Anchored, anchor: str | None) -> None:
        """Hangs a whole node into the collection that is open."""
        self._count(event, added)
        if anchor is not None:
            self._anchors[anchor] = added
        self._hang(added)

    def _count(self, event: yaml.Event, added: _Anchored) -> None:
        self._nodes += added.nodes
        self._characters += added.characters
        if self._nodes > NODES_MAX:
            raise self._refused(event, f"the file has more than {NODES_MAX} values once aliases are expanded")
        if self._characters > CHARACTERS_EXPANDED_MAX:
            limit = CHARACTERS_EXPANDED_MAX
            raise self._refused(event, f"the file has more than {limit} characters once aliases are expanded")

    def _hang(self, added: _Anchored) -> None:
        if not self._open:
            self.root = added.node
            return
        parent = self._open[-1]
        parent.children.append(added.node)
        parent.nodes += added.nodes
        parent.characters += added.characters
        parent.height = max(parent.height, added.height + 1)

    def _close(self, event: yaml.Event) -> None:
        done = self._open.pop()
        node = self._mapping(done) if done.mapping else Items(tuple(done.children), done.line, done.column)
        closed = _Anchored(node, done.nodes, done.characters, done.height)
        self._count(event, _Anchored(node, 1, 0, 1))  # Its children were counted when they came.
        if done.anchor is not None:
            self._anchors[done.anchor] = closed
        self._hang(closed)

    def _mapping(self, done: _Open) -> Mapping:
        entries: dict[str, tuple[Scalar, Node]] = {}
        merged: list[Mapping] = []
        for key, value in zip(done.children[::2], done.children[1::2], strict=True):
            if not isinstance(key, Scalar):
                self._problem(key, "a key must be text; if this is text that begins with '{' or '[', quote it")
            elif key.plain and key.text == "<<":
                merged.extend(self._merge_sources(key, value))
            elif key.text in entries:
                first = entries[key.text][0]
                self._problem(key, f"the key {quoted(key.text)} stands twice; first in line {first.line}")
            else:
                entries[key.text] = (key, value)
        for source in merged:  # Own keys win, then the sources in their order (YAML 1.1 merge keys).
            for text, entry in source.entries.items():
                entries.setdefault(text, entry)
        return Mapping(entries, done.line, done.column)

    def _merge_sources(self, key: Scalar, value: Node) -> Iterator[Mapping]:
        for source in value.items if isinstance(value, Items) else (value,):
            if isinstance(source, Mapping):
                yield source
            else:
                self._problem(key, "'<<' merges mappings; give it the alias of one, or a list of such aliases")


def _place(event: yaml.Event) -> tuple[int, int]:
    """The 1-based line and column where an event begins; events read from text always have their mark."""
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
