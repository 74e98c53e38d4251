"""Time that jumps: an event loop on which an hour of waiting passes in the time that the work in it takes.

Timers are the only thing that moves the clock. Whenever no callback is ready, the loop sets its clock to the
next timer instead of sleeping. With the in-memory transport and a seeded market a whole run is then the same
to the last bit each time.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

DEFAULT_EPOCH_MS = 1_700_000_000_000
_NS_PER_S = 1_000_000_000
_NS_PER_MS = 1_000_000
_TASKS_NAMED = 8


class VirtualDeadlock(RuntimeError):
    """Nothing is ready and no timer is set, so that on virtual time nothing can ever happen again."""


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that never waits: where the loop would, it hands the seconds to `jump`.

    The file descriptors are still polled each time, so that signals and sockets get their turn.
    """

    def __init__(self, jump: Callable[[float | None], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Ready descriptors are returned at once; if there are none, the clock has jumped by `timeout` seconds."""
        ready = super().select(0)
        if not ready and timeout != 0:
            self._jump(timeout)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time()` starts at 0 and jumps to the next timer when nothing is ready.

    The clock is kept in whole nanoseconds: as a float near the epoch it would lose resolution. Work meant for
    other threads is done at once in this one and takes no time, because a thread would race against the
    jumps.
    """

    def __init__(self) -> None:
        self._now_ns = 0
        super().__init__(_JumpingSelector(self._jump))

    @property
    def now_ns(self) -> int:
        """Virtual nanoseconds since the loop was made."""
        return self._now_ns

    def time(self) -> float:
        """Virtual seconds since the loop was made are returned."""
        return self._now_ns / _NS_PER_S

    def _jump(self, timeout_s: float | None) -> None:
        if timeout_s is None:
            raise VirtualDeadlock(self._describe_deadlock())
        self._now_ns += max(1, round(timeout_s * _NS_PER_S))

    def _describe_deadlock(self) -> str:
        names = sorted(task.get_name() for task in asyncio.all_tasks(self))
        waiting = ", ".join(names[:_TASKS_NAMED]) + (", …" if len(names) > _TASKS_NAMED else "")
        return f"virtual time stands still: nothing is ready and no timer is set; waiting forever: {waiting}"

    def run_in_executor(
        self,
        executor: Any,  # noqa: ARG002  # there is no other thread
        func: Callable[[*Ts], T],
        *args: *Ts,
    ) -> asyncio.Future[T]:
        """`func(*args)` has been called; the future returned holds its result or exception. `executor` is not used."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  # it belongs to whoever awaits the future
            future.set_exception(error)
        return future


class VirtualClock:
    """The clock of a virtual-time loop, whose wall time was `epoch_ms` when the loop was made."""

    def __init__(self, loop: VirtualTimeLoop, epoch_ms: int = DEFAULT_EPOCH_MS) -> None:
        self._loop = loop
        self._epoch_ms = epoch_ms

    def time_ms(self) -> int:
        """Virtual epoch milliseconds are returned."""
        return self._epoch_ms + self._loop.now_ns // _NS_PER_MS

    def monotonic_ns(self) -> int:
        """Virtual nanoseconds since the loop was made are returned."""
        return self._loop.now_ns


def run_virtual(
    main: Callable[[VirtualClock], Coroutine[Any, Any, T]], *, epoch_ms: int = DEFAULT_EPOCH_MS
) -> T:
    """`main(clock)` has run to its end on a virtual-time loop of its own; its result is returned.

    Raises:
        VirtualDeadlock: every task waits and no timer is set.
    """
    loop = VirtualTimeLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main(VirtualClock(loop, epoch_ms)))
