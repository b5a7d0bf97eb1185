import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.access.held import NOTHING, Held, Path, Version, held_by_role

NOW = datetime(2026, 1, 1, tzinfo=UTC)
COUNTS = st.integers(min_value=0, max_value=2**63 - 1)
PATHS = st.builds(Path, st.text(max_size=20), st.lists(st.uuids(), max_size=3).map(tuple))
HELD = st.builds(
    Held,
    paths=st.dictionaries(st.text(max_size=20), PATHS, max_size=5),
    until=st.none() | st.datetimes(timezones=st.just(UTC)),
    version=st.builds(Version, COUNTS, COUNTS),
)


@pytest.mark.parametrize("text", ["", "1", "1.2.3", "a.b", "1.", "1 2"])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no version of rights"):
        Version.parse(text)


@given(COUNTS, COUNTS)
def test_a_version_reads_what_it_writes(epoch: int, number: int) -> None:
    assert Version.parse(str(Version(epoch, number))) == Version(epoch, number)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        b'{"version":"1.1","until":null,"paths":{"project:read":[]}}',
        b'{"version":"1.1","until":null,"paths":{"project:read":["owner","nobody"]}}',
        b'{"version":"1.1","until":7,"paths":{}}',
        b'{"version":"","until":null,"paths":{}}',
    ],
)
def test_what_is_not_what_somebody_holds_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="not what somebody holds"):
        Held.from_json(content)


@given(HELD)
def test_json_keeps_all_of_it(held: Held) -> None:
    assert Held.from_json(held.to_json()) == held
    json.loads(held.to_json())


def test_it_is_good_for_its_version_only_and_until_something_in_it_ends() -> None:
    held = Held(held_by_role("viewer", frozenset({"project:read"})).paths, NOW, Version(3, 7))
    before = NOW - timedelta(microseconds=1)
    assert held.is_good(Version(3, 7), before)
    assert not held.is_good(Version(3, 7), NOW)
    for other in (Version(3, 8), Version(4, 7), Version(3, 6), Version(7, 3), Version()):
        assert not held.is_good(other, before)


def test_what_does_not_end_by_itself_is_good_for_ever() -> None:
    assert NOTHING.is_good(Version(), NOW)
    assert Path("owner").lenders == ()
    assert Held({"a:b": Path("lent", (UUID(int=1),))}).permissions == {"a:b"}
