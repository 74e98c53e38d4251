"""The levels of the book: the best ones as they are told, or a copy of the whole book kept from its changes.

Quoting never waits for them; while they cannot be trusted, the analysis has none.
"""

import asyncio
import logging
from collections.abc import Sequence

import msgspec

from core.analysis import MarketAnalysis
from core.book_keeper import VIEW_LEVELS, BookKeeper
from core.context import SymbolContext
from core.events import ConnectionEvent, ConnectionKind, DepthEvent, EventBus
from core.market_model import DepthView
from core.market_streams import MarketStreams
from core.market_wire import DepthData, DepthMessage, depth_view
from core.wire import UNREADABLE
from utils.clock import Clock
from utils.http import BinanceRest
from utils.venue import public_target

log = logging.getLogger(__name__)

NAME = "depth"


class DepthFeed:
    """Feeds the analysis of every symbol with the best levels, from ``depth20@100ms`` or from ``depth@100ms``.

    A stream that is silent while best bid and ask go on is replaced by a new connection.
    """

    WATCH_EVERY_S = 1.0
    SILENT_AFTER_S = 5.0
    DROP_PAUSE_S = 30.0

    def __init__(
        self,
        contexts: Sequence[SymbolContext],
        analyses: dict[str, MarketAnalysis],
        streams: MarketStreams,
        rest: BinanceRest,
        *,
        keeps_whole_book: bool,
    ) -> None:
        self._contexts = {context.symbol: context for context in contexts}
        self._analyses = analyses
        self._bus: EventBus = streams.bus
        self._clock: Clock = streams.clock
        self._no_drop_until_ns = 0
        self._unreadable = 0
        self._is_stale: set[str] = set()
        self._heard: dict[str, tuple[int, int]] = {}  # update id and time of the last message
        self._decode = msgspec.json.Decoder(DepthMessage).decode
        self._books = {
            context.symbol: BookKeeper(context, streams, rest, analyses[context.symbol], self._tell)
            for context in contexts
            if keeps_whole_book
        }
        kind = "depth@100ms" if keeps_whole_book else f"depth{VIEW_LEVELS}@100ms"
        self.stream = streams.open(
            NAME, public_target, kind, self._contexts, self._on_message, self._up, self._forget
        )

    async def run(self) -> None:
        """Follow the levels until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.stream.run(), name="depth stream")
                group.create_task(self._watch(), name="depth watch")
                for symbol, keeper in self._books.items():
                    group.create_task(keeper.run(self.stream), name=f"depth {symbol}")
        finally:
            self._forget()

    def _up(self) -> None:
        self._forget()
        self._heard = dict.fromkeys(self._contexts, (0, self._clock.monotonic_ns()))
        for keeper in self._books.values():
            keeper.begin()

    def _forget(self) -> None:
        for analysis in self._analyses.values():
            analysis.depth = None

    def _on_message(self, message: str | bytes) -> None:
        try:
            data = self._decode(message).data
            context = self._contexts.get(data.s)
            if context is not None:
                self._take(context, data)
        except UNREADABLE as error:
            self._unreadable += 1
            if self._unreadable == 1:
                log.warning("levels of the book could not be read and were left out: %s", error)

    def _take(self, context: SymbolContext, data: DepthData) -> None:
        now_ns = self._clock.monotonic_ns()
        self._heard[context.symbol] = (data.u, now_ns)
        if keeper := self._books.get(context.symbol):
            keeper.take(data)
            return
        known = self._analyses[context.symbol].depth
        view = depth_view(data, context.rules, now_ns)
        if view.is_sane and (known is None or view.update_id >= known.update_id):
            self._tell(context.symbol, view)

    def _tell(self, symbol: str, view: DepthView) -> None:
        self._analyses[symbol].depth = view
        if self._bus.wants(DepthEvent):
            self._bus.publish(DepthEvent(symbol, view))
        if symbol in self._is_stale:
            self._is_stale.discard(symbol)
            self._bus.publish(ConnectionEvent(NAME, ConnectionKind.FRESH, symbol=symbol))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.WATCH_EVERY_S)
            now_ns = self._clock.monotonic_ns()
            for context in self._contexts.values():
                if self.stream.is_up and now_ns >= self._no_drop_until_ns:
                    self._look(context, now_ns)

    def _look(self, context: SymbolContext, now_ns: int) -> None:
        """Replace the connection if best bid and ask have gone on for long without the levels."""
        book, (heard_id, heard_ns) = context.state.book, self._heard[context.symbol]
        if book is None or book.update_id <= heard_id:
            return
        silent_s = (book.received_ns - heard_ns) / 1e9
        if silent_s > self.SILENT_AFTER_S:
            self._no_drop_until_ns = now_ns + int(self.DROP_PAUSE_S * 1e9)
            self._is_stale.add(context.symbol)
            details = f"no levels for {silent_s:.0f} s while the book moved"
            log.warning("%s: the depth stream is silent: %s", context.symbol, details)
            self._bus.publish(ConnectionEvent(NAME, ConnectionKind.STALE, details, context.symbol))
            self.stream.drop("silent while the book moved")
