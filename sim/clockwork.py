"""What makes the exchange tick: it is advanced whenever something is due, and the event loop never starves."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from utils.clock import Clock

GRANULARITY_MS = 1
# A market that comes from outside can have an event at any moment, so no nap is longer than this.
MAX_NAP_MS = 50
# So much exchange time is caught up in one go; then others get their turn.
SLICE_MS = 10


class Advanceable(Protocol):
    """The part of the exchange that the clockwork needs."""

    on_sooner: Callable[[], None]
    """Is called whenever something has become due earlier than what was due next: by a request, a fault, a stream."""

    def advance(self, now_ms: int) -> None:
        """Everything due up to `now_ms` has happened."""

    def next_due_ms(self) -> int | None:
        """When `advance` next has something to do; None if never."""


async def drive(exchange: Advanceable, clock: Clock, max_nap_ms: int = MAX_NAP_MS) -> None:
    """The exchange has been advanced at each of its due times until nothing was due, or until cancelled.

    It is advanced in steps of at least a millisecond. Being late (after a busy stretch or a suspended
    machine) it is caught up in slices, between which the event loop runs. `max_nap_ms` is after how long it is
    asked anew what is due: longer naps cost less where the market is known in advance.
    """
    clockwork = _Clockwork(exchange, clock, max_nap_ms)
    try:
        exchange.on_sooner = clockwork.hasten
        clockwork.turn()
        await clockwork.stopped
    finally:
        clockwork.stop()


class _Clockwork:
    """Advances the exchange by timers; waking a task each time would cost as much as the exchange's own work."""

    def __init__(self, exchange: Advanceable, clock: Clock, max_nap_ms: int) -> None:
        self._exchange = exchange
        self._clock = clock
        self._max_nap_ms = max_nap_ms
        self._naps_until_ms = 0
        """When the present nap ends, 0 outside of one."""
        self._loop = asyncio.get_running_loop()
        self._next_turn: asyncio.Handle | None = None
        self.stopped: asyncio.Future[None] = self._loop.create_future()

    def turn(self) -> None:
        """What is due has happened, and the next turn is set; a failure ends it all."""
        self._naps_until_ms = 0
        try:
            due_ms, now_ms = self._exchange.next_due_ms(), self._clock.time_ms()
            if due_ms is not None and due_ms <= now_ms:
                reached_ms = min(now_ms, due_ms + SLICE_MS)
                self._exchange.advance(reached_ms)
                if reached_ms < now_ms:
                    self._next_turn = self._loop.call_soon(self.turn)
                    return
                due_ms = self._exchange.next_due_ms()
        except Exception as error:  # noqa: BLE001  # it belongs to whoever awaits the end
            self._end(error)
            return
        if due_ms is None:
            self._end(None)
            return
        self._nap(due_ms, now_ms)

    def hasten(self) -> None:
        """A nap that would last beyond what has become due sooner ends then."""
        due_ms = self._exchange.next_due_ms()
        if due_ms is not None and due_ms < self._naps_until_ms and self._next_turn is not None:
            self._next_turn.cancel()
            self._nap(due_ms, self._clock.time_ms())

    def _nap(self, due_ms: int, now_ms: int) -> None:
        nap_ms = min(max(due_ms - now_ms, GRANULARITY_MS), self._max_nap_ms)
        self._naps_until_ms = now_ms + nap_ms
        self._next_turn = self._loop.call_later(nap_ms / 1000, self.turn)

    def stop(self) -> None:
        """There will be no further turn."""
        self._naps_until_ms = 0
        if self._next_turn is not None:
            self._next_turn.cancel()

    def _end(self, error: Exception | None) -> None:
        if self.stopped.done():
            return
        if error is None:
            self.stopped.set_result(None)
        else:
            self.stopped.set_exception(error)
