import pytest

from domain.access.identities import RESERVED_NAMES, check_user_name
from domain.errors import InvalidInput


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "a b", "ü", "a" * 40, "a\n", *sorted(RESERVED_NAMES)])
def test_a_name_that_breaks_a_rule_or_is_an_address_of_ours_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be called"):
        check_user_name(name)


@pytest.mark.parametrize("name", ["a", "admin", "a-b", "a1", "a" * 39])
def test_plain_names_are_fine(name: str) -> None:
    assert check_user_name(name) == name
