"""The signals that end a program of the exchange, from its first lines to its last.

The event loop's own handlers would not do: closing the loop puts the system's back, which kill a program that has
ended well on its last few lines.
"""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_untold: list[int] = []
"""Signals that came when nobody could take them: one during the start is a stop, one after the end changes nothing."""


def catch() -> None:
    """Signals to stop are kept until ``signals_go_to`` can tell of them."""
    for number in STOP_SIGNALS:
        signal.signal(number, lambda number, _frame: _untold.append(number))


def ignore() -> None:
    """Signals to stop change nothing any more: the program is on its way out with its exit code."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def signals_go_to(stop: Callable[[], None]) -> Iterator[None]:
    """``stop`` is called on the running event loop for each signal to stop, the first untold one included."""
    loop = asyncio.get_running_loop()

    def tell(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stop)

    before = {number: signal.signal(number, tell) for number in STOP_SIGNALS}
    if _untold:
        stop()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
