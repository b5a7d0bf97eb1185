"""Who in this process listens to which channel."""

import asyncio


class Listener:
    """``Subscription`` as an event that stays set until somebody waited for it."""

    def __init__(self) -> None:
        self._hinted = asyncio.Event()

    def hint(self) -> None:
        """Wakes whoever waits, now or next."""
        self._hinted.set()

    async def wait(self, *, timeout_seconds: float) -> bool:
        """See ``Subscription.wait``."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._hinted.wait()
        except TimeoutError:
            return False
        self._hinted.clear()
        return True


class Audience:
    """The listeners of each channel; channels without one take no memory."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[Listener]] = {}

    @property
    def channels(self) -> list[str]:
        """Those that somebody listens to."""
        return list(self._listeners)

    def join(self, channel: str) -> Listener:
        """Adds a listener."""
        listener = Listener()
        self._listeners.setdefault(channel, set()).add(listener)
        return listener

    def leave(self, channel: str, listener: Listener) -> bool:
        """Removes a listener.

        Returns:
            Whether nobody listens to the channel any more.
        """
        listeners = self._listeners[channel]
        listeners.discard(listener)
        if listeners:
            return False
        del self._listeners[channel]
        return True

    def hint(self, channel: str) -> None:
        """Wakes the listeners of one channel."""
        for listener in self._listeners.get(channel, ()):
            listener.hint()
