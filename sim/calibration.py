"""Figures of a market, so that a synthetic one can be held against recordings."""

import argparse
import math
import sys
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from sim.market import BookTicker, Market, Trade
from sim.recording import RecordedMarket
from sim.rules import MAINNET, SymbolRules
from sim.synthetic import SyntheticMarket

_MS_PER_S = 1000
_FOREVER_MS = 10**15

# The recordings that the synthetic market is held against, by folder and symbol; the last of a symbol is its
# model.
RECORDINGS = (("usdm-2023-04-04", "BTCUSDT"), ("usdm-2024-07-18", "BTCUSDT"), ("usdm-2024-07-18", "ETHUSDT"))
SYNTHETIC = ("BTCUSDT", "ETHUSDT")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a market, and how far a synthetic market may be from the recorded one.

    `within` is a factor: 1.5 allows two thirds to one and a half of the recorded value.
    """

    name: str
    value: float
    within: float


@dataclass(frozen=True, slots=True)
class TakerOrder:
    """The trades of one side in one millisecond: one taker's order, mostly."""

    time_ms: int
    sells: bool
    lots: int
    levels: int


class Observations:
    """What happened in one symbol's market over a stretch of time, as plain lists."""

    def __init__(self, market: Market, symbol: str, duration_ms: int = _FOREVER_MS) -> None:
        self.rules: SymbolRules = market.rules[symbol]
        self.quotes: list[BookTicker] = []
        self.trades: list[Trade] = []
        end_ms = (market.peek_ms() or 0) + duration_ms
        while (due_ms := market.peek_ms()) is not None and due_ms < end_ms:
            event = market.take()
            if event.symbol != symbol:
                continue
            if isinstance(event, BookTicker):
                self.quotes.append(event)
            elif isinstance(event, Trade):
                self.trades.append(event)
        self.times_ms = [quote.time_ms for quote in self.quotes]

    @property
    def seconds(self) -> float:
        """Time between the first quote and the last."""
        return (self.times_ms[-1] - self.times_ms[0]) / _MS_PER_S

    def orders(self) -> list[TakerOrder]:
        """The trades, put together to takers' orders."""
        orders: list[TakerOrder] = []
        for trade in self.trades:
            last = orders[-1] if orders else None
            if last and last.time_ms == trade.time_ms and last.sells == trade.buyer_is_maker:
                orders[-1] = TakerOrder(last.time_ms, last.sells, last.lots + trade.lots, last.levels + 1)
            else:
                orders.append(TakerOrder(trade.time_ms, trade.buyer_is_maker, trade.lots, 1))
        return orders

    def mids_every(self, step_ms: int, from_ms: int) -> list[int]:
        """Twice the mid price in ticks at regular times, the first of them `from_ms` after the first quote."""
        due = range(self.times_ms[0] + from_ms, self.times_ms[-1], step_ms)
        in_force = (self.quotes[bisect_right(self.times_ms, due_ms) - 1] for due_ms in due)
        return [quote.bid_ticks + quote.ask_ticks for quote in in_force]


def measure(seen: Observations) -> list[Figure]:
    """The figures of what was seen are returned, each with the tolerance that the synthetic market is held to."""
    return [*_quote_figures(seen), *_price_figures(seen), *_trade_figures(seen), *_size_figures(seen)]


def _quote_figures(seen: Observations) -> list[Figure]:
    gaps_ms = [after_ms - before_ms for before_ms, after_ms in pairwise(seen.times_ms)]
    counts = _per_second(seen.quotes, seen)
    return [
        Figure("quotes per s", len(seen.quotes) / seen.seconds, 1.2),
        Figure("quotes in the ms of the one before, %", _share(gap == 0 for gap in gaps_ms), 1.25),
        Figure("gap between quotes, 75 %, ms", _quantile(gaps_ms, 0.75), 2.0),
        Figure("gap between quotes, 90 %, ms", _quantile(gaps_ms, 0.9), 1.5),
        Figure("gap between quotes, 99 %, ms", _quantile(gaps_ms, 0.99), 1.5),
        Figure("quotes in a second, 5 %", _quantile(counts, 0.05), 2.0),
        Figure("quotes in a second, 50 %", _quantile(counts, 0.5), 1.35),
        Figure("quotes in a second, 95 %", _quantile(counts, 0.95), 1.5),
    ]


def _price_figures(seen: Observations) -> list[Figure]:
    spreads = [quote.ask_ticks - quote.bid_ticks for quote in seen.quotes]
    worse = sum(
        after.bid_ticks < before.bid_ticks or after.ask_ticks > before.ask_ticks
        for before, after in pairwise(seen.quotes)
    )
    returns = {seconds: _returns_bps(seen, seconds) for seconds in (1, 10, 60)}
    return [
        Figure("quotes with a spread of 1 tick, %", _share(spread == 1 for spread in spreads), 1.02),
        Figure("time with a spread of 1 tick, %", _share_of_time_at_one_tick(seen), 1.01),
        Figure("touch gets worse per s", worse / seen.seconds, 1.5),
        Figure("seconds without a mid move, %", _share(move == 0 for move in returns[1]), 1.3),
        Figure("volatility in 1 s, bps", _root_mean_square(returns[1]), 1.25),
        Figure("volatility in 10 s, bps", _root_mean_square(returns[10]), 1.35),
        Figure("volatility in 60 s, bps", _root_mean_square(returns[60]), 1.5),
        Figure("move in 1 s, 99 %, bps", _quantile([abs(move) for move in returns[1]], 0.99), 1.5),
    ]


def _trade_figures(seen: Observations) -> list[Figure]:
    orders = seen.orders()
    sizes = [float(seen.rules.quantity(trade.lots)) for trade in seen.trades]
    counts = _per_second(seen.trades, seen)
    alike = _share(before.sells == after.sells for before, after in pairwise(orders))
    return [
        Figure("aggregate trades per s", len(seen.trades) / seen.seconds, 1.35),
        Figure("takers' orders per s", len(orders) / seen.seconds, 1.35),
        Figure("aggregate trades in a second, 95 %", _quantile(counts, 0.95), 1.75),
        Figure("orders over several levels, %", _share(order.levels > 1 for order in orders), 1.6),
        Figure("orders in the direction of the one before, %", alike, 1.15),
        Figure("orders that move the touch, %", _share_that_moves_the_touch(seen, orders), 1.5),
        Figure("trade size, 10 %", _quantile(sizes, 0.1), 2.5),
        Figure("trade size, 50 %", _quantile(sizes, 0.5), 1.75),
        Figure("trade size, 90 %", _quantile(sizes, 0.9), 1.75),
        Figure("trade size, 99 %", _quantile(sizes, 0.99), 2.0),
    ]


def _size_figures(seen: Observations) -> list[Figure]:
    sizes = [
        float(seen.rules.quantity(lots)) for quote in seen.quotes for lots in (quote.bid_lots, quote.ask_lots)
    ]
    return [
        Figure("size at the touch, 10 %", _quantile(sizes, 0.1), 3.0),
        Figure("size at the touch, 50 %", _quantile(sizes, 0.5), 1.6),
        Figure("size at the touch, 90 %", _quantile(sizes, 0.9), 1.6),
    ]


def _quantile(values: Sequence[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def _share(hits: Iterable[bool]) -> float:
    counts = Counter(hits)
    return 100 * counts[True] / counts.total()


def _root_mean_square(values: Sequence[float]) -> float:
    return math.sqrt(sum(value * value for value in values) / len(values))


def _per_second(events: Sequence[BookTicker] | Sequence[Trade], seen: Observations) -> list[int]:
    counts = Counter((event.time_ms - seen.quotes[0].time_ms) // _MS_PER_S for event in events)
    return [counts[second] for second in range(int(seen.seconds))]


def _returns_bps(seen: Observations, seconds: int) -> list[float]:
    """Logarithmic returns of the mid, over windows that start ten times in their length."""
    step_ms = seconds * _MS_PER_S
    returns: list[float] = []
    for start in range(10):
        mids = seen.mids_every(step_ms, start * step_ms // 10)
        returns.extend(1e4 * math.log(after / before) for before, after in pairwise(mids))
    return returns


def _share_of_time_at_one_tick(seen: Observations) -> float:
    narrow_ms = sum(
        after.time_ms - before.time_ms
        for before, after in pairwise(seen.quotes)
        if before.ask_ticks - before.bid_ticks == 1
    )
    return 100 * narrow_ms / (seen.seconds * _MS_PER_S)


def _share_that_moves_the_touch(seen: Observations, orders: Sequence[TakerOrder]) -> float:
    """Orders after whose millisecond the touch that they took is worse than before it."""
    moved: list[bool] = []
    for order in orders:
        before_at = bisect_left(seen.times_ms, order.time_ms) - 1
        after_at = bisect_right(seen.times_ms, order.time_ms) - 1
        if before_at >= 0:
            before, after = seen.quotes[before_at], seen.quotes[after_at]
            worse_bid, worse_ask = after.bid_ticks < before.bid_ticks, after.ask_ticks > before.ask_ticks
            moved.append(worse_bid if order.sells else worse_ask)
    return _share(moved)


def compare(data: Path, minutes: int) -> str:
    """A table of the recorded figures beside those of `minutes` of the synthetic market is returned.

    Raises:
        MarketError: a recording is missing below `data`.
    """
    columns = [*(_recorded(data / folder, symbol) for folder, symbol in RECORDINGS), *_synthetic(minutes)]
    names = [f"{symbol} {folder.removeprefix('usdm-')}" for folder, symbol in RECORDINGS]
    names += [f"{symbol} synthetic" for symbol in SYNTHETIC]
    lines = [_row("figure", [*names, "within"]), _row("---", ["---:"] * (len(names) + 1))]
    for figures in zip(*columns, strict=True):
        cells = [f"{figure.value:.4g}" for figure in figures]
        lines.append(_row(figures[0].name, [*cells, f"x{figures[0].within:g}"]))
    return "\n".join(lines)


def _row(name: str, cells: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def _recorded(folder: Path, symbol: str) -> list[Figure]:
    market = RecordedMarket(folder, {symbol: MAINNET[symbol]}, 0, loop=False)
    return measure(Observations(market, symbol))


def _synthetic(minutes: int) -> Iterator[list[Figure]]:
    for symbol in SYNTHETIC:
        market = SyntheticMarket({symbol: MAINNET[symbol]}, 0, seed=1)
        yield measure(Observations(market, symbol, minutes * 60 * _MS_PER_S))


def main() -> None:
    """The table has been printed."""
    parser = argparse.ArgumentParser(prog="python -m sim.calibration", description=__doc__)
    parser.add_argument("data", type=Path, help="folder with the folders of the recordings")
    parser.add_argument("--minutes", type=int, default=60, help="length of the synthetic market; 60")
    options = parser.parse_args()
    sys.stdout.write(f"{compare(options.data, options.minutes)}\n")


if __name__ == "__main__":
    main()
