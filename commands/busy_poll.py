"""An event loop that never sleeps: a core of its own, for the time that waking up takes."""

import asyncio
import contextvars
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger("quant_pmm")

REHEARSE_EACH = 100
"""Turns of the loop in which nothing happened, from one rehearsal to the next: some 0.3 ms."""


class Awake:
    """What a loop that never sleeps does between its messages.

    ``rehearse`` is called now and then: it goes the way that the next message will have to go, and changes nothing.
    """

    def __init__(self) -> None:
        self.rehearse: Callable[[], None] = _nothing
        self._turns = 0

    def turn(self) -> None:
        """Rehearse if it is time; a rehearsal that fails is the last one."""
        self._turns += 1
        if self._turns < REHEARSE_EACH:
            return
        self._turns = 0
        try:
            self.rehearse()
        except Exception:  # it is for nothing but speed
            log.exception("rehearsing the next move failed; it is left off")
            self.rehearse = _nothing


def _nothing() -> None:
    """Nobody has anything to rehearse."""


@contextmanager
def awake_if(*, is_asked: bool) -> Iterator[Awake]:
    """Have the running loop never sleep, if that is asked for and a core is left to others."""
    awake = Awake()
    if is_asked and (os.cpu_count() or 1) < 2:
        log.warning("execution.busy_poll needs two cores, and this machine has one: it is left off")
    elif is_asked:
        log.info("execution.busy_poll: a core of this machine is busy from now on")
        with never_asleep(awake.turn):
            yield awake
        return
    yield awake


@contextmanager
def never_asleep(meanwhile: Callable[[], None] = _nothing) -> Iterator[None]:
    """Have the running loop ask its sockets again and again, instead of sleeping until one of them has something.

    A message is read within a few µs of its arrival, where a process that sleeps has to be woken first, on a core that
    has to be woken as well, with caches that others have used meanwhile. It costs all the time of a core. Timers, tasks
    and threads run as before: the loop gives up the interpreter's lock in each of its turns. ``meanwhile`` is called in
    each.
    """
    loop, nothing, is_on = asyncio.get_running_loop(), contextvars.Context(), True

    def again() -> None:
        if is_on:
            loop.call_soon(again, context=nothing)
            meanwhile()

    again()
    try:
        yield
    finally:
        is_on = False
