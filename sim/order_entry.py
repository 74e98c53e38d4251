"""From the parameters of a request to a validated order: what the exchange checks before the book and the account.

Source: facts section 3.3 (parameters), 3.2 (filters), 4.3 (modify), 12 (order of the checks).
"""

import re
from dataclasses import dataclass, replace
from decimal import Decimal

from sim.conduct import check_order
from sim.errors import refusal
from sim.filters import (
    check_market_price,
    check_notional,
    check_percent_price,
    check_price,
    check_quantity,
)
from sim.instrument import Instrument
from sim.orders import Change, Order, OrderSpec, OrderType, PriceMatch, Side, StpMode, TimeInForce
from sim.params import Params
from sim.pricing import matched_price, read_price_match
from sim.venue import Venue

_CLIENT_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}\Z")
_ALGO_TYPES = ("STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET")
_FOREIGN_PARAMS = ("stopPrice", "activationPrice", "callbackRate")
_SOONEST_END_MS = 600_000
_LATEST_END_MS = 253402300799000


@dataclass(frozen=True, slots=True)
class Wish:
    """The parameters of a new order, well-formed but not yet held against any symbol's rules.

    ``price`` is None for MARKET and where ``price_match`` takes it from the book.
    """

    side: Side
    type: OrderType
    time_in_force: TimeInForce
    price: Decimal | None
    quantity: Decimal
    reduce_only: bool
    stp: StpMode
    client_order_id: str
    price_match: PriceMatch
    good_till_ms: int


def read_new_order(venue: Venue, params: Params, now_ms: int) -> tuple[Instrument, OrderSpec]:
    """Return the instrument and the order that the parameters describe; raises ApiError for the first thing wrong."""
    wish = _read_wish(params, now_ms, venue.options.default_stp)
    instrument = venue.instrument(params)
    instrument.regime.check_status(venue.options.halted_order_code)
    _check_standing(venue, instrument, now_ms, reduce_only=wish.reduce_only)
    _check_position_mode(venue, params)
    if wish.client_order_id in instrument.by_client:
        raise refusal(-4116)
    wish = _priced(instrument, wish)
    price_ticks, lots = _check_filters(instrument, wish)
    spec = OrderSpec(
        client_order_id=wish.client_order_id,
        side=wish.side,
        type=wish.type,
        time_in_force=wish.time_in_force,
        price_ticks=price_ticks,
        lots=lots,
        reduce_only=wish.reduce_only,
        stp=wish.stp,
        price_match=wish.price_match,
        good_till_ms=wish.good_till_ms,
    )
    return instrument, spec


def read_amendment(venue: Venue, instrument: Instrument, order: Order, params: Params, now_ms: int) -> Change:
    """Return the amendment that the parameters describe; raises ApiError for what is wrong with it."""
    side, quantity = params.choice("side", Side, -1117), params.decimal("quantity")
    price_match = read_price_match(params)
    price = _amended_price(instrument, params, side, price_match)
    if side is not order.side:
        raise refusal(-1117)
    reduce_only = params.flag_or("reduceOnly", default=False)
    if reduce_only and not order.reduce_only:
        raise refusal(-5047)
    _check_standing(venue, instrument, now_ms, reduce_only=order.reduce_only)
    regime = instrument.regime
    regime.check_status(venue.options.halted_amend_code)
    rules = regime.posted
    price_ticks = check_price(rules, price) * regime.tick_factor
    lots = check_quantity(rules, quantity, order.type) * regime.lot_factor
    check_percent_price(rules, side, price, instrument.mark.mark)
    if not reduce_only and lots > order.executed_lots:
        check_notional(rules, price, quantity, -5029)
    modify_id = params.text_or("modifyId", "")
    if modify_id:
        params.integer("modifyId")
    return Change(
        price_ticks=price_ticks,
        lots=lots,
        price_match=price_match,
        modify_id=modify_id,
        resets_stp=venue.options.amend_resets_stp,
    )


def _check_standing(venue: Venue, instrument: Instrument, now_ms: int, *, reduce_only: bool) -> None:
    liquidating = venue.liquidating
    check_order(venue.standing, instrument.symbol, now_ms, reduce_only=reduce_only, liquidating=liquidating)


def _amended_price(instrument: Instrument, params: Params, side: Side, price_match: PriceMatch) -> Decimal:
    if price_match is PriceMatch.NONE:
        return params.decimal("price")
    params.refuse("price")
    return instrument.rules.price(matched_price(instrument, side, price_match))


def find_order(venue: Venue, instrument: Instrument, params: Params) -> Order | None:
    """Return the order that ``orderId`` or ``origClientOrderId`` names (the former wins); -1102 if neither was sent."""
    if "orderId" in params:
        return venue.ledger.find(instrument.symbol, params.integer("orderId"), "")
    return venue.ledger.find(instrument.symbol, None, params.text("origClientOrderId"))


def _read_wish(params: Params, now_ms: int, default_stp: StpMode) -> Wish:
    params.text("symbol")
    side, kind = params.choice("side", Side, -1117), _order_type(params)
    params.refuse(*_FOREIGN_PARAMS)
    if params.flag_or("closePosition", default=False):
        raise refusal(-1020)
    price_match = read_price_match(params)
    if kind is OrderType.MARKET:
        params.refuse("price", "timeInForce", "goodTillDate")
        if price_match is not PriceMatch.NONE:
            raise refusal(-5038)
    elif price_match is not PriceMatch.NONE:
        params.refuse("price")
    time_in_force = _time_in_force(params, kind)
    return Wish(
        side=side,
        type=kind,
        time_in_force=time_in_force,
        good_till_ms=_good_till(params, time_in_force, now_ms),
        quantity=params.decimal("quantity"),
        price=params.decimal("price") if kind is OrderType.LIMIT and price_match is PriceMatch.NONE else None,
        reduce_only=params.flag_or("reduceOnly", default=False),
        stp=_stp_mode(params, default_stp),
        client_order_id=_client_order_id(params),
        price_match=price_match,
    )


def _order_type(params: Params) -> OrderType:
    if params.text_or("type", "") in _ALGO_TYPES:
        raise refusal(-4120)
    kind = params.choice("type", OrderType, -1116)
    if kind is OrderType.LIQUIDATION:
        raise refusal(-1116)
    return kind


def _time_in_force(params: Params, kind: OrderType) -> TimeInForce:
    if kind is OrderType.MARKET:
        return TimeInForce.GTC
    return params.choice("timeInForce", TimeInForce, -1115)


def _good_till(params: Params, time_in_force: TimeInForce, now_ms: int) -> int:
    """Return when a GTD order ends, cut to whole seconds as by Binance; 0 for all others."""
    if time_in_force is not TimeInForce.GTD:
        params.refuse("goodTillDate")
        return 0
    until_ms = params.integer("goodTillDate")
    if not now_ms + _SOONEST_END_MS < until_ms < _LATEST_END_MS:
        raise refusal(-5040)
    return until_ms - until_ms % 1000


def _stp_mode(params: Params, default: StpMode) -> StpMode:
    if "selfTradePreventionMode" not in params:
        return default
    return params.choice("selfTradePreventionMode", StpMode, -5039)


def _priced(instrument: Instrument, wish: Wish) -> Wish:
    """Return the wish with the price that the book gives it, where it asks for that."""
    if wish.price_match is PriceMatch.NONE:
        return wish
    ticks = matched_price(instrument, wish.side, wish.price_match)
    return replace(wish, price=instrument.rules.price(ticks))


def _client_order_id(params: Params) -> str:
    value = params.text_or("newClientOrderId", "")
    if value and not _CLIENT_ID.match(value):
        raise refusal(-4015)
    return value


def _check_position_mode(venue: Venue, params: Params) -> None:
    side = params.text_or("positionSide", "BOTH")
    if side not in ("BOTH", "LONG", "SHORT"):
        raise refusal(-4060)
    if (side == "BOTH") is venue.hedge_mode:
        raise refusal(-4061)
    if venue.hedge_mode:
        if "reduceOnly" in params:
            raise refusal(venue.options.hedge_reduce_only_code, "reduceOnly")
        raise refusal(-1020)  # the account can be in hedge mode, but positions are one-way only


def _check_filters(instrument: Instrument, wish: Wish) -> tuple[int | None, int]:
    regime, mark = instrument.regime, instrument.mark.mark
    rules = regime.posted
    price_ticks = None if wish.price is None else check_price(rules, wish.price) * regime.tick_factor
    lots = check_quantity(rules, wish.quantity, wish.type) * regime.lot_factor
    if wish.price is not None:
        check_percent_price(rules, wish.side, wish.price, mark)
    elif touch := instrument.touch(is_buy=wish.side is Side.BUY):
        check_market_price(rules, wish.side, instrument.rules.price(touch), mark)
    if len(instrument.open) >= rules.max_num_orders:
        raise refusal(-2025)
    if not wish.reduce_only:
        check_notional(rules, mark if wish.price is None else wish.price, wish.quantity)
    return price_ticks, lots
