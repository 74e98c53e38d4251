"""The steps of a recovery: each has a deadline, and says what it is, and for how long, while it lasts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from core.gate import Gate
from utils.clock import Clock
from utils.errors import OutcomeUnknown

RECONCILE_KEY = "reconcile"


class RecoverySteps:
    """Keeps the account's gate closed from ``close`` to ``open``, with the present step as the reason.

    The reason reads "recovering: reading the position (3 s)"; ``show`` has the seconds be those of now.
    """

    def __init__(self, gate: Gate, clock: Clock) -> None:
        self._gate = gate
        self._clock = clock
        self._is_closed = False
        self._what = ""
        self._since_ns = 0

    def close(self, what: str) -> bool:
        """Have the gate closed, with this as what is waited for; return whether it was open before."""
        was_open, self._is_closed = not self._is_closed, True
        self._become(what)
        return was_open

    def open(self) -> None:
        """Have the gate open, as far as recovery is concerned."""
        self._is_closed = False
        self._gate.open(RECONCILE_KEY)

    def show(self) -> None:
        """Have the reason tell for how long the present step has been taking."""
        if not self._is_closed:
            return
        elapsed_s = (self._clock.monotonic_ns() - self._since_ns) // 1_000_000_000
        text = f"recovering: {self._what}"
        self._gate.close(RECONCILE_KEY, f"{text} ({elapsed_s} s)" if elapsed_s else text)

    def _become(self, what: str) -> None:
        if what != self._what:
            self._what, self._since_ns = what, self._clock.monotonic_ns()
        self.show()

    @asynccontextmanager
    async def step(self, what: str, deadline_s: float) -> AsyncIterator[None]:
        """Take a step, which has to be done within its deadline. Raises OutcomeUnknown if it is not."""
        self._become(what)
        limit = asyncio.timeout(deadline_s)
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise OutcomeUnknown(f"{what} took longer than {deadline_s:g} s") from None
