"""How far the price has moved within a window, against a reading of all prices."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.price_watch import PriceWatch
from core.price_window import PriceWindow

SECOND = 1_000_000_000

steps = st.lists(st.tuples(st.integers(0, 4 * SECOND), st.integers(1, 60)), min_size=1, max_size=80)


def naive_extremes(prices: list[tuple[int, int]], begin_ns: int) -> tuple[int, int]:
    """Return the highest and lowest of all prices that were in force after the beginning of the window: the last is."""
    ends = [at_ns for at_ns, _ in prices[1:]]
    in_force = [price for (_, price), end in zip(prices, ends, strict=False) if end > begin_ns] + [
        prices[-1][1]
    ]
    return max(in_force), min(in_force)


@given(steps)
def test_extremes_equal_those_of_all_prices_in_force(walk: list[tuple[int, int]]) -> None:
    """After every price, highest and lowest are those of a look at each price that was in force in the window."""
    window, prices, now_ns = PriceWindow(10), [], 0
    for wait_ns, price in walk:
        now_ns += wait_ns
        if not prices or prices[-1][1] != price:
            prices.append((now_ns, price))
        window.add(now_ns, price)
        highest, lowest = naive_extremes(prices, now_ns - 10 * SECOND)
        assert (window.highest_half_ticks, window.lowest_half_ticks) == (highest, lowest)
        assert window.change_fraction == Decimal(highest - lowest) / lowest
        assert window.rise_fraction == Decimal(price - lowest) / lowest
        assert window.fall_fraction == Decimal(highest - price) / price


@given(steps)
def test_a_watch_that_looks_only_when_it_has_to_misses_nothing(walk: list[tuple[int, int]]) -> None:
    """It says what the window says, though most prices are the same as the one before."""
    window, watch, now_ns = PriceWindow(10), PriceWatch(Decimal(1), 10), 0
    for wait_ns, price in walk:
        now_ns += wait_ns
        window.add(now_ns, price // 20 + 1)
        watch.add(now_ns, price // 20 + 1)
        assert watch.change_bps == (window.change_fraction * 10_000).quantize(Decimal("0.001"))


def test_jump_after_a_quiet_time_is_a_move_within_the_window() -> None:
    """The old price was in force until the jump, however long ago it was added."""
    window = PriceWindow(60)
    window.add(0, 200)
    window.add(3600 * SECOND, 190)
    assert window.fall_fraction == Decimal(10) / 190
    assert window.rise_fraction == 0


def test_move_is_forgotten_once_it_has_left_the_window() -> None:
    """A price that was replaced a window ago no longer counts, also when the present one does not change."""
    window = PriceWindow(60)
    window.add(0, 200)
    window.add(SECOND, 100)
    window.add(60 * SECOND, 100)
    assert window.change_fraction == 1
    window.add(61 * SECOND, 100)
    assert window.change_fraction == 0


def test_excursion_counts_in_full_after_the_price_has_come_back() -> None:
    """The change is that of the extremes, not of the present price against one of them."""
    window = PriceWindow(60)
    for second, price in enumerate((100, 150, 120)):
        window.add(second * SECOND, price)
    assert window.change_fraction == Decimal("0.5")
    assert window.rise_fraction == Decimal("0.2")
    assert window.fall_fraction == Decimal("0.25")


def test_window_without_a_price_has_no_change() -> None:
    """Before the first price and after clearing there is nothing to have moved."""
    window = PriceWindow(60)
    assert window.change_fraction == window.rise_fraction == window.fall_fraction == 0
    window.add(0, 100)
    window.add(1, 50)
    window.clear()
    assert window.change_fraction == 0
    assert window.highest_half_ticks == window.lowest_half_ticks == 0


@pytest.mark.parametrize("price", [0, -1])
def test_price_that_cannot_be_is_refused(price: int) -> None:
    """A mid of zero or below is a fault of the caller."""
    with pytest.raises(ValueError, match="above 0"):
        PriceWindow(60).add(0, price)


def test_window_of_no_length_is_refused() -> None:
    """A window needs a length."""
    with pytest.raises(ValueError, match="longer than 0 s"):
        PriceWindow(0)
