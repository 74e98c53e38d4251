"""A start after runs that ended badly waits, longer each time, and is halted at last until an operator has looked."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from core.closing_start import unfinished
from core.crash_count import FIRST_WAIT_S, CrashCount, Ends, bad_ends, crashes, wait_s
from core.exit_code import ExitCode
from core.gate import Gate
from core.halt import HaltLatch
from core.shutdown import StopRequest
from core.systemd import Notify, more_time, to_nobody
from utils.background import RunBlocking
from utils.clock import Clock
from utils.errors import DiskRefused, ExchangeError, StartRefused

log = logging.getLogger(__name__)


class Restarts:
    """Counts on disk how runs end, and holds the next one back.

    ``max_crashes`` within an hour engage the ``latches``: from then on every start ends halted, until ``resume``.
    ``notify`` is asked for more time while a start waits.
    """

    TURN_S = 10.0

    def __init__(
        self,
        count: CrashCount,
        latches: Sequence[HaltLatch],
        clock: Clock,
        max_crashes: int,
        notify: Notify = to_nobody,
    ) -> None:
        self._count = count
        self._latches = latches
        self._clock = clock
        self._max_crashes = max_crashes
        self._notify = notify

    async def counted(
        self, stop: StopRequest, run: Callable[[], Awaitable[ExitCode | None]]
    ) -> ExitCode | None:
        """Return what the run returns, once it may begin; note how it ended, whatever that was.

        None if a stop was asked for before it began, as the run says itself: an operator's stop is no crash.
        """
        try:
            ends = self._count.begin(self._clock.time_ms())
        except OSError as error:
            if self._is_closing():
                log.error("a start could not be counted: %s", error.strerror)
                return await run()
            raise DiskRefused.of(self._count.path.parent, error) from error
        self._halt_after_too_many(ends)
        if not await self._wait(ends, stop):
            self._note(self._count.end_without_count)
            return None
        try:
            code = await run()
        except StartRefused:
            self._note(self._count.end_without_count)
            raise
        except ExchangeError:
            self._note(lambda: self._count.end_badly(self._clock.time_ms(), unreachable=True))
            raise
        except BaseException:
            self._note(lambda: self._count.end_badly(self._clock.time_ms()))
            raise
        self._note_code(code)
        return code

    def has_worked(self) -> None:
        """Note on disk that the run has come as far as quoting."""
        self._note(self._count.has_worked)

    def _halt_after_too_many(self, ends: Ends) -> None:
        number = crashes(ends, self._clock.time_ms())
        if number < self._max_crashes:
            return
        for latch in self._latches:
            if latch.read() is None:
                try:
                    latch.engage(f"{number} runs ended badly within an hour", self._clock.time_ms())
                except OSError as error:
                    raise StartRefused(
                        f"{number} runs ended badly within an hour; look at the log"
                    ) from error

    def _is_closing(self) -> bool:
        """Tell whether a position waits to be closed: then nothing is waited for that can wait."""
        return bool(unfinished(self._latches))

    async def _wait(self, ends: Ends, stop: StopRequest) -> bool:
        """Wait as long as the ends call for; return False if a stop was asked for meanwhile."""
        left_s = wait_s(ends, self._clock.time_ms())
        if self._is_closing():
            left_s = min(left_s, FIRST_WAIT_S)
        if left_s:
            log.warning(
                "%d runs ended badly within an hour; waiting for %.0f s before this one begins",
                bad_ends(ends, self._clock.time_ms()),
                left_s,
            )
        while left_s > 0 and not stop.is_wanted:
            turn_s = min(left_s, self.TURN_S)
            self._notify(
                f"{more_time(3 * self.TURN_S)}\nSTATUS=waiting for {left_s:.0f} s after runs that ended badly"
            )
            try:
                async with asyncio.timeout(turn_s):
                    await stop.wanted()
            except TimeoutError:
                pass
            left_s -= turn_s
        return not stop.is_wanted

    def _note_code(self, code: ExitCode | None) -> None:
        if code is ExitCode.STOPPED:
            self._note(self._count.end_well)
        elif code in (None, ExitCode.HALTED, ExitCode.REFUSED):
            self._note(self._count.end_without_count)
        else:
            self._note(lambda: self._count.end_badly(self._clock.time_ms()))

    def _note(self, note: Callable[[], None]) -> None:
        try:
            note()
        except OSError as error:
            log.error("how this run ended could not be noted: %s", error.strerror)


class StartProof:
    """Notes, once, that a run has come as far as quoting on every symbol."""

    name = "start proof"

    def __init__(self, restarts: Restarts, gates: Sequence[Gate], run_blocking: RunBlocking) -> None:
        self._restarts = restarts
        self._gates = gates
        self._run_blocking = run_blocking
        self._opened = asyncio.Event()
        for gate in gates:
            gate.listen(self._look)

    def _look(self) -> None:
        if all(gate.is_open for gate in self._gates):
            self._opened.set()

    async def run(self) -> None:
        """Wait for the gates until cancelled."""
        await self._opened.wait()
        await self._run_blocking(self._restarts.has_worked)
        await asyncio.Event().wait()
