"""Keeps our copy of one symbol's book: events in, snapshots fetched whenever the copy cannot be trusted."""

import asyncio
import logging
from collections.abc import Callable

from core.analysis import MarketAnalysis
from core.book import LocalBook, Step
from core.context import SymbolContext
from core.events import GapEvent
from core.market_model import DepthView
from core.market_queries import book_snapshot
from core.market_streams import MarketStreams
from core.market_wire import DepthData, depth_diff
from utils.errors import ExchangeError
from utils.http import BinanceRest
from utils.ws import Backoff, Stream

log = logging.getLogger(__name__)

VIEW_LEVELS = 20


class BookKeeper:
    """One symbol's copy of the whole book, from ``depth@100ms``; ``tell`` gets its best levels after every event.

    Snapshots are dear (weight 20), so those that follow soon after another wait longer and longer.
    """

    HEALTHY_AFTER_S = 60.0
    SNAPSHOT_TIMEOUT_S = 3.0

    def __init__(
        self,
        context: SymbolContext,
        streams: MarketStreams,
        rest: BinanceRest,
        analysis: MarketAnalysis,
        tell: Callable[[str, DepthView], None],
    ) -> None:
        self.book = LocalBook()
        self._context = context
        self._bus = streams.bus
        self._clock = streams.clock
        self._rest = rest
        self._analysis = analysis
        self._tell = tell
        self._backoff = Backoff(streams.rng, first_s=0.5, cap_s=30.0)
        self._wanted = asyncio.Event()
        self._asked_ns: int | None = None

    def begin(self) -> None:
        """A new connection has begun: its events have nothing to do with those before."""
        self.book.clear()
        self._wanted.set()

    def take(self, data: DepthData) -> None:
        """Bring the copy up to an event; ValueError if it cannot be read."""
        before = self.book.last_id
        step = self.book.apply(depth_diff(data, self._context.rules))
        if step is Step.APPLIED:
            self._show()
        elif step is Step.GAP or step is Step.CROSSED:
            self._lost(step, before)

    def _show(self) -> None:
        view = self.book.view(VIEW_LEVELS, self._clock.monotonic_ns())
        if view is not None and view.is_sane:
            self._tell(self._context.symbol, view)

    def _lost(self, step: Step, last_id: int) -> None:
        """Give the copy up until there is a snapshot."""
        self._analysis.depth = None
        self._analysis.depth_gaps += 1
        what = "the next event does not follow" if step is Step.GAP else "the book would be crossed"
        log.warning("%s: our copy of the book is void after id %d: %s", self._context.symbol, last_id, what)
        self._bus.publish(GapEvent(self._context.symbol, "depth", last_id, what))
        self._wanted.set()

    async def run(self, stream: Stream) -> None:
        """Fetch a snapshot whenever one is needed, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while stream.is_up and self.book.needs_snapshot:
                await self._pause()
                await self._fetch()

    async def _pause(self) -> None:
        """Wait if a snapshot was asked for not long ago."""
        now_ns = self._clock.monotonic_ns()
        if self._asked_ns is None or now_ns - self._asked_ns > self.HEALTHY_AFTER_S * 1e9:
            self._backoff.reset()
        else:
            await asyncio.sleep(self._backoff.next_s())
        self._asked_ns = self._clock.monotonic_ns()

    async def _fetch(self) -> None:
        try:
            snapshot = await book_snapshot(self._rest, self._context.rules, self.SNAPSHOT_TIMEOUT_S)
        except ExchangeError as error:
            log.debug("%s: no snapshot of the book: %s", self._context.symbol, error)
            return
        if not self.book.needs_snapshot:
            return
        self._analysis.depth_snapshots += 1
        step = self.book.load(snapshot)
        if step is Step.APPLIED:
            self._show()
        elif step is Step.CROSSED:
            self._lost(step, snapshot.update_id)
