"""Filters refuse in Binance's order, and let through what lies on the grid."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import ApiError
from sim.filters import check_percent_price, check_price, check_quantity
from sim.orders import OrderType, Side
from sim.rules import MAINNET

RULES = MAINNET["BTCUSDT"]
COARSE = replace(RULES, step_size=Decimal("0.005"), min_qty=Decimal("0.010"))


def code_of(action: Callable[[], object]) -> int:
    """Return the code with which the action is refused."""
    with pytest.raises(ApiError) as caught:
        action()
    return caught.value.code


@pytest.mark.parametrize(("quantity", "code"), [("0.005", -4004), ("0.012", -4023), ("0.0125", -1111)])
def test_quantity_is_held_against_minimum_and_step(quantity: str, code: int) -> None:
    """Below the minimum, between steps, and with too many decimals are three faults (facts 3.2)."""
    assert code_of(lambda: check_quantity(COARSE, Decimal(quantity), OrderType.LIMIT)) == code


@given(st.integers(min_value=5568, max_value=45_297_640))
def test_price_on_the_grid_passes(ticks: int) -> None:
    """Every tick between minimum and maximum price is a price."""
    assert check_price(RULES, RULES.price(ticks)) == ticks


def test_trailing_zeros_are_no_precision() -> None:
    """80000.100 is 80000.1."""
    assert check_price(RULES, Decimal("80000.100")) == 800_001


def test_maximum_of_zero_disables_its_rule() -> None:
    """A field of 0 disables its rule (facts 3.2)."""
    assert check_price(replace(RULES, max_price=Decimal(0)), Decimal(9_000_000)) == 90_000_000


def test_refused_price_is_told_the_band() -> None:
    """The text names the highest or lowest price, on the tick (facts 9)."""
    mark = Decimal("50000.05")
    with pytest.raises(ApiError, match=r"can't be higher than 52500\.05"):
        check_percent_price(replace(RULES, tick_size=Decimal("0.01")), Side.BUY, Decimal(60_000), mark)
    with pytest.raises(ApiError, match=r"can't be lower than 47500\.0"):
        check_percent_price(RULES, Side.SELL, Decimal(40_000), mark)
    check_percent_price(RULES, Side.SELL, Decimal(60_000), mark)
    check_percent_price(RULES, Side.BUY, Decimal(60_000), Decimal(0))
