"""Limits: worst case, breach, and a trim that can only subtract."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.context import SymbolContext
from core.live_order import LiveOrder
from core.model import BookTop, Position, Quote, Side, SymbolRules
from core.order import LiveOrders
from core.risk import (
    amend_objection,
    breach_text,
    exposure_of,
    is_breach,
    last_objection,
    position_notional_quote,
    position_share,
    trim,
    worst_case_quote,
)
from core.settings import RiskSettings
from core.strategy import desired_quotes

from .examples import BOOK, BTC, MARK, QUOTES, RISK, SOME_RULES, context, quote, report, some_books

QUANTITIES = st.decimals(-2, 2, places=3)
PRICES = st.decimals(1_000, 200_000, places=1)
QUOTE_LISTS = st.lists(
    st.builds(
        Quote, st.sampled_from(Side), st.integers(1, 10), st.integers(1, 2_000_000), st.integers(1, 500)
    ),
    max_size=6,
    unique_by=lambda wanted: wanted.slot,
)
LIMITS = st.builds(
    lambda capital, leverage, percent, buffer: replace(
        RISK,
        capital_quote=Decimal(capital),
        leverage=leverage,
        max_net_position_ratio=Decimal(percent) / 100,
        drift_buffer_percent=Decimal(buffer),
    ),
    st.integers(1, 100_000),
    st.integers(1, 125),
    st.integers(1, 100),
    st.integers(0, 50),
)


def resting(quotes: list[Quote]) -> LiveOrders:
    """Living orders for these quotes, none of them confirmed."""
    orders = LiveOrders()
    for number, wanted in enumerate(quotes):
        orders.register(f"qpmm-{number}", wanted, 0)
    return orders


def exposure(
    side: Side, quantity: Decimal, price: Decimal, quotes: list[Quote], settings: RiskSettings
) -> Fraction:
    """The worst case in exact arithmetic of another kind: what is held with the buffer, and all quotes filled."""
    held = side.sign * Fraction(quantity) * Fraction(price)
    if held > 0:
        held *= 1 + Fraction(settings.drift_buffer_percent) / 100
    lot_value = Fraction(BTC.tick_size) * Fraction(BTC.step_size)
    return held + sum(
        wanted.price_ticks * wanted.lots * lot_value for wanted in quotes if wanted.side is side
    )


def one_a_slot(live: list[Quote], wanted: list[Quote]) -> list[Quote]:
    """Of each slot the one that is worth more: what rests there, or what it may become."""
    by_slot = {one.slot: one for one in live}
    for one in wanted:
        by_slot[one.slot] = max(
            one, by_slot.get(one.slot, one), key=lambda each: each.price_ticks * each.lots
        )
    return list(by_slot.values())


@given(wanted=QUOTE_LISTS, live=QUOTE_LISTS, quantity=QUANTITIES, price=PRICES, settings=LIMITS)
def test_trim_only_subtracts(
    wanted: list[Quote], live: list[Quote], quantity: Decimal, price: Decimal, settings: RiskSettings
) -> None:
    """What is kept was asked for, unchanged and in order; what is not kept is named; nothing is added."""
    trimmed = trim(wanted, quantity, price, resting(live), BTC, settings)
    assert list(trimmed.kept) == [one for one in wanted if one in trimmed.kept]
    assert list(trimmed.left_out) == [one for one in wanted if one in trimmed.left_out]
    assert len(trimmed.kept) + len(trimmed.left_out) == len(wanted)


@given(wanted=QUOTE_LISTS, live=QUOTE_LISTS, quantity=QUANTITIES, price=PRICES, settings=LIMITS)
def test_worst_case_of_a_side_with_a_kept_quote_is_within_the_limit(
    wanted: list[Quote], live: list[Quote], quantity: Decimal, price: Decimal, settings: RiskSettings
) -> None:
    """Position with its buffer, everything that rests or may rest, and everything kept, all filled at once."""
    kept = trim(wanted, quantity, price, resting(live), BTC, settings).kept
    for side in {one.side for one in kept}:
        worst = exposure(side, quantity, price, one_a_slot(live, list(kept)), settings)
        assert worst <= Fraction(settings.position_limit_quote)


@given(wanted=QUOTE_LISTS, live=QUOTE_LISTS, quantity=QUANTITIES, price=PRICES, settings=LIMITS)
def test_quote_is_left_out_only_if_it_would_not_fit(
    wanted: list[Quote], live: list[Quote], quantity: Decimal, price: Decimal, settings: RiskSettings
) -> None:
    """Beside everything that is kept, each one left out would break the limit."""
    trimmed = trim(wanted, quantity, price, resting(live), BTC, settings)
    for missing in trimmed.left_out:
        placed = one_a_slot(live, [*trimmed.kept, missing])
        worst = exposure(missing.side, quantity, price, placed, settings)
        assert worst > Fraction(settings.position_limit_quote)


def test_trim_keeps_the_nearest_levels() -> None:
    """A limit of 500 holds two bids of 240 beside nothing held."""
    wanted = [quote(Side.BUY, level, 800_000, 3) for level in (1, 2, 3)]
    small = replace(RISK, capital_quote=Decimal(500))
    trimmed = trim(wanted, Decimal(0), MARK, LiveOrders(), BTC, small)
    assert [one.level for one in trimmed.kept] == [1, 2]
    assert [one.level for one in trimmed.left_out] == [3]


def test_quotes_that_reduce_a_full_position_are_kept() -> None:
    """At the limit long, no bid fits and every ask does."""
    wanted = [quote(side, 1, 800_000, 3) for side in Side]
    trimmed = trim(wanted, Decimal("0.025"), MARK, LiveOrders(), BTC, RISK)
    assert [one.side for one in trimmed.kept] == [Side.SELL]


def test_order_in_doubt_counts_at_full_size() -> None:
    """1920 that may rest leave room for 80 of the limit of 2000, not for 240."""
    orders = resting([quote(Side.BUY, 1, 800_000, 24)])
    orders.doubt(orders.living()[0], "timeout")
    assert trim([quote(Side.BUY, 2, 800_000, 3)], Decimal(0), MARK, orders, BTC, RISK).kept == ()
    assert len(trim([quote(Side.BUY, 2, 800_000, 1)], Decimal(0), MARK, orders, BTC, RISK).kept) == 1


def test_quote_takes_the_place_of_the_order_in_its_slot() -> None:
    """Of 240 that rests and 240 that it shall become, 240 count; a limit of 250 has room for the amendment."""
    orders = resting([quote(Side.BUY, 1, 800_000, 3)])
    small = replace(RISK, capital_quote=Decimal(250))
    assert len(trim([quote(Side.BUY, 1, 800_100, 3)], Decimal(0), MARK, orders, BTC, small).kept) == 1
    assert trim([quote(Side.BUY, 2, 800_100, 3)], Decimal(0), MARK, orders, BTC, small).kept == ()


def test_filled_part_of_an_order_counts_once() -> None:
    """What was executed is in the position and no longer in what rests."""
    orders = resting([quote(Side.BUY, 1, 800_000, 24)])
    orders.apply(
        orders.living()[0], report(client_id="qpmm-0", price_ticks=800_000, lots=24, executed_lots=4), 0
    )
    assert orders.resting_notional_quote(Side.BUY, BTC) == Decimal(1600)


def test_worst_case_values_a_held_position_with_the_drift_buffer() -> None:
    """800 long is 816 with 2 percent on top; on the other side it only reduces, and has no buffer."""
    held = Decimal("0.01")
    assert worst_case_quote(Side.BUY, held, MARK, Decimal(100), RISK) == Decimal(916)
    assert worst_case_quote(Side.SELL, held, MARK, Decimal(100), RISK) == Decimal(-700)
    assert worst_case_quote(Side.SELL, -held, MARK, Decimal(100), RISK) == Decimal(916)


def test_breach_is_over_the_limit_and_not_at_it() -> None:
    """2000 is allowed on both sides, one lot more is not."""
    for sign in (1, -1):
        assert not is_breach(sign * Decimal("0.025"), MARK, RISK)
        assert is_breach(sign * Decimal("0.026"), MARK, RISK)


def test_size_of_a_position_has_no_sign() -> None:
    """Long and short weigh the same."""
    assert (
        position_notional_quote(Decimal("-0.5"), MARK)
        == position_notional_quote(Decimal("0.5"), MARK)
        == 40_000
    )


def at_the_line(**limits: Any) -> SymbolContext:
    """Everything that the last line asks, flat and with nothing resting; limits may differ."""
    return context(limits=replace(RISK, **limits))


def resting_in(where: SymbolContext, *quotes: Quote) -> list[LiveOrder]:
    """These quotes rest, confirmed."""
    orders = []
    for number, wanted in enumerate(quotes, 1):
        order = where.orders.register(f"qpmm-{number}", wanted, 0)
        accepted = report(
            client_id=order.client_id,
            order_id=number,
            side=wanted.side,
            price_ticks=wanted.price_ticks,
            lots=wanted.lots,
        )
        where.orders.apply(order, accepted, 0)
        orders.append(order)
    return orders


def hold(where: SymbolContext, quantity: str) -> None:
    """The books have this position."""
    where.ledger.open(Position("BTCUSDT", Decimal(quantity), MARK, MARK, Decimal(0), 0), 0)


@pytest.mark.parametrize(
    ("side", "price_ticks"),
    [(Side.BUY, 800_001), (Side.BUY, 800_002), (Side.SELL, 799_999), (Side.SELL, 799_998)],
)
def test_quote_that_would_take_is_objected_to(side: Side, price_ticks: int) -> None:
    """A bid at or above the best ask, an ask at or below the best bid; so is an amendment to such a price."""
    where = at_the_line()
    assert last_objection(where, quote(side, 1, price_ticks), BOOK) == "price crosses the book"
    [order] = resting_in(where, quote(side, 1, 800_000))
    assert amend_objection(where, order, price_ticks, 3, BOOK) == "price crosses the book"


@pytest.mark.parametrize(("side", "price_ticks"), [(Side.BUY, 800_000), (Side.SELL, 800_000)])
def test_quote_inside_of_the_spread_is_not_objected_to(side: Side, price_ticks: int) -> None:
    """It would rest."""
    assert last_objection(at_the_line(), quote(side, 1, price_ticks), BOOK) == ""


@pytest.mark.parametrize(
    ("side", "price_ticks", "lots"), [(Side.BUY, 639_999, 3), (Side.SELL, 960_001, 2)], ids=["low", "high"]
)
def test_quote_far_from_the_mid_is_objected_to(side: Side, price_ticks: int, lots: int) -> None:
    """A fat finger: 20 percent from 80 000 are allowed, a tick more is not, neither for a quote nor an amendment."""
    where = at_the_line()
    nearest = price_ticks + side.sign
    far = "is farther than max_spread 0.2 from the mid 80000.0"
    assert far in last_objection(where, quote(side, 1, price_ticks, lots), BOOK)
    assert "max_spread" not in last_objection(where, quote(side, 1, nearest, lots), BOOK)
    [order] = resting_in(where, quote(side, 1, 800_000))
    assert far in amend_objection(where, order, price_ticks, lots, BOOK)


def test_quote_far_from_the_mark_is_objected_to() -> None:
    """The book may be what is wrong; a mark price that is not known yet does not object."""
    where = at_the_line()
    where.state.mark_price = Decimal(60_000)
    objection = last_objection(where, quote(), BOOK)
    assert objection == "price 79900.0 is farther than max_spread 0.2 from the mark 60000"
    where.state.mark_price = (quote().price_ticks - 1) * BTC.tick_size / Decimal("1.2")
    assert "from the mark" in last_objection(where, quote(), BOOK)
    where.state.mark_price += BTC.tick_size / 10
    assert "max_spread" not in last_objection(where, quote(), BOOK)
    where.state.mark_price = Decimal(0)
    assert last_objection(where, quote(), BOOK) == ""


@given(
    book=some_books(),
    rules=SOME_RULES,
    levels=st.integers(1, 10),
    offset_percent=st.decimals(Decimal("0.01"), Decimal("4.999"), places=2),
    room=st.decimals(1, 2, places=2),
    mark_share=st.decimals(Decimal("0.9"), Decimal("1.1"), places=4),
)
def test_last_line_takes_every_price_that_strategy_wants(
    book: BookTop,
    rules: SymbolRules,
    levels: int,
    offset_percent: Decimal,
    room: Decimal,
    mark_share: Decimal,
) -> None:
    """Also where max_spread is just as wide as the outermost level: else that would be asked for again and again."""
    widest = levels * offset_percent / 100 * room
    settings = replace(
        QUOTES, levels=levels, offset_percent=offset_percent, max_spread=min(widest, Decimal(1))
    )
    where = context(settings=settings, rules=rules, limits=replace(RISK, capital_quote=Decimal(10**9)))
    where.state.mark_price = mark_share * rules.price(book.mid_half_ticks) / 2
    for wanted in desired_quotes(book, where.state.mark_price, rules, settings).quotes:
        assert last_objection(where, wanted, book) == ""


def test_quote_bigger_than_configured_is_objected_to() -> None:
    """320 USDT where 250 are configured, however the quote was made."""
    assert last_objection(at_the_line(), quote(lots=4), BOOK) == "size is over the configured 250 USDT"


def test_size_of_an_amendment_is_what_it_leaves_open() -> None:
    """Of a total of 6 lots 3 are executed: 3 would rest, which is the configured size; a 7th is one too many."""
    where = at_the_line()
    [order] = resting_in(where, quote(lots=3))
    order.executed_lots = 3
    assert amend_objection(where, order, 799_100, 6, BOOK) == ""
    assert amend_objection(where, order, 799_100, 7, BOOK) == "size is over the configured 250 USDT"
    assert amend_objection(where, order, 799_100, 3, BOOK) == "nothing would be left of the order"


def test_quote_that_breaks_a_filter_is_objected_to() -> None:
    """The exchange's rules are the last thing asked."""
    objection = last_objection(at_the_line(), quote(lots=0), BOOK)
    assert objection == "size is below the minimum of 0.001 BTC"


def test_quote_without_room_is_objected_to_at_the_moment_of_sending() -> None:
    """The position has grown since the quotes were trimmed: 1800 with its buffer and 240 are over 2000."""
    where = at_the_line()
    assert last_objection(where, quote(), BOOK) == ""
    hold(where, "0.0225")
    assert last_objection(where, quote(), BOOK) == "no room within the limit: position limit"
    assert last_objection(where, quote(Side.SELL, 1, 801_000), BOOK) == ""


def test_room_is_the_same_whether_the_order_is_registered_or_not() -> None:
    """A limit that has room for one order of 240 has it before and after its registration, and not for another."""
    where = at_the_line(capital_quote=Decimal(250), max_order_count=1)
    assert last_objection(where, quote(), BOOK) == ""
    where.orders.register("qpmm-1", quote(), 0)
    assert last_objection(where, quote(), BOOK) == ""
    assert last_objection(where, quote(level=2), BOOK) == "no room within the limit: position limit"


def test_amendment_to_a_larger_order_needs_room_for_the_larger() -> None:
    """160 rest beside it: 80 more fit into 250, and 160 more do not."""
    where = at_the_line(capital_quote=Decimal(250))
    small, _ = resting_in(where, quote(lots=1), quote(level=2, lots=2))
    assert amend_objection(where, small, 799_100, 1, BOOK) == ""
    assert amend_objection(where, small, 799_100, 2, BOOK) == "no room within the limit: position limit"


def test_room_for_an_amendment_is_the_same_once_it_has_begun() -> None:
    """What it may become counts from its beginning on, in notional and in lots, and counts once."""
    where = at_the_line(capital_quote=Decimal(250), max_position=Decimal("0.003"))
    [order] = resting_in(where, quote(lots=1))
    assert amend_objection(where, order, 799_100, 3, BOOK) == ""
    where.orders.begin_amend(order, 799_100, 3, 0)
    assert amend_objection(where, order, 799_100, 3, BOOK) == ""
    assert last_objection(where, quote(level=2, lots=1), BOOK) == "no room within the limit: position limit"
    where.limits = replace(where.limits, capital_quote=Decimal(2000))
    assert last_objection(where, quote(level=2, lots=1), BOOK) == "no room within the limit: max_position"


def test_too_many_orders_are_objected_to() -> None:
    """Whatever rests or may rest counts; an order that is amended is there already."""
    where = at_the_line(max_order_count=2)
    first, _ = resting_in(where, quote(), quote(Side.SELL, 1, 801_000))
    objection = last_objection(where, quote(level=2), BOOK)
    assert objection == "no room within the limit: number of orders"
    assert amend_objection(where, first, 799_100, 3, BOOK) == ""


def test_max_position_of_the_base_asset_is_a_limit_of_its_own() -> None:
    """0.005 BTC are 400 USDT, far from 2000: room for 3 lots beside 2 held, not beside 3."""
    where = at_the_line(max_position=Decimal("0.005"))
    hold(where, "0.002")
    assert last_objection(where, quote(), BOOK) == ""
    hold(where, "0.003")
    assert last_objection(where, quote(), BOOK) == "no room within the limit: max_position"
    assert last_objection(where, quote(Side.SELL, 1, 801_000), BOOK) == ""
    assert is_breach(Decimal("-0.006"), MARK, where.limits)
    assert not is_breach(Decimal("-0.005"), MARK, where.limits)


def test_breach_is_told_with_the_limit_that_is_broken() -> None:
    """The notional's comes first; each with its numbers."""
    limits = replace(RISK, max_position=Decimal("0.02"))
    told = breach_text(Decimal("0.026"), MARK, BTC, limits)
    assert told == "position 0.026 is worth 2080.00 USDT, over the limit of 2000.0"
    told = breach_text(Decimal("-0.021"), MARK, BTC, limits)
    assert told == "position -0.021 BTC is over risk.max_position of 0.02"


def test_trim_keeps_to_max_position_and_to_the_number_of_orders() -> None:
    """Each quote that is left out is named with the limit that leaves no room for it."""
    wanted = [quote(Side.BUY, level, 799_000, 3) for level in (1, 2, 3)]
    one = replace(RISK, max_position=Decimal("0.005"))
    trimmed = trim(wanted, Decimal(0), MARK, LiveOrders(), BTC, one)
    assert ([each.level for each in trimmed.kept], trimmed.reasons) == ([1], ("max_position",) * 2)
    two = replace(RISK, max_order_count=2)
    trimmed = trim(wanted, Decimal(0), MARK, LiveOrders(), BTC, two)
    assert ([each.level for each in trimmed.kept], trimmed.reasons) == ([1, 2], ("number of orders",))
    assert trim([quote(level=4)], Decimal(0), MARK, resting(wanted[:2]), BTC, two).kept == ()


def test_share_of_a_limit_is_that_of_the_nearer_one() -> None:
    """1000 of 2000 is half; 0.0125 BTC of 0.0125 is all; on the other side it is nothing."""
    where = at_the_line()
    hold(where, "0.0125")
    resting_in(where, quote(lots=3))
    assert exposure_of(where).share(Side.BUY) == (Decimal(1000) + Decimal("239.7")) / 2000
    assert exposure_of(where).share(Side.SELL) == 0
    where.limits = replace(RISK, max_position=Decimal("0.0125"))
    assert exposure_of(where).share(Side.BUY) == Decimal("0.0155") / Decimal("0.0125")
    assert position_share(Decimal("0.0125"), MARK, where.limits) == 1
