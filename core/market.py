"""The worker that knows the market: best bid and ask and mark price of every symbol, and how old they are."""

import asyncio
import logging
import random
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from core import wire
from core.context import SymbolContext
from core.depth_feed import DepthFeed
from core.events import BookEvent, ConnectionEvent, ConnectionKind, EventBus
from core.gateway import Gateway
from core.market_streams import MarketStreams
from core.model import BookTop
from core.settings import MarketDataSettings
from core.state import SymbolState
from core.symbol_market import SymbolMarket, has_begun_anew, has_moved_on, has_same_best
from core.trade_feed import TradeFeed
from utils.clock import Clock
from utils.errors import ExchangeError
from utils.venue import market_target, public_target
from utils.ws import WsTransport

log = logging.getLogger(__name__)

GATE_KEY = "market data"
MARK_KEY = "mark price"
_BEYOND_S = 0.001
"""So long after it is due something is too old, and not just as old as it may be."""


class MarketDataWorker:
    """Keeps the book and mark price of every symbol in its state, and closes its gate while the book may be stale.

    A quiet market and a silent stream look the same on the socket. So when a book has not changed for half of
    ``max_book_age_ms`` it is compared with the exchange's over REST: if they agree the book is proven fresh; if the
    exchange's is newer and the stream does not bring it, the stream is silent: the gate closes and a new
    connection is made, which has to bring a payload before it is believed.

    A mark price that the stream does not bring is asked for over REST. After ``MARK_GONE_AFTER_S`` without one nothing
    is quoted: it tells which books can be true, and how far a quote may go.
    """

    name = "market data"
    BOOK_STREAM = "book"
    WATCH_EVERY_S = 0.2
    COMPARE_PAUSE_S = 1.0
    """Between two questions about the book while the gate is closed for it: an outage may be long."""
    MARK_SILENT_AFTER_S = 10.0
    """After so long without a mark price the stream gets a new connection, and the exchange is asked for it."""
    MARK_PAUSE_S = 3.0
    MARK_GONE_AFTER_S = 60.0
    """Not before a whole window of the request limits has passed in which nobody could ask."""
    RECONNECT_PAUSE_S = 5.0
    MUTE_AFTER_S = 30.0
    """A connection that brings nothing for so long is given up also while the exchange cannot be asked."""
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
        self._markets = {context.symbol: SymbolMarket(context, settings) for context in contexts}
        self._gateway = gateway
        self._server_clock = gateway.rest.server_clock
        self._bus = bus
        self._clock = clock
        self._max_age_ms = max_book_age_ms
        self._max_age_ns = max_book_age_ms * 1_000_000
        self._burst_ns = 0
        """When what is read in this turn of the event loop came, 0 while nothing has been."""
        self._exchange_now_ms = 0
        """The exchange's time then."""
        self._bursts = 0
        self._waiting: list[str | bytes] = []
        """What this turn has read after its first message."""
        self._fault: Exception | None = None
        """What reading those has failed of."""
        self._undigested: list[SymbolMarket] = []
        self._dropped_ns = 0
        self._heard_ns = 0
        """When the stream of the book last brought what was not late, had nothing to bring, or had a new connection."""
        self._unreadable = 0
        self._decode_book = msgspec.json.Decoder(wire.BookTickerMessage).decode
        self._decode_mark = msgspec.json.Decoder(wire.MarkPriceMessage).decode
        streams = MarketStreams(transport, clock, rng, bus)
        self.books = streams.open(
            self.BOOK_STREAM, public_target, "bookTicker", self._markets, self._on_book, self._books_up
        )
        self.marks = streams.open(
            "mark price", market_target, "markPrice@1s", self._markets, self._on_mark, self._marks_up
        )
        self.feeds = self._make_feeds(contexts, streams, settings)
        for context in contexts:
            context.gate.close(GATE_KEY, "waiting for market data")
            context.state.mark_proven_ns = clock.monotonic_ns()  # gives the first one its time

    def _make_feeds(
        self, contexts: Sequence[SymbolContext], streams: MarketStreams, settings: MarketDataSettings
    ) -> list[DepthFeed | TradeFeed]:
        """Return what listens to more than quoting needs; a trouble of theirs leaves the quotes alone."""
        feeds: list[DepthFeed | TradeFeed] = []
        analyses = {symbol: market.analysis for symbol, market in self._markets.items()}
        if settings.depth != "none":
            whole = settings.depth == "diff"
            feeds.append(DepthFeed(contexts, analyses, streams, self._gateway.rest, keeps_whole_book=whole))
        if settings.trades:
            feeds.append(TradeFeed(contexts, analyses, streams, self._gateway.rest))
        return feeds

    async def run(self) -> None:
        """Follow the market until cancelled; the gates are closed whenever this does not run."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.books.run(), name="book stream")
                group.create_task(self.marks.run(), name="mark price stream")
                for feed in self.feeds:
                    group.create_task(self._keep(feed), name=f"{feed.stream.name} feed")
                for market in self._markets.values():
                    group.create_task(self._watch(market), name=f"{self.name} {market.symbol}")
                    group.create_task(self._watch_mark(market), name=f"mark price {market.symbol}")
        finally:
            self._waiting.clear()
            self._fault = None
            for market in self._markets.values():
                market.context.gate.close(GATE_KEY, "market data worker is not running")

    async def _keep(self, feed: DepthFeed | TradeFeed) -> None:
        """Have a feed work, again after a fault of its own: the quotes do not go out for it."""
        while True:
            try:
                await feed.run()
            except Exception:
                log.exception("the %s feed failed and begins anew", feed.stream.name)
            await asyncio.sleep(self.FEED_PAUSE_S)

    def _books_up(self) -> None:
        self._end_burst()  # what has been read is of the connection before
        self._heard_ns = self._clock.monotonic_ns()
        for market in self._markets.values():
            market.begin_connection()

    def _marks_up(self) -> None:
        for market in self._markets.values():
            market.state.mark_received_ns = self._clock.monotonic_ns()  # gives the connection its own time

    # --- what the streams bring -------------------------------------------------------------------------------

    def _on_book(self, message: str | bytes) -> None:
        """Have a book be known: the first of a turn of the event loop at once, those read besides when it has ended."""
        if self._burst_ns:
            self._waiting.append(message)
            return
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault
        self._begin_burst()
        self._read((message,))

    def _begin_burst(self) -> None:
        """What is read in this turn of the event loop came at this moment: one look at the clocks is enough for it."""
        asyncio.get_running_loop().call_soon(self._end_burst)
        self._bursts += 1
        self._exchange_now_ms = self._server_clock.time_ms()
        self._burst_ns = self._clock.monotonic_ns()

    def _end_burst(self) -> None:
        """Have the books be known that came after the first; what comes from now on came later.

        A fault is raised where the next message comes from: here nobody waits who could be told.
        """
        waiting, self._waiting = self._waiting, []
        try:
            self._read(waiting)
        except Exception as fault:  # noqa: BLE001
            self._fault = fault
        self._burst_ns = 0

    def _read(self, messages: Sequence[str | bytes]) -> None:
        """Take the books of messages that came at this moment, in their order.

        When the market moves fastest a turn has hundreds, all but the first of which are like the one before them.
        Those are taken here, without a call; ``_read_one`` sees to all others.
        """
        decode, markets, now_ns, burst = self._decode_book, self._markets, self._burst_ns, self._bursts
        oldest_ms = self._exchange_now_ms - self._max_age_ms
        for message in messages:
            try:
                data = decode(message).data
            except wire.UNREADABLE as error:
                self._note_unreadable(error)
                continue
            market = markets.get(data.s)
            if market is None:
                continue
            if market.burst != burst or oldest_ms > data.E:
                self._read_one(market, data)
                continue
            try:
                bid_ticks, bid_lots = market.known_bids[data.b], market.known_lots[data.B]
                ask_ticks, ask_lots = market.known_asks[data.a], market.known_lots[data.A]
            except KeyError:
                self._read_one(market, data)
                continue
            state, mid_half_ticks = market.state, bid_ticks + ask_ticks
            known, is_move = state.book, mid_half_ticks != market.told_half_ticks
            if (
                known is None
                or data.u < known.update_id
                or bid_ticks >= ask_ticks
                or (
                    is_move and not market.sane_from_half_ticks <= mid_half_ticks <= market.sane_to_half_ticks
                )
            ):
                self._read_one(market, data)
                continue
            book = state.book = BookTop(bid_ticks, bid_lots, ask_ticks, ask_lots, data.u, data.T, now_ns)
            if is_move:
                self._tell_move(market, book, mid_half_ticks)
            market.undigested.append(book)

    def _read_one(self, market: SymbolMarket, data: wire.BookTickerData) -> None:
        """Take the book of a message, whatever it is like."""
        try:
            book = market.reader.top(data, self._burst_ns)
        except wire.UNREADABLE as error:
            self._note_unreadable(error)
            return
        delay_ms = market.state.stream_delay_ms = self._exchange_now_ms - data.E
        is_late = delay_ms > self._max_age_ms
        if not is_late:
            market.must_deliver = False
            self._heard_ns = self._burst_ns
        self._take(market, book, is_late)

    def _take(self, market: SymbolMarket, book: BookTop, is_late: bool) -> None:  # noqa: FBT001 - called for each book
        """Put a book into the state unless an older one; a book that cannot be real is not quoted on.

        The first one of a new connection is taken whatever its id: the exchange may have begun to count anew. A book
        that came late is known, but proves nothing of the present.
        """
        market.burst = 0
        state = market.state
        known = state.book
        if market.is_new_connection:
            market.is_new_connection = False
        elif known is not None and book.update_id < known.update_id:
            self._note_old(market.context, book, known)
            return
        mid_half_ticks = book.bid_ticks + book.ask_ticks
        if objection := market.objection(book):
            market.refused = book
            market.context.gate.close(GATE_KEY, objection)
            return
        state.book, market.refused = book, None
        if is_late:
            self._digest_soon(market)
            market.undigested_late.append(book)
            return
        state.book_proven_ns = book.received_ns
        market.burst = self._bursts
        if GATE_KEY in market.objections:
            self._open_gate(market.context)
        if market.told_half_ticks != mid_half_ticks:
            self._tell_move(market, book, mid_half_ticks)
        if not market.undigested:
            self._digest_soon(market)
        market.undigested.append(book)

    @staticmethod
    def _tell_move(market: SymbolMarket, book: BookTop, mid_half_ticks: int) -> None:
        """Have the orders follow this book, whose mid is another one than they were told of."""
        market.told_half_ticks = mid_half_ticks
        market.undigested_moves.append(book)
        market.context.on_book(market.context, mid_half_ticks)

    def _digest_soon(self, market: SymbolMarket) -> None:
        """Have this symbol's books digested after the orders have followed them, with what else comes until then."""
        if not self._undigested:
            asyncio.get_running_loop().call_soon(self._digest)
        if market not in self._undigested:
            self._undigested.append(market)

    def _digest(self) -> None:
        """Work out and tell what quotes do not wait for, after they have followed the newest of the books."""
        markets, self._undigested = self._undigested, []
        for market in markets:
            try:
                self._digest_one(market)
            except Exception:  # nobody waits for it who could be told, and the other symbols' books do
                log.exception("%s: what is worked out from books of the market failed", market.symbol)

    def _digest_one(self, market: SymbolMarket) -> None:
        books = market.digest()
        if self._bus.wants(BookEvent):
            symbol = market.symbol
            self._bus.publish_all(BookEvent, [BookEvent(symbol, book) for book in books])

    def _note_old(self, context: SymbolContext, book: BookTop, known: BookTop) -> None:
        """Tell an old book, which is left out, from a count that began anew: its id is lower, its time is not."""
        if not has_begun_anew(known, book) or not self.books.is_up:
            return
        details = f"update ids began to count anew: {known.update_id} -> {book.update_id}"
        log.warning("%s: %s", context.symbol, details)
        if context.gate.close(GATE_KEY, "the book's update ids began to count anew"):
            self._bus.publish(ConnectionEvent("book", ConnectionKind.STALE, details, context.symbol))
        self.books.drop("its update ids began to count anew")

    def _open_gate(self, context: SymbolContext) -> None:
        """The book has been proven; with a mark price beside it, quotes may go out."""
        if context.state.mark_price > 0 and context.gate.open(GATE_KEY):
            self._bus.publish(ConnectionEvent("book", ConnectionKind.FRESH, symbol=context.symbol))

    def _on_mark(self, message: str | bytes) -> None:
        try:
            data = self._decode_mark(message).data
            price = wire.positive_price(data.p)
        except wire.UNREADABLE as error:
            self._note_unreadable(error)
            return
        market = self._markets.get(data.s)
        if market is None:
            return
        state, late_s = market.state, (self._server_clock.time_ms() - data.E) / 1e3
        if late_s < self.MARK_SILENT_AFTER_S:
            state.mark_received_ns = self._clock.monotonic_ns()
            if price is not None:
                self._learn_mark(market, price)
        elif price is not None and (state.mark_price == 0 or late_s < self._mark_age_s(state)):
            market.learn_mark_price(price, market.context.rules)  # better than an older one, and no proof

    def _learn_mark(self, market: SymbolMarket, price: Decimal) -> None:
        """This is the exchange's present mark price."""
        market.learn_mark_price(price, market.context.rules)
        market.state.mark_proven_ns = self._clock.monotonic_ns()
        if MARK_KEY in market.objections and market.context.gate.open(MARK_KEY):
            self._bus.publish(ConnectionEvent(MARK_KEY, ConnectionKind.FRESH, symbol=market.symbol))

    def _note_unreadable(self, error: Exception) -> None:
        self._unreadable += 1
        if self._unreadable == 1:
            log.warning("a market message could not be read and was left out: %s", error)

    # --- how old it is ----------------------------------------------------------------------------------------

    async def _watch(self, market: SymbolMarket) -> None:
        state = market.state
        while True:
            now_ns = self._clock.monotonic_ns()
            age_ns = now_ns - state.book_proven_ns
            if age_ns > self._max_age_ns:
                self._stale(market, age_ns, now_ns)
            if state.book is None or age_ns > self._max_age_ns // 2:
                await self._compare(market)
            mark_age_ns = now_ns - state.mark_received_ns
            if self.marks.is_up and mark_age_ns > self.MARK_SILENT_AFTER_S * 1e9:
                self.marks.drop("silent")
            await asyncio.sleep(self._rest_s(state))

    def _rest_s(self, state: SymbolState) -> float:
        """Return after how long the book or the mark price may be too old, if nothing comes until then."""
        if state.book is None:
            return self.WATCH_EVERY_S
        due_ns = min(
            state.book_proven_ns + self._max_age_ns // 2,
            state.mark_received_ns + int(self.MARK_SILENT_AFTER_S * 1e9),
        )
        return max((due_ns - self._clock.monotonic_ns()) / 1e9 + _BEYOND_S, self.WATCH_EVERY_S)

    async def _watch_mark(self, market: SymbolMarket) -> None:
        """Ask for the mark price while the stream does not bring it; close the gate while nobody tells it."""
        state = market.state
        while True:
            due_s = self.MARK_SILENT_AFTER_S - self._mark_age_s(state) + _BEYOND_S
            await asyncio.sleep(max(due_s, self.MARK_PAUSE_S))
            if self._mark_age_s(state) > self.MARK_SILENT_AFTER_S:
                try:
                    await self._ask_mark_price(market)
                except ExchangeError as error:
                    log.debug("%s: could not ask for the mark price: %s", market.symbol, error)
            if state.mark_price > 0 and self._mark_age_s(state) > self.MARK_GONE_AFTER_S:
                self._mark_gone(market)

    def _mark_age_s(self, state: SymbolState) -> float:
        return (self._clock.monotonic_ns() - state.mark_proven_ns) / 1e9

    async def _ask_mark_price(self, market: SymbolMarket) -> None:
        price = await self._gateway.mark_price(
            market.symbol,
            attempts=1,
            timeout_s=self._max_age_ns / 2e9,
            max_age_ms=int(self.MARK_SILENT_AFTER_S * 1e3),
        )
        if price > 0:
            self._learn_mark(market, price)

    def _mark_gone(self, market: SymbolMarket) -> None:
        text = f"the mark price is more than {self.MARK_GONE_AFTER_S:.0f} s old"
        if market.context.gate.close(MARK_KEY, text):
            log.warning("%s: %s", market.symbol, text)
            self._bus.publish(ConnectionEvent(MARK_KEY, ConnectionKind.STALE, text, market.symbol))

    def _stale(self, market: SymbolMarket, age_ns: int, now_ns: int) -> None:
        """The gate of a book that nothing proves is closed, and a silent stream gets a new connection."""
        context = market.context
        # closed already while none is known, or for what the stream has brought: either says more
        is_told = context.state.book is None or market.refused is not None
        if not is_told and context.gate.close(GATE_KEY, "market data is stale"):
            details = f"no proof of the book for {age_ns / 1e9:.1f} s"
            log.warning("%s: market data is stale: %s", context.symbol, details)
            self._bus.publish(ConnectionEvent("book", ConnectionKind.STALE, details, context.symbol))
        is_overdue = market.must_deliver and market.is_overdue
        is_mute = now_ns - self._heard_ns > self.MUTE_AFTER_S * 1e9
        is_at_fault = is_overdue or is_mute
        if self.books.is_up and is_at_fault and now_ns - self._dropped_ns > self.RECONNECT_PAUSE_S * 1e9:
            self._dropped_ns = now_ns
            self.books.drop("silent while the market moved" if is_overdue else "silent")

    async def _compare(self, market: SymbolMarket) -> None:
        """Ask the exchange for its book; it proves ours fresh, or shows that the stream is silent."""
        context = market.context
        try:
            if context.state.mark_price == 0:
                await self._ask_mark_price(market)
            if not self._may_compare(market):
                return
            timeout_s = self._max_age_ns / 2e9
            theirs = await self._gateway.book_top(
                context.rules, attempts=1, timeout_s=timeout_s, max_age_ms=self._max_age_ns // 1_000_000
            )
        except ExchangeError as error:
            log.debug("%s: could not compare the book: %s", context.symbol, error)
            return
        if not self.books.is_up:
            return
        self._end_burst()  # what the socket has brought came before this, and what it brings from now on after it
        if self._is_void(market, theirs):
            return
        ours = market.refused or context.state.book
        if ours is not None and not market.is_new_connection and has_moved_on(ours, theirs):
            market.must_deliver = market.is_overdue = True
        elif not market.must_deliver:
            self._take(market, theirs, False)  # noqa: FBT003
        elif market.is_new_connection:
            market.first_asked = market.first_asked or theirs
            market.is_overdue = has_moved_on(market.first_asked, theirs)
            if not market.is_overdue:
                self._heard_ns = self._clock.monotonic_ns()

    def _is_void(self, market: SymbolMarket, theirs: BookTop) -> bool:
        """Tell whether an answer proves nothing: it cannot be true, or the stream has brought a later one that cannot.

        The stream is not to blame for either. What it has brought, it need not bring again.
        """
        known, refused = market.state.book, market.refused
        is_outdated = False
        is_later = refused is None or theirs.update_id > refused.update_id or has_begun_anew(refused, theirs)
        if refused is not None and not is_later:
            self._heard_ns = self._clock.monotonic_ns()
            is_outdated = not has_same_best(refused, theirs)
        objection = market.objection(theirs)
        if objection:
            self._heard_ns = self._clock.monotonic_ns()
            if known is None or theirs.update_id >= known.update_id:
                market.context.gate.close(GATE_KEY, objection)
        return is_outdated or bool(objection)

    def _may_compare(self, market: SymbolMarket) -> bool:
        """Tell whether the exchange may be asked for its book now: not while no answer could open the gate."""
        now_ns = self._clock.monotonic_ns()
        if not self.books.is_up or (GATE_KEY in market.objections and now_ns < market.compare_due_ns):
            return False
        market.compare_due_ns = now_ns + int(self.COMPARE_PAUSE_S * 1e9)
        return True
