"""Market stream payloads of Binance, read into market events exactly: captured ones, live ones, those to be recorded.

Source: Market streams (bookTicker, aggTrade, diff depth, markPrice), Order Book. ``trade`` is not documented for
futures, but captures hold it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from sim.market import BookTicker, DepthChange, FundingTerms, Levels, Trade
from sim.public_files import Units
from sim.rules import SymbolRules

Payload = Mapping[str, Any]

BAD_PAYLOAD = (ValueError, LookupError, TypeError, AttributeError, InvalidOperation)
"""What reading a payload raises that is not what it says to be."""

_MARKET_TRADE = "MARKET"


class NoMarketError(ValueError):
    """A quote whose numbers fit has an empty side, or a bid that is no lower than its ask."""


@dataclass(frozen=True, slots=True)
class SingleTrade:
    """One maker order has traded with one taker order."""

    time_ms: int
    single_id: int
    price_ticks: int
    lots: int
    buyer_is_maker: bool


class StreamReader:
    """The payloads of one symbol as events; each method raises one of BAD_PAYLOAD for what does not fit."""

    def __init__(self, rules: SymbolRules) -> None:
        self._rules = rules
        self._ticks = Units(rules.price_ticks, rules.tick_size)
        self._lots = Units(rules.lots, rules.step_size)

    def quote(self, payload: Payload) -> BookTicker:
        """The quote that a bookTicker brings is returned; NoMarketError is raised for one that is none."""
        quote = BookTicker(
            int(payload["T"]),
            self._rules.symbol,
            int(payload["u"]),
            self._ticks[payload["b"]],
            self._lots[payload["B"]],
            self._ticks[payload["a"]],
            self._lots[payload["A"]],
        )
        if not 0 < quote.bid_ticks < quote.ask_ticks:
            raise NoMarketError(f"bid {payload['b']} and ask {payload['a']} are no market")
        return quote

    def trade(self, payload: Payload) -> Trade | None:
        """The trade that an aggTrade brings is returned, None if all of it was against invisible orders.

        RPI orders do not stand in the book that quotes show, so what they trade consumes no queue: the quantity
        is ``nq`` where there is one.
        """
        lots = self._lots[trade_quantity(payload)]
        if not lots:
            return None
        return Trade(
            int(payload["T"]),
            self._rules.symbol,
            int(payload["a"]),
            self._ticks[payload["p"]],
            lots,
            int(payload["f"]),
            int(payload["l"]),
            _boolean(payload["m"]),
        )

    def single(self, payload: Payload) -> SingleTrade | None:
        """The trade that a ``trade`` payload brings is returned, None if it did not happen on the book.

        Those of the insurance fund and of ADL are at prices off the market; aggTrade leaves them out as well.
        """
        if payload.get("X", _MARKET_TRADE) != _MARKET_TRADE:
            return None
        return SingleTrade(
            int(payload["T"]),
            int(payload["t"]),
            self._ticks[payload["p"]],
            self._lots[payload["q"]],
            _boolean(payload["m"]),
        )

    def depth(self, payload: Payload) -> DepthChange:
        """The levels that a depthUpdate changes are returned."""
        bids, asks = self._levels(payload["b"]), self._levels(payload["a"])
        return DepthChange(int(payload["T"]), self._rules.symbol, int(payload["u"]), bids, asks)

    def snapshot(self, reply: Payload) -> DepthChange:
        """The levels in the reply of GET depth are returned, as all that is known."""
        bids, asks = self._levels(reply["bids"]), self._levels(reply["asks"])
        return DepthChange(int(reply["T"]), self._rules.symbol, int(reply["lastUpdateId"]), bids, asks, True)  # noqa: FBT003

    def funding(self, payload: Payload, *, with_time: bool) -> FundingTerms:
        """Rate and, if wanted, time of the next funding are returned, as a markPriceUpdate tells them."""
        next_ms = int(payload["T"]) if with_time else None
        return FundingTerms(int(payload["E"]), self._rules.symbol, Decimal(payload["r"]), next_ms)

    def _levels(self, rows: Iterable[Iterable[str]]) -> Levels:
        ticks, lots = self._ticks, self._lots
        return tuple((ticks[price], lots[quantity]) for price, quantity in rows)


def trade_quantity(payload: Payload) -> str:
    """The part of an aggTrade's quantity that traded with the visible book is returned."""
    quantity = payload.get("nq", payload["q"])
    return str(quantity)


def aggregated(symbol: str, singles: Iterable[SingleTrade]) -> Iterator[Trade]:
    """Trades of one price, side and time in a row come as one, like in an aggTrade; their ids are counted here."""
    trade: Trade | None = None
    for single in singles:
        if trade is not None and _belongs(single, trade):
            trade = _joined(trade, single)
            continue
        if trade is not None:
            yield trade
        trade = Trade(
            single.time_ms,
            symbol,
            single.single_id if trade is None else trade.trade_id + 1,
            single.price_ticks,
            single.lots,
            single.single_id,
            single.single_id,
            single.buyer_is_maker,
        )
    if trade is not None:
        yield trade


def _belongs(single: SingleTrade, trade: Trade) -> bool:
    return (single.time_ms, single.price_ticks, single.buyer_is_maker) == (
        trade.time_ms,
        trade.price_ticks,
        trade.buyer_is_maker,
    )


def _joined(trade: Trade, single: SingleTrade) -> Trade:
    return Trade(
        trade.time_ms,
        trade.symbol,
        trade.trade_id,
        trade.price_ticks,
        trade.lots + single.lots,
        trade.first_id,
        single.single_id,
        trade.buyer_is_maker,
    )


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value} is neither true nor false")
    return value
