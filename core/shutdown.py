"""The wish to stop, and how urgent it is."""

import asyncio


class StopRequest:
    """Set by signals, by a duration that has passed, or by a worker that gave up. The operator's second one hurries."""

    def __init__(self) -> None:
        self.reason = ""
        self.failed = False
        self._wanted = asyncio.Event()
        self._hurry = asyncio.Event()

    @property
    def is_wanted(self) -> bool:
        """Tell whether the daemon shall stop."""
        return self._wanted.is_set()

    def ask(self, reason: str) -> None:
        """Have the daemon stop, because its operator wants it; on a stop that is under way, have it hurry."""
        if self._wanted.is_set():
            self._hurry.set()
        else:
            self.want(reason)

    def want(self, reason: str, *, failed: bool = False) -> None:
        """Have the daemon stop for a reason of its own; ``failed`` says that this is a fault. It hurries no stop."""
        self.failed = self.failed or failed
        if not self._wanted.is_set():
            self.reason = reason
            self._wanted.set()

    async def wanted(self) -> None:
        """Wait until the daemon shall stop."""
        await self._wanted.wait()

    async def hurried(self) -> None:
        """Wait until the operator asks for a stop that is under way."""
        await self._hurry.wait()
