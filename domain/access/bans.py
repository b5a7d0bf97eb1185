"""How many wrong proofs are taken, and for how long nobody may try afterwards.

Failures are counted by the name that was typed and by the address that they come from. For its name an attempt is
counted *before* it is made, and forgotten when it succeeds: a hundred guesses at the same time are a hundred guesses.
For its address it is counted when it has failed, because an office may sign in at the same minute; what one address
can have under way is bounded elsewhere (``api/passwords.py``). What is typed as a name is kept as a keyed hash only,
whether or not it is anybody's: people type passwords there.
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Literal

SubjectKind = Literal["address", "name"]
Proof = Literal["sign_in", "second_factor", "mail"]
"""What is proven: each is counted by itself, so that a right password does not give new tries at the second factor.

``mail`` proves nothing: it counts mails to somebody who may not want them.
"""
PROOFS: tuple[Proof, ...] = ("sign_in", "second_factor", "mail")

_NETWORK_BITS = 64
_DOUBLINGS_MAX = 20


@dataclass(frozen=True, slots=True)
class BanPolicy:
    """The operator's numbers.

    Attributes:
        failures_of_name_max: So many wrong proofs for one name, then a ban. Small: a name is one person's.
        failures_of_address_max: The same for one address. Larger: an office shares one.
        window: After so long without a failure they are counted from new.
        ban_first: The first ban; each further one is twice as long ...
        ban_max: ... up to this. It also bounds for how long a stranger can lock somebody out of signing in.
        remembered: After so long without a failure bans begin with the shortest again.
    """

    failures_of_name_max: int = 5
    failures_of_address_max: int = 30
    window: timedelta = timedelta(minutes=10)
    ban_first: timedelta = timedelta(minutes=1)
    ban_max: timedelta = timedelta(hours=1)
    remembered: timedelta = timedelta(days=1)

    def failures_max(self, kind: SubjectKind) -> int:
        """Failures that lead to a ban."""
        return self.failures_of_name_max if kind == "name" else self.failures_of_address_max

    def ban(self, bans_before: int) -> timedelta:
        """How long the next ban lasts after so many before it."""
        doubled: timedelta = self.ban_first * 2 ** min(bans_before, _DOUBLINGS_MAX)
        return min(doubled, self.ban_max)


@dataclass(frozen=True, slots=True)
class Subject:
    """What failures are counted by: a hashed name, or an address in clear."""

    kind: SubjectKind
    text: str


def name_subject(key: bytes, proof: Proof, name: str) -> Subject:
    """The subject of a name (for mails: of an e-mail address) as it was typed."""
    typed = f"ban/{proof}/{name}".encode(errors="backslashreplace")
    return Subject("name", hmac.new(key, typed, hashlib.sha256).hexdigest())


def address_subject(ip: str) -> Subject:
    """The subject of an IP address: itself, or the /64 of an IPv6 address, which is what one customer is given.

    Raises:
        ValueError: It is no address.
    """
    return Subject("address", network_of(ip))


def network_of(ip: str) -> str:
    """What counts as one address: see ``address_subject``."""
    address = ip_address(ip)
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            return str(IPv6Network((int(address) >> _NETWORK_BITS << _NETWORK_BITS, _NETWORK_BITS)))
        return str(address.ipv4_mapped)
    return str(address)
