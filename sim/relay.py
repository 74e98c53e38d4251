"""The real market as the market of the simulated exchange: mainnet's public streams, relayed.

Quotes and trades come on two sockets, trades up to 100 ms late. Every event is therefore held back for `HOLD_MS`, and
happens in the order of the exchange's transaction times, trades before quotes at one time, as in a recording: a quote
that shows what a trade has left must not come before it, or the queue before our orders would shrink twice.

While one of the sockets is down, or before a symbol's first quote after that, the market stands still. Nothing is
filled for what was missed.

Source: Market streams; docs/simulated-exchange.md.
"""

import heapq
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal

from msgspec import structs

from sim.market import BookTicker, FundingTerms, Market, MarketError, MarketEvent, Trade
from sim.rules import MAINNET, SymbolRules
from sim.stream_client import Message, Subscription, kept_up, quote_target, trade_target
from sim.stream_reader import BAD_PAYLOAD, NoMarketError, StreamReader
from utils.clock import Clock

log = logging.getLogger(__name__)

HOLD_MS = 250
FASTEST_MS = 120_000
QUOTES = "quotes"
TRADES = "trades"
# These rules were made for a spot recording; the real exchange has no such perpetual.
_NOT_ON_MAINNET = {"NEXOUSDT"}
LIVE_SYMBOLS = tuple(symbol for symbol in MAINNET if symbol not in _NOT_ON_MAINNET)


@dataclass(slots=True)
class _Seen:
    """What the streams have brought of one symbol."""

    reader: StreamReader
    quoted: bool = False
    stands_still: bool = False
    update_id: int = 0
    trade_id: int = 0
    trades_go_on: bool = True
    terms: tuple[Decimal | None, int | None] = (None, None)


@dataclass(frozen=True, slots=True, order=True)
class _Held:
    """An event that waits for those before it; it cannot happen before it has come."""

    time_ms: int
    rank: int
    number: int
    # Not what they are ordered by: how far our clock is ahead changes from event to event.
    due_ms: int = field(compare=False)
    come_ms: int = field(compare=False)
    event: MarketEvent = field(compare=False)


class _Fastest:
    """How far our clock was ahead of an event at the least, in these `FASTEST_MS` and those before them."""

    def __init__(self) -> None:
        self._span = 0
        self._least_ms: int | None = None
        self._least_before_ms: int | None = None

    def ahead_ms(self, seen_ms: int, now_ms: int) -> int:
        """The least is returned, `seen_ms` of an event that has just come among them."""
        span = now_ms // FASTEST_MS
        if span != self._span:
            self._least_before_ms = self._least_ms if span == self._span + 1 else None
            self._span, self._least_ms = span, None
        self._least_ms = seen_ms if self._least_ms is None else min(self._least_ms, seen_ms)
        return self._least_ms if self._least_before_ms is None else min(self._least_ms, self._least_before_ms)


class LiveMarket:
    """A market whose events are put in as they come from `origin`, and that stands still when they do not."""

    def __init__(self, rules: Mapping[str, SymbolRules], origin: str, seed: int) -> None:
        self.rules = dict(rules)
        self.origin = origin
        self._rng = random.Random(seed)
        self._seen = {symbol: _Seen(StreamReader(each)) for symbol, each in rules.items()}
        self._held: list[_Held] = []
        self._count = 0
        self._taken_ms = 0
        self._fastest = _Fastest()
        self._up: set[str] = set()
        self._failure: MarketError | None = None

    def peek_ms(self) -> int | None:
        """The exchange time of the next event in epoch milliseconds is returned; None while there is none.

        Raises:
            MarketError: the streams bring what fits no rule.
        """
        if self._failure is not None:
            raise self._failure
        return max(self._held[0].due_ms, self._held[0].come_ms, self._taken_ms) if self._held else None

    def take(self) -> MarketEvent:
        """The next event is returned and consumed.

        Raises:
            StopIteration: there is none.
            MarketError: the streams bring what fits no rule.
        """
        time_ms = self.peek_ms()
        if time_ms is None:
            raise StopIteration("no event has come")
        event = heapq.heappop(self._held).event
        self._taken_ms = time_ms
        return structs.replace(event, time_ms=time_ms)

    def went_up(self, name: str) -> None:
        """The socket is open; with both open the market goes on."""
        self._up.add(name)
        self._fastest = _Fastest()
        log.info("the real market's %s are here", name)

    def went_down(self, name: str) -> None:
        """The socket is closed; the market stands still, and begins again with a quote."""
        self._up.discard(name)
        for seen in self._seen.values():
            seen.quoted, seen.update_id, seen.trades_go_on = False, 0, False

    def put(self, message: Message, now_ms: int) -> None:
        """The message will be an event `HOLD_MS` after the earliest it can have been here."""
        seen = self._seen.get(str(message.get("s")))
        if seen is None or len(self._up) < 2 or self._failure is not None:
            return
        try:
            event = self._read(message, seen)
        except BAD_PAYLOAD as error:
            self.fail(
                f"The real market does not fit the rules that are known of {message.get('s')} ({error})."
            )
            return
        if event is not None:
            self._hold(event, now_ms)

    def fail(self, sentence: str) -> None:
        """Every question from now on is answered with a MarketError that says so."""
        self._failure = MarketError(sentence)

    def subscriptions(self, clock: Clock) -> list[Subscription]:
        """The two sockets that bring the market."""
        targets = {QUOTES: quote_target(list(self.rules)), TRADES: trade_target(list(self.rules))}
        return [self._subscription(name, target, clock) for name, target in targets.items()]

    def _subscription(self, name: str, target: str, clock: Clock) -> Subscription:
        return Subscription(
            self.origin + target,
            clock,
            self._rng,
            on_message=lambda message: self.put(message, clock.time_ms()),
            on_up=lambda: self.went_up(name),
            on_down=lambda: self.went_down(name),
        )

    def _read(self, message: Message, seen: _Seen) -> MarketEvent | None:
        read = _READERS.get(str(message.get("e")))
        return None if read is None else read(message, seen)

    def _hold(self, event: MarketEvent, now_ms: int) -> None:
        # The fastest message shows best how the clocks differ; that changes when one of them is set, or drifts.
        ahead_ms = self._fastest.ahead_ms(now_ms - event.time_ms, now_ms)
        self._count += 1
        rank = 0 if isinstance(event, Trade) else 1
        due_ms = event.time_ms + ahead_ms + HOLD_MS
        heapq.heappush(self._held, _Held(event.time_ms, rank, self._count, due_ms, now_ms, event))


def _quote(message: Message, seen: _Seen) -> BookTicker | None:
    try:
        quote = seen.reader.quote(message)
    except NoMarketError as error:
        if not seen.stands_still:
            log.warning("the quotes of %s stand still: %s", message["s"], error)
        seen.stands_still = True
        return None
    if quote.update_id <= seen.update_id:
        return None
    seen.update_id, seen.quoted, seen.stands_still = quote.update_id, True, False
    return quote


def _trade(message: Message, seen: _Seen) -> Trade | None:
    trade_id, was_id = int(message["a"]), seen.trade_id
    if trade_id <= was_id and seen.trades_go_on:
        return None
    seen.trade_id, seen.trades_go_on = trade_id, True
    if was_id and trade_id > was_id + 1:
        log.warning("%d trades of %s were missed", trade_id - was_id - 1, message["s"])
    return seen.reader.trade(message) if seen.quoted else None


def _funding(message: Message, seen: _Seen) -> FundingTerms | None:
    terms = seen.reader.funding(message, with_time=True)
    if seen.terms == (terms.rate, terms.next_ms):
        return None
    seen.terms = (terms.rate, terms.next_ms)
    return terms


_READERS: Mapping[str, Callable[[Message, _Seen], MarketEvent | None]] = {
    "bookTicker": _quote,
    "aggTrade": _trade,
    "markPriceUpdate": _funding,
}


@asynccontextmanager
async def relayed(market: Market, clock: Clock) -> AsyncIterator[None]:
    """A live market gets its events while the context lasts; any other has them already."""
    if not isinstance(market, LiveMarket):
        yield
        return
    live = market

    def fail(error: BaseException) -> None:
        live.fail(f"The real market's streams cannot be read any more ({type(error).__name__}: {error}).")

    async with kept_up(live.subscriptions(clock), fail):
        yield
