"""Time that jumps: an event loop on which an hour of waiting passes in the time that the work in it takes.

Timers are the only thing that moves the clock. Whenever no callback is ready, the loop sets its clock to the
next timer instead of sleeping. With the in-memory transport and a seeded market a whole run is then the same
to the last bit each time.
"""

import asyncio
import selectors
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context, copy_context
from functools import partial
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, TypeVar, TypeVarTuple

from msgspec import Struct

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

DEFAULT_EPOCH_MS = 1_700_000_000_000
_NS_PER_S = 1_000_000_000
_NS_PER_MS = 1_000_000
_TASKS_NAMED = 8
# Asking the operating system for signals and sockets costs as much as a turn of the loop. It is asked before a long
# jump, every so many turns, and before each jump while there are sockets.
_LONG_JUMP_NS = 500 * _NS_PER_MS
_TURNS_BETWEEN_POLLS = 64
# So many cancelled timers may wait for their time before they are looked for among the others.
_CANCELLED_KEPT = 100


class VirtualDeadlock(RuntimeError):
    """Nothing is ready and no timer is set, so that on virtual time nothing can ever happen again."""


class _Descriptors(selectors.DefaultSelector):
    """What the operating system is asked about; knows without a search how much that is."""

    def __init__(self) -> None:
        super().__init__()
        self.registered = 0

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """The descriptor is watched from now on."""
        key = super().register(fileobj, events, data)
        self.registered += 1
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """The descriptor is watched no more."""
        key = super().unregister(fileobj)
        self.registered -= 1
        return key


class _Handle(Struct):
    """What is ready to run, or runs at its time: to those who cancel it what asyncio's own handle or timer is.

    One kind for both, and made in one call: the loop handles a hundred a second of its time.
    """

    _callback: Callable[..., object]
    _args: Sequence[object]
    _context: Context
    _loop: "VirtualTimeLoop"
    _when_s: float = 0.0
    _number: int = 0
    """That of a timer while it waits for its time, 0 else."""
    _cancelled: bool = False

    def when(self) -> float:
        """The time at which a timer is to run, in seconds of the loop, is returned."""
        return self._when_s

    def cancel(self) -> None:
        """The callback will not be called; most timers are cancelled after they have fired, by `asyncio.sleep`."""
        if not self._cancelled:
            self._cancelled = True
            if self._number:
                self._loop._timer_handle_cancelled(self)
            self._callback = self._args = None  # type: ignore[assignment]  # as asyncio's own lets go of them

    def cancelled(self) -> bool:
        """Whether it has been cancelled."""
        return self._cancelled


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time()` starts at 0 and jumps to the next timer when nothing is ready.

    The clock is kept in whole nanoseconds: as a float near the epoch it would lose resolution. Timers of the same
    nanosecond fire in the order in which they were set. Work meant for other threads is done at once in this one
    and takes no time, because a thread would race against the jumps.
    """

    # What asyncio's own loop has and does not publish; it fills `_ready` with handles of its own, too.
    _ready: deque[_Handle]
    _stopping: bool
    _closed: bool
    _check_closed: Callable[[], None]
    _process_events: Callable[[list[tuple[selectors.SelectorKey, int]]], None]

    def __init__(self) -> None:
        self._now_ns = 0
        self._timers: list[tuple[int, int, _Handle]] = []
        self._timer_numbers = count(1)
        self._cancelled_timers = 0
        self._descriptors = _Descriptors()
        super().__init__(self._descriptors)
        self._own_descriptors = self._descriptors.registered
        # As asyncio's own methods do it, which are two calls of Python for each future; it is never debugged.
        self.create_future = partial(asyncio.Future, loop=self)  # type: ignore[method-assign]
        self.get_debug = bool  # type: ignore[method-assign]

    @property
    def now_ns(self) -> int:
        """Virtual nanoseconds since the loop was made."""
        return self._now_ns

    def time(self) -> float:
        """Virtual seconds since the loop was made are returned."""
        return self._now_ns / _NS_PER_S

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """`callback(*args)` will be called when `time()` is `when`; the handle returned can cancel it."""
        number = next(self._timer_numbers)
        timer = _Handle(callback, args, copy_context() if context is None else context, self, when, number)
        heappush(self._timers, (round(when * _NS_PER_S), number, timer))
        return timer  # type: ignore[return-value]  # it is all that a caller sees of one

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """`callback(*args)` will be called `delay` seconds from now; the handle returned can cancel it."""
        when = self._now_ns / _NS_PER_S + delay
        number = next(self._timer_numbers)
        timer = _Handle(callback, args, copy_context() if context is None else context, self, when, number)
        heappush(self._timers, (round(when * _NS_PER_S), number, timer))
        return timer  # type: ignore[return-value]  # it is all that a caller sees of one

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """`callback(*args)` will be called in the next turn; the handle returned can cancel it."""
        if self._closed:
            self._check_closed()
        handle = _Handle(callback, args, copy_context() if context is None else context, self)
        self._ready.append(handle)
        return handle  # type: ignore[return-value]  # it is all that a caller sees of one

    def _timer_handle_cancelled(self, handle: _Handle) -> None:
        """A timer is cancelled that waits for its time."""
        if handle._number:
            self._cancelled_timers += 1
            if self._cancelled_timers > max(_CANCELLED_KEPT, len(self._timers) // 2):
                self._drop_cancelled()

    def _drop_cancelled(self) -> None:
        self._cancelled_timers = 0
        self._timers[:] = [entry for entry in self._timers if not entry[2].cancelled()]
        heapify(self._timers)

    def _run_once(self) -> None:
        """Some turns, in place of one of asyncio's: what is ready runs; if nothing is, the clock jumps before."""
        ready, timers, pop = self._ready, self._timers, heappop
        self._poll()
        for _ in range(_TURNS_BETWEEN_POLLS):
            if not ready and not self._stopping:
                self._jump()
            now_ns = self._now_ns
            while timers and timers[0][0] <= now_ns:
                timer = pop(timers)[2]
                timer._number = 0
                ready.append(timer)
            for _ in range(len(ready)):  # what these make ready runs in the next turn
                handle = ready.popleft()
                if not handle._cancelled:
                    try:
                        handle._context.run(handle._callback, *handle._args)
                    except (SystemExit, KeyboardInterrupt):
                        raise
                    except BaseException as error:  # noqa: BLE001  # the handler of the loop decides
                        self._tell(handle, error)
            if self._stopping:
                return

    def _tell(self, handle: _Handle, error: BaseException) -> None:
        """The loop's handler knows that a callback has failed, as asyncio's own loop tells it."""
        message = f"Exception in callback {handle._callback!r}"
        self.call_exception_handler({"message": message, "exception": error, "handle": handle})

    def _jump(self) -> None:
        """The clock stands at the next timer, unless a descriptor has made something ready."""
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heappop(timers)
        due_ns = timers[0][0] if timers else None
        if (
            due_ns is None
            or due_ns - self._now_ns >= _LONG_JUMP_NS
            or self._descriptors.registered > self._own_descriptors
        ):
            self._poll()
            if self._ready:
                return
        if due_ns is None:
            raise VirtualDeadlock(self._describe_deadlock())
        self._now_ns = max(self._now_ns, due_ns)

    def _poll(self) -> None:
        """What the operating system has for the loop, signals and sockets, has been made ready; nobody has waited."""
        self._process_events(self._descriptors.select(0))

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
        return self._epoch_ms + self._loop._now_ns // _NS_PER_MS

    def monotonic_ns(self) -> int:
        """Virtual nanoseconds since the loop was made are returned."""
        return self._loop._now_ns


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
