"""Somebody else at our position: one order is lived with, several in a minute are not."""

from hypothesis import given
from hypothesis import strategies as st

from core.foreign_trades import ForeignTrades

S = 1_000_000_000


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 40)), max_size=30))
def test_it_goes_on_from_the_fifth_order_in_a_minute_until_there_was_none_for_a_while(
    trades: list[tuple[int, int]],
) -> None:
    """Held to a count of all of them; several trades of one order are one."""
    watch, seen, now_s = ForeignTrades(), list[tuple[int, int]](), 0
    until_s = 0
    for order_id, pause_s in trades:
        now_s += pause_s
        seen.append((order_id, now_s))
        recent = {order for order, at_s in seen if at_s >= now_s - ForeignTrades.WINDOW_S}
        if len(recent) >= ForeignTrades.MANY:
            until_s = now_s + int(ForeignTrades.CALM_S)
        assert watch.add(order_id, now_s * S) == (now_s < until_s)
        assert watch.is_going_on((now_s + 25) * S) is False
