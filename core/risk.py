"""How much may rest and be held. Pure, and only ever subtracts: nothing here adds or enlarges a quote."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from core.model import BookTop, Quote, Side, SymbolRules
from core.order import LiveOrders
from core.settings import QuoteSettings, RiskSettings
from core.strategy import rule_objection

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Trimmed:
    """The quotes that may be placed, and those left out because their fills could carry the position too far."""

    kept: tuple[Quote, ...]
    left_out: tuple[Quote, ...]


def position_notional_quote(quantity: Decimal, price: Decimal) -> Decimal:
    """Return the size of a position in the quote asset, never negative."""
    return abs(quantity) * price


def is_breach(quantity: Decimal, price: Decimal, settings: RiskSettings) -> bool:
    """Tell whether a position is over ``capital × leverage × max_net_position_ratio``."""
    return position_notional_quote(quantity, price) > settings.position_limit_quote


def worst_case_quote(
    side: Side, quantity: Decimal, price: Decimal, resting_quote: Decimal, settings: RiskSettings
) -> Decimal:
    """Return the position's notional if everything on this side were filled, in the direction of that side.

    A position that is held already is valued with the drift buffer on top: its notional moves with the price, and a
    breach by drift alone would have to be closed at a loss.
    """
    held_quote = side.sign * quantity * price
    if held_quote > 0:
        held_quote *= 1 + settings.drift_buffer_percent / 100
    return held_quote + resting_quote


def trim(
    quotes: Iterable[Quote],
    quantity: Decimal,
    price: Decimal,
    living: LiveOrders,
    rules: SymbolRules,
    settings: RiskSettings,
) -> Trimmed:
    """Return the quotes whose fills, all at once and with all that may rest already, keep within the limit.

    Quotes are considered in the given order, so that the nearest levels are kept and the farthest left out. A quote
    takes the place of the order that rests in its slot: the larger of the two counts, as an amendment may be on its way.
    """
    resting = {side: living.resting_notional_quote(side, rules) for side in Side}
    in_slots = living.notional_by_slot(rules)
    kept: list[Quote] = []
    left_out: list[Quote] = []
    for quote in quotes:
        more = rules.notional_quote(quote.price_ticks, quote.lots) - in_slots.get(quote.slot, _ZERO)
        added = resting[quote.side] + max(more, _ZERO)
        if worst_case_quote(quote.side, quantity, price, added, settings) <= settings.position_limit_quote:
            resting[quote.side] = added
            kept.append(quote)
        else:
            left_out.append(quote)
    return Trimmed(tuple(kept), tuple(left_out))


def last_objection(
    quote: Quote, book: BookTop, mark_price: Decimal, rules: SymbolRules, settings: QuoteSettings
) -> str:
    """Return why this quote must not be sent, whatever the strategy thought, or an empty string.

    The last line before the exchange, independent of how the quote was made: never crossing, never bigger than
    configured, within the exchange's rules.
    """
    crosses = (
        quote.price_ticks >= book.ask_ticks if quote.side is Side.BUY else quote.price_ticks <= book.bid_ticks
    )
    if crosses:
        return "price crosses the book"
    if rules.notional_quote(quote.price_ticks, quote.lots) > settings.size_quote:
        return f"size is over the configured {settings.size_quote} {rules.quote_asset}"
    return rule_objection(quote, mark_price, rules)
