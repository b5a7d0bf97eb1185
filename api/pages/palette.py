"""The 256 terminal colours as a style sheet: ``static/ansi.css`` is what this module writes.

The log's background is dark in both themes. A text colour that could not be read on it is made lighter until its
contrast is 4.5 to 1 (WCAG 2.2, 1.4.3); where the command set a background too, it gets the colours that it asked for.
"""

import sys

from api.pages.ansi import CUBE_LEVELS

PAGE = (0x12, 0x16, 0x1B)
CONTRAST_MIN = 4.5
SIXTEEN = bytes.fromhex(
    "20262d f47067 6bc46d daaa3f 6cb6ff d2a8ff 56d4dd d7dde3 7d8894 ff938a 8ddb8c eac55f 96d0ff e9cdff 8ae5ec ffffff"
)

Colour = tuple[int, int, int]

_FIXED = """\
/* Made by `python -m api.pages.palette > api/static/ansi.css`; a test keeps both the same. */
.ab{font-weight:700}.ad{opacity:.75}.ai{font-style:italic}.au{text-decoration:underline}.as{text-decoration:line-through}
.au.as{text-decoration:underline line-through}
.fi{color:#12161b}.ki{background:#d7dde3}
"""


def colour(number: int) -> Colour:
    """The colour of a number of the palette: 16 of our own, the 6x6x6 cube, 24 greys."""
    if number < 16:  # noqa: PLR2004  # where the cube begins
        red, green, blue = SIXTEEN[3 * number : 3 * number + 3]
        return red, green, blue
    if number < 232:  # noqa: PLR2004  # where the greys begin
        cube = number - 16
        return CUBE_LEVELS[cube // 36], CUBE_LEVELS[cube // 6 % 6], CUBE_LEVELS[cube % 6]
    grey = 8 + 10 * (number - 232)
    return grey, grey, grey


def contrast(one: Colour, other: Colour) -> float:
    """The contrast ratio of two colours (WCAG 2.2)."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(of: Colour) -> float:
    channels = [part / 255 for part in of]
    red, green, blue = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]  # noqa: PLR2004  # WCAG
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def readable(wanted: Colour) -> Colour:
    """The colour, mixed with as much white as it needs to be read on the log's background."""
    for white in range(0, 101, 2):
        red, green, blue = (round(part + (255 - part) * white / 100) for part in wanted)
        if contrast((red, green, blue), PAGE) >= CONTRAST_MIN:
            return red, green, blue
    return 255, 255, 255


def stylesheet() -> str:
    """The whole of ``static/ansi.css``."""
    rules = [_FIXED]
    for number in range(256):
        asked, shown = colour(number), readable(colour(number))
        rules.append(f".f{number}{{color:{_hex(shown)}}}")
        if shown != asked:
            rules.append(f".k.f{number}{{color:{_hex(asked)}}}")
        rules.append(f".k{number}{{background:{_hex(asked)}}}\n")
    return "".join(rules)


def _hex(of: Colour) -> str:
    return "#" + bytes(of).hex()


if __name__ == "__main__":
    sys.stdout.write(stylesheet())
