"""An event that a worker waits for between its turns, and not for long."""

import asyncio


class Wake:
    """Set by anybody, waited for by one task, at most so long.

    What ``asyncio.timeout`` around ``asyncio.Event`` does, without cancelling the task and three exceptions each time
    that nothing comes: that is what happens nearly always, several times a second.
    """

    __slots__ = ("_is_set", "_waiter")

    def __init__(self) -> None:
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None

    def is_set(self) -> bool:
        """Tell whether it was set since it was last cleared."""
        return self._is_set

    def set(self) -> None:
        """Have whoever waits go on, and nobody wait until it is cleared."""
        self._is_set = True
        _settle(self._waiter)

    def clear(self) -> None:
        """Have the next one wait again."""
        self._is_set = False

    async def comes(self, within_s: float) -> bool:
        """Tell whether it is set within so many seconds, having waited for it; at once if it is."""
        if self._is_set:
            return True
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = loop.call_later(max(within_s, 0.0), _settle, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None
        return self._is_set


def _settle(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
