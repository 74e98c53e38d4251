"""Has the latches on disk follow the halts in memory, off the event loop; nobody waits for a disk for long."""

import asyncio
import logging
from collections.abc import Callable, Mapping

import msgspec

from core.halt import Halt, HaltLatch
from utils.background import RunBlocking
from utils.clock import Clock
from utils.quietly import quietly

log = logging.getLogger(__name__)


class HaltKeeper:
    """The halts of this run. Each stands in memory from the moment it is engaged, whatever the disk does.

    What the disk does not take is said once, and tried again whenever ``keep`` is called. ``on_disk`` is called
    with the symbol when the disk has taken a halt as it stands.
    """

    DISK_PATIENCE_S = 2.0
    """For so long somebody waits for a record."""
    LAST_PATIENCE_S = 0.5

    def __init__(
        self,
        latches: Mapping[str, HaltLatch],
        clock: Clock,
        run_blocking: RunBlocking,
        on_disk: Callable[[str], None],
    ) -> None:
        self._latches = latches
        self._clock = clock
        self._run_blocking = run_blocking
        self._on_disk = on_disk
        self._wanted: dict[str, Halt] = {}
        self._written: dict[str, Halt] = {}
        self._writing: dict[str, asyncio.Future[None]] = {}
        self._complaints: set[str] = set()

    def stands(self, symbol: str) -> bool:
        """Tell whether the symbol was halted in this run, and not resumed."""
        return symbol in self._wanted

    def is_cleared(self, symbol: str) -> bool:
        """Tell whether the latch of a halt of this run was on disk, and is no more: an operator has cleared it."""
        return self.is_on_disk(symbol) and self._latches[symbol].read() is None

    def forget(self, symbol: str) -> None:
        """Have no halt stand in memory, because it was cleared on disk."""
        self._wanted.pop(symbol, None)
        self._written.pop(symbol, None)

    def take_up(self, halt: Halt) -> None:
        """Go on with a halt that was found on disk."""
        self._wanted[halt.symbol] = self._written[halt.symbol] = halt

    async def engage(self, symbol: str, reason: str, *, is_closing: bool) -> None:
        """Have a halt stand; return when it does on disk, or when that has taken too long."""
        self._wanted[symbol] = Halt(symbol, reason, self._clock.time_ms(), is_closing)
        await self._kept(symbol)

    async def finish(self, symbol: str) -> None:
        """Have the latch say that what was to be closed is closed; return like ``engage``."""
        if symbol in self._wanted:
            self._wanted[symbol] = msgspec.structs.replace(self._wanted[symbol], is_closing=False)
            await self._kept(symbol)

    def keep(self, symbol: str) -> None:
        """Have what stands in memory on its way to the disk, if it is not there yet."""
        writing = self._writing.get(symbol)
        if writing is not None and not writing.done():
            return
        if self._wanted.get(symbol) != self._written.get(symbol):
            self._writing[symbol] = asyncio.ensure_future(self._write(symbol))

    async def settled(self) -> None:
        """Wait, not for long, until nothing is on its way to the disk any more."""
        writing = [each for each in self._writing.values() if not each.done()]
        if writing:
            await asyncio.wait(writing, timeout=self.LAST_PATIENCE_S)

    def is_on_disk(self, symbol: str) -> bool:
        """Tell whether the disk has taken the halt of this run as it stands."""
        return symbol in self._written and self._written[symbol] == self._wanted.get(symbol)

    async def _kept(self, symbol: str) -> None:
        """Have it on disk, or give up waiting."""
        self.keep(symbol)
        writing = self._writing.get(symbol)
        if writing is None:
            return
        await asyncio.wait({writing}, timeout=self.DISK_PATIENCE_S)
        if not writing.done():
            self._complain(symbol, "the disk does not answer")

    async def _write(self, symbol: str) -> None:
        """Write until the disk holds what is wanted by then: that may have changed while the disk was slow."""
        while symbol in self._wanted and self._wanted[symbol] != self._written.get(symbol):
            wanted = self._wanted[symbol]
            try:
                await self._run_blocking(lambda halt=wanted: self._put(halt))  # type: ignore[misc]
            except Exception as error:  # noqa: BLE001 - a halt does not end because its record failed
                self._complain(symbol, getattr(error, "strerror", "") or str(error))
                return
            self._complaints.discard(symbol)
            self._written[symbol] = wanted
        if self.is_on_disk(symbol):
            self._on_disk(symbol)

    def _put(self, halt: Halt) -> None:
        """Have the disk hold this halt. One that is on disk is only marked: if it was cleared, it stays so."""
        latch, written = self._latches[halt.symbol], self._written.get(halt.symbol)
        if written is not None and written.is_closing and not halt.is_closing:
            latch.finish()
        else:
            latch.engage(halt.reason, halt.since_ms, is_closing=halt.is_closing)

    def _complain(self, symbol: str, why: str) -> None:
        if symbol not in self._complaints:
            self._complaints.add(symbol)
            text = "%s: the halt could not be written to disk (%s); it stands until this process ends"
            quietly(lambda: log.critical(text, symbol, why))
