import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.pages.ansi import LINE_CHARACTERS_MAX, PLAIN, apply_sgr, draw_rows, render_line, render_lines
from api.pages.frame import STATIC
from api.pages.palette import PAGE, colour, contrast, readable, stylesheet

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "ansi_cases.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_line_is_drawn_as_the_table_says(case: dict[str, Any]) -> None:
    line, _ = render_line(case["text"], PLAIN)
    assert (line.html, line.group) == (case["html"], case["group"])


@given(st.text(st.characters(codec="utf-8", exclude_characters="\n")))
def test_nothing_of_a_log_becomes_markup(text: str) -> None:
    html = render_line("\x1b[31m" + text, PLAIN)[0].html
    assert "<" not in re.sub(r'</?span(?: class="[a-z0-9 ]+")?>', "", html)
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", html)


@given(st.text(st.sampled_from("\x1b[]0;138:5m2ax\r\n+:grou")))
def test_a_style_survives_as_its_sequence(text: str) -> None:
    _, style = render_lines(text)
    assert apply_sgr(PLAIN, style.sequence() or "0") == style


def test_a_colour_goes_on_in_the_next_line() -> None:
    lines, style = render_lines("\x1b[31mone\ntwo\x1b[0m\nthree")
    assert [line.html for line in lines] == ['<span class="f1">one</span>', '<span class="f1">two</span>', "three"]
    assert style == PLAIN


def test_a_very_long_line_is_cut_and_says_so() -> None:
    line, _ = render_line("x" * (LINE_CHARACTERS_MAX + 1), PLAIN)
    assert "see the raw log" in line.html
    assert line.html.count("x") == LINE_CHARACTERS_MAX


def test_a_hostile_line_takes_linear_time() -> None:
    for text in ("\x1b" * 200_000, "\x1b]" * 100_000, "\x1b[" + "1;" * 100_000, "\r" * 200_000, "\x1b[38;5m" * 30_000):
        render_line(text, PLAIN)


def test_rows_are_numbered_in_parts() -> None:
    lines, _ = render_lines("a\n" * 201)
    first, second = draw_rows(lines, "build", 1000)
    assert first.startswith('<div class="part"><div class="row" id="build-L1000"><a href="#build-L1000">1000</a>')
    assert 'id="build-L1200"' in second


def test_the_style_sheet_is_the_one_of_the_palette() -> None:
    assert (STATIC / "ansi.css").read_text() == stylesheet()


def test_every_colour_can_be_read_on_the_logs_background() -> None:
    assert all(contrast(readable(colour(number)), PAGE) >= 4.5 for number in range(256))
