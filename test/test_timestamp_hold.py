"""Orders wait while the exchange refuses our timestamps."""

import asyncio
from pathlib import Path

from core.timestamp_hold import TimestampHold
from test.daemon import Sent, World, in_a_world

SECOND_NS = 1_000_000_000
REFUSED = -5028


def test_refused_timestamp_holds_everything_for_a_second_and_then_lets_one_ask() -> None:
    """None, then one, then any number once it was taken."""
    hold = TimestampHold()
    assert hold.room(0) is None
    assert hold.refused(REFUSED, 0)
    assert hold.room(SECOND_NS - 1) == 0
    assert hold.room(SECOND_NS) == 1
    assert hold.accepted()
    assert hold.room(SECOND_NS) is None


def test_orders_refused_together_count_once() -> None:
    """Six orders leave at once; their refusals are one."""
    hold = TimestampHold()
    assert [hold.refused(REFUSED, 0) for _ in range(6)] == [True] + 5 * [False]
    assert hold.room(SECOND_NS) == 1


def test_attempts_grow_to_ten_seconds_apart_and_no_further() -> None:
    """A minute of refusals costs a handful of attempts, and the end of it is noticed within 10 s."""
    hold, now_ns, waits_s = TimestampHold(), 0, []
    for _ in range(1100):  # three hours of them: 2.0**1024 would be too large for a float
        hold.refused(REFUSED, now_ns)
        until_ns = next(at for at in range(now_ns, now_ns + 20 * SECOND_NS, SECOND_NS) if hold.room(at))
        waits_s.append((until_ns - now_ns) / SECOND_NS)
        now_ns = until_ns
    assert waits_s == [1, 2, 4, 8, *[10] * 1096]


def test_other_refusals_hold_nothing() -> None:
    """Only what says that each following order would be refused too."""
    hold = TimestampHold()
    assert not hold.refused(-2019, 0)
    assert hold.room(0) is None
    assert not hold.accepted()


def test_minute_of_refused_timestamps_costs_few_orders_and_quoting_goes_on_after_it(tmp_path: Path) -> None:
    """The six that left together, and one every few seconds; all six are back 15 s after the last."""
    orders: list[str] = []

    async def count(sent: Sent) -> None:
        if sent.path == "/fapi/v1/order" and sent.method in ("POST", "PUT"):
            orders.append(sent.method)

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.tamper = count
        for method in ("POST", "PUT"):
            world.strike("error", path="/fapi/v1/order", method=method, code=REFUSED, for_s=60)
        world.strike("expire-orders")
        await asyncio.sleep(59)
        assert 6 <= len(orders) <= 16, orders
        await world.until_quoting(17)
        await world.end()

    in_a_world(tmp_path, story)
