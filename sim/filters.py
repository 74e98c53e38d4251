"""The exchange's filters: whether a price and a quantity are allowed, in the order in which Binance refuses them.

Source: facts section 3.2 (filters and their codes), section 9 (texts).
"""

from decimal import Decimal

from sim.errors import refusal
from sim.orders import OrderType, Side
from sim.rules import SymbolRules, plain


def check_price(rules: SymbolRules, price: Decimal) -> int:
    """Return ``price`` in ticks; raises -4001, -1111, -4002, -4013 or -4014."""
    if price <= 0:
        raise refusal(-4001)
    if _exceeds(price, rules.price_precision):
        raise refusal(-1111)
    if rules.max_price and price > rules.max_price:
        raise refusal(-4002)
    if price < rules.min_price:
        raise refusal(-4013)
    try:
        return rules.price_ticks(price)
    except ValueError:
        raise refusal(-4014) from None


def check_quantity(rules: SymbolRules, quantity: Decimal, kind: OrderType) -> int:
    """Return ``quantity`` in lots; raises -4003, -1111, -4004, -4005 or -4023."""
    if quantity <= 0:
        raise refusal(-4003)
    if _exceeds(quantity, rules.quantity_precision):
        raise refusal(-1111)
    if quantity < rules.min_qty:
        raise refusal(-4004)
    if quantity > (rules.market_max_qty if kind is OrderType.MARKET else rules.max_qty):
        raise refusal(-4005)
    try:
        return rules.lots(quantity)
    except ValueError:
        raise refusal(-4023) from None


def check_percent_price(rules: SymbolRules, side: Side, price: Decimal, mark: Decimal) -> None:
    """Return if a limit price is not too far on the aggressive side of ``mark``; raises -4016 or -4024."""
    if not mark:
        return
    highest, lowest = mark * rules.multiplier_up, mark * rules.multiplier_down
    if side is Side.BUY and price > highest:
        raise refusal(-4016, plain(highest.quantize(rules.tick_size)))
    if side is Side.SELL and price < lowest:
        raise refusal(-4024, plain(lowest.quantize(rules.tick_size)))


def check_market_price(rules: SymbolRules, side: Side, opposite: Decimal, mark: Decimal) -> None:
    """Return if the best price that a MARKET order would meet is near ``mark``; raises -4131."""
    if side is Side.BUY and opposite > mark * rules.multiplier_up:
        raise refusal(-4131)
    if side is Side.SELL and opposite < mark * rules.multiplier_down:
        raise refusal(-4131)


def check_notional(rules: SymbolRules, price: Decimal, quantity: Decimal, code: int = -4164) -> None:
    """Return if the order's value reaches the minimum; raises ``code`` otherwise."""
    if price * quantity < rules.min_notional:
        raise refusal(code, plain(rules.min_notional))


def _exceeds(value: Decimal, decimals: int) -> bool:
    """Tell whether ``value`` has more decimals than that, zeros at its end not counted."""
    return value != round(value, decimals)
