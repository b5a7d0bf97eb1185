"""Terminal output as safe HTML: SGR colours and attributes (ECMA-48, 8.3.117) become classes, all else is text.

The same rules are in ``static/log.js`` for what comes live; ``tests/api/pages/ansi_cases.json`` holds both to one
table. Colours are classes because the content security policy allows no inline style: a true colour becomes the
nearest of the 256. Other control sequences and control characters are removed, never shown.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from html import escape

from markupsafe import Markup

LINE_CHARACTERS_MAX = 20_000

_SEQUENCE = re.compile(
    r"\x1b\[(?P<sgr>[0-9;:]*)m"  # the one that we understand
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # any other control sequence
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # a control string: title, hyperlink, ...
    r"|\x1b[ -/]*[0-~]?"  # any other escape
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"  # control characters but tab and line feed
)


@dataclass(frozen=True, slots=True)
class Style:
    """How the terminal would draw now; colours are numbers of the 256, ``None`` is the default colour."""

    foreground: int | None = None
    background: int | None = None
    bold: bool = False
    dim: bool = False
    italic: bool = False
    underline: bool = False
    strike: bool = False
    inverse: bool = False

    def classes(self) -> str:
        """The CSS classes, in a fixed order."""
        foreground = None if self.foreground is None else f"f{self.foreground}"
        background = None if self.background is None else f"k{self.background}"
        if self.inverse:
            foreground = "fi" if self.background is None else f"f{self.background}"
            background = "ki" if self.foreground is None else f"k{self.foreground}"
        attributes = [_CLASSES[name] for name in _CLASSES if getattr(self, name)]
        return " ".join(
            [*([foreground] if foreground else []), *(["k", background] if background else []), *attributes]
        )

    def sequence(self) -> str:
        """SGR parameters that lead from the reset state to this one, for whoever goes on in the middle of a log."""
        codes = [_CODES[field.name] for field in fields(self) if field.name in _CODES and getattr(self, field.name)]
        if self.foreground is not None:
            codes.append(f"38;5;{self.foreground}")
        if self.background is not None:
            codes.append(f"48;5;{self.background}")
        return ";".join(codes)


PLAIN = Style()
_CLASSES = {"bold": "ab", "dim": "ad", "italic": "ai", "underline": "au", "strike": "as"}
_CODES = {"bold": "1", "dim": "2", "italic": "3", "underline": "4", "inverse": "7", "strike": "9"}
_ON = {1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse", 9: "strike", 21: "underline"}
_OFF: dict[int, tuple[str, ...]] = {
    22: ("bold", "dim"),
    23: ("italic",),
    24: ("underline",),
    27: ("inverse",),
    29: ("strike",),
}


@lru_cache(maxsize=4096)
def classes(style: Style) -> str:
    """The CSS classes of a style, in a fixed order."""
    foreground = None if style.foreground is None else f"f{style.foreground}"
    background = None if style.background is None else f"k{style.background}"
    if style.inverse:
        foreground = "fi" if style.background is None else f"f{style.background}"
        background = "ki" if style.foreground is None else f"k{style.foreground}"
    attributes = [_CLASSES[name] for name in _CLASSES if getattr(style, name)]
    colours = [name for name in (foreground, background and "k", background) if name]
    return " ".join(colours + attributes)


@lru_cache(maxsize=4096)
def apply_sgr(style: Style, parameters: str) -> Style:
    """The style after one SGR sequence; unknown codes change nothing."""
    codes = [int(code) if code else 0 for code in parameters.replace(":", ";").split(";")]
    place = 0
    while place < len(codes):
        code = codes[place]
        place += 1
        if code in (38, 48):
            colour, place = _extended_colour(codes, place)
            if colour is not None:
                style = _coloured(style, background=code == 48, colour=colour)  # noqa: PLR2004  # ECMA-48's code
        else:
            style = _simple(style, code)
    return style


def _simple(style: Style, code: int) -> Style:
    if code == 0:
        return PLAIN
    if code in _ON:
        return replace(style, **{_ON[code]: True})
    if code in _OFF:
        return replace(style, **dict.fromkeys(_OFF[code], False))
    if code in (39, 49):
        return _coloured(style, background=code == 49, colour=None)  # noqa: PLR2004  # ECMA-48's code
    for first, colour, background in ((30, 0, False), (40, 0, True), (90, 8, False), (100, 8, True)):
        if first <= code < first + 8:
            return _coloured(style, background=background, colour=colour + code - first)
    return style


def _coloured(style: Style, *, background: bool, colour: int | None) -> Style:
    return replace(style, background=colour) if background else replace(style, foreground=colour)


def _extended_colour(codes: list[int], place: int) -> tuple[int | None, int]:
    """Reads ``5;n`` or ``2;r;g;b``; returns the colour and the place after it."""
    mode = codes[place] if place < len(codes) else None
    if mode == 5 and place + 1 < len(codes):  # noqa: PLR2004  # ITU T.416: indexed
        colour = codes[place + 1]
        return (colour if colour <= 255 else None), place + 2  # noqa: PLR2004  # the palette's last
    if mode == 2 and place + 3 < len(codes):  # noqa: PLR2004  # ITU T.416: RGB
        red, green, blue = (min(part, 255) for part in codes[place + 1 : place + 4])
        return nearest_colour(red, green, blue), place + 4
    return None, len(codes)


CUBE_LEVELS = (0, 95, 135, 175, 215, 255)


def nearest_colour(red: int, green: int, blue: int) -> int:
    """The nearest of the palette's cube and greys (16 to 255)."""
    wanted = (red, green, blue)
    steps = [_nearest_level(part) for part in wanted]
    grey = max(0, min(23, round((sum(wanted) / 3 - 8) / 10)))
    cube_distance = sum((CUBE_LEVELS[step] - part) ** 2 for step, part in zip(steps, wanted, strict=True))
    grey_distance = sum((8 + 10 * grey - part) ** 2 for part in wanted)
    if grey_distance < cube_distance:
        return 232 + grey
    return 16 + 36 * steps[0] + 6 * steps[1] + steps[2]


def _nearest_level(part: int) -> int:
    distances = [abs(level - part) for level in CUBE_LEVELS]
    return distances.index(min(distances))


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log.

    Attributes:
        html: Safe: escaped text in ``<span class>``.
        group: Whether it begins a group: the ``+ command`` line of the sandbox, or a ``::group::`` of the command.
    """

    html: str
    group: bool = False


_SPECIAL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]|^(?:::|##)")
_GROUP = re.compile(r"\x1b\[36m\+ |(?:::group::|##\[group\])")
_GROUP_MARK = re.compile(r"::group::|##\[group\]|(?:::endgroup::|##\[endgroup\])\s*\Z")


def render_line(text: str, style: Style) -> tuple[Line, Style]:
    """One line (without its line feed) that begins in ``style``, and the style after it.

    A carriage return begins the line again, as a progress bar does: what was written last is shown.
    """
    if style is PLAIN and len(text) <= LINE_CHARACTERS_MAX and _SPECIAL.search(text) is None:
        return Line(escape(text, quote=False)), style
    group = _GROUP.match(text) is not None
    mark = _GROUP_MARK.match(text)
    if mark:
        text = text[mark.end() :]
    pieces: list[str] = []
    left = LINE_CHARACTERS_MAX
    shown = _after_last_return(text)
    for start, piece, at in _pieces(text, style):
        style = at
        piece_shown = piece[max(0, shown - start) :][: max(0, left)]
        left -= len(piece_shown)
        if piece_shown:
            names = classes(style)
            safe = escape(piece_shown, quote=False)
            pieces.append(f'<span class="{names}">{safe}</span>' if names else safe)
    if left <= 0:
        pieces.append('<span class="more">… the line goes on; see the raw log</span>')
    return Line("".join(pieces), group), style


def _after_last_return(text: str) -> int:
    """Where what is visible begins: after the last carriage return that has text behind it."""
    return text.rstrip("\r").rfind("\r") + 1


def _pieces(text: str, style: Style) -> Iterator[tuple[int, str, Style]]:
    """Cuts at control sequences: ``(start, text, style)``; the last one may be empty and carries the final style."""
    place = 0
    for match in _SEQUENCE.finditer(text):
        if match.start() > place:
            yield place, text[place : match.start()], style
        if match["sgr"] is not None:
            style = apply_sgr(style, match["sgr"])
        place = match.end()
    yield place, text[place:], style


ROWS_IN_PART = 200


def draw_rows(lines: Sequence[Line], step: str, first_line: int) -> tuple[Markup, ...]:
    """Numbered rows in parts, as ``static/log.js`` draws them; made here because a template takes twice as long."""
    name = escape(step)
    parts = []
    for start in range(0, len(lines), ROWS_IN_PART):
        rows = [
            f'<div class="row{" group" if line.group else ""}" id="{name}-L{number}">'
            f'<a href="#{name}-L{number}">{number}</a><span>{line.html}</span></div>'
            for number, line in enumerate(lines[start : start + ROWS_IN_PART], first_line + start)
        ]
        parts.append(Markup(f'<div class="part">{"".join(rows)}</div>'))  # noqa: S704  # every text in it is escaped
    return tuple(parts)


def render_lines(text: str, style: Style = PLAIN) -> tuple[list[Line], Style]:
    """Every line of ``text``; a last line without a line feed is one too, an empty one is not."""
    lines: list[Line] = []
    rows = text.split("\n")
    if rows[-1] == "":
        rows.pop()
    for row in rows:
        line, style = render_line(row, style)
        lines.append(line)
    return lines, style
