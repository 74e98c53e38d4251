"""The vocabulary: values that the rest of the program speaks in. Nothing here does anything.

Prices are integer ticks and quantities integer lots; SymbolRules turns them into exact Decimals and wire strings.
Money is Decimal.
"""

from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from functools import partial

from msgspec import Struct

from utils.word import Word


class Side(Word):
    """The side of an order or quote, spelled as on the wire."""

    BUY = "BUY"
    SELL = "SELL"

    sign: int
    """+1 for buy and -1 for sell."""

    def __init__(self, text: str) -> None:
        self.sign = 1 if text == "BUY" else -1

    @property
    def opposite(self) -> "Side":
        """Return the other side."""
        return Side.SELL if self is Side.BUY else Side.BUY


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolRules:
    """What the exchange demands of orders on one symbol.

    ``multiplier_up``/``multiplier_down`` bound buys above and sells below, as factors of the mark price.

    Source: binance-futures exchangeInfo, filters PRICE_FILTER, LOT_SIZE, MARKET_LOT_SIZE, MIN_NOTIONAL, PERCENT_PRICE,
    MAX_NUM_ORDERS. ``pricePrecision`` is not the tick and is not used.
    """

    symbol: str
    base_asset: str
    quote_asset: str
    status: str
    tick_size: Decimal
    step_size: Decimal
    min_price: Decimal
    max_price: Decimal
    min_lots: int
    max_lots: int
    market_max_lots: int
    min_notional_quote: Decimal
    multiplier_up: Decimal
    multiplier_down: Decimal
    max_open_orders: int
    # What follows from these is worked out once, for it is asked of each quote at each move of the price.
    unit_ratio: tuple[int, int] = field(init=False, repr=False, compare=False)
    """What one tick times one lot is worth in the quote asset, as an exact fraction."""
    min_units: int = field(init=False, repr=False, compare=False)
    """The least ticks times lots that an order may be worth; ``min_ticks`` and ``max_ticks`` bound its price."""
    min_ticks: int = field(init=False, repr=False, compare=False)
    max_ticks: int = field(init=False, repr=False, compare=False)

    tick_parts: tuple[int, int] = field(init=False, repr=False, compare=False)
    """The tick as a whole number and how many decimals it has; ``step_parts`` are those of the step."""
    step_parts: tuple[int, int] = field(init=False, repr=False, compare=False)
    _price_bounds: tuple[Decimal, int, int] = field(init=False, repr=False, compare=False)
    """Those of ``price_bounds`` behind the mark price beside which they hold, which comes once a second."""

    def __post_init__(self) -> None:
        unit = self.tick_size * self.step_size
        put = partial(object.__setattr__, self)
        put("unit_ratio", unit.as_integer_ratio())
        put("tick_parts", _parts(self.tick_size))
        put("step_parts", _parts(self.step_size))
        put("min_units", int((self.min_notional_quote / unit).to_integral_value(ROUND_CEILING)))
        put("min_ticks", self.ceil_ticks(self.min_price))
        put("max_ticks", self.floor_ticks(self.max_price) if self.max_price else 2**63)
        put("_price_bounds", (Decimal(0), 0, 0))

    def price_bounds(self, mark_price: Decimal) -> tuple[int, int]:
        """Return the highest price of a buy and the lowest of a sell, in ticks, that are taken beside a mark price."""
        of, most, least = self._price_bounds
        if of is not mark_price:
            most = self.floor_ticks(mark_price * self.multiplier_up)
            least = self.ceil_ticks(mark_price * self.multiplier_down)
            object.__setattr__(self, "_price_bounds", (mark_price, most, least))
        return most, least

    def price(self, ticks: int) -> Decimal:
        """Return the price of that many ticks."""
        return self.tick_size * ticks

    def quantity(self, lots: int) -> Decimal:
        """Return the quantity of that many lots."""
        return self.step_size * lots

    def price_text(self, ticks: int) -> str:
        """Return the price as the wire wants it: plain digits, no exponent."""
        return _decimal_text(ticks, *self.tick_parts)

    def quantity_text(self, lots: int) -> str:
        """Return the quantity as the wire wants it: plain digits, no exponent."""
        return _decimal_text(lots, *self.step_parts)

    def ticks(self, price: Decimal) -> int:
        """Return a price of the exchange in ticks; ValueError if it lies between two ticks."""
        return exact_units(price, self.tick_size, "tick size")

    def lots(self, quantity: Decimal) -> int:
        """Return a quantity of the exchange in lots; ValueError if it lies between two steps."""
        return exact_units(quantity, self.step_size, "step size")

    def floor_ticks(self, price: Decimal) -> int:
        """Return the highest tick at or below the price."""
        return int((price / self.tick_size).to_integral_value(ROUND_FLOOR))

    def ceil_ticks(self, price: Decimal) -> int:
        """Return the lowest tick at or above the price."""
        return int((price / self.tick_size).to_integral_value(ROUND_CEILING))

    def floor_lots(self, quantity: Decimal) -> int:
        """Return the most lots that are not more than the quantity."""
        return int((quantity / self.step_size).to_integral_value(ROUND_FLOOR))

    def ceil_lots(self, quantity: Decimal) -> int:
        """Return the fewest lots that are not less than the quantity."""
        return int((quantity / self.step_size).to_integral_value(ROUND_CEILING))

    def whole_lots(self, quantity: Decimal) -> tuple[int, Decimal]:
        """Return the most lots that are not more than the quantity, and what of it is beyond them."""
        lots = self.floor_lots(quantity)
        return lots, quantity - self.step_size * lots

    def units(self, quote: Decimal) -> int:
        """Return the most ticks times lots that are worth no more than so much of the quote asset."""
        numerator, denominator = quote.as_integer_ratio()
        unit, of_unit = self.unit_ratio
        return numerator * of_unit // (denominator * unit)

    def notional_quote(self, ticks: int, lots: int) -> Decimal:
        """Return price times quantity in the quote asset."""
        return self.price(ticks) * self.quantity(lots)


def _parts(unit: Decimal) -> tuple[int, int]:
    """Return a unit as a whole number, and by how many decimals that is too large."""
    _, digits, exponent = unit.as_tuple()
    whole, decimals = int("".join(map(str, digits))), -int(exponent)
    return (whole, decimals) if decimals >= 0 else (whole * 10**-decimals, 0)


def _decimal_text(units: int, whole: int, decimals: int) -> str:
    """Return so many units in plain digits, with as many decimals as the unit has."""
    text = str(abs(units * whole)).zfill(decimals + 1)
    sign = "-" if units < 0 else ""
    return f"{sign}{text[:-decimals]}.{text[-decimals:]}" if decimals else sign + text


def exact_units(value: Decimal, unit: Decimal, what: str) -> int:
    """Return how many units a value is; ValueError, naming ``what`` the unit is, if it lies between two."""
    units = value / unit
    whole = int(units)
    if whole != units:
        raise ValueError(f"{value} is not a multiple of the {what} {unit}")
    return whole


class BookTop(Struct, frozen=True, gc=False):
    """Best bid and ask as one message brought them.

    ``exchange_ms`` is the exchange's time of the change, ``received_ns`` our monotonic time of receiving it. A msgspec
    struct, which is made in an eighth of the time of a frozen dataclass: one comes with every change of the book.
    """

    bid_ticks: int
    bid_lots: int
    ask_ticks: int
    ask_lots: int
    update_id: int
    exchange_ms: int
    received_ns: int

    @property
    def mid_half_ticks(self) -> int:
        """Return the mid price in half ticks, which is exact."""
        return self.bid_ticks + self.ask_ticks

    @property
    def is_sane(self) -> bool:
        """Tell whether the book could be real: positive prices, sizes on both sides, and not crossed."""
        return 0 < self.bid_ticks < self.ask_ticks and self.bid_lots > 0 and self.ask_lots > 0


class Quote(Struct, frozen=True, gc=False):
    """An order that we want to rest: level 1 is the nearest to the mid."""

    side: Side
    level: int
    price_ticks: int
    lots: int

    @property
    def slot(self) -> tuple[Side, int]:
        """Return the place that this quote fills; at most one order rests in a slot."""
        return self.side, self.level


class OrderStatus(Word):
    """Where an order of ours stands in its life."""

    PENDING_NEW = "PENDING_NEW"
    ACTIVE = "ACTIVE"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    PENDING_MODIFY = "PENDING_MODIFY"
    PENDING_CANCEL = "PENDING_CANCEL"
    IN_DOUBT = "IN_DOUBT"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    EXPIRED_IN_MATCH = "EXPIRED_IN_MATCH"
    REJECTED = "REJECTED"

    is_terminal: bool
    """The order's life has ended; nothing ever undoes that."""

    def __init__(self, text: str) -> None:
        self.is_terminal = text in ("FILLED", "CANCELLED", "EXPIRED", "EXPIRED_IN_MATCH", "REJECTED")


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderReport:
    """What the exchange says of an order, in a reply or on the user stream. ``executed_lots`` is cumulative.

    An order from before a change of the tick or the step may lie between two of them. Its price and lots are rounded up
    then, so that it never looks smaller than it is; ``executed_rest`` is what is executed beyond the whole lots.

    ``is_amendment`` says that it tells of the very amend that made price and quantity what they are.
    """

    symbol: str
    client_id: str
    order_id: int
    side: Side
    status: OrderStatus
    price_ticks: int
    lots: int
    executed_lots: int
    reduce_only: bool
    time_in_force: str
    update_ms: int
    is_amendment: bool = False
    executed_rest: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """One trade of ours. ``commission`` is positive when paid; ``realized_pnl_quote`` is before commission."""

    symbol: str
    trade_id: int
    order_id: int
    client_id: str
    side: Side
    price: Decimal
    quantity: Decimal
    commission: Decimal
    commission_asset: str
    realized_pnl_quote: Decimal
    is_maker: bool
    time_ms: int


@dataclass(frozen=True, slots=True)
class Position:
    """A position as the exchange reports it; ``quantity`` is signed, long is positive."""

    symbol: str
    quantity: Decimal
    entry_price: Decimal
    mark_price: Decimal
    unrealized_pnl_quote: Decimal
    update_ms: int

    @classmethod
    def flat(cls, symbol: str) -> "Position":
        """Return no position at all."""
        zero = Decimal(0)
        return cls(symbol, zero, zero, zero, zero, 0)
