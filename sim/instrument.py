"""One symbol as the exchange runs it: rules, book, mark price, open orders and the channels of its streams."""

from decimal import Decimal

from sim.account import OpenInterest
from sim.depth import ShownBook
from sim.funding import Funding
from sim.klines import Candles
from sim.mark import MarkPrice
from sim.market import BookTicker
from sim.matching import Matcher, Thinning
from sim.money import EXACT, ZERO, booked
from sim.orders import Order, Side
from sim.regime import Regime
from sim.rules import SymbolRules
from sim.streams import Hub
from sim.tape import Tape


class Instrument:
    """The state of one symbol; open orders are kept by id and by client id, oldest first."""

    __slots__ = (
        "_tick_lot",
        "book_channel",
        "by_client",
        "candles",
        "countdown_due_ms",
        "funding",
        "mark",
        "matcher",
        "open",
        "quote",
        "regime",
        "rules",
        "shown",
        "single_trade_channel",
        "symbol",
        "tape",
        "trade_channel",
        "trade_count",
    )

    def __init__(
        self, rules: SymbolRules, hub: Hub, thinning: Thinning, funding_rate: Decimal, now_ms: int
    ) -> None:
        name = rules.symbol.lower()
        self.rules = rules
        self.regime = Regime(rules)
        self.symbol = rules.symbol
        self.matcher = Matcher(thinning)
        self.shown = ShownBook(self.matcher)
        self.mark = MarkPrice()
        self.candles = Candles()
        self.tape = Tape()
        self.open: dict[int, Order] = {}
        self.by_client: dict[str, Order] = {}
        self.trade_count = 0
        self.countdown_due_ms: int | None = None
        self._tick_lot = EXACT.multiply(rules.tick_size, rules.step_size)
        self.funding = Funding(funding_rate, now_ms)
        self.quote: BookTicker | None = None
        self.book_channel = hub.channel(f"{name}@bookTicker")
        self.trade_channel = hub.channel(f"{name}@aggTrade")
        self.single_trade_channel = hub.channel(f"{name}@trade")

    @property
    def mid(self) -> Decimal:
        """Return the mid price in quote units, zero before the first quote."""
        quote = self.quote
        if quote is None:
            return Decimal(0)
        return self.rules.price(quote.bid_ticks + quote.ask_ticks) / 2

    def touch(self, *, is_buy: bool) -> int:
        """Return the best price in ticks that an incoming order meets (less what we have taken), 0 if there is none."""
        side = self.matcher.asks if is_buy else self.matcher.bids
        if side.touch_lots > side.taken_lots:
            return side.touch_ticks
        return next((price_ticks for price_ticks, _ in side.levels(1)), 0)

    def add(self, order: Order) -> None:
        """Count the order among the open ones."""
        self.open[order.order_id] = order
        self.by_client[order.client_order_id] = order

    def drop(self, order: Order) -> None:
        """Count the order no longer among the open ones, and take it out of the book."""
        self.matcher.remove(order.order_id)
        del self.open[order.order_id]
        del self.by_client[order.client_order_id]

    def open_interest(self) -> OpenInterest:
        """Return the value of the open orders that may enlarge a position, a side."""
        bids, asks = self.open_tick_lots()
        return OpenInterest(self.value(bids), self.value(asks))

    def open_tick_lots(self) -> tuple[int, int]:
        """Return the same counted in ticks × lots: bids, asks."""
        bids = asks = 0
        buy = Side.BUY
        for order in self.open.values():
            if not order.reduce_only:
                tick_lots = order.price_ticks * (order.lots - order.executed_lots)
                if order.side is buy:
                    bids += tick_lots
                else:
                    asks += tick_lots
        return bids, asks

    def value(self, tick_lots: int) -> Decimal:
        """Return a sum of price × quantity, counted in ticks × lots, in quote units."""
        return booked(EXACT.multiply(tick_lots, self._tick_lot)) if tick_lots else ZERO
