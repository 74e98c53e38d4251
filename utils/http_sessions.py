"""Connections that are used again, until one of them is found dead: then none of its age is trusted any more."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp


class HttpSessions:
    """The session whose idle connections the next request may take, and those on which only old requests still wait.

    Where nothing gets through any more and no connection says so (a machine that slept, a router that forgot), all
    idle connections are as dead as the one on which an answer did not come. Each would cost another request its time.
    """

    def __init__(self, make: Callable[[], aiohttp.ClientSession]) -> None:
        self._make = make
        self.present: aiohttp.ClientSession | None = None
        self._requests: dict[aiohttp.ClientSession, int] = {}

    @asynccontextmanager
    async def one(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Give a session for one request; once a request ran out of time, the next ones have another session."""
        session = self.present = self.present or self._make()
        self._requests[session] = self._requests.get(session, 0) + 1
        try:
            yield session
        except TimeoutError:
            if self.present is session:
                self.present = None
            raise
        finally:
            self._requests[session] -= 1
            if self.present is not session and not self._requests[session]:
                del self._requests[session]
                await session.close()

    async def close(self) -> None:
        """Release all connections; a request that still waits on one ends without an answer."""
        sessions = {*self._requests, *([self.present] if self.present is not None else [])}
        self.present = None
        for session in sessions:
            await session.close()
