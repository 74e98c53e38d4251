"""Who may change the orders of a symbol: one at a time, and now and then somebody who cannot wait."""

import asyncio
from types import TracebackType


class ChangeLock:
    """An ``asyncio.Lock`` that can be taken without waiting, too, where nobody holds it or waits for it."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._waiting = 0

    def locked(self) -> bool:
        """Tell whether somebody holds it."""
        return self._lock.locked()

    async def acquire(self) -> None:
        """Hold it, in the order of asking."""
        self._waiting += 1
        try:
            await self._lock.acquire()
        finally:
            self._waiting -= 1

    def take(self) -> bool:
        """Hold it at once and return True, unless somebody holds it or waits for it."""
        if self._waiting or self._lock.locked():
            return False
        try:
            self._lock.acquire().send(None)  # a lock that nobody holds or waits for is had without waiting
        except StopIteration:
            return True
        raise AssertionError("unreachable: nobody held it")

    def release(self) -> None:
        """Hold it no longer."""
        self._lock.release()

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        self.release()
