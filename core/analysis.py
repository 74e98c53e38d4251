"""What is known of one symbol's market besides best bid and ask: volatility, flow, levels, and what was missed. Pure.

Times are monotonic and come with each call. Prices are whole half ticks (mids) or ticks (trades), statistics floats.
"""

from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal

from core.flow import FlowSums, SignificantTrades, TradeFlow
from core.market_model import DepthView, MarketTrade
from core.model import BookTop, SymbolRules
from core.pressure import imbalance, microprice
from core.settings import MarketDataSettings
from core.volatility import EwmaVolatility, ReturnDeviation

LEVELS = 5
"""So many of the best levels make the imbalance where levels are listened to."""


class MarketAnalysis:
    """The statistics of one symbol, fed by the worker that listens and read by whoever wants to know.

    ``depth`` is None while levels are not listened to, and while our copy of them cannot be trusted.
    """

    def __init__(self, rules: SymbolRules, settings: MarketDataSettings) -> None:
        self._rules = rules
        self._unit_quote = rules.tick_size * rules.step_size
        self.mids = ReturnDeviation(settings.volatility_samples)
        self.trade_prices = ReturnDeviation(settings.volatility_samples)
        self.volatility = EwmaVolatility(settings.volatility_half_life_s)
        self.flow = TradeFlow(settings.flow_window_s)
        least_units = (settings.significant_trade_quote / self._unit_quote).to_integral_value(ROUND_CEILING)
        self._significant = SignificantTrades(int(least_units), settings.significant_trade_interval_s)
        self._mid_half_ticks = 0
        self.depth: DepthView | None = None
        self.last_trade: MarketTrade | None = None
        self.trades = 0
        self.significant_trades = 0
        self.depth_gaps = 0
        self.depth_snapshots = 0
        self.trade_gaps = 0

    def on_book(self, book: BookTop) -> None:
        """Take note of best bid and ask; costs next to nothing while the middle stays where it is."""
        mid_half_ticks = book.bid_ticks + book.ask_ticks
        if mid_half_ticks == self._mid_half_ticks:
            return
        self._mid_half_ticks = mid_half_ticks
        self.mids.add(mid_half_ticks)
        self.volatility.add(book.received_ns, mid_half_ticks)

    def on_books(self, books: Sequence[BookTop]) -> None:
        """Take note of books that came together, as of one after the other."""
        times_ns: list[int] = []
        moves_half_ticks: list[int] = []
        known_half_ticks = self._mid_half_ticks
        for book in books:
            mid_half_ticks = book.bid_ticks + book.ask_ticks
            if mid_half_ticks != known_half_ticks:
                times_ns.append(book.received_ns)
                moves_half_ticks.append(mid_half_ticks)
                known_half_ticks = mid_half_ticks
        self._mid_half_ticks = known_half_ticks
        self.mids.add_all(moves_half_ticks)
        self.volatility.add_all(times_ns, moves_half_ticks)

    def on_trade(self, trade: MarketTrade) -> str:
        """Take note of a trade; return why it is worth telling, "" if it is not."""
        self.trades += 1
        self.last_trade = trade
        self.trade_prices.add(trade.price_ticks)
        self.flow.add(trade.received_ns, trade)
        why = self._significant.why(trade.received_ns, trade)
        self.significant_trades += bool(why)
        return why

    def notional_quote(self, units: int) -> Decimal:
        """Return so many ticks times lots in the quote asset."""
        return self._unit_quote * units

    def flow_sums(self, now_ns: int) -> FlowSums:
        """Return what takers bought and sold in the window that ends now."""
        return self.flow.sums(now_ns)

    def values(self, book: BookTop, now_ns: int) -> dict[str, Decimal | float]:
        """Return all metrics; those of trades are 0 before the first, those of levels while none are known."""
        return {**self._pressure(book, now_ns), **self._mids(now_ns), **self._trades_and_flow(now_ns)}

    def _mids(self, now_ns: int) -> dict[str, Decimal | float]:
        """Return the metrics that come from best bid and ask."""
        return {
            "volatility": self.volatility.bps_per_sqrt_s(now_ns),
            "volatility_minute": self.volatility.bps_per_minute(now_ns),
            "volatility_mids": self.mids.bps,
        }

    def _trades_and_flow(self, now_ns: int) -> dict[str, Decimal | float]:
        """Return the metrics that come from trades."""
        last, sums = self.last_trade, self.flow_sums(now_ns)
        return {
            "last_trade_price": self._rules.price(last.price_ticks) if last is not None else Decimal(0),
            "trade_age": max(now_ns - last.received_ns, 0) / 1e6 if last is not None else 0.0,
            "volatility_trades": self.trade_prices.bps,
            "flow_bought": self.notional_quote(sums.bought),
            "flow_sold": self.notional_quote(sums.sold),
            "flow_trades": sums.trades,
            "flow_imbalance": sums.imbalance,
            "market_trades": self.trades,
            "significant_trades": self.significant_trades,
        }

    def _pressure(self, book: BookTop, now_ns: int) -> dict[str, Decimal | float]:
        """Return the metrics of how the book leans: of the touch, and of the levels where they are known."""
        bid, ask = (book.bid_ticks, book.bid_lots), (book.ask_ticks, book.ask_lots)
        depth = self.depth
        return {
            "microprice": microprice(bid, ask, self._rules),
            "touch_imbalance": imbalance((bid,), (ask,), 1),
            "depth_imbalance": imbalance(depth.bids, depth.asks, LEVELS) if depth is not None else 0.0,
            "depth_age": max(now_ns - depth.received_ns, 0) / 1e6 if depth is not None else 0.0,
            "depth_gaps": self.depth_gaps,
            "trade_gaps": self.trade_gaps,
        }
