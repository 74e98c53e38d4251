"""Candles: the figures of each interval, against a plain count over all trades."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.klines import INTERVALS, KEPT, Candles, kline_event, kline_row, span_of
from sim.market import Trade
from sim.rules import MAINNET

MINUTE_MS = 60_000
DAY_MS = 1440 * MINUTE_MS
START_MS = 1_700_000_000_000 - 1_700_000_000_000 % DAY_MS
RULES = MAINNET["BTCUSDT"]


def trade(time_ms: int, ticks: int = 500_000, lots: int = 1, *, sold: bool = False, number: int = 1) -> Trade:
    """Return an aggregate trade of two single ones."""
    return Trade(time_ms, "BTCUSDT", number, ticks, lots, 2 * number - 1, 2 * number, sold)


def day(text: str) -> int:
    """Return the epoch milliseconds of a day."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


@pytest.mark.parametrize(
    ("interval", "time_ms", "start_ms", "next_ms"),
    [
        ("1m", START_MS + 61_000, START_MS + 60_000, START_MS + 120_000),
        ("15m", START_MS + 16 * MINUTE_MS, START_MS + 15 * MINUTE_MS, START_MS + 30 * MINUTE_MS),
        ("4h", day("2023-11-14") + 1, day("2023-11-14"), day("2023-11-14") + 4 * 60 * MINUTE_MS),
        ("1d", day("2023-11-14") + DAY_MS - 1, day("2023-11-14"), day("2023-11-15")),
        ("1w", day("2023-11-19") + DAY_MS - 1, day("2023-11-13"), day("2023-11-20")),
        ("1M", day("2023-12-31") + 5, day("2023-12-01"), day("2024-01-01")),
        ("1M", day("2024-02-29"), day("2024-02-01"), day("2024-03-01")),
    ],
)
def test_candle_covers_its_calendar_span(interval: str, time_ms: int, start_ms: int, next_ms: int) -> None:
    """Open and close time of a kline: the close is a millisecond before the next open (facts 3.1)."""
    assert span_of(interval, time_ms) == (start_ms, next_ms - 1)


def test_no_candle_exists_before_the_first_trade() -> None:
    """The exchange knows no trades from before it opened."""
    candles = Candles()
    candles.roll(START_MS)
    assert candles.current("1m") is None
    assert candles.rows("1m", limit=5) == []
    assert list(candles.closed("1m")) == []
    assert candles.last_day(START_MS) is None


def test_candle_counts_its_trades() -> None:
    """Open, high, low, close, volume, value, single trades and what takers bought (facts 3.1, 6)."""
    candles = Candles()
    candles.add(trade(START_MS, 500, 2, number=7))
    candles.add(trade(START_MS + 1, 510, 3, sold=True, number=8))
    candles.add(trade(START_MS + 2, 490, 5, number=9))
    candles.add(trade(START_MS + 59_999, 505, 1, sold=True, number=10))
    candle = candles.current("1m")
    assert candle is not None
    assert (candle.open_ticks, candle.high_ticks, candle.low_ticks, candle.close_ticks) == (
        500,
        510,
        490,
        505,
    )
    assert (candle.lots, candle.tick_lots) == (11, 1000 + 1530 + 2450 + 505)
    assert (candle.taker_lots, candle.taker_tick_lots) == (7, 1000 + 2450)
    assert (candle.trades, candle.first_id, candle.last_id) == (8, 13, 20)


def test_quiet_candle_repeats_the_close_before_it() -> None:
    """After the first trade there are no gaps; a candle without trades has no volume and the ids -1."""
    candles = Candles()
    candles.add(trade(START_MS, 500))
    candles.roll(START_MS + 3 * MINUTE_MS)
    _, first, second, third = rows = candles.rows("1m", limit=10)
    assert [row.open_ms for row in rows] == [START_MS + n * MINUTE_MS for n in range(4)]
    for row in (first, second, third):
        assert (row.open_ticks, row.high_ticks, row.low_ticks, row.close_ticks) == (500, 500, 500, 500)
        assert (row.lots, row.trades, row.first_id, row.last_id) == (0, 0, -1, -1)


def test_rows_are_chosen_by_open_time() -> None:
    """startTime selects the first rows, without it the newest come; the open candle is the last (facts 3.1)."""
    candles = Candles()
    for minute in range(10):
        candles.add(trade(START_MS + minute * MINUTE_MS))
    opens = [START_MS + minute * MINUTE_MS for minute in range(10)]
    assert [row.open_ms for row in candles.rows("1m", limit=3)] == opens[-3:]
    assert [row.open_ms for row in candles.rows("1m", limit=3, start_ms=opens[2])] == opens[2:5]
    assert [row.open_ms for row in candles.rows("1m", limit=9, start_ms=opens[2], end_ms=opens[4])] == opens[
        2:5
    ]
    assert [row.open_ms for row in candles.rows("1m", limit=2, end_ms=opens[4])] == opens[3:5]


def test_history_is_bounded() -> None:
    """A long silence neither fills the memory nor takes long; the newest candles are kept."""
    candles = Candles()
    candles.add(trade(START_MS))
    end_ms = START_MS + 3650 * DAY_MS
    candles.roll(end_ms)
    rows = candles.rows("1m", limit=10_000)
    assert len(rows) == KEPT + 1
    assert rows[-1].open_ms == end_ms
    assert {later.open_ms - row.open_ms for row, later in pairwise(rows)} == {MINUTE_MS}


def test_day_covers_the_last_24_hours() -> None:
    """What the 24 h ticker shows: what is older than 1440 minutes no longer counts."""
    candles = Candles()
    candles.add(trade(START_MS, 100, 7))
    candles.add(trade(START_MS + MINUTE_MS, 500, 1))
    candles.add(trade(START_MS + DAY_MS - 1, 400, 2))
    whole = candles.last_day(START_MS + DAY_MS - 1)
    assert whole is not None
    assert (whole.open_ticks, whole.low_ticks, whole.close_ticks, whole.lots) == (100, 100, 400, 10)
    later = candles.last_day(START_MS + DAY_MS)
    assert later is not None
    assert (later.open_ticks, later.low_ticks, later.close_ticks, later.lots) == (500, 400, 400, 3)
    assert candles.last_day(START_MS + DAY_MS) == later


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, 40_000, MINUTE_MS, 7 * MINUTE_MS, 5 * 60 * MINUTE_MS, 9 * DAY_MS]),
            st.integers(1, 50),
            st.integers(1, 9),
            st.booleans(),
        ),
        min_size=1,
        max_size=30,
    ),
    st.sampled_from(INTERVALS),
)
def test_candles_are_a_plain_count_of_the_trades(
    steps: list[tuple[int, int, int, bool]], interval: str
) -> None:
    """However the trades fall, each candle says what a count over its span says."""
    candles, trades, now_ms = Candles(), [], START_MS
    for number, (gap_ms, ticks, lots, sold) in enumerate(steps):
        now_ms += gap_ms
        trades.append(trade(now_ms, ticks, lots, sold=sold, number=number))
        candles.add(trades[-1])
    rows = candles.rows(interval, limit=KEPT + 1)
    for row in rows:
        assert span_of(interval, row.open_ms) == (row.open_ms, row.close_ms)
        inside = [each for each in trades if row.open_ms <= each.time_ms <= row.close_ms]
        assert row.lots == sum(each.lots for each in inside)
        assert row.tick_lots == sum(each.lots * each.price_ticks for each in inside)
        assert row.taker_lots == sum(each.lots for each in inside if not each.buyer_is_maker)
        assert row.trades == 2 * len(inside)
        if inside:
            prices = [each.price_ticks for each in inside]
            assert (row.open_ticks, row.close_ticks) == (prices[0], prices[-1])
            assert (row.high_ticks, row.low_ticks) == (max(prices), min(prices))
            assert (row.first_id, row.last_id) == (inside[0].first_id, inside[-1].last_id)
    assert rows[-1].open_ms <= now_ms <= rows[-1].close_ms


def test_row_and_event_have_the_documented_form() -> None:
    """Twelve elements over REST (facts 3.1) and the k object on streams (facts 6) say the same."""
    candles = Candles()
    candles.add(trade(START_MS, 500_001, 1500))
    candle = candles.current("1m")
    assert candle is not None
    texts = ["50000.10", "1.500", "75000.15000000"]
    row = kline_row(candle, RULES)
    assert row == [
        START_MS,
        *[texts[0]] * 4,
        texts[1],
        START_MS + 59_999,
        texts[2],
        2,
        texts[1],
        texts[2],
        "0",
    ]
    assert kline_event(candle, "1m", RULES, START_MS + 250, closed=False) == {
        "e": "kline",
        "E": START_MS + 250,
        "s": "BTCUSDT",
        "k": {
            "t": START_MS,
            "T": START_MS + 59_999,
            "s": "BTCUSDT",
            "i": "1m",
            "f": 1,
            "L": 2,
            "o": texts[0],
            "c": texts[0],
            "h": texts[0],
            "l": texts[0],
            "v": texts[1],
            "n": 2,
            "x": False,
            "q": texts[2],
            "V": texts[1],
            "Q": texts[2],
            "B": "0",
        },
        "st": 1,
    }
