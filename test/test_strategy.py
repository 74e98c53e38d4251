"""What we want to rest: prices rounded outwards, sizes rounded down, nothing that the exchange would refuse."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.model import BookTop, Side, SymbolRules
from core.settings import QuoteSettings
from core.strategy import (
    desired_quotes,
    level_price_ticks,
    level_quote,
    mark_objection,
    price_objection,
    size_objection,
    spread_objection,
)

from .examples import BOOK, BTC, MARK, QUOTES, SOME_RULES, quote, some_books

OFFSETS = st.decimals(Decimal("0.001"), Decimal("4.999"), places=3)
SIZES = st.decimals(1, 100_000, places=2)
SETTINGS = st.builds(
    lambda levels, size, offset: replace(QUOTES, levels=levels, size_quote=size, offset_percent=offset),
    st.integers(1, 10),
    SIZES,
    OFFSETS,
)


def offset_of(percent: Decimal | int) -> QuoteSettings:
    """Settings that are about the offset alone."""
    return replace(QUOTES, offset_percent=Decimal(percent))


def exact_ticks(book: BookTop, side: Side, level: int, offset_percent: Decimal) -> Fraction:
    """``mid × (1 ∓ level × offset)`` in ticks, in exact arithmetic of another kind."""
    distance = level * Fraction(offset_percent) / 100
    return Fraction(book.bid_ticks + book.ask_ticks, 2) * (1 - side.sign * distance)


@given(book=some_books(), side=st.sampled_from(Side), level=st.integers(1, 50), offset=OFFSETS)
def test_price_lies_outwards_of_the_exact_one_by_less_than_a_tick(
    book: BookTop, side: Side, level: int, offset: Decimal
) -> None:
    """A bid is never above, an ask never below what was configured; the lowest price there is, is one tick."""
    ticks = level_price_ticks(book.mid_half_ticks, side, level, offset_of(offset))
    outwards = side.sign * (exact_ticks(book, side, level, offset) - ticks)
    assert 0 <= outwards < 1 or ticks == 1


@given(book=some_books(), rules=SOME_RULES, settings=SETTINGS)
def test_no_quote_crosses_the_book(book: BookTop, rules: SymbolRules, settings: QuoteSettings) -> None:
    """Bids are below the best ask and asks above the best bid: post-only holds on the book it was decided on."""
    mid = rules.price(book.mid_half_ticks) / 2
    for wanted in desired_quotes(book, mid, rules, settings).quotes:
        if wanted.side is Side.BUY:
            assert wanted.price_ticks < book.ask_ticks
        else:
            assert wanted.price_ticks > book.bid_ticks


@given(book=some_books(), rules=SOME_RULES, settings=SETTINGS)
def test_no_quote_is_bigger_than_configured_or_a_lot_too_small(
    book: BookTop, rules: SymbolRules, settings: QuoteSettings
) -> None:
    """The size is the most lots that the configured amount pays for."""
    for wanted in desired_quotes(book, Decimal(0), rules, settings).quotes:
        assert rules.notional_quote(wanted.price_ticks, wanted.lots) <= settings.size_quote
        assert rules.notional_quote(wanted.price_ticks, wanted.lots + 1) > settings.size_quote


@given(book=some_books(), rules=SOME_RULES, settings=SETTINGS)
def test_every_level_is_quoted_or_its_absence_explained(
    book: BookTop, rules: SymbolRules, settings: QuoteSettings
) -> None:
    """Nothing is lost and nothing twice, the nearest level first."""
    desired = desired_quotes(book, rules.price(book.mid_half_ticks) / 2, rules, settings)
    slots = [wanted.slot for wanted in desired.quotes]
    explained = [line.split(":")[0] for line in desired.left_out]
    named = [f"{side.lower()} {level}" for side, level in slots]
    assert sorted(named + explained) == sorted(
        f"{side.lower()} {level}" for side in Side for level in range(1, settings.levels + 1)
    )
    assert [level for _, level in slots] == sorted(level for _, level in slots)


@given(book=some_books(), rules=SOME_RULES, settings=SETTINGS)
def test_what_is_quoted_keeps_every_filter_of_the_exchange(
    book: BookTop, rules: SymbolRules, settings: QuoteSettings
) -> None:
    """Minimum quantity and notional, and the band around the mark price, asked once more from scratch."""
    mark = rules.price(book.mid_half_ticks) / 2
    for wanted in desired_quotes(book, mark, rules, settings).quotes:
        price = wanted.price_ticks * rules.tick_size
        assert wanted.lots >= max(rules.min_lots, 1)
        assert price * wanted.lots * rules.step_size >= rules.min_notional_quote
        assert wanted.side is Side.SELL or price <= mark * rules.multiplier_up
        assert wanted.side is Side.BUY or price >= mark * rules.multiplier_down


def test_three_levels_of_the_shipped_settings_are_as_a_person_expects() -> None:
    """0.1, 0.2 and 0.3 percent around 80 000, 250 USDT each."""
    desired = desired_quotes(BOOK, MARK, BTC, QUOTES)
    assert desired.left_out == ()
    assert [
        (wanted.side, wanted.level, BTC.price(wanted.price_ticks), wanted.lots) for wanted in desired.quotes
    ] == [
        (Side.BUY, 1, Decimal(79_920), 3),
        (Side.SELL, 1, Decimal(80_080), 3),
        (Side.BUY, 2, Decimal(79_840), 3),
        (Side.SELL, 2, Decimal(80_160), 3),
        (Side.BUY, 3, Decimal(79_760), 3),
        (Side.SELL, 3, Decimal(80_240), 3),
    ]


def test_mid_between_two_ticks_is_rounded_outwards_on_both_sides() -> None:
    """A mid of 100.5 ticks, 1 percent: 99.495 down to 99, 101.505 up to 102."""
    assert level_price_ticks(201, Side.BUY, 1, offset_of(1)) == 99
    assert level_price_ticks(201, Side.SELL, 1, offset_of(1)) == 102


def test_price_on_a_tick_stays_there() -> None:
    """Rounding moves only what is between two ticks."""
    assert level_price_ticks(2000, Side.BUY, 1, offset_of(1)) == 990
    assert level_price_ticks(2000, Side.SELL, 1, offset_of(1)) == 1010


def test_bid_never_falls_below_one_tick() -> None:
    """The lowest price there is."""
    assert level_price_ticks(3, Side.BUY, 50, offset_of(4)) == 1


def test_size_below_the_smallest_lot_is_left_out_with_the_number() -> None:
    """10 USDT do not buy 0.001 BTC, and nobody raises them."""
    desired = desired_quotes(BOOK, MARK, BTC, replace(QUOTES, levels=1, size_quote=Decimal(10)))
    assert desired.quotes == ()
    assert desired.left_out == (
        "buy 1: size is below the minimum of 0.001 BTC",
        "sell 1: size is below the minimum of 0.001 BTC",
    )


def test_size_below_the_minimum_notional_is_left_out_with_the_number() -> None:
    """0.001 BTC at 40 000 is 40 USDT, less than the minimum of 50."""
    assert (
        size_objection(quote(price_ticks=400_000, lots=1), BTC) == "40.0000 USDT is below the minimum of 50"
    )


def test_size_above_the_maximum_is_left_out_with_the_number() -> None:
    """One lot over the largest limit order."""
    assert size_objection(quote(lots=BTC.max_lots), BTC) == ""
    assert size_objection(quote(lots=BTC.max_lots + 1), BTC) == "size is above the maximum of 1000.000 BTC"


def test_no_lot_at_all_is_below_the_minimum_where_the_exchange_has_none() -> None:
    """A minimum of zero does not make an order of zero."""
    free = replace(BTC, min_lots=0, min_notional_quote=Decimal(0))
    assert size_objection(quote(lots=0), free) == "size is below the minimum of 0.001 BTC"


@pytest.mark.parametrize(
    ("side", "price", "objection"),
    [
        (Side.BUY, "556.7", "price 556.7 is outside of 556.8 to 4529764"),
        (Side.SELL, "4529764.1", "price 4529764.1 is outside of 556.8 to 4529764"),
        (Side.BUY, "84000.1", "price 84000.1 is above the band around the mark price 80000"),
        (Side.BUY, "84000", ""),
        (Side.BUY, "600", ""),
        (Side.SELL, "75999.9", "price 75999.9 is below the band around the mark price 80000"),
        (Side.SELL, "76000", ""),
        (Side.SELL, "90000", ""),
    ],
)
def test_price_is_held_to_the_limits_and_to_one_side_of_the_band(
    side: Side, price: str, objection: str
) -> None:
    """A deep bid and a high ask are allowed, a bid above and an ask below the band are not."""
    assert price_objection(quote(side, price_ticks=BTC.ticks(Decimal(price))), MARK, BTC) == objection


def test_band_is_not_checked_while_the_mark_price_is_unknown() -> None:
    """A mark price of 0 is none; the limits of the price still hold."""
    assert price_objection(quote(Side.SELL, price_ticks=6000), Decimal(0), BTC) == ""
    assert price_objection(quote(Side.SELL, price_ticks=1), Decimal(0), BTC) != ""


def test_highest_price_of_zero_disables_the_limit() -> None:
    """That is how the exchange writes "no limit"."""
    free = replace(BTC, max_price=Decimal(0))
    assert price_objection(quote(Side.SELL, price_ticks=90_000_000), Decimal(0), free) == ""


def test_quote_of_a_level_is_made_without_asking_the_rules() -> None:
    """Feasibility looks at quotes that would be refused."""
    tiny = replace(QUOTES, size_quote=Decimal(10))
    assert level_quote(BOOK.mid_half_ticks, Side.BUY, 1, tiny, BTC.units(tiny.size_quote)).lots == 0


@given(book=some_books(), rules=SOME_RULES, settings=SETTINGS, mark=st.decimals(0, 200_000, places=2))
def test_quote_that_is_wanted_is_one_that_no_rule_objects_to(
    book: BookTop, rules: SymbolRules, settings: QuoteSettings, mark: Decimal
) -> None:
    """What is found to fit at a glance fits by every rule asked one by one, and nothing else is left out."""
    desired = desired_quotes(book, mark, rules, settings)
    mid_half_ticks = book.mid_half_ticks
    wanted = {each.slot for each in desired.quotes}
    for level in range(1, settings.levels + 1):
        for side in Side:
            one = level_quote(mid_half_ticks, side, level, settings, rules.units(settings.size_quote))
            objection = spread_objection(side, one.price_ticks, mid_half_ticks, settings)
            objection = objection or mark_objection(one.price_ticks, mark, rules, settings)
            objection = objection or size_objection(one, rules) or price_objection(one, mark, rules)
            assert ((side, level) in wanted) is (objection == "")
