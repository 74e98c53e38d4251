"""The vocabulary: exact conversions between ticks, lots, Decimals and wire text."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from core.model import OrderStatus, Position, Side, SymbolRules

from .examples import BOOK, BTC, SOME_RULES, quote


def test_side_knows_its_sign_and_its_opposite() -> None:
    """Buying adds to the position, selling takes from it."""
    assert (Side.BUY.sign, Side.SELL.sign) == (1, -1)
    assert Side.BUY.opposite is Side.SELL
    assert Side.SELL.opposite is Side.BUY


@given(rules=SOME_RULES, units=st.integers(0, 10**9))
def test_price_and_quantity_survive_the_way_over_the_wire(rules: SymbolRules, units: int) -> None:
    """Ticks and lots, written as text and read again, are the same numbers."""
    assert rules.ticks(Decimal(rules.price_text(units))) == units
    assert rules.lots(Decimal(rules.quantity_text(units))) == units


@given(rules=SOME_RULES, units=st.integers(0, 10**9))
def test_wire_text_holds_plain_digits_only(rules: SymbolRules, units: int) -> None:
    """No exponent, no sign, no blanks."""
    for text in (rules.price_text(units), rules.quantity_text(units)):
        assert text.replace(".", "", 1).isdecimal()


@given(rules=SOME_RULES, price=st.decimals(0, 10**6, places=7))
def test_rounding_to_ticks_goes_one_way_by_less_than_a_tick(rules: SymbolRules, price: Decimal) -> None:
    """The floor is the highest tick at or below, the ceiling the lowest at or above."""
    assert 0 <= price - rules.price(rules.floor_ticks(price)) < rules.tick_size
    assert 0 <= rules.price(rules.ceil_ticks(price)) - price < rules.tick_size


@given(rules=SOME_RULES, quantity=st.decimals(0, 10**6, places=7))
def test_rounding_to_lots_never_enlarges(rules: SymbolRules, quantity: Decimal) -> None:
    """The lots are the most that are not more than the quantity."""
    assert 0 <= quantity - rules.quantity(rules.floor_lots(quantity)) < rules.step_size


def test_price_between_two_ticks_is_refused() -> None:
    """A price that the exchange cannot have said is an error, not a rounding."""
    with pytest.raises(ValueError, match=r"80000\.05 is not a multiple of the tick size 0\.1"):
        BTC.ticks(Decimal("80000.05"))


def test_quantity_between_two_steps_is_refused() -> None:
    """A quantity that the exchange cannot have said is an error, not a rounding."""
    with pytest.raises(ValueError, match=r"0\.0015 is not a multiple of the step size 0\.001"):
        BTC.lots(Decimal("0.0015"))


def test_notional_is_price_times_quantity() -> None:
    """80 000 times 0.003 is 240, exactly."""
    assert BTC.notional_quote(800_000, 3) == Decimal(240)


def test_mid_in_half_ticks_is_exact_for_an_odd_spread() -> None:
    """The mid of 10 and 11 ticks is 21 half ticks."""
    assert structs.replace(BOOK, bid_ticks=10, ask_ticks=11).mid_half_ticks == 21


@pytest.mark.parametrize(
    "change",
    [
        {"bid_ticks": 0},
        {"bid_ticks": 800_001},
        {"ask_ticks": 799_998},
        {"bid_lots": 0},
        {"ask_lots": 0},
    ],
)
def test_book_that_cannot_be_real_is_not_sane(change: dict[str, int]) -> None:
    """A price of zero, a locked or crossed book, or an empty side is no market."""
    assert BOOK.is_sane
    assert not structs.replace(BOOK, **change).is_sane


def test_quote_fills_the_slot_of_its_side_and_level() -> None:
    """The slot is what makes two quotes compete."""
    assert quote(Side.SELL, 2).slot == (Side.SELL, 2)


def test_only_the_five_ends_are_terminal() -> None:
    """An order in doubt, or with a change under way, lives."""
    ended = {status.value for status in OrderStatus if status.is_terminal}
    assert ended == {"FILLED", "CANCELLED", "EXPIRED", "EXPIRED_IN_MATCH", "REJECTED"}


def test_flat_position_holds_nothing() -> None:
    """No position is a position of zero."""
    flat = Position.flat("BTCUSDT")
    assert (flat.symbol, flat.quantity, flat.entry_price, flat.unrealized_pnl_quote) == ("BTCUSDT", 0, 0, 0)


@given(rules=SOME_RULES, quote_amount=st.decimals(0, 100_000, places=3), ticks=st.integers(1, 10**7))
def test_units_of_an_amount_are_the_most_that_it_pays_for(
    rules: SymbolRules, quote_amount: Decimal, ticks: int
) -> None:
    """Ticks times lots stand for money exactly: one more would be worth more than the amount."""
    units = rules.units(quote_amount)
    assert rules.notional_quote(units, 1) <= quote_amount < rules.notional_quote(units + 1, 1)
    lots = units // ticks
    assert rules.notional_quote(ticks, lots) <= quote_amount < rules.notional_quote(ticks, lots + 1)


def test_words_hash_as_their_texts() -> None:
    """A table of texts finds a word, and no call of Enum's is needed for it."""
    assert {"BUY": 1}[Side.BUY] == 1
    assert hash(OrderStatus.ACTIVE) == hash("ACTIVE")


@given(rules=SOME_RULES, units=st.integers(-(10**12), 10**12))
def test_text_of_a_number_of_units_is_that_of_their_decimal(rules: SymbolRules, units: int) -> None:
    """To the last zero, whatever the tick is written like."""
    for unit in (rules.tick_size, Decimal("5E+1"), Decimal("0.10"), Decimal("2"), Decimal("0.000025")):
        other = replace(rules, tick_size=unit, step_size=unit)
        assert other.price_text(units) == other.quantity_text(units) == f"{unit * units:f}"
