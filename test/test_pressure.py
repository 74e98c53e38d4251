"""Which way the book leans."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.market_model import Levels
from core.pressure import imbalance, microprice

from .examples import BTC


@given(st.integers(1, 10**6), st.integers(1, 100), st.integers(0, 10**6), st.integers(0, 10**6))
def test_microprice_is_the_middle_weighted_by_the_other_side(
    bid: int, spread: int, bid_lots: int, ask_lots: int
) -> None:
    """Within half a hundredth of a tick of the exact value, and never outside the two prices."""
    ask, lots = bid + spread, bid_lots + ask_lots
    found = microprice((bid, bid_lots), (ask, ask_lots), BTC)
    exact = Fraction(bid * ask_lots + ask * bid_lots, lots) if lots else Fraction(bid + ask, 2)
    assert abs(Fraction(found) - exact / 10) <= Fraction(1, 2000)
    assert BTC.price(bid) <= found <= BTC.price(ask)


def test_microprice_is_near_the_thin_side() -> None:
    """Three times as much to buy as to sell: three quarters of the way to the ask."""
    assert microprice((1000, 30), (1004, 10), BTC) == Decimal("100.3")


@pytest.mark.parametrize(
    ("bids", "asks", "levels", "expected"),
    [
        ((), (), 5, 0.0),
        (((10, 3),), ((11, 1),), 5, 0.5),
        (((10, 3), (9, 100)), ((11, 1), (12, 100)), 1, 0.5),
        (((10, 1), (9, 1)), ((11, 3), (12, 3)), 2, -0.5),
        (((10, 1),), (), 1, 1.0),
    ],
)
def test_imbalance_compares_the_lots_of_the_best_levels(
    bids: Levels, asks: Levels, levels: int, expected: float
) -> None:
    """Only of those that are asked for; 0 for an empty book."""
    assert imbalance(bids, asks, levels) == expected
