"""The benchmark of the way from tick to order finds the daemon's orders, and does without what is not installed."""

from typing import Any

import pytest

from bench import tick_to_order
from bench.quiet_venue import Pairing, Readings
from bench.tick_to_order import Effort, add_ratios, measure

pytestmark = pytest.mark.no_cover


def test_daemon_answers_each_tick_and_a_missing_peer_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`main.py` amends both its quotes on every tick of the closed loop; the floor says what it lacks."""
    monkeypatch.setitem(tick_to_order.NEEDS, "floor", ("package_that_nobody_has",))
    found = measure(Effort(warm_up=3, closed=10, paced=20, levels=0), ["floor", "daemon"])
    assert found["floor"] == {
        "not installed": "package_that_nobody_has: pip install -r requirements-bench.lock"
    }
    closed, paced = found["daemon"]["closed"], found["daemon"]["paced"]
    assert (closed["ticks"], closed["unanswered"]) == (10, 0)
    assert 0 < closed["median"] <= closed["p99"] < 1_000_000
    assert closed["cpu_us_a_tick"] > 0
    assert paced["unanswered"] < paced["ticks"] == 20


def test_ratios_are_those_to_the_floor() -> None:
    """A median of 300 µs beside 100 µs is a ratio of 3."""
    found: dict[str, Any] = {
        "floor": {"closed": {"median": 100.0, "p99": 200.0}},
        "daemon": {"closed": {"median": 300.0, "p99": 300.0}},
    }
    add_ratios(found)
    assert found["daemon"]["closed"]["median / floor"] == 3.0
    assert found["daemon"]["closed"]["p99 / floor"] == 1.5


def test_order_counts_from_the_oldest_tick_that_has_none() -> None:
    """Whoever answers only the second of two ticks is not shown as quick."""
    found = Readings()
    pairing = Pairing(found, orders=1)
    for sent_ns in (100, 200):
        pairing.sent(sent_ns)
    pairing.received(230)
    pairing.sent(300)
    pairing.received(310)
    pairing.sent(400)
    assert (found.first_ns, found.unanswered, pairing.waiting) == ([130, 10], 1, 1)


def test_two_quotes_of_one_tick_count_once() -> None:
    """The second of a pair is not taken for a quick answer to the next tick, even if that has left already."""
    found = Readings()
    pairing = Pairing(found, orders=2)
    pairing.sent(100)
    pairing.received(150)
    pairing.sent(200)
    pairing.received(201)
    pairing.received(240)
    assert (found.first_ns, found.unanswered, pairing.waiting) == ([50, 40], 0, 0)
