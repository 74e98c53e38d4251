"""What a market is to the simulated exchange: quotes and trades, ordered by exchange time.

Events are msgspec structs, which are made in an eighth of the time of a frozen dataclass: an hour of one symbol can
have 400,000.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Protocol

from msgspec import Struct

from sim.rules import SymbolRules


class BookTicker(Struct, frozen=True, gc=False):
    """The best bid and ask of a symbol are these from `time_ms` on.

    Prices are in ticks, quantities in lots of the symbol's rules. (Market streams, "Individual Symbol Book
    Ticker".)
    """

    time_ms: int
    symbol: str
    update_id: int
    bid_ticks: int
    bid_lots: int
    ask_ticks: int
    ask_lots: int


class Trade(Struct, frozen=True, gc=False):
    """One taker order has traded `lots` at one price at `time_ms` (Market streams, "Aggregate Trade").

    `trade_id` is the aggregate's id; `first_id` to `last_id` are the single trades in it. `buyer_is_maker`
    says that the taker sold.
    """

    time_ms: int
    symbol: str
    trade_id: int
    price_ticks: int
    lots: int
    first_id: int
    last_id: int
    buyer_is_maker: bool


Levels = tuple[tuple[int, int], ...]
"""Pairs of (price in ticks, lots shown there)."""


class DepthChange(Struct, frozen=True):
    """From `time_ms` on the levels in `bids` and `asks` show these lots; 0 empties a level.

    `last_id` is the book's update id after the change. With `snapshot` these are all levels that are known, and
    a level between them and the touch is empty; without any level nothing is known of the book any more. (Market
    streams, "Diff. Book Depth Streams"; "Order Book".)
    """

    time_ms: int
    symbol: str
    last_id: int
    bids: Levels
    asks: Levels
    snapshot: bool = False


class FundingTerms(Struct, frozen=True):
    """From `time_ms` on the symbol's next funding is at `rate`, a fraction that longs pay if it is positive.

    `next_ms` is its exchange time. None leaves the rate or the time to the exchange: its own rate again, and 00, 08
    and 16 o'clock UTC. (Market streams, "Mark Price Stream".)
    """

    time_ms: int
    symbol: str
    rate: Decimal | None
    next_ms: int | None = None


MarketEvent = BookTicker | Trade | DepthChange | FundingTerms


class Market(Protocol):
    """A source of market events of one or several symbols, whose times never decrease."""

    @property
    def rules(self) -> Mapping[str, SymbolRules]:
        """The rules of each symbol that the market carries."""

    def peek_ms(self) -> int | None:
        """The exchange time of the next event in epoch milliseconds is returned; None once the market has ended."""

    def take(self) -> MarketEvent:
        """The next event is returned and consumed; its time is what `peek_ms` has said.

        Raises:
            StopIteration: the market has ended.
        """


class MarketError(Exception):
    """The market cannot be had; the text is one sentence that says what is wrong and what to do."""


class StreamMarket:
    """A market whose events come from an iterator, which is read one event ahead.

    If reading fails, the events read before are still handed out; from then on every question gets the failure.

    Raises:
        MarketError: there is no first event to be had.
    """

    def __init__(self, rules: Mapping[str, SymbolRules], events: Iterator[MarketEvent]) -> None:
        self.rules = dict(rules)
        self._events = events
        self._failure: MarketError | None = None
        self._next: MarketEvent | None = None
        self._read()
        self.peek_ms()

    def peek_ms(self) -> int | None:
        """The exchange time of the next event in epoch milliseconds is returned; None once the market has ended.

        Raises:
            MarketError: the next event cannot be read.
        """
        event = self._next
        if event is not None:
            return event.time_ms
        if self._failure is not None:
            raise self._failure
        return None

    def take(self) -> MarketEvent:
        """The next event is returned and consumed.

        Raises:
            StopIteration: the market has ended.
            MarketError: the next event cannot be read.
        """
        event = self._next
        if event is None:
            raise self._failure or StopIteration("the market has ended")
        self._read()
        return event

    def _read(self) -> None:
        try:
            self._next = next(self._events, None)
        except MarketError as error:
            self._next, self._failure = None, error
