"""For how long the exchange has asked for silence, and of what."""

import pytest

from core.rate_budget import Cost, Lane
from core.rate_hold import RateHold

NOW = 90_000
ORDER = Cost(weight=0, orders_10s=1, orders_1m=1)


@pytest.mark.parametrize("lane", Lane)
def test_a_hold_stops_every_lane(lane: Lane) -> None:
    """After 429 and 418 nothing is sent until the exchange's time is over, cancels included."""
    hold = RateHold()
    hold.begin(7000, NOW, orders_only=False)
    assert hold.left_ms(lane, Cost(1), NOW + 2000) == 5000
    assert hold.left_ms(lane, Cost(1), NOW + 7000) == 0


def test_a_hold_on_orders_lets_cancels_questions_and_the_closing_order_through() -> None:
    """Too many new orders says nothing of anything else; whether a close is one too many is for the exchange to say."""
    hold = RateHold()
    hold.begin(7000, NOW, orders_only=True)
    assert hold.left_ms(Lane.PLACE, ORDER, NOW + 1) == 6999
    assert hold.left_ms(Lane.AMEND, ORDER, NOW + 1) == 6999
    assert hold.left_ms(Lane.CANCEL, Cost(1), NOW + 1) == 0
    assert hold.left_ms(Lane.CANCEL, ORDER, NOW + 1) == 0
    assert hold.left_ms(Lane.QUERY, Cost(1), NOW + 1) == 0


@pytest.mark.parametrize("orders_only", [False, True])
def test_a_shorter_hold_does_not_end_a_longer_one(orders_only: bool) -> None:
    """A late answer to an old request says nothing new."""
    hold = RateHold()
    hold.begin(60_000, NOW, orders_only=orders_only)
    hold.begin(1000, NOW + 10, orders_only=orders_only)
    assert hold.left_ms(Lane.PLACE, ORDER, NOW + 5000) == 55_000


def test_end_of_a_hold_on_everything_is_told_once() -> None:
    """One on orders only says nothing of anything else."""
    hold = RateHold()
    hold.begin(7000, NOW, orders_only=True)
    assert not hold.ends(NOW + 8000)
    hold.begin(7000, NOW, orders_only=False)
    assert [hold.ends(NOW + after_ms) for after_ms in (6999, 7000, 7001)] == [False, True, False]
