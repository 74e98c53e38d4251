"""Values of the market beside best bid and ask: trades, levels, changes of levels. Nothing here does anything."""

from dataclasses import dataclass

from msgspec import Struct

Level = tuple[int, int]
"""Price in ticks and quantity in lots."""
Levels = tuple[Level, ...]
"""The best first."""


class MarketTrade(Struct, frozen=True):
    """A trade of the market, or several at one price that one taker made (``aggTrade``).

    ``is_buy`` says that the taker bought. ``exchange_ms`` is the exchange's time of the trade, ``received_ns`` our
    monotonic time of receiving it.
    """

    price_ticks: int
    lots: int
    is_buy: bool
    trade_id: int
    exchange_ms: int
    received_ns: int

    @property
    def notional_units(self) -> int:
        """Return price times quantity in ticks times lots, which is exact."""
        return self.price_ticks * self.lots


@dataclass(frozen=True, slots=True)
class DepthView:
    """The best levels of both sides as they were known at ``received_ns``."""

    bids: Levels
    asks: Levels
    update_id: int
    exchange_ms: int
    received_ns: int

    @property
    def is_sane(self) -> bool:
        """Tell whether the levels could be real: both sides there and not crossed."""
        return bool(self.bids and self.asks) and 0 < self.bids[0][0] < self.asks[0][0]


@dataclass(frozen=True, slots=True)
class DepthSnapshot:
    """The levels of both sides as a REST reply brought them."""

    bids: Levels
    asks: Levels
    update_id: int


@dataclass(frozen=True, slots=True)
class DepthDiff:
    """Levels that have changed, with their quantities as they are now; 0 lots for a level that is gone.

    ``first_id`` to ``last_id`` are the update ids it covers, ``previous_id`` the last id of the event before it.
    """

    bids: Levels
    asks: Levels
    first_id: int
    last_id: int
    previous_id: int
    exchange_ms: int
