"""How much may rest and be held. Pure, and only ever subtracts: nothing here adds or enlarges a quote."""

from collections.abc import Iterable, Iterator
from decimal import Decimal

from msgspec import Struct, structs

from core.context import SymbolContext
from core.live_order import LiveOrder
from core.load import NONE, Share, Slot
from core.model import BookTop, Quote, Side, SymbolRules
from core.order import LiveOrders
from core.posture import Posture
from core.settings import RiskSettings
from core.strategy import rule_objection, size_objection

_ZERO = Decimal(0)


class Trimmed(Struct, frozen=True):
    """The quotes that may be placed, and those left out, in ``reasons`` the limit that leaves no room for each."""

    kept: tuple[Quote, ...]
    left_out: tuple[Quote, ...]
    reasons: tuple[str, ...] = ()


def position_notional_quote(quantity: Decimal, price: Decimal) -> Decimal:
    """Return the size of a position in the quote asset, never negative."""
    return abs(quantity) * price


def is_breach(quantity: Decimal, price: Decimal, settings: RiskSettings) -> bool:
    """Tell whether a position is over ``capital × leverage × max_net_position_ratio``, or over ``max_position``."""
    return position_share(quantity, price, settings) > 1


def breach_text(quantity: Decimal, price: Decimal, rules: SymbolRules, settings: RiskSettings) -> str:
    """Return which limit a position is over, with the numbers."""
    notional = position_notional_quote(quantity, price)
    if notional > settings.position_limit_quote:
        limit = f"{settings.position_limit_quote:f}"
        return f"position {quantity} is worth {notional:.2f} {rules.quote_asset}, over the limit of {limit}"
    return f"position {quantity} {rules.base_asset} is over risk.max_position of {settings.max_position:f}"


def position_share(quantity: Decimal, price: Decimal, settings: RiskSettings) -> Decimal:
    """Return the position as a share of the limit that it is nearer to; over 1 is a breach."""
    if not quantity:
        return _ZERO
    share = position_notional_quote(quantity, price) / settings.position_limit_quote
    return max(share, abs(quantity) / settings.max_position) if settings.max_position else share


def known_position(context: SymbolContext) -> Decimal:
    """Return the position by our books, with what is known to be executed although its trades have not come yet."""
    uncounted_lots = context.orders.uncounted_lots()
    quantity = context.ledger.position_quantity
    return quantity + context.rules.quantity(uncounted_lots) if uncounted_lots else quantity


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


class Exposure:
    """What is held, what rests or may rest, and what is added to that quote by quote.

    A quote takes the place of the order that rests in its slot: the larger of the two counts, as an amendment may be on
    its way. So it makes no difference whether the order of a quote is registered already.
    """

    def __init__(
        self,
        quantity: Decimal,
        price: Decimal,
        living: LiveOrders,
        rules: SymbolRules,
        settings: RiskSettings,
        *,
        one_sided: bool = False,
    ) -> None:
        self._load = living.load
        self._one_sided = one_sided
        self._quantity = quantity
        self._price = price
        self._rules = rules
        self._settings = settings
        self._room: dict[Side, int] = {}
        self._resting = self._load.by_slot
        self.begin_anew()

    def begin_anew(self) -> None:
        """Only what rests counts from now on, and nothing that was added to it."""
        # What rests and what is added to it, by side; of the slots those that something was added to.
        self._totals = self._load.by_side.copy()
        self._in_slots: dict[Slot, Share] = {}
        self._count = self._load.count

    def _room_of(self, side: Side) -> int:
        """Return the most that all that rests on a side may be worth, in ticks times lots; below 0 for nothing."""
        left_quote = self._settings.position_limit_quote
        if self._quantity:
            left_quote -= worst_case_quote(side, self._quantity, self._price, _ZERO, self._settings)
        room = self._room[side] = self._rules.units(left_quote)
        return room

    def share(self, side: Side) -> Decimal:
        """Return the worst case of a side, without the drift buffer, as a share of the limit that it is nearer to."""
        unit_quote = self._rules.tick_size * self._rules.step_size
        notional = side.sign * self._quantity * self._price + unit_quote * self._totals[side].worth
        share = notional / self._settings.position_limit_quote
        if self._settings.max_position:
            share = max(
                share, self._worst_quantity(side, self._totals[side].lots) / self._settings.max_position
            )
        return max(share, _ZERO)

    def _worst_quantity(self, side: Side, lots: int) -> Decimal:
        return side.sign * self._quantity + self._rules.quantity(lots)

    def admit(self, quote: Quote) -> str:
        """Have this quote count as resting from now on, unless a limit leaves no room for it, which is returned.

        It is asked twice of each quote at every move of the price, and so does in one go what could be several.
        """
        side, lots = quote.side, quote.lots
        slot, worth, total = (side, quote.level), quote.price_ticks * lots, self._totals[side]
        held = self._in_slots.get(slot) or self._resting.get(slot, NONE)
        held_worth, held_lots = held.worth, held.lots
        if worth < held_worth:
            worth = held_worth
        if lots < held_lots:
            lots = held_lots
        total_worth, total_lots = total.worth + worth - held_worth, total.lots + lots - held_lots
        count = self._count + (not held.orders)
        limit = self._limit(side, total_worth, total_lots, count)
        if not limit:
            self._in_slots[slot] = Share(worth, lots, held.orders or 1)
            self._totals[side] = Share(total_worth, total_lots)
            self._count = count
        return limit

    def _limit(self, side: Side, total_worth: int, total_lots: int, count: int) -> str:
        settings = self._settings
        if self._one_sided and self._worst_quantity(side, total_lots) > 0:
            return "only what reduces the position"
        room = self._room.get(side)
        if total_worth > (self._room_of(side) if room is None else room):
            return "position limit"
        if settings.max_position and self._worst_quantity(side, total_lots) > settings.max_position:
            return "max_position"
        if count > settings.max_order_count or count > self._rules.max_open_orders:
            return "number of orders"
        return ""


def exposure_of(context: SymbolContext) -> Exposure:
    """Return what a symbol is exposed to at this moment."""
    quantity = known_position(context)
    return Exposure(
        quantity,
        context.state.risk_price(context.rules)
        if quantity
        else _ZERO,  # without a position nothing has a price
        context.orders,
        context.rules,
        context.limits,
        one_sided=context.posture >= Posture.ONE_SIDE,
    )


def allowed(context: SymbolContext, quotes: Iterable[Quote], exposure: Exposure | None = None) -> Trimmed:
    """Return what limits and posture leave of these quotes.

    While only what reduces is allowed, a quote that would turn the position is cut to what is left of it. ``exposure``
    is that of this moment, if it is known already; the quotes that are left count in it from then on.
    """
    if context.posture >= Posture.ONE_SIDE:
        quotes = _no_larger_than_the_position(quotes, known_position(context), context.rules)
    return _trim(quotes, exposure or exposure_of(context))


def _no_larger_than_the_position(
    quotes: Iterable[Quote], quantity: Decimal, rules: SymbolRules
) -> Iterator[Quote]:
    """Yield the quotes, the one that would turn the position cut to what is left to reduce."""
    left = rules.floor_lots(abs(quantity))
    for quote in quotes:
        if quote.side.sign * quantity >= 0:
            yield quote
            continue
        lots = min(quote.lots, left)
        left -= lots
        cut = structs.replace(quote, lots=lots)
        yield cut if not size_objection(cut, rules) else quote


def trim(
    quotes: Iterable[Quote],
    quantity: Decimal,
    price: Decimal,
    living: LiveOrders,
    rules: SymbolRules,
    settings: RiskSettings,
) -> Trimmed:
    """Return the quotes whose fills, all at once and with all that may rest already, keep within the limits.

    Quotes are considered in the given order, so that the nearest levels are kept and the farthest left out.
    """
    return _trim(quotes, Exposure(quantity, price, living, rules, settings))


def _trim(quotes: Iterable[Quote], exposure: Exposure) -> Trimmed:
    kept: list[Quote] = []
    left_out: list[Quote] = []
    reasons: list[str] = []
    for quote in quotes:
        limit = exposure.admit(quote)
        if limit:
            left_out.append(quote)
            reasons.append(limit)
        else:
            kept.append(quote)
    return Trimmed(tuple(kept), tuple(left_out), tuple(reasons))


# --- the last line before the exchange ------------------------------------------------------------------------


def last_objection(context: SymbolContext, quote: Quote, book: BookTop) -> str:
    """Return why this quote must not be sent, whatever the strategy thought, or an empty string.

    The last line before the exchange, independent of how the quote was made: never crossing, never far from mid and
    mark, never bigger than configured, within the limits as they are at this moment, and within the exchange's rules.
    It makes no difference whether the quote's order is registered already.
    """
    return (
        _price_and_size_objection(context, quote, book)
        or _room_objection(context, quote)
        or rule_objection(quote, context.state.mark_price, context.rules)
    )


def amend_objection(
    context: SymbolContext,
    order: LiveOrder,
    price_ticks: int,
    total_lots: int,
    book: BookTop,
    exposure: Exposure | None = None,
) -> str:
    """Return why this order must not be amended like this, or an empty string.

    ``total_lots`` is what the exchange is told: what has been executed already included. Of the old and the new order
    the larger counts against the limits, because either may rest until the exchange has answered. It makes no
    difference whether the amendment has been begun already.

    ``exposure`` is that of this moment, for several orders that are amended in one turn; one that is not objected to
    counts in it from then on.
    """
    left = Quote(order.side, order.level, price_ticks, total_lots - order.executed_lots)
    if left.lots <= 0:
        return "nothing would be left of the order"
    whole = left if left.lots == total_lots else structs.replace(left, lots=total_lots)
    return (
        _price_and_size_objection(context, left, book)
        or rule_objection(whole, context.state.mark_price, context.rules)
        or _room_objection(context, left, exposure)
    )


def _price_and_size_objection(context: SymbolContext, quote: Quote, book: BookTop) -> str:
    rules, settings = context.rules, context.settings
    crosses = (
        quote.price_ticks >= book.ask_ticks if quote.side is Side.BUY else quote.price_ticks <= book.bid_ticks
    )
    if crosses:
        return "price crosses the book"
    # less than a tick beyond max_spread is within it, for prices are rounded away from the mid
    beyond_half_ticks = abs(2 * quote.price_ticks - book.mid_half_ticks) - 2
    share, of_share = settings.max_spread_ratio
    if beyond_half_ticks * of_share >= share * book.mid_half_ticks > 0:
        return _too_far(quote, rules.tick_size * book.mid_half_ticks / 2, "mid", context)
    mark_price = context.state.mark_price
    beyond = abs(rules.price(quote.price_ticks) - mark_price) - rules.tick_size
    if mark_price > 0 and beyond >= settings.max_spread * mark_price:
        return _too_far(quote, mark_price, "mark", context)
    if quote.price_ticks * quote.lots > context.size_units:
        return f"size is over the configured {settings.size_quote} {rules.quote_asset}"
    return ""


def _too_far(quote: Quote, middle: Decimal, name: str, context: SymbolContext) -> str:
    price, most = context.rules.price(quote.price_ticks), context.settings.max_spread
    return f"price {price:f} is farther than max_spread {most:f} from the {name} {middle:f}"


def _room_objection(context: SymbolContext, quote: Quote, exposure: Exposure | None = None) -> str:
    limit = (exposure or exposure_of(context)).admit(quote)
    return f"no room within the limit: {limit}" if limit else ""
