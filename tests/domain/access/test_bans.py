from datetime import timedelta

import pytest

from domain.access.bans import BanPolicy, address_subject, name_subject, network_of

KEY = b"k" * 32


@pytest.mark.parametrize("text", ["", "example.org", "300.1.1.1", "2001:db8::/64"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not appear to be"):
        network_of(text)


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
    ],
)
def test_one_customer_is_one_address(ip: str, network: str) -> None:
    assert network_of(ip) == network
    assert address_subject(ip).text == network


def test_a_name_is_kept_as_a_keyed_hash_that_depends_on_what_is_proven() -> None:
    subjects = {
        name_subject(KEY, "sign_in", "ada").text,
        name_subject(KEY, "second_factor", "ada").text,
        name_subject(KEY, "sign_in", "Ada").text,
        name_subject(b"x" * 32, "sign_in", "ada").text,
    }
    assert len(subjects) == 4
    assert all(len(text) == 64 and "ada" not in text for text in subjects)
    assert name_subject(KEY, "sign_in", "\ud800").kind == "name"


def test_each_ban_is_twice_as_long_up_to_the_longest() -> None:
    policy = BanPolicy(ban_first=timedelta(minutes=1), ban_max=timedelta(minutes=5))
    assert [policy.ban(before).total_seconds() / 60 for before in (0, 1, 2, 3, 1000)] == [1, 2, 4, 5, 5]
