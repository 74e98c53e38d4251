"""Orders as the exchange keeps them, and the life that each of them has.

::

    (none) ── NEW ──> NEW ── TRADE ──> PARTIALLY_FILLED ── TRADE ──> FILLED
                       │                      │
                       ├── CANCELED ──────────┴──> CANCELED
                       ├── EXPIRED ────────────┴──> EXPIRED            (rest of IOC and MARKET, reduce-only knocked out)
                       ├── EXPIRED ────────────┴──> EXPIRED_IN_MATCH   (self-trade prevention)
                       └── AMENDMENT: back to NEW or PARTIALLY_FILLED, by what has been executed

Source: facts section 4.2 (status machine), 7.2 (expiry reasons).
"""

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum


class Side(StrEnum):
    """Which way an order trades."""

    BUY = "BUY"
    SELL = "SELL"


class OrderType(StrEnum):
    """The order types that the simulated exchange matches; LIQUIDATION is made by the exchange only."""

    LIMIT = "LIMIT"
    MARKET = "MARKET"
    LIQUIDATION = "LIQUIDATION"


class TimeInForce(StrEnum):
    """How long an order may live; GTX is post-only, GTD ends at its ``goodTillDate``."""

    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"
    GTX = "GTX"
    GTD = "GTD"


class PriceMatch(StrEnum):
    """Which price of the book an order takes instead of one of its own; the number is the level."""

    NONE = "NONE"
    OPPONENT = "OPPONENT"
    OPPONENT_5 = "OPPONENT_5"
    OPPONENT_10 = "OPPONENT_10"
    OPPONENT_20 = "OPPONENT_20"
    QUEUE = "QUEUE"
    QUEUE_5 = "QUEUE_5"
    QUEUE_10 = "QUEUE_10"
    QUEUE_20 = "QUEUE_20"


class StpMode(StrEnum):
    """What happens when an incoming order meets a resting order of the same account."""

    EXPIRE_TAKER = "EXPIRE_TAKER"
    EXPIRE_MAKER = "EXPIRE_MAKER"
    EXPIRE_BOTH = "EXPIRE_BOTH"
    NONE = "NONE"


class OrderStatus(StrEnum):
    """Where an order stands in its life."""

    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    EXPIRED_IN_MATCH = "EXPIRED_IN_MATCH"


_OPEN = (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)


class ExpiryReason(IntEnum):
    """Why the exchange ended an order: field ``er`` of ORDER_TRADE_UPDATE."""

    NONE = 0
    SELF_TRADE = 1
    IOC_REST = 2
    IOC_SELF_TRADE = 3
    REDUCE_ONLY = 4
    LIQUIDATION = 5
    MARKET_REST = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderSpec:
    """A validated wish for a new order: ticks and lots, ``price_ticks`` None for MARKET."""

    client_order_id: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    price_ticks: int | None
    lots: int
    reduce_only: bool = False
    stp: StpMode = StpMode.EXPIRE_MAKER
    price_match: PriceMatch = PriceMatch.NONE
    good_till_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A validated amendment: price, total quantity, and what the client calls it (``modify_id``, "" if nothing)."""

    price_ticks: int
    lots: int
    price_match: PriceMatch = PriceMatch.NONE
    modify_id: str = ""
    resets_stp: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What the market showed when an order or its amendment arrived: the record's proof of good behaviour."""

    time_ms: int
    price_ticks: int
    lots: int
    bid_ticks: int
    ask_ticks: int
    would_cross: bool
    amendment: "Amendment | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Amendment:
    """What an amendment is known by, and what the order was before it."""

    amendment_id: int
    modify_id: str
    before_ticks: int
    before_lots: int


@dataclass(slots=True, kw_only=True)
class Order:
    """One order of the account; ``traded_tick_lots`` is the sum of price × quantity of its fills.

    ``amendments`` are the newest of ``modify_count``, all of them while the order is open; ``would_have_crossed`` tells
    of its arrival and of all amendments.
    """

    order_id: int
    client_order_id: str
    symbol: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    price_ticks: int
    lots: int
    reduce_only: bool
    stp: StpMode
    time_ms: int
    update_ms: int
    arrival: Sighting
    price_match: PriceMatch = PriceMatch.NONE
    good_till_ms: int = 0
    status: OrderStatus = OrderStatus.NEW
    executed_lots: int = 0
    traded_tick_lots: int = 0
    modify_count: int = 0
    amendments: list[Sighting] = field(default_factory=list)
    would_have_crossed: bool = False

    @property
    def is_buy(self) -> bool:
        """Tell whether the order buys."""
        return self.side is Side.BUY

    @property
    def remaining_lots(self) -> int:
        """Return the lots that have not been executed."""
        return self.lots - self.executed_lots

    @property
    def is_open(self) -> bool:
        """Tell whether the order can still trade."""
        return self.status in _OPEN

    @property
    def first_kept_amendment(self) -> int:
        """Return the number of the oldest amendment that is kept, counted from 1."""
        return self.modify_count - len(self.amendments) + 1

    def execute(self, lots: int, price_ticks: int, now_ms: int) -> None:
        """Book a fill of ``lots`` at ``price_ticks``; the status follows from what remains."""
        if not self.is_open or not 0 < lots <= self.remaining_lots:
            raise ValueError(f"order {self.order_id} ({self.status}) cannot execute {lots} lots")
        self.executed_lots += lots
        self.traded_tick_lots += lots * price_ticks
        self.update_ms = now_ms
        self.status = OrderStatus.PARTIALLY_FILLED if self.remaining_lots else OrderStatus.FILLED

    def end(self, status: OrderStatus, now_ms: int) -> None:
        """Bring the order to a terminal ``status``; what was executed stays."""
        if not self.is_open:
            raise ValueError(f"order {self.order_id} has already ended as {self.status}")
        self.status = status
        self.update_ms = now_ms

    def amend(self, seen: Sighting, change: Change) -> None:
        """Give the order the total quantity and price of ``seen``, which is kept as part of its history."""
        self.price_match = change.price_match
        if change.resets_stp:
            self.stp = StpMode.NONE
        self.price_ticks = seen.price_ticks
        self.lots = seen.lots
        self.update_ms = seen.time_ms
        self.modify_count += 1
        self.amendments.append(seen)
        self.would_have_crossed |= seen.would_cross

    def amendment(self, number: int) -> Sighting:
        """Return a kept amendment by its number."""
        return self.amendments[number - self.first_kept_amendment]

    def keep_amendments(self, most: int) -> None:
        """Let go of all amendments but the newest."""
        del self.amendments[:-most]
