"""What takers bought and sold, against a sum over all trades, and which trades are worth telling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.flow import STEPS, FlowSums, SignificantTrades, TradeFlow
from core.market_model import MarketTrade

SECOND = 1_000_000_000


def trade(lots: int = 1, *, is_buy: bool = True) -> MarketTrade:
    """So many lots at 100 ticks."""
    return MarketTrade(100, lots, is_buy, 1, 0, 0)


@given(
    st.lists(st.tuples(st.integers(0, 3 * SECOND), st.integers(1, 50), st.booleans()), max_size=60),
    st.integers(0, 12 * SECOND),
)
def test_sums_are_those_of_the_trades_in_the_window(
    trades: list[tuple[int, int, bool]], rest_ns: int
) -> None:
    """In whole steps of a hundredth of the window, to the last unit."""
    flow, seen, now_ns = TradeFlow(10), [], 5 * SECOND
    for wait_ns, lots, is_buy in trades:
        now_ns += wait_ns
        flow.add(now_ns, trade(lots, is_buy=is_buy))
        seen.append((now_ns, lots, is_buy))
    now_ns += rest_ns
    step_ns = 10 * SECOND // STEPS
    inside = [each for each in seen if each[0] // step_ns > now_ns // step_ns - STEPS]
    expected = FlowSums(
        sum(100 * lots for _, lots, is_buy in inside if is_buy),
        sum(100 * lots for _, lots, is_buy in inside if not is_buy),
        len(inside),
    )
    assert flow.sums(now_ns) == expected
    assert all(now_ns - at_ns <= 10 * SECOND for at_ns, _, _ in inside)


@pytest.mark.parametrize(
    ("bought", "sold", "expected"), [(0, 0, 0), (5, 0, 1), (0, 5, -1), (3, 1, 0.5), (2, 2, 0)]
)
def test_imbalance_is_the_difference_over_the_sum(bought: int, sold: int, expected: float) -> None:
    """From -1 to 1, and 0 when nothing was traded."""
    assert FlowSums(bought, sold).imbalance == expected


def test_memory_does_not_grow_with_the_trades() -> None:
    """A hundred steps, whatever comes within them."""
    flow = TradeFlow(10)
    for number in range(100_000):
        flow.add(number * SECOND // 1000, trade())
    assert flow.sums(100 * SECOND - 1).trades == 10_000
    assert len(flow._steps) == STEPS


def test_large_trade_is_always_significant() -> None:
    """At the threshold and above, each of them."""
    significant = SignificantTrades(1000, 0)
    assert [significant.why(0, trade(lots)) for lots in (9, 10, 11, 10)] == ["", "size", "size", "size"]


def test_small_trade_is_significant_when_none_was_for_the_interval() -> None:
    """At most one in five seconds; a large one in between begins the time anew."""
    significant = SignificantTrades(1000, 5)
    story = [(0, 1), (1, 1), (4, 10), (5, 1), (9, 1), (10, 1), (20, 1)]
    found = [significant.why(second * SECOND, trade(lots)) for second, lots in story]
    assert found == ["interval", "", "size", "", "interval", "", "interval"]


def test_window_of_no_length_is_refused() -> None:
    """A window needs a length."""
    with pytest.raises(ValueError, match="longer than 0 s"):
        TradeFlow(0)
