"""The worker that knows the market: best bid and ask and mark price of every symbol, and how old they are."""

import asyncio
import logging
import random
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from core import wire
from core.analysis import MarketAnalysis
from core.context import SymbolContext
from core.depth_feed import DepthFeed
from core.events import BookEvent, ConnectionEvent, ConnectionKind, EventBus
from core.gateway import Gateway
from core.market_streams import MarketStreams
from core.model import BookTop, SymbolRules
from core.settings import MarketDataSettings
from core.state import SymbolState
from core.trade_feed import TradeFeed
from utils.clock import Clock
from utils.errors import ExchangeError
from utils.venue import market_target, public_target
from utils.ws import WsTransport

log = logging.getLogger(__name__)

GATE_KEY = "market data"
SANE_SHARE = Decimal("0.1")
"""A mid farther than this share from the mark price is a fault of one of the two, or no market to quote on."""

_BEYOND_S = 0.001
"""So long after it is due something is too old, and not just as old as it may be."""


class MarketDataWorker:
    """Keeps the book and mark price of every symbol in its state, and closes its gate while the book may be stale.

    A quiet market and a silent stream look the same on the socket. So when a book has not changed for half of
    ``max_book_age_ms`` it is compared with the exchange's over REST: if they agree the book is proven fresh; if the
    exchange's is newer and the stream does not bring it, the stream is silent: the gate closes and a new
    connection is made, which has to bring a payload before it is believed.
    """

    name = "market data"
    BOOK_STREAM = "book"
    WATCH_EVERY_S = 0.2
    MARK_SILENT_AFTER_S = 10.0
    RECONNECT_PAUSE_S = 5.0
    JUST_ASKED_S = 1.0
    """A new connection is not silent if, so short a time ago, the exchange had nothing that it could have brought."""
    FEED_PAUSE_S = 5.0

    def __init__(
        self,
        contexts: Sequence[SymbolContext],
        gateway: Gateway,
        transport: WsTransport,
        bus: EventBus,
        clock: Clock,
        rng: random.Random,
        max_book_age_ms: int,
        settings: MarketDataSettings,
    ) -> None:
        self._contexts = {context.symbol: context for context in contexts}
        self._readers = {context.symbol: wire.BookReader(context.rules) for context in contexts}
        self._gateway = gateway
        self._bus = bus
        self._clock = clock
        self._max_age_ns = max_book_age_ms * 1_000_000
        self._must_deliver: set[str] = set()
        self._new_connection: set[str] = set()
        self._first_asked: dict[str, BookTop] = {}
        """What the exchange's book was when it was first asked for on a connection that has brought nothing yet."""
        self._nothing_to_say_ns: dict[str, int] = {}
        self._sane_half_ticks: dict[str, tuple[int, int]] = {}
        self._told_half_ticks: dict[str, int] = {}
        """The mid that the orders were told of last: a book that came late has told nobody, and may prove true yet."""
        self._undigested: list[tuple[SymbolContext, BookTop, bool]] = []
        self._dropped_ns = 0
        self._unreadable = 0
        self._decode_book = msgspec.json.Decoder(wire.BookTickerMessage).decode
        self._decode_mark = msgspec.json.Decoder(wire.MarkPriceMessage).decode
        streams = MarketStreams(transport, clock, rng, bus)
        self.books = streams.open(
            self.BOOK_STREAM, public_target, "bookTicker", self._contexts, self._on_book, self._books_up
        )
        self.marks = streams.open(
            "mark price", market_target, "markPrice@1s", self._contexts, self._on_mark, self._marks_up
        )
        self._analyses = {context.symbol: MarketAnalysis(context.rules, settings) for context in contexts}
        self.feeds = self._make_feeds(contexts, streams, settings)
        for context in contexts:
            context.gate.close(GATE_KEY, "waiting for market data")
            context.state.analysis = self._analyses[context.symbol]

    def _make_feeds(
        self, contexts: Sequence[SymbolContext], streams: MarketStreams, settings: MarketDataSettings
    ) -> list[DepthFeed | TradeFeed]:
        """Return what listens to more than quoting needs; a trouble of theirs leaves the quotes alone."""
        feeds: list[DepthFeed | TradeFeed] = []
        if settings.depth != "none":
            whole = settings.depth == "diff"
            feeds.append(
                DepthFeed(contexts, self._analyses, streams, self._gateway.rest, keeps_whole_book=whole)
            )
        if settings.trades:
            feeds.append(TradeFeed(contexts, self._analyses, streams, self._gateway.rest))
        return feeds

    async def run(self) -> None:
        """Follow the market until cancelled; the gates are closed whenever this does not run."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.books.run(), name="book stream")
                group.create_task(self.marks.run(), name="mark price stream")
                for feed in self.feeds:
                    group.create_task(self._keep(feed), name=f"{feed.stream.name} feed")
                for context in self._contexts.values():
                    group.create_task(self._watch(context), name=f"{self.name} {context.symbol}")
        finally:
            for context in self._contexts.values():
                context.gate.close(GATE_KEY, "market data worker is not running")

    async def _keep(self, feed: DepthFeed | TradeFeed) -> None:
        """Have a feed work, again after a fault of its own: the quotes do not go out for it."""
        while True:
            try:
                await feed.run()
            except Exception:
                log.exception("the %s feed failed and begins anew", feed.stream.name)
            await asyncio.sleep(self.FEED_PAUSE_S)

    def _books_up(self) -> None:
        self._new_connection.update(self._contexts)
        self._first_asked.clear()
        self._nothing_to_say_ns.clear()

    def _marks_up(self) -> None:
        for context in self._contexts.values():
            context.state.mark_received_ns = self._clock.monotonic_ns()  # gives the connection its own time

    # --- what the streams bring -------------------------------------------------------------------------------

    def _on_book(self, message: str | bytes) -> None:
        now_ns = self._clock.monotonic_ns()
        try:
            data = self._decode_book(message).data
            context = self._contexts.get(data.s)
            if context is None:
                return
            book = self._readers[data.s].top(data, now_ns)
        except wire.UNREADABLE as error:
            self._note_unreadable(error)
            return
        delay_ms = self._gateway.rest.server_clock.time_ms() - data.E
        context.state.stream_delay_ms = delay_ms
        is_late = delay_ms * 1_000_000 > self._max_age_ns
        if not is_late:
            self._must_deliver.discard(data.s)
        self._take(context, book, is_proof=not is_late)

    def _take(self, context: SymbolContext, book: BookTop, *, is_proof: bool = True) -> None:
        """Put a book into the state unless an older one; a book that cannot be real is not quoted on.

        The first one of a new connection is taken whatever its id: the exchange may have begun to count anew. A book
        that came late is known, but proves nothing of the present.
        """
        known, symbol = context.state.book, context.rules.symbol
        if symbol in self._new_connection:
            self._new_connection.discard(symbol)
        elif known is not None and book.update_id < known.update_id:
            self._note_old(context, book, known)
            return
        if not book.is_sane:
            context.gate.close(GATE_KEY, "the book is crossed or empty")
            return
        mid_half_ticks = book.mid_half_ticks
        lowest, highest = self._sane_half_ticks.get(symbol, (0, mid_half_ticks))
        if not lowest <= mid_half_ticks <= highest:
            context.gate.close(GATE_KEY, "the book is too far from the mark price to be true")
            return
        context.state.book = book
        if is_proof:
            self._prove(context, book.received_ns)
            if self._told_half_ticks.get(symbol) != mid_half_ticks:
                self._told_half_ticks[symbol] = mid_half_ticks
                context.on_book(context, mid_half_ticks)
        if not self._undigested:
            asyncio.get_running_loop().call_soon(self._digest)
        self._undigested.append((context, book, is_proof))

    def _digest(self) -> None:
        """Work out and tell what quotes do not wait for, after they have followed the newest of the books."""
        books, self._undigested = self._undigested, []
        try:
            for context, book, is_proof in books:
                self._analyses[context.rules.symbol].on_book(book)
                if self._bus.wants(BookEvent):
                    self._bus.publish(BookEvent(context.rules.symbol, book))
                if is_proof:
                    context.prices.add(book.received_ns, book.mid_half_ticks)
        except Exception:  # nobody waits for it who could be told
            log.exception("what is worked out from books of the market failed")

    def _note_old(self, context: SymbolContext, book: BookTop, known: BookTop) -> None:
        """Tell an old book, which is left out, from a count that began anew: its id is lower, its time is not."""
        if not book.update_id or book.exchange_ms <= known.exchange_ms or not self.books.is_up:
            return
        details = f"update ids began to count anew: {known.update_id} -> {book.update_id}"
        log.warning("%s: %s", context.symbol, details)
        if context.gate.close(GATE_KEY, "the book's update ids began to count anew"):
            self._bus.publish(ConnectionEvent("book", ConnectionKind.STALE, details, context.symbol))
        self.books.drop("its update ids began to count anew")

    def _prove(self, context: SymbolContext, at_ns: int) -> None:
        context.state.book_proven_ns = at_ns
        if context.state.mark_price > 0 and context.gate.open(GATE_KEY):
            self._bus.publish(ConnectionEvent("book", ConnectionKind.FRESH, symbol=context.symbol))

    def _on_mark(self, message: str | bytes) -> None:
        try:
            data = self._decode_mark(message).data
            price = wire.positive_price(data.p)
        except wire.UNREADABLE as error:
            self._note_unreadable(error)
            return
        context = self._contexts.get(data.s)
        if context is not None:
            context.state.mark_price = price or context.state.mark_price
            self._sane_half_ticks[data.s] = sane_half_ticks(context.state.mark_price, context.rules)
            if self._gateway.rest.server_clock.time_ms() - data.E < self.MARK_SILENT_AFTER_S * 1e3:
                context.state.mark_received_ns = (
                    self._clock.monotonic_ns()
                )  # one that comes late proves nothing

    def _note_unreadable(self, error: Exception) -> None:
        self._unreadable += 1
        if self._unreadable == 1:
            log.warning("a market message could not be read and was left out: %s", error)

    # --- how old it is ----------------------------------------------------------------------------------------

    async def _watch(self, context: SymbolContext) -> None:
        while True:
            now_ns = self._clock.monotonic_ns()
            age_ns = now_ns - context.state.book_proven_ns
            if age_ns > self._max_age_ns and context.state.book is not None:
                self._stale(context, age_ns, now_ns)
            if context.state.book is None or age_ns > self._max_age_ns // 2:
                await self._compare(context)
            mark_age_ns = now_ns - context.state.mark_received_ns
            if self.marks.is_up and mark_age_ns > self.MARK_SILENT_AFTER_S * 1e9:
                self.marks.drop("silent")
            await asyncio.sleep(self._rest_s(context.state))

    def _rest_s(self, state: SymbolState) -> float:
        """Return after how long the book or the mark price may be too old, if nothing comes until then."""
        if state.book is None:
            return self.WATCH_EVERY_S
        due_ns = min(
            state.book_proven_ns + self._max_age_ns // 2,
            state.mark_received_ns + int(self.MARK_SILENT_AFTER_S * 1e9),
        )
        return max((due_ns - self._clock.monotonic_ns()) / 1e9 + _BEYOND_S, self.WATCH_EVERY_S)

    def _stale(self, context: SymbolContext, age_ns: int, now_ns: int) -> None:
        if context.gate.close(GATE_KEY, "market data is stale"):
            details = f"no proof of the book for {age_ns / 1e9:.1f} s"
            log.warning("%s: market data is stale: %s", context.symbol, details)
            self._bus.publish(ConnectionEvent("book", ConnectionKind.STALE, details, context.symbol))
        is_at_fault = (
            now_ns - self._nothing_to_say_ns.get(context.symbol, -(10**18)) > self.JUST_ASKED_S * 1e9
        )
        if self.books.is_up and is_at_fault and now_ns - self._dropped_ns > self.RECONNECT_PAUSE_S * 1e9:
            self._dropped_ns = now_ns
            self.books.drop("silent while the market moved")

    async def _compare(self, context: SymbolContext) -> None:
        """Ask the exchange for its book; it proves ours fresh, or shows that the stream is silent."""
        try:
            timeout_s = self._max_age_ns / 2e9
            theirs = await self._gateway.book_top(
                context.rules, attempts=1, timeout_s=timeout_s, max_age_ms=self._max_age_ns // 1_000_000
            )
            if context.state.mark_price == 0:
                context.state.mark_price = await self._gateway.mark_price(
                    context.symbol, attempts=1, timeout_s=timeout_s
                )
        except ExchangeError as error:
            log.debug("%s: could not compare the book: %s", context.symbol, error)
            return
        if not self.books.is_up:
            return
        ours = context.state.book
        connected_before = context.symbol not in self._new_connection
        if ours is not None and connected_before and has_moved_on(ours, theirs):
            self._must_deliver.add(context.symbol)
        elif context.symbol not in self._must_deliver:
            self._take(context, theirs)
        elif not connected_before and not has_moved_on(
            self._first_asked.setdefault(context.symbol, theirs), theirs
        ):
            self._nothing_to_say_ns[context.symbol] = self._clock.monotonic_ns()


def sane_half_ticks(mark_price: Decimal, rules: SymbolRules) -> tuple[int, int]:
    """Return the lowest and the highest mid, in half ticks, that can be true beside this mark price."""
    half_ticks = 2 * mark_price / rules.tick_size
    return int(half_ticks * (1 - SANE_SHARE)), int(half_ticks * (1 + SANE_SHARE))


def has_moved_on(ours: BookTop, theirs: BookTop) -> bool:
    """Tell whether the exchange's book is a later and a different one than ours."""
    return theirs.update_id > ours.update_id and (
        (ours.bid_ticks, ours.bid_lots, ours.ask_ticks, ours.ask_lots)
        != (theirs.bid_ticks, theirs.bid_lots, theirs.ask_ticks, theirs.ask_lots)
    )
