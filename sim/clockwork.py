"""What makes the exchange tick: it is advanced whenever something is due, and the event loop never starves."""

import asyncio
from typing import Protocol

from utils.clock import Clock

GRANULARITY_MS = 1
# A request can make something due earlier than what drive() waits for (a countdown, say), so no nap is longer
# than this.
MAX_NAP_MS = 50
# So much exchange time is caught up in one go; then others get their turn.
SLICE_MS = 10


class Advanceable(Protocol):
    """The part of the exchange that the clockwork needs."""

    def advance(self, now_ms: int) -> None:
        """Everything due up to `now_ms` has happened."""

    def next_due_ms(self) -> int | None:
        """When `advance` next has something to do; None if never."""


async def drive(exchange: Advanceable, clock: Clock) -> None:
    """The exchange has been advanced at each of its due times until nothing was due, or until cancelled.

    It is advanced in steps of at least a millisecond. Being late (after a busy stretch or a suspended
    machine) it is caught up in slices, between which the event loop runs.
    """
    while (due_ms := exchange.next_due_ms()) is not None:
        now_ms = clock.time_ms()
        if due_ms > now_ms:
            await asyncio.sleep(min(due_ms - now_ms, MAX_NAP_MS) / 1000)
            continue
        reached_ms = min(now_ms, due_ms + SLICE_MS)
        exchange.advance(reached_ms)
        await asyncio.sleep(0 if reached_ms < now_ms else GRANULARITY_MS / 1000)
