"""Signals to the process: to stop, and to halt. Imports next to nothing, because ``main.py`` needs it first of all."""

import _thread
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn, Protocol

_HANG_UP = (signal.SIGHUP,) if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else ()
"""A terminal that is closed ends what runs in it, unless that was begun with ``nohup``."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, *_HANG_UP)
HALT_SIGNAL = signal.SIGUSR1

_untold: list[int] = []
"""Signals that came when nobody could take them: one during the start is a stop, one after the end changes nothing."""


class Switch(Protocol):
    """What the signal to halt throws (``core.kill_switch``)."""

    on_throw: Callable[[], None]

    def throw(self, reason: str) -> None:
        """Have nothing leave from now on."""


def keep_early_signals() -> None:
    """Have signals that come before ``signals_go_to`` wait for it."""
    for number in (*STOP_SIGNALS, HALT_SIGNAL):
        signal.signal(number, lambda number, _frame: _untold.append(number))


def ignore_late_signals() -> None:
    """Have no signal change how the process ends: Python would put the system's handlers back, but not over these."""
    for number in (*STOP_SIGNALS, HALT_SIGNAL):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def signals_break_off() -> Iterator[None]:
    """Have a signal to stop, an untold one too, raise KeyboardInterrupt wherever the program is.

    For what leaves nothing behind, and may be at work for long without a turn of an event loop.
    """
    if any(number in STOP_SIGNALS for number in _untold):
        raise KeyboardInterrupt
    before = {number: signal.signal(number, _break_off) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _break_off(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _forget(_reason: str) -> None:
    """Note nothing."""


@contextmanager
def signals_go_to(
    ask: Callable[[str], None], switch: Switch | None = None, note: Callable[[str], None] = _forget
) -> Iterator[None]:
    """Have ``ask`` called on the event loop for each signal to stop, the first untold one included.

    The signal to halt throws the switch itself, whatever the event loop is doing, and has ``note`` called with the
    reason in a thread of its own: the loop may never turn again, and a disk that hangs must not hold it up. The rest
    follows on the loop. The loop's own handlers would not do: closing the loop puts the system's back, which kill a
    daemon that has stopped well on its last few lines.
    """
    import asyncio  # not before the early signals are kept

    loop = asyncio.get_running_loop()

    told: set[int] = set()

    def tell(number: int, _frame: FrameType | None) -> None:
        name = f"{signal.Signals(number).name} received"
        if number in _HANG_UP and number in told:
            return  # kernel and shell both tell of a closed terminal: the second one is no wish to hurry
        told.add(number)
        if number != HALT_SIGNAL:
            loop.call_soon_threadsafe(ask, name)
        elif switch is not None:
            switch.throw(name)
            loop.call_soon_threadsafe(lambda: switch.on_throw())
            with suppress(RuntimeError):  # no thread can be had
                # not threading's: its lock may be held by what the signal has interrupted
                _thread.start_new_thread(note, (name,))

    before = {number: signal.signal(number, tell) for number in (*STOP_SIGNALS, HALT_SIGNAL)}
    for numbers in (STOP_SIGNALS, (HALT_SIGNAL,)):
        for number in [number for number in _untold if number in numbers][:1]:
            tell(number, None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
