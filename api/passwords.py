"""Passwords: argon2id, in threads, a few at a time."""

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from api.common_passwords import common_passwords
from domain.access.passwords import PasswordRules, check_new_password, normal
from domain.errors import TooManyRequests

T = TypeVar("T")

HASHES_AT_ONCE = 2
# Who waits costs no memory to speak of. On two idle cores the last of so many waits some 4 s; for more, a refusal that
# says when to come again is the better answer.
WAITING_MAX = 128
RETRY_AFTER_SECONDS = 2


class Passwords:
    """Hashes and checks passwords without stalling the event loop or filling the memory.

    One argon2id hash takes 64 MiB and some 50 ms of a core (RFC 9106, second recommended option), so only a few run
    at a time; when many wait already the request is refused instead of queued without end.

    Args:
        hasher: With the cost parameters of the settings; a hash that was made with others is renewed at the next
            sign-in (``outdated``).
        rules: What new passwords must be like.
    """

    def __init__(self, hasher: PasswordHasher | None = None, rules: PasswordRules | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self.rules = rules or PasswordRules()
        self._slots = asyncio.Semaphore(HASHES_AT_ONCE)
        self._waiting = 0
        self._decoy: str | None = None

    async def hash(self, password: str) -> str:
        """The argon2id hash, with salt and parameters in it."""
        return await self._in_thread(self._hasher.hash, normal(password))

    async def hash_new(self, password: str, *, about: Iterable[str] = ()) -> str:
        """The hash of a password that somebody chose, if it may be set.

        Args:
            about: What is known about the person: login name, e-mail address, display name.

        Raises:
            WeakPassword: It is too easy to guess; the message says why.
            TooManyRequests: Too many passwords are being hashed.
        """
        return await self.hash(check_new_password(password, self.rules, common_passwords(), about=about))

    async def matches(self, password: str, password_hash: str | None) -> bool:
        """Whether ``password`` is the one of ``password_hash``.

        Args:
            password: As typed.
            password_hash: ``None`` for an identity that does not exist: the same work is done, so that the time
                does not tell which names exist.

        Raises:
            InvalidInput: It is no text.
            TooManyRequests: Too many sign-ins are being checked.
        """
        password = normal(password)
        if password_hash is None:
            if self._decoy is None:
                self._decoy = await self.hash("no password matches this, because the answer is not looked at")
            await self._in_thread(self._verify, self._decoy, password)
            return False
        return await self._in_thread(self._verify, password_hash, password)

    def outdated(self, password_hash: str) -> bool:
        """Whether it was made with other cost parameters than those of today."""
        return self._hasher.check_needs_rehash(password_hash)

    def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _in_thread(self, function: Callable[..., T], *arguments: str) -> T:
        if self._waiting >= WAITING_MAX:
            raise TooManyRequests(
                "Too many passwords are being checked at the moment; nothing was changed. Try again shortly.",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        self._waiting += 1
        try:
            async with self._slots:
                return await asyncio.to_thread(function, *arguments)
        finally:
            self._waiting -= 1
