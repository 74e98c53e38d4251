"""What do we want to rest? Pure: book and settings in, quotes out."""

from decimal import Decimal

from msgspec import Struct

from core.model import BookTop, Quote, Side, SymbolRules
from core.settings import QuoteSettings


class Desired(Struct, frozen=True):
    """The quotes wanted now, nearest level first, and why any level has none."""

    quotes: tuple[Quote, ...]
    left_out: tuple[str, ...] = ()


def desired_quotes(
    book: BookTop, mark_price: Decimal, rules: SymbolRules, settings: QuoteSettings
) -> Desired:
    """Return ``levels`` quotes a side at ``level × offset`` percent from the mid, as far as the rules allow each.

    Prices are rounded away from the mid to the tick, so that no quote is nearer than configured or crosses; sizes down
    to the step, so that none is bigger than configured. A quote below the exchange's minimum is left out, never raised.
    """
    quotes: list[Quote] = []
    left_out: list[str] = []
    mid_half_ticks, size_units = book.mid_half_ticks, rules.units(settings.size_quote)
    near, far, lowest, highest = _at_a_glance(mid_half_ticks, mark_price, rules, settings)
    for level in range(1, settings.levels + 1):
        for side in (Side.BUY, Side.SELL):
            quote = level_quote(mid_half_ticks, side, level, settings, size_units)
            price_ticks, lots = quote.price_ticks, quote.lots
            above_mid = 2 * price_ticks - mid_half_ticks
            if not (
                near <= (-above_mid if side is Side.BUY else above_mid) <= far
                and lowest <= price_ticks <= highest
                and 0 < lots <= rules.max_lots
                and lots >= rules.min_lots
                and price_ticks * lots >= rules.min_units
            ) and (objection := _objection(quote, mid_half_ticks, mark_price, rules, settings)):
                left_out.append(f"{side.lower()} {level}: {objection}")
                continue
            quotes.append(quote)
    return Desired(tuple(quotes), tuple(left_out))


def _objection(
    quote: Quote, mid_half_ticks: int, mark_price: Decimal, rules: SymbolRules, settings: QuoteSettings
) -> str:
    return (
        spread_objection(quote.side, quote.price_ticks, mid_half_ticks, settings)
        or mark_objection(quote.price_ticks, mark_price, rules, settings)
        or rule_objection(quote, mark_price, rules)
    )


def _at_a_glance(
    mid_half_ticks: int, mark_price: Decimal, rules: SymbolRules, settings: QuoteSettings
) -> tuple[int, int, int, int]:
    """Return the distances, in half ticks, and the prices, in ticks, between which nothing is wrong with a price.

    A tick or two on the safe side: what is wrong with another price, if anything, is looked for in full.
    """
    near, of_near = settings.min_spread_ratio
    far, of_far = settings.max_spread_ratio
    lowest, highest = rules.min_ticks, rules.max_ticks
    if mark_price > 0:
        most_of_a_buy, least_of_a_sell = rules.price_bounds(mark_price)
        mark_ticks = int(mark_price / rules.tick_size)
        reach_ticks = far * mark_ticks // of_far
        lowest = max(lowest, least_of_a_sell, mark_ticks - reach_ticks + 1)
        highest = min(highest, most_of_a_buy, mark_ticks + reach_ticks - 1)
    return near * mid_half_ticks // of_near + 2, far * mid_half_ticks // of_far - 2, lowest, highest


def level_quote(
    mid_half_ticks: int, side: Side, level: int, settings: QuoteSettings, size_units: int
) -> Quote:
    """Return the quote of one level, without asking whether the exchange would take it.

    ``size_units`` is what it may be worth, in ticks times lots.
    """
    price_ticks = level_price_ticks(mid_half_ticks, side, level, settings)
    return Quote(side, level, price_ticks, size_units // price_ticks)


def level_price_ticks(mid_half_ticks: int, side: Side, level: int, settings: QuoteSettings) -> int:
    """Return ``mid × (1 ∓ level × offset)`` in ticks, rounded away from the mid and at least one tick."""
    numerator, denominator = settings.offset_ratio
    exact = mid_half_ticks * (denominator - side.sign * level * numerator)
    ticks = exact // (2 * denominator) if side is Side.BUY else -(-exact // (2 * denominator))
    return max(ticks, 1)


def spread_objection(side: Side, price_ticks: int, mid_half_ticks: int, settings: QuoteSettings) -> str:
    """Return why no quote may rest at this price by ``[min_spread, max_spread]``, or an empty string.

    Less than a tick beyond max_spread is within it: prices are rounded away from the mid.
    """
    distance_half_ticks = side.sign * (mid_half_ticks - 2 * price_ticks)
    numerator, denominator = settings.min_spread_ratio
    if distance_half_ticks * denominator < numerator * mid_half_ticks:
        return "nearer than min_spread"
    numerator, denominator = settings.max_spread_ratio
    if (distance_half_ticks - 2) * denominator >= numerator * mid_half_ticks:
        return "farther than max_spread"
    return ""


def mark_objection(price_ticks: int, mark_price: Decimal, rules: SymbolRules, settings: QuoteSettings) -> str:
    """Return why no quote may be placed at this price beside this mark price by ``max_spread``, or an empty string.

    A mark price of 0 is unknown, and then it says nothing.
    """
    beyond = abs(rules.price(price_ticks) - mark_price) - rules.tick_size
    if mark_price > 0 and beyond >= settings.max_spread * mark_price:
        return f"farther than max_spread from the mark price {mark_price}"
    return ""


def rule_objection(quote: Quote, mark_price: Decimal, rules: SymbolRules) -> str:
    """Return why the exchange would refuse this quote by its filters, or an empty string.

    Source: binance-futures filters (LOT_SIZE, MIN_NOTIONAL, PRICE_FILTER, PERCENT_PRICE).
    """
    return size_objection(quote, rules) or price_objection(quote, mark_price, rules)


def size_objection(quote: Quote, rules: SymbolRules) -> str:
    """Return why the exchange would refuse the size of this quote, or an empty string."""
    if quote.lots < max(rules.min_lots, 1):
        return (
            f"size is below the minimum of {rules.quantity_text(max(rules.min_lots, 1))} {rules.base_asset}"
        )
    if quote.lots > rules.max_lots:
        return f"size is above the maximum of {rules.quantity_text(rules.max_lots)} {rules.base_asset}"
    if quote.price_ticks * quote.lots < rules.min_units:
        notional_quote = rules.notional_quote(quote.price_ticks, quote.lots)
        return f"{notional_quote} {rules.quote_asset} is below the minimum of {rules.min_notional_quote}"
    return ""


def price_objection(quote: Quote, mark_price: Decimal, rules: SymbolRules) -> str:
    """Return why the exchange would refuse the price of this quote, or an empty string.

    A mark price of 0 is unknown, and then its band is not checked.
    """
    if not rules.min_ticks <= quote.price_ticks <= rules.max_ticks:
        price = rules.price(quote.price_ticks)
        return f"price {price} is outside of {rules.min_price} to {rules.max_price}"
    if mark_price <= 0:
        return ""
    most_of_a_buy, least_of_a_sell = rules.price_bounds(mark_price)
    if quote.side is Side.BUY and quote.price_ticks > most_of_a_buy:
        price = rules.price(quote.price_ticks)
        return f"price {price} is above the band around the mark price {mark_price}"
    if quote.side is Side.SELL and quote.price_ticks < least_of_a_sell:
        price = rules.price(quote.price_ticks)
        return f"price {price} is below the band around the mark price {mark_price}"
    return ""
