"""Binance's JSON of depth and trades, turned into our values. Tolerant of fields it does not know.

Source: binance-futures diff and partial book depth streams, depth endpoint, aggregate trade streams; spot trade
streams.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from core.market_model import DepthDiff, DepthSnapshot, DepthView, Levels, MarketTrade
from core.model import SymbolRules
from core.wire import lots_of, units_of

_Pairs = list[tuple[str, str]]


class DepthData(msgspec.Struct):
    """The payload of a depth stream, diff or partial; keys as on the wire."""

    T: int
    s: str
    U: int
    u: int
    pu: int
    b: _Pairs
    a: _Pairs


class DepthMessage(msgspec.Struct):
    """A depth payload as a combined stream wraps it."""

    stream: str
    data: DepthData


class TradeData(msgspec.Struct):
    """The payload of an ``aggTrade`` stream, or of a ``trade`` stream as spot has them; keys as on the wire.

    ``a`` is the id of an aggregate trade, ``t`` that of a single one, ``X`` says where a single one comes from.
    """

    E: int
    T: int
    s: str
    p: str
    q: str
    m: bool
    a: int = 0
    t: int = 0
    X: str = "MARKET"

    @property
    def is_of_market(self) -> bool:
        """Tell whether it was made on the market, at its price; those of the insurance fund and of ADL are not."""
        return self.X == "MARKET"


class TradeMessage(msgspec.Struct):
    """A trade payload as a combined stream wraps it."""

    stream: str
    data: TradeData


def _levels(pairs: Sequence[Sequence[str]], rules: SymbolRules) -> Levels:
    tick, step = rules.tick_size, rules.step_size
    return tuple((units_of(price, tick), lots_of(quantity, step)) for price, quantity in pairs)


def depth_diff(data: DepthData, rules: SymbolRules) -> DepthDiff:
    """Return the changes in a diff depth payload; ValueError for a price that is between two ticks."""
    return DepthDiff(
        bids=_levels(data.b, rules),
        asks=_levels(data.a, rules),
        first_id=data.U,
        last_id=data.u,
        previous_id=data.pu,
        exchange_ms=data.T,
    )


def depth_view(data: DepthData, rules: SymbolRules, received_ns: int) -> DepthView:
    """Return the best levels in a partial depth payload, which holds them in full."""
    return DepthView(_levels(data.b, rules), _levels(data.a, rules), data.u, data.T, received_ns)


def depth_snapshot(reply: Mapping[str, Any], rules: SymbolRules) -> DepthSnapshot:
    """Return the levels of a REST depth reply."""
    return DepthSnapshot(
        bids=_levels(reply["bids"], rules),
        asks=_levels(reply["asks"], rules),
        update_id=reply["lastUpdateId"],
    )


def market_trade(data: TradeData, rules: SymbolRules, received_ns: int) -> MarketTrade:
    """Return the trade in a payload; when the buyer is the maker, the taker sold.

    ValueError for a price that is between two ticks.
    """
    return MarketTrade(
        price_ticks=units_of(data.p, rules.tick_size),
        lots=lots_of(data.q, rules.step_size),
        is_buy=not data.m,
        trade_id=data.a or data.t,
        exchange_ms=data.T,
        received_ns=received_ns,
    )
