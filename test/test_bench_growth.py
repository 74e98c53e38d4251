"""The benchmark of growth finds all orders of all levels, and an engine that quotes several symbols."""

import pytest

from bench.growth import Effort, add_ratios, least, measure

pytestmark = pytest.mark.no_cover


EFFORT = Effort(orders=40, most_ticks=10, messages=2000, seconds=1, rounds=1)


def test_every_tick_is_answered_by_all_quotes_of_all_levels() -> None:
    """Twenty levels a side: forty orders rest, and all of them are amended on each tick."""
    row = measure(EFFORT, ["levels"], [20])["levels"][20]
    assert (row["ticks"], row["unanswered"]) == (1, 0)
    assert 0 < row["first order, µs"] < row["last order, µs"]
    assert row["ratios"]["processor a tick, µs"] == 1.0


def test_streams_and_quotes_of_several_symbols_go_by_one_process() -> None:
    """Three symbols: no message of any is left out by the worker, and one engine has all their quotes rest."""
    found = measure(EFFORT, ["streams", "symbols"], [3])
    assert found["streams"][3]["left out"] == 0
    assert found["streams"][3]["processor a message, µs"] > 0
    assert found["symbols"][3]["at rest, ms a second"] > 0


def test_ratio_is_that_of_the_least_times_to_the_first_row() -> None:
    """Of rounds the quickest counts and counts add up; three times the time is a ratio of 3, and counts have none."""
    rows = {
        1: least([{"time": 10.0, "unanswered": 1}, {"time": 20.0, "unanswered": 2}]),
        5: least([{"time": 30.0, "unanswered": 0}]),
    }
    add_ratios(rows)
    assert rows[1] == {"time": 10.0, "unanswered": 3, "ratios": {"time": 1.0}}
    assert rows[5]["ratios"] == {"time": 3.0}
