"""Polling beside streaming: `python demo/compare.py`.

Both get the same market at the same time, each in a process of its own, so that its CPU can be measured: order book and
trades by ccxt, quotes and trades by native streams. At the end stands a table.
"""

import os
import signal
import sys

if __name__ == "__main__":  # until there is something to be ended well, Ctrl-C ends it on the spot
    for _number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(_number, lambda *_: os._exit(0))

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from any folder

from demo._start import Parser, Stop, need_packages, run

need_packages("ccxt")

import argparse
import asyncio
import io
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack

from rich.console import Console, RenderableType
from rich.table import Table

from demo._screen import shown
from demo._side import Side
from demo._source import chosen_venue
from demo._work import unless_stopped
from sim import stop_signals

ROWS = (
    ("data age, mean", "age_mean_ms", "{:.0f} ms"),
    ("data age, p95", "age_p95_ms", "{:.0f} ms"),
    ("book delay, p50", "quote_delay_p50_ms", "{:.0f} ms"),
    ("book delay, p95", "quote_delay_p95_ms", "{:.0f} ms"),
    ("trade delay, p50", "trade_delay_p50_ms", "{:.0f} ms"),
    ("trade delay, p95", "trade_delay_p95_ms", "{:.0f} ms"),
    ("book changes seen", "quotes", "{:.0f}"),
    ("trades seen", "trades", "{:.0f}"),
    ("requests", "requests", "{:.0f}"),
    ("requests a minute", "requests_per_minute", "{:.0f}"),
    ("messages received", "messages", "{:.0f}"),
    ("cpu", "cpu_percent", "{:.1f} %"),
    ("cpu a book change", "cpu_ms_a_quote", "{:.2f} ms"),
)


class CompareView:
    """Shows both sides."""

    def __init__(self, sides: Sequence[Side], title: str) -> None:
        self.news: deque[str] = deque()
        self._sides = sides
        self._title = title

    def picture(self) -> RenderableType:
        """Return the table."""
        table = Table(title=self._title)
        table.add_column("")
        for side in self._sides:
            table.add_column(side.name, justify="right")
        for row in self._rows():
            table.add_row(*row)
        return table

    def _rows(self) -> Iterator[list[str]]:
        for words, name, form in ROWS:
            values = [_with_ratios(side.figures).get(name) for side in self._sides]
            yield [words, *("-" if value is None else form.format(value) for value in values)]

    def line(self) -> str:
        """Return the state in one line."""
        parts = [f"{side.name} {self._short(side.figures)}" for side in self._sides]
        return f"status  {' | '.join(parts)}"

    @staticmethod
    def _short(figures: Mapping[str, float]) -> str:
        if not figures:
            return "starting"
        return (
            f"age {figures['age_mean_ms']:.0f} ms, {figures['requests']:.0f} requests,"
            f" cpu {figures['cpu_percent']:.1f} %"
        )

    def figures(self) -> Mapping[str, object]:
        """Return the state as numbers."""
        return {side.name: _with_ratios(side.figures) for side in self._sides}

    def summary(self) -> Iterable[str]:
        """Return the table."""
        paper = io.StringIO()
        Console(file=paper, width=78).print(self.picture())
        return paper.getvalue().splitlines()


def _with_ratios(figures: Mapping[str, float]) -> Mapping[str, float]:
    quotes = figures.get("quotes", 0)
    return {**figures, "cpu_ms_a_quote": 1000 * figures["cpu_s"] / quotes} if quotes else figures


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Return the parsed command line; a bad one ends the program with exit code 2."""
    parser = Parser("compare", "Polling and streaming side by side: data age, requests and CPU.")
    parser.add_feed()
    parser.add_argument(
        "--interval",
        metavar="S",
        type=float,
        default=1.0,
        help="of polling; 1, 0: as fast as ccxt's limiter lets",
    )
    return parser.parse(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Compare for a while; return the exit code."""
    return run(_compare(parse_arguments(arguments)))


async def _compare(options: argparse.Namespace) -> int:
    stop = Stop()
    with stop_signals.signals_go_to(stop.ask):
        async with AsyncExitStack() as held:
            venue = await held.enter_async_context(chosen_venue(options))
            where = ["--live"] if options.live else ["--url", venue.rest_origin]
            common = [*where, "--symbol", options.symbol, "--duration", f"{options.duration:g}"]
            sides = [
                Side(
                    "polling",
                    "market_fetch.py",
                    [*common, "--what", "book,trades", "--interval", f"{options.interval:g}"],
                ),
                Side("streaming", "market_stream.py", common),
            ]
            view = CompareView(sides, f"{options.symbol} at {venue.rest_origin}")
            async with shown(view, stop.ask, as_json=options.json):
                await _run_sides(sides, stop)
    return 0


async def _run_sides(sides: Sequence[Side], stop: Stop) -> None:
    """Both run until they end by themselves, until one fails, or until the demo is to end."""

    async def run_both() -> None:
        await asyncio.gather(*running)

    running = [asyncio.ensure_future(side.run()) for side in sides]
    try:
        await unless_stopped(stop, run_both())
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


if __name__ == "__main__":
    stop_signals.catch()
    code = main()
    stop_signals.ignore()
    sys.exit(code)
