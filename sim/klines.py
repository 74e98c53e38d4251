"""Candles of every interval, built from the trades of one symbol; klines over REST and on streams show the same ones.

Only the open minute follows each trade; the longer candles take over whole minutes as they end. A candle begins with
the first trade that the exchange has seen, so there is none from before it opened; from then on there are no gaps: a
candle without trades repeats the close before it, with no volume and the ids -1.

Source: facts section 3.1 (GET klines), 6 (kline streams); the intervals are those of Binance's kline pages. Weeks
begin on Monday, months on their first, both in UTC; that candles of three days are counted from 1970 is (unsure).
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain, islice

from sim.market import Trade
from sim.money import product
from sim.rules import SymbolRules, plain

KEPT = 1500
"""Closed candles that are kept of each interval: as many as one call of GET klines can show."""

_MINUTE_MS = 60_000
_DAY_MS = 24 * 60 * _MINUTE_MS
_WEEK_MS = 7 * _DAY_MS
_FIRST_MONDAY_MS = 4 * _DAY_MS
_MINUTES = {
    "1m": 1,
    "3m": 3,
    "5m": 5,
    "15m": 15,
    "30m": 30,
    "1h": 60,
    "2h": 120,
    "4h": 240,
    "6h": 360,
    "8h": 480,
    "12h": 720,
    "1d": 1440,
    "3d": 4320,
}
INTERVALS = (*_MINUTES, "1w", "1M")


def span_of(interval: str, time_ms: int) -> tuple[int, int]:
    """Return first and last millisecond of the candle of ``interval`` that ``time_ms`` lies in."""
    if interval == "1M":
        return _month_of(time_ms)
    if interval == "1w":
        start_ms = time_ms - (time_ms - _FIRST_MONDAY_MS) % _WEEK_MS
        return start_ms, start_ms + _WEEK_MS - 1
    length_ms = _MINUTES[interval] * _MINUTE_MS
    start_ms = time_ms - time_ms % length_ms
    return start_ms, start_ms + length_ms - 1


def _month_of(time_ms: int) -> tuple[int, int]:
    day = datetime.fromtimestamp(time_ms // 1000, UTC)
    first = datetime(day.year, day.month, 1, tzinfo=UTC)
    following = datetime(day.year + day.month // 12, day.month % 12 + 1, 1, tzinfo=UTC)
    return int(first.timestamp()) * 1000, int(following.timestamp()) * 1000 - 1


@dataclass(slots=True)
class Candle:
    """Prices in ticks, sizes in lots, values in ticks × lots; ``taker_`` counts what takers bought."""

    open_ms: int
    close_ms: int
    open_ticks: int
    high_ticks: int
    low_ticks: int
    close_ticks: int
    lots: int = 0
    tick_lots: int = 0
    trades: int = 0
    taker_lots: int = 0
    taker_tick_lots: int = 0
    first_id: int = -1
    last_id: int = -1

    def take(self, trade: Trade) -> None:
        """Count a trade."""
        price_ticks, lots = trade.price_ticks, trade.lots
        if not self.trades:
            self.open_ticks = self.high_ticks = self.low_ticks = price_ticks
            self.first_id = trade.first_id
        elif price_ticks > self.high_ticks:
            self.high_ticks = price_ticks
        elif price_ticks < self.low_ticks:
            self.low_ticks = price_ticks
        self.close_ticks = price_ticks
        self.lots += lots
        self.tick_lots += price_ticks * lots
        self.trades += trade.last_id - trade.first_id + 1
        self.last_id = trade.last_id
        if not trade.buyer_is_maker:
            self.taker_lots += lots
            self.taker_tick_lots += price_ticks * lots

    def merge(self, later: "Candle") -> None:
        """Take over a candle of later trades."""
        if not later.trades:
            return
        if not self.trades:
            self.open_ticks, self.high_ticks, self.low_ticks = (
                later.open_ticks,
                later.high_ticks,
                later.low_ticks,
            )
            self.first_id = later.first_id
        self.high_ticks = max(self.high_ticks, later.high_ticks)
        self.low_ticks = min(self.low_ticks, later.low_ticks)
        self.close_ticks = later.close_ticks
        self.lots += later.lots
        self.tick_lots += later.tick_lots
        self.trades += later.trades
        self.taker_lots += later.taker_lots
        self.taker_tick_lots += later.taker_tick_lots
        self.last_id = later.last_id


def _empty(interval: str, time_ms: int, price_ticks: int) -> Candle:
    start_ms, end_ms = span_of(interval, time_ms)
    return Candle(start_ms, end_ms, price_ticks, price_ticks, price_ticks, price_ticks)


class Series:
    """The candles of one interval: those that have ended, oldest first, and the open one.

    Of an interval longer than a minute the open one lacks the present minute.
    """

    __slots__ = ("closed", "interval", "open")

    def __init__(self, interval: str, time_ms: int, price_ticks: int) -> None:
        self.interval = interval
        self.closed: deque[Candle] = deque(maxlen=KEPT)
        self.open = _empty(interval, time_ms, price_ticks)

    def advance(self, now_ms: int, price_ticks: int) -> None:
        """End the open candle, and empty ones after it, so that the open one covers ``now_ms``."""
        while now_ms > self.open.close_ms:
            self.closed.append(self.open)
            next_ms = self.open.close_ms + 1
            length_ms = self.open.close_ms - self.open.open_ms + 1
            skipped_ms = now_ms - (KEPT + 1) * length_ms
            self.open = _empty(self.interval, max(next_ms, skipped_ms), price_ticks)


class Candles:
    """All candles of one symbol."""

    __slots__ = ("_day", "_day_of_ms", "_minute", "_series")

    def __init__(self) -> None:
        self._series: dict[str, Series] = {}
        self._minute: Candle | None = None
        self._day: Candle | None = None
        self._day_of_ms = -1

    def add(self, trade: Trade) -> None:
        """Count a trade; times never decrease."""
        minute = self._minute
        if minute is None or trade.time_ms > minute.close_ms:
            minute = self._turn(trade.time_ms, trade.price_ticks)
        minute.take(trade)

    def roll(self, now_ms: int) -> None:
        """End the candles whose time is over at ``now_ms``."""
        if self._minute is not None and now_ms > self._minute.close_ms:
            self._turn(now_ms, self._minute.close_ticks)

    def current(self, interval: str) -> Candle | None:
        """Return the open candle as it stands, None before the first trade."""
        if self._minute is None:
            return None
        candle = replace(self._series[interval].open)
        if interval != "1m":
            candle.merge(self._minute)
        return candle

    def closed(self, interval: str) -> Iterator[Candle]:
        """Return the candles that have ended, newest first."""
        return reversed(self._series[interval].closed) if self._series else iter(())

    def rows(
        self, interval: str, *, limit: int, start_ms: int | None = None, end_ms: int | None = None
    ) -> list[Candle]:
        """Return candles by their open time, oldest first, the open one included.

        From ``start_ms`` on the first ``limit``; without it the last ``limit``. Call ``roll`` before.
        """
        if self._minute is None:
            return []
        found = [
            candle
            for candle in chain(self._series[interval].closed, [self.current(interval)])
            if candle is not None
            and (start_ms is None or candle.open_ms >= start_ms)
            and (end_ms is None or candle.open_ms <= end_ms)
        ]
        return found[-limit:] if start_ms is None else found[:limit]

    def last_day(self, now_ms: int) -> Candle | None:
        """Return the trades of the last 24 hours as one candle, exact to the minute; None before the first trade."""
        self.roll(now_ms)
        if self._minute is None:
            return None
        if self._day is None or self._day_of_ms != self._minute.open_ms:
            self._day, self._day_of_ms = self._merged_day(self._minute), self._minute.open_ms
        day = replace(self._day, close_ms=now_ms)
        day.merge(self._minute)
        return day

    def _merged_day(self, minute: Candle) -> Candle:
        newest_first = islice(self.closed("1m"), _DAY_MS // _MINUTE_MS - 1)
        oldest_first = [*newest_first][::-1]
        first = oldest_first[0] if oldest_first else minute
        day = Candle(first.open_ms, minute.close_ms, *[first.open_ticks] * 4)
        for candle in oldest_first:
            day.merge(candle)
        return day

    def _turn(self, now_ms: int, price_ticks: int) -> Candle:
        """Let a minute begin: what has ended is handed up; before the first trade the series begin."""
        if self._minute is None:
            self._series = {interval: Series(interval, now_ms, price_ticks) for interval in INTERVALS}
        else:
            done = self._minute
            for series in self._series.values():
                if series.interval != "1m":
                    series.open.merge(done)
            for series in self._series.values():
                series.advance(now_ms, done.close_ticks)
        self._minute = self._series["1m"].open
        return self._minute


def kline_row(candle: Candle, rules: SymbolRules) -> list[object]:
    """Return an element of GET klines."""
    return [
        candle.open_ms,
        rules.price_text(candle.open_ticks),
        rules.price_text(candle.high_ticks),
        rules.price_text(candle.low_ticks),
        rules.price_text(candle.close_ticks),
        rules.quantity_text(candle.lots),
        candle.close_ms,
        quote_text(candle.tick_lots, rules),
        candle.trades,
        rules.quantity_text(candle.taker_lots),
        quote_text(candle.taker_tick_lots, rules),
        "0",
    ]


def kline_event(
    candle: Candle, interval: str, rules: SymbolRules, now_ms: int, *, closed: bool
) -> dict[str, object]:
    """Return the payload of a kline stream; ``closed`` is its ``x``."""
    return {
        "e": "kline",
        "E": now_ms,
        "s": rules.symbol,
        "k": {
            "t": candle.open_ms,
            "T": candle.close_ms,
            "s": rules.symbol,
            "i": interval,
            "f": candle.first_id,
            "L": candle.last_id,
            "o": rules.price_text(candle.open_ticks),
            "c": rules.price_text(candle.close_ticks),
            "h": rules.price_text(candle.high_ticks),
            "l": rules.price_text(candle.low_ticks),
            "v": rules.quantity_text(candle.lots),
            "n": candle.trades,
            "x": closed,
            "q": quote_text(candle.tick_lots, rules),
            "V": rules.quantity_text(candle.taker_lots),
            "Q": quote_text(candle.taker_tick_lots, rules),
            "B": "0",
        },
        "st": 1,
    }


def quote_text(tick_lots: int, rules: SymbolRules) -> str:
    """Return a sum of price × quantity, counted in ticks × lots, as text in quote units."""
    return plain(product(tick_lots, rules.tick_size, rules.step_size))
