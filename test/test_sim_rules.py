"""The rules of a symbol are the exact bridge between decimal text and whole ticks and lots."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.rules import MAINNET, plain

SYMBOLS = sorted(MAINNET)


@given(st.sampled_from(SYMBOLS), st.integers(min_value=-(10**12), max_value=10**12))
def test_ticks_and_lots_survive_the_way_to_text_and_back(symbol: str, count: int) -> None:
    """Text of a price or quantity reads back as the same count, and shows the step's decimals."""
    rules = MAINNET[symbol]
    assert rules.price_ticks(Decimal(rules.price_text(count))) == count
    assert rules.lots(Decimal(rules.quantity_text(count))) == count
    assert rules.price_text(count) == plain(rules.price(count))
    assert rules.quantity_text(count) == plain(rules.quantity(count))


def test_texts_stay_right_when_more_were_asked_for_than_are_kept() -> None:
    """Texts are kept for their next use, but not without end."""
    rules = replace(MAINNET["BTCUSDT"])
    for _ in range(2):
        for count in (0, 7, 70_000, 140_001):
            assert rules.price_text(count) == plain(rules.price(count))
        for count in range(70_000):
            rules.price_text(count)


def test_price_between_two_ticks_is_refused() -> None:
    """A price off the tick raises ValueError with both numbers in its text."""
    with pytest.raises(ValueError, match=r"price 50000\.05 is not a multiple of the tick 0\.10"):
        MAINNET["BTCUSDT"].price_ticks(Decimal("50000.05"))


def test_quantity_between_two_steps_is_refused() -> None:
    """A quantity off the step raises ValueError with both numbers in its text."""
    with pytest.raises(ValueError, match=r"quantity 0\.0005 is not a multiple of the step 0\.001"):
        MAINNET["BTCUSDT"].lots(Decimal("0.0005"))


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_exchange_info_names_the_seven_filters(symbol: str) -> None:
    """Each symbol publishes the seven filter types that are live, with strings for decimals (facts 3.2)."""
    info = MAINNET[symbol].as_exchange_info()
    kinds = {row["filterType"]: row for row in info["filters"]}
    assert sorted(kinds) == [
        "LOT_SIZE",
        "MARKET_LOT_SIZE",
        "MAX_NUM_ORDERS",
        "MIN_NOTIONAL",
        "PERCENT_PRICE",
        "POSITION_RISK_CONTROL",
        "PRICE_FILTER",
    ]
    assert kinds["MIN_NOTIONAL"]["notional"] == plain(MAINNET[symbol].min_notional)
    assert kinds["PRICE_FILTER"]["tickSize"] == plain(MAINNET[symbol].tick_size)
    assert isinstance(kinds["MAX_NUM_ORDERS"]["limit"], int)


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_bounds_of_a_symbol_lie_on_its_own_grid(symbol: str) -> None:
    """Minimum and maximum of price and quantity can themselves be sent."""
    rules = MAINNET[symbol]
    assert rules.price_ticks(rules.min_price) > 0
    assert rules.lots(rules.min_qty) >= 1
    assert rules.lots(rules.max_qty) >= rules.lots(rules.market_max_qty)


def test_bitcoin_has_the_rules_of_the_snapshot() -> None:
    """BTCUSDT: tick 0.10, step 0.001, minimum notional 50, maker 0.02 %, taker 0.05 % (facts 10)."""
    rules = MAINNET["BTCUSDT"]
    assert (rules.tick_size, rules.step_size) == (Decimal("0.10"), Decimal("0.001"))
    assert (rules.min_notional, rules.max_num_orders) == (50, 200)
    assert (rules.maker_fee, rules.taker_fee) == (Decimal("0.0002"), Decimal("0.0005"))
