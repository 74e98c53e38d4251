"""An event loop that never sleeps: a core of its own, for the time that waking up takes."""

import asyncio
import contextvars
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

log = logging.getLogger("quant_pmm")

REST = 8
"""For so many times as long as a rehearsal has taken there is no other one, so that few messages come during one."""
LEAST_REST_NS = 100_000


def _nothing() -> None:
    """Nobody has anything to rehearse."""


class Awake:
    """What keeps the loop from sleeping, once there is something to be awake for.

    ``rehearse`` is called now and then: it goes the way that the next message will have to go, and changes nothing.
    """

    def __init__(self, held: ExitStack | None, monotonic_ns: Callable[[], int]) -> None:
        self._held = held
        self._now_ns = monotonic_ns
        self._rehearse: Callable[[], None] = _nothing
        self._due_ns = 0
        self._is_on = False

    def begin(self, rehearse: Callable[[], None]) -> None:
        """Have the loop never sleep from now on, if that was asked for, and rehearse this in between."""
        self._rehearse = rehearse
        if self._held is not None and not self._is_on:
            self._is_on = True
            log.info("execution.busy_poll: a core of this machine is busy from now on")
            self._held.enter_context(never_asleep(self.turn))

    def turn(self) -> None:
        """Rehearse if it is time; a rehearsal that fails is the last one."""
        began_ns = self._now_ns()
        if began_ns < self._due_ns:
            return
        try:
            self._rehearse()
        except Exception:  # it is for nothing but speed
            log.exception("rehearsing the next move failed; it is left off")
            self._rehearse = _nothing
        ended_ns = self._now_ns()
        self._due_ns = ended_ns + max(REST * (ended_ns - began_ns), LEAST_REST_NS)


@contextmanager
def awake_if(*, is_asked: bool, monotonic_ns: Callable[[], int]) -> Iterator[Awake]:
    """Give what keeps the running loop awake within the block, if that is asked for and a core is left to others."""
    if is_asked and (os.cpu_count() or 1) < 2:
        log.warning("execution.busy_poll needs two cores, and this machine has one: it is left off")
        is_asked = False
    with ExitStack() as held:
        yield Awake(held if is_asked else None, monotonic_ns)


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
