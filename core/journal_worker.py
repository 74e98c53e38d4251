"""The worker that writes the journal of orders, off the event loop."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from functools import partial

from core.context import SymbolContext
from core.events import EngineEvent, EngineKind, EventBus
from core.gate import Gate
from core.journal import RUNNING, STARTED, STOPPED, JournalFile, JournalLine, Note
from core.live_order import LiveOrder
from utils.background import RunBlocking
from utils.clock import Clock
from utils.quietly import quietly

log = logging.getLogger(__name__)

GATE_KEY = "journal"


class JournalWorker:
    """Takes down each change of an order as it happens, and has it written at once, with what came meanwhile.

    A disk that does not take the lines, or hangs over them for ``HANG_S``, closes ``gate``: no order is placed of which
    there would be no record. Cancels go on, and at most ``MAX_WAITING`` lines are kept for the disk. While nothing
    changes, a line that says so proves the disk, so that its trouble is known before the next order.
    """

    name = "journal"
    PAUSE_S = 0.05
    AT_ONCE = 8
    """So many lines are made in one turn of the event loop: a tenth of a millisecond."""
    RETRY_S = 0.5
    HANG_S = 5.0
    PROVE_EVERY_S = 5.0
    MAX_WAITING = 100_000

    def __init__(
        self,
        contexts: Sequence[SymbolContext],
        clock: Clock,
        file: JournalFile,
        run_blocking: RunBlocking,
        gate: Gate,
        bus: EventBus,
    ) -> None:
        self.lost = 0
        self._gate = gate
        self._bus = bus
        self._clock = clock
        self._file = file
        self._run_blocking = run_blocking
        self._waiting: deque[JournalLine | Note] = deque(maxlen=self.MAX_WAITING)
        self._disk_failed = False
        self._has_stopped = False
        self._wake = asyncio.Event()
        for context in contexts:
            self._follow(context)

    def _follow(self, context: SymbolContext) -> None:
        def note(order: LiveOrder) -> None:  # whatever is wrong with the record, the order goes its way
            quietly(lambda: self._add(Note.of(order, context.rules, self._clock.time_ms())))

        context.orders.on_change = note

    def _add(self, line: JournalLine | Note) -> None:
        self.lost += len(self._waiting) == self.MAX_WAITING
        self._waiting.append(line)
        self._wake.set()

    def started(self) -> None:
        """Note that a daemon has begun."""
        self._add(JournalLine(self._clock.time_ms(), STARTED))

    def stopped(self) -> None:
        """Note that the daemon has ended in order: no line of its comes after this one."""
        self._has_stopped = True
        self._add(JournalLine(self._clock.time_ms(), STOPPED))

    async def run(self) -> None:
        """Write what there is until cancelled."""
        while True:
            await self._until_there_is_a_line()
            await self.flush()
            await asyncio.sleep(self.RETRY_S if self._disk_failed else self.PAUSE_S)

    async def _until_there_is_a_line(self) -> None:
        try:
            async with asyncio.timeout(self.PROVE_EVERY_S):
                await self._wake.wait()
        except TimeoutError:
            if not self._has_stopped:
                self._add(JournalLine(self._clock.time_ms(), RUNNING))

    async def flush(self) -> None:
        """Have everything that waits written; what the disk does not take waits on."""
        if not self._waiting:
            return
        lines = await self._written_out()
        hanging = asyncio.get_running_loop().call_later(
            self.HANG_S, self._trouble, f"the disk has not answered for {self.HANG_S:.0f} s"
        )
        try:
            await self._run_blocking(lambda: self._file.append(lines))
        except OSError as error:
            self._keep(lines)
            self._trouble(error.strerror or type(error).__name__)
        else:
            self._well()
        finally:
            hanging.cancel()

    async def _written_out(self) -> list[JournalLine]:
        """Return the lines of what waits, made a few at a time: a tick waits for those at most, not for all."""
        lines: list[JournalLine] = []
        self._wake.clear()
        for number in range(len(self._waiting)):
            if number and number % self.AT_ONCE == 0:
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    self._keep(lines)
                    raise
                if not self._waiting:
                    break  # somebody else has written them out
            quietly(partial(_write_out, self._waiting.popleft(), lines))
        return lines

    def _trouble(self, why: str) -> None:
        """Have no order placed until the journal can be written again."""
        if self._gate.close(GATE_KEY, f"the journal of orders cannot be written ({why})"):
            log.error(
                "the journal of orders is not being written: %s; no orders until it is, cancels go on", why
            )
            self._bus.publish(EngineEvent(EngineKind.DISK_TROUBLE, f"journal of orders: {why}"))
        self._disk_failed = True

    def _well(self) -> None:
        if self._gate.open(GATE_KEY):
            log.warning("the journal of orders is being written again; %d lines were lost", self.lost)
            self._bus.publish(EngineEvent(EngineKind.DISK_WELL, "journal of orders"))
        self._disk_failed = False

    def _keep(self, lines: list[JournalLine]) -> None:
        together = [*lines, *self._waiting]
        self.lost += max(len(together) - self.MAX_WAITING, 0)
        self._waiting = deque(together, maxlen=self.MAX_WAITING)
        self._wake.set()


def _write_out(entry: JournalLine | Note, lines: list[JournalLine]) -> None:
    lines.append(entry.line() if isinstance(entry, Note) else entry)
