"""The one place where time is read.

Everything else receives a :class:`Clock`, so that the same code runs on the wall clock, and on the virtual clock of the
simulation. Waiting is asyncio's business (``asyncio.sleep``, ``asyncio.timeout``): a virtual-time loop moves those too.
"""

import time
from functools import partial
from typing import Protocol


class Clock(Protocol):
    """Wall time for timestamps, monotonic time for intervals. Never mix the two: the wall clock may be stepped."""

    def time_ms(self) -> int:
        """Return the wall clock in ms since the Unix epoch."""

    def monotonic_ns(self) -> int:
        """Return ns on a clock that never steps back; only differences mean anything."""


class SystemClock:
    """The clock of this machine."""

    monotonic_ns = staticmethod(
        partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME)
        if hasattr(time, "CLOCK_BOOTTIME")
        else time.monotonic_ns
    )
    """Returns ns on a clock that never steps back; only differences mean anything.

    Where the system can tell (Linux), it goes on while the machine is suspended, as the exchange does: what was known
    before is old then. The timers of asyncio, on ``time.monotonic``, do not: the two must not be compared.
    Source: clock_gettime(2).
    """

    def time_ms(self) -> int:
        """Return the wall clock in ms since the Unix epoch."""
        return time.time_ns() // 1_000_000


def pause(seconds: float) -> None:
    """Have the whole process stand still, event loop and all: only for milliseconds, and where nothing runs yet."""
    time.sleep(seconds)


class ServerClock:
    """The exchange's clock as this machine knows it: the local clock plus a measured offset.

    ``offset_ms`` is exchange time minus local time. The sample with the shortest round trip wins, because half the
    round trip bounds the error of a sample.

    Source: binance-futures timing security, ``GET /fapi/v1/time``.
    """

    STEP_MS = 100
    """From here on it is a step of the wall clock, or a pause of one of the two, and not the reading of them."""

    __slots__ = ("_clock", "_wall_ahead_ms", "offset_ms", "round_trip_ms")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wall_ahead_ms = self._ahead_ms()
        self.offset_ms = 0
        self.round_trip_ms: int | None = None

    def _ahead_ms(self) -> int:
        return self._clock.time_ms() - self._clock.monotonic_ns() // 1_000_000

    def stepped_ms(self) -> int:
        """Return by how much the local clock has been set since the offset was measured, against monotonic time."""
        return self._clock.time_ms() - self._clock.monotonic_ns() // 1_000_000 - self._wall_ahead_ms

    def has_stepped(self) -> bool:
        """Tell whether the offset is not to be relied on, because the local clock was set since."""
        return abs(self.stepped_ms()) >= self.STEP_MS

    def time_ms(self) -> int:
        """Return the exchange's time in ms since the epoch, as well as it is known."""
        return self._clock.time_ms() + self.offset_ms

    def restart(self) -> None:
        """Forget the quality of the old sample, so that the next one is taken even if its round trip was longer."""
        self.round_trip_ms = None

    def learn(self, *, sent_ms: int, received_ms: int, server_ms: int) -> None:
        """Take a sample: local times of sending and receiving, and the exchange's time in the reply (all epoch ms).

        A sample during which the local clock was set back is none: it would look like the best there can be.
        """
        round_trip_ms = received_ms - sent_ms
        if round_trip_ms >= 0 and (self.round_trip_ms is None or round_trip_ms <= self.round_trip_ms):
            self.round_trip_ms = round_trip_ms
            self.offset_ms = server_ms - (sent_ms + round_trip_ms // 2)
            self._wall_ahead_ms = self._ahead_ms()
