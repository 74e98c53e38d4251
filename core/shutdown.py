"""The wish to stop, and how urgent it is."""

import asyncio


class StopRequest:
    """Set by signals, by a duration that has passed, or by a worker that gave up. The second request hurries."""

    def __init__(self) -> None:
        self.reason = ""
        self.failed = False
        self._wanted = asyncio.Event()
        self._hurry = asyncio.Event()

    @property
    def is_wanted(self) -> bool:
        """Tell whether the daemon shall stop."""
        return self._wanted.is_set()

    def ask(self, reason: str, *, failed: bool = False) -> None:
        """Have the daemon stop; asked again, have it hurry. ``failed`` says that it stops because of a fault."""
        if self._wanted.is_set():
            self._hurry.set()
            return
        self.reason, self.failed = reason, failed
        self._wanted.set()

    async def wanted(self) -> None:
        """Wait until the daemon shall stop."""
        await self._wanted.wait()

    async def hurried(self) -> None:
        """Wait until the stop was asked for a second time."""
        await self._hurry.wait()
