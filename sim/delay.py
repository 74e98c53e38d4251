"""The time a message spends on the wire, one way."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_TIMER_TOLERANCE_S = 1e-6


class DelayLine(Generic[T]):
    """Items put in come out at `deliver` in the same order, each `latency_ms` later on the running loop's time.

    `latency_ms` is a number, or is asked for the latency of each item; an item that would overtake the one before
    arrives with it. Without latency they come out at once, inside `put`.
    """

    __slots__ = ("__weakref__", "_deliver", "_draw_ms", "_in_flight", "_latency_s", "_loop", "_timer")

    def __init__(self, latency_ms: float | Callable[[], float], deliver: Callable[[T], None]) -> None:
        self._draw_ms = latency_ms if callable(latency_ms) else None
        self._latency_s = 0.0 if callable(latency_ms) else latency_ms / 1000
        self._deliver = deliver
        self._in_flight: deque[tuple[float, T]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._in_flight)

    def put(self, item: T) -> None:
        """`item` is on its way, behind all that were put before."""
        draw_ms, latency_s, in_flight = self._draw_ms, self._latency_s, self._in_flight
        if draw_ms is None and not latency_s:
            self._deliver(item)
            return
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        due_s = loop.time() + (latency_s if draw_ms is None else draw_ms() / 1000)
        if in_flight and in_flight[-1][0] > due_s:
            due_s = in_flight[-1][0]
        in_flight.append((due_s, item))
        if self._timer is None:
            self._timer = loop.call_at(due_s, self._arrive, loop)

    def clear(self) -> None:
        """Everything on its way is lost."""
        self._in_flight.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arrive(self, loop: asyncio.AbstractEventLoop) -> None:
        """All that is due by now comes out; what a delivery puts in waits for a timer of its own."""
        self._timer = None
        in_flight, deliver = self._in_flight, self._deliver
        arrived_by_s = loop.time() + _TIMER_TOLERANCE_S
        try:
            while in_flight and in_flight[0][0] <= arrived_by_s:
                deliver(in_flight.popleft()[1])
        finally:
            if in_flight and self._timer is None:
                self._timer = loop.call_at(in_flight[0][0], self._arrive, loop)
