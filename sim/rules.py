"""What may be traded and in which steps: the rules of one symbol, as the exchange knows and publishes them.

Prices count in ticks and quantities in lots, both whole numbers; these rules are the only bridge to decimal text.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

_DELIVERY_NEVER_MS = 4133404800000
_ONBOARD_MS = 1569398400000
_KEPT_TEXTS = 1 << 16


def plain(value: Decimal) -> str:
    """Return ``value`` as a decimal string without exponent, the only form that the wire knows."""
    return format(value, "f")


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolRules:
    """Filters, precisions and fees of one symbol.

    ``tick_size`` and ``step_size`` are Decimals in quote and base units; fees are fractions of the traded value.

    Source: ``GET /fapi/v1/exchangeInfo``; facts section 3.2 and 10.
    """

    symbol: str
    base_asset: str
    quote_asset: str = "USDT"
    tick_size: Decimal
    step_size: Decimal
    min_qty: Decimal
    max_qty: Decimal
    market_max_qty: Decimal
    min_price: Decimal
    max_price: Decimal
    min_notional: Decimal
    multiplier_up: Decimal = Decimal("1.0500")
    multiplier_down: Decimal = Decimal("0.9500")
    max_num_orders: int = 200
    price_precision: int
    quantity_precision: int
    maker_fee: Decimal = Decimal("0.000200")
    taker_fee: Decimal = Decimal("0.000500")
    max_leverage: int = 125
    delivery_ms: int = _DELIVERY_NEVER_MS
    trigger_protect: Decimal = Decimal("0.0500")
    liquidation_fee: Decimal = Decimal("0.012500")
    market_take_bound: Decimal = Decimal("0.05")
    max_amendments: int = 10_000
    price_text: Callable[[int], str] = field(init=False, repr=False, compare=False)
    """Returns the price of so many ticks as it goes over the wire."""
    quantity_text: Callable[[int], str] = field(init=False, repr=False, compare=False)
    """Returns the quantity of so many lots as it goes over the wire."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "price_text", _Texts(self.tick_size).__getitem__)
        object.__setattr__(self, "quantity_text", _Texts(self.step_size).__getitem__)

    def price_ticks(self, price: Decimal) -> int:
        """Return ``price`` in whole ticks; raises ValueError if it lies between two ticks."""
        return _whole(price, self.tick_size, "price", "tick")

    def lots(self, quantity: Decimal) -> int:
        """Return ``quantity`` in whole lots; raises ValueError if it lies between two steps."""
        return _whole(quantity, self.step_size, "quantity", "step")

    def price(self, ticks: int) -> Decimal:
        """Return the price of ``ticks`` with the tick's number of decimals."""
        return ticks * self.tick_size

    def quantity(self, lots: int) -> Decimal:
        """Return the quantity of ``lots`` with the step's number of decimals."""
        return lots * self.step_size

    def as_exchange_info(self) -> dict[str, Any]:
        """Return the element of ``symbols`` in exchangeInfo, keys in the order in which Binance sends them."""
        return {
            "symbol": self.symbol,
            "pair": self.symbol,
            "contractType": "PERPETUAL",
            "deliveryDate": self.delivery_ms,
            "onboardDate": _ONBOARD_MS,
            "status": "TRADING",
            "maintMarginPercent": "2.5000",
            "requiredMarginPercent": "5.0000",
            "baseAsset": self.base_asset,
            "quoteAsset": self.quote_asset,
            "marginAsset": self.quote_asset,
            "pricePrecision": self.price_precision,
            "quantityPrecision": self.quantity_precision,
            "baseAssetPrecision": 8,
            "quotePrecision": 8,
            "underlyingType": "COIN",
            "underlyingSubType": [],
            "triggerProtect": plain(self.trigger_protect),
            "liquidationFee": plain(self.liquidation_fee),
            "marketTakeBound": plain(self.market_take_bound),
            "maxMoveOrderLimit": self.max_amendments,
            "filters": self._filters(),
            "orderTypes": ["LIMIT", "MARKET"],
            "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
            "permissionSets": ["GRID", "COPY"],
        }

    def _filters(self) -> list[dict[str, Any]]:
        return [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": plain(self.min_price),
                "maxPrice": plain(self.max_price),
                "tickSize": plain(self.tick_size),
            },
            _lot_filter("LOT_SIZE", self.min_qty, self.max_qty, self.step_size),
            _lot_filter("MARKET_LOT_SIZE", self.min_qty, self.market_max_qty, self.step_size),
            {"filterType": "MAX_NUM_ORDERS", "limit": self.max_num_orders},
            {"filterType": "MIN_NOTIONAL", "notional": plain(self.min_notional)},
            {
                "filterType": "PERCENT_PRICE",
                "multiplierUp": plain(self.multiplier_up),
                "multiplierDown": plain(self.multiplier_down),
                "multiplierDecimal": "4",
            },
            {"filterType": "POSITION_RISK_CONTROL", "positionControlSide": "NONE"},
        ]


def _lot_filter(name: str, low: Decimal, high: Decimal, step: Decimal) -> dict[str, Any]:
    return {"filterType": name, "minQty": plain(low), "maxQty": plain(high), "stepSize": plain(step)}


def _whole(value: Decimal, unit: Decimal, what: str, name: str) -> int:
    count, rest = divmod(value, unit)
    if rest:
        raise ValueError(f"{what} {value} is not a multiple of the {name} {unit}")
    return int(count)


class _Texts(dict[int, str]):
    """Multiples of a unit as decimal text with its number of decimals; those that were asked for are kept."""

    def __init__(self, unit: Decimal) -> None:
        super().__init__()
        exponent = unit.as_tuple().exponent
        self._decimals = max(-exponent, 0) if isinstance(exponent, int) else 0
        self._factor = int(unit.scaleb(self._decimals))
        self._scale = 10**self._decimals
        self._form = f"%d.%0{self._decimals}d" if self._decimals else "%d"

    def __missing__(self, count: int) -> str:
        if len(self) >= _KEPT_TEXTS:
            self.clear()
        digits = abs(count * self._factor)
        text = self._form % (divmod(digits, self._scale) if self._decimals else digits)
        text = self[count] = f"-{text}" if count < 0 else text
        return text


def _mainnet(symbol: str, **fields: Any) -> SymbolRules:
    decimals: dict[str, Any] = {
        key: Decimal(value) if isinstance(value, str) else value for key, value in fields.items()
    }
    return SymbolRules(symbol=symbol, base_asset=symbol.removesuffix("USDT"), **decimals)


_ALL = (
    _mainnet(
        "BTCUSDT",
        tick_size="0.10",
        step_size="0.001",
        min_qty="0.001",
        max_qty="1000",
        market_max_qty="120",
        min_price="556.80",
        max_price="4529764",
        min_notional="50",
        price_precision=2,
        quantity_precision=3,
    ),
    _mainnet(
        "ETHUSDT",
        tick_size="0.01",
        step_size="0.001",
        min_qty="0.001",
        max_qty="10000",
        market_max_qty="2000",
        min_price="39.86",
        max_price="306177",
        min_notional="20",
        price_precision=2,
        quantity_precision=3,
    ),
    _mainnet(
        "SOLUSDT",
        tick_size="0.0100",
        step_size="0.01",
        min_qty="0.01",
        max_qty="1000000",
        market_max_qty="80000",
        min_price="0.4200",
        max_price="6857",
        min_notional="5",
        price_precision=4,
        quantity_precision=2,
        max_leverage=100,
    ),
    _mainnet(
        "XRPUSDT",
        tick_size="0.0001",
        step_size="0.1",
        min_qty="0.1",
        max_qty="1000000",
        market_max_qty="1000000",
        min_price="0.0143",
        max_price="100000",
        min_notional="5",
        price_precision=4,
        quantity_precision=1,
        max_leverage=75,
    ),
    _mainnet(
        "DOGEUSDT",
        tick_size="0.000010",
        step_size="1",
        min_qty="1",
        max_qty="300000000",
        market_max_qty="10000000",
        min_price="0.002440",
        max_price="30",
        min_notional="5",
        price_precision=6,
        quantity_precision=0,
        max_leverage=75,
    ),
    # A spot pair whose day of quotes ships with the recordings: rules of our own that its prices and sizes
    # fit.
    _mainnet(
        "NEXOUSDT",
        tick_size="0.001",
        step_size="0.01",
        min_qty="0.01",
        max_qty="1000000",
        market_max_qty="100000",
        min_price="0.001",
        max_price="1000",
        min_notional="5",
        price_precision=3,
        quantity_precision=2,
        max_leverage=50,
    ),
)

MAINNET: dict[str, SymbolRules] = {rules.symbol: rules for rules in _ALL}
