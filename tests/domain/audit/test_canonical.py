from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.audit.canonical import canonical, is_canonical, moment, plain, utc

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


@pytest.mark.parametrize("value", [1.5, float("nan"), 2**53, {"a": 0.1}, [object()], {"a": {1, 2}}, b"bytes"])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"canonical form|not exact"):
        canonical(value)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("text", ["", "{", '{"b":1,"a":2}', '{"a": 1}', '{"a":1}\n', "1.0", "1e2", '"\\u0041"', "NaN"])
def test_another_way_of_writing_the_same_is_not_canonical(text: str) -> None:
    assert not is_canonical(text)


def test_rfc_8785s_sorting_example() -> None:
    # RFC 8785, 3.2.3: by UTF-16 code units, so the emoji (a surrogate pair) comes before U+FB33.
    keys = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7}
    assert canonical(keys) == '{"\\r":2,"1":4,"\u0080":6,"\u00f6":7,"\u20ac":1,"\U0001f600":5,"\ufb33":3}'
    assert canonical('\u20ac$\u000f\nA\'B"\\"/') == '"\u20ac$\\u000f\\nA\'B\\"\\\\\\"/"'


@given(JSON)
def test_every_json_value_has_one_form_that_is_canonical(value: object) -> None:
    text = canonical(plain(value))
    assert is_canonical(text)


class Colour(StrEnum):
    RED = "red"


def test_what_callers_hand_over_becomes_json() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=2)))
    assert plain(
        {"id": UUID(int=7), "at": at, "kind": Colour.RED, "of": frozenset({"b", "a"}), "n": (1, 2.5), 3: 2**60}
    ) == {
        "id": str(UUID(int=7)),
        "at": "2026-01-02T01:04:05.000006Z",
        "kind": "red",
        "of": ["a", "b"],
        "n": [1, "2.5"],
        "3": str(2**60),
    }
    assert plain("a\0b\ud800") == "a\ufffdb\ufffd"


def test_a_moment_is_read_as_it_was_written() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert moment(utc(at)) == at
    with pytest.raises(ValueError, match="match format"):
        moment("2026-01-02T03:04:05Z")
