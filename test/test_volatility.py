"""Volatility, against the plain formula over all prices."""

import math
import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.volatility import EwmaVolatility, ReturnDeviation

SECOND = 1_000_000_000

prices = st.lists(st.integers(900_000, 1_100_000), min_size=1, max_size=60)
walks = st.lists(st.tuples(st.integers(0, 30 * SECOND), st.integers(900_000, 1_100_000)), max_size=60)


@given(st.integers(2, 20), prices)
def test_deviation_is_that_of_the_last_returns(samples: int, series: list[int]) -> None:
    """As statistics.pstdev says of the last N simple returns, in basis points."""
    deviation = ReturnDeviation(samples)
    for price in series:
        deviation.add(price)
    last = series[-samples - 1 :]
    returns = [after / before - 1 for before, after in pairwise(last)]
    assert len(deviation) == len(returns)
    expected = 1e4 * statistics.pstdev(returns) if len(returns) > 1 else 0
    assert deviation.bps == pytest.approx(expected, abs=1e-9)


def test_deviation_of_a_price_that_goes_to_and_fro_is_known() -> None:
    """One percent up and the same down again: returns of 100 and -99.0099 bps, half their distance from the mean."""
    deviation = ReturnDeviation(10)
    for price in (100, 101, 100, 101, 100):
        deviation.add(price)
    assert deviation.bps == pytest.approx((100 + 10_000 / 101) / 2)


@given(st.floats(0.5, 600), walks, st.integers(0, 600 * SECOND))
def test_ewma_is_the_weighted_mean_of_squares_per_second(
    half_life_s: float, walk: list[tuple[int, int]], rest_ns: int
) -> None:
    """Each squared return by its age, over the weights of all seconds since the first price."""
    volatility, samples, now_ns = EwmaVolatility(half_life_s), [], 7 * SECOND
    for wait_ns, price in walk:
        now_ns += wait_ns
        volatility.add(now_ns, price)
        samples.append((now_ns, price))
    now_ns += rest_ns
    if not samples or now_ns == samples[0][0]:
        assert volatility.bps_per_sqrt_s(now_ns) == 0
        return
    decay = math.log(2) / half_life_s
    squares = sum(
        math.log(after / before) ** 2 * math.exp(-decay * (now_ns - at_ns) / 1e9)
        for (_, before), (at_ns, after) in pairwise(samples)
    )
    weights_s = (1 - math.exp(-decay * (now_ns - samples[0][0]) / 1e9)) / decay
    expected = 1e4 * math.sqrt(squares / weights_s)
    assert volatility.bps_per_sqrt_s(now_ns) == pytest.approx(expected, rel=1e-4)
    assert volatility.bps_per_minute(now_ns) == pytest.approx(expected * math.sqrt(60), rel=1e-4)


def test_ewma_of_steady_moves_is_their_size_whatever_its_age() -> None:
    """One basis point up and down every second is a volatility of one basis point per root second, soon and late."""
    volatility = EwmaVolatility(60)
    volatility.add(0, 1_000_000)
    found = []
    for second in range(1, 1200):
        volatility.add(second * SECOND, 1_000_100 if second % 2 else 1_000_000)
        found.append(volatility.bps_per_sqrt_s(second * SECOND))
    assert found[4] == pytest.approx(1, rel=0.02)
    assert found[-1] == pytest.approx(1, rel=0.01)


def test_ewma_halves_its_variance_in_a_half_life_without_a_price() -> None:
    """Long after the start, silence is calm."""
    volatility = EwmaVolatility(60)
    volatility.add(0, 1_000_000)
    volatility.add(3600 * SECOND, 1_010_000)
    before = volatility.bps_per_sqrt_s(3600 * SECOND)
    assert volatility.bps_per_sqrt_s(3660 * SECOND) ** 2 == pytest.approx(before**2 / 2)


@pytest.mark.parametrize("samples", [0, 1])
def test_deviation_of_a_single_return_is_refused(samples: int) -> None:
    """It would always be 0."""
    with pytest.raises(ValueError, match="at least 2"):
        ReturnDeviation(samples)


def test_half_life_of_no_length_is_refused() -> None:
    """It would forget everything at once."""
    with pytest.raises(ValueError, match="longer than 0 s"):
        EwmaVolatility(0)
