"""The market by streams: `python demo/market_stream.py`.

Quotes and trades over Binance's native streams, with what the daemon's own statistics say of them: volatility, flow,
the trades worth telling, how far the price has moved, and how late the data comes. `--basic` shows them as they come.
`--spot` listens to spot's streams, whose trades are single ones.
"""

import os
import signal
import sys

if __name__ == "__main__":  # until there is something to be ended well, Ctrl-C ends it on the spot
    for _number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(_number, lambda *_: os._exit(0))

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from any folder

from demo._start import DemoError, Parser, Stop, need_packages, run

need_packages()

import argparse
import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

from rich.console import Group, RenderableType
from rich.panel import Panel

from core.settings import settings_from
from demo._measure import Measure
from demo._screen import balance_bar, grid, lines_of, shown
from demo._source import chosen_venue, cpu_note, no_data
from demo._streaming import Listener, measure_clock, rules_of, streams_of
from demo._work import log_level, looking, unless_stopped
from sim import stop_signals
from utils.clock import Clock, SystemClock
from utils.config_loader import Config
from utils.errors import ExchangeError, NotSent, OutcomeUnknown
from utils.http import AiohttpTransport, BinanceRest
from utils.venue import Venue
from utils.ws import Stream
from utils.ws_sockets import socket_transport


class StreamView:
    """Shows a listener: as the streams are, or what is made of them."""

    def __init__(
        self, listener: Listener, streams: Sequence[Stream], clock: Clock, title: str, cpu_note: str = ""
    ) -> None:
        self._listener = listener
        self._streams = streams
        self._clock = clock
        self._title = title
        self._cpu_note = cpu_note

    @property
    def news(self) -> deque[str]:
        """Lines that were not printed yet: the significant trades."""
        self._listener.new_raw.clear()
        return self._listener.new_significant

    def picture(self) -> RenderableType:
        """Return what a terminal shows."""
        return Group(
            Panel(grid(self._market_rows()), title=self._title),
            Panel(grid(self._flow_rows()), title="flow of the last 60 s"),
            Panel(self.latest(self._listener.significant, 12), title="significant trades"),
            Panel(grid(self.data_rows()), title="data"),
        )

    @staticmethod
    def latest(lines: deque[str], most: int) -> RenderableType:
        """Return the newest lines, the newest first."""
        return lines_of(list(reversed(lines))[:most])

    def _market_rows(self) -> list[tuple[RenderableType, RenderableType]]:
        analysis, now_ns = self._listener.analysis, self._clock.monotonic_ns()
        prices = self._listener.prices
        return [
            ("bid | ask", self.quote_text()),
            (
                "volatility",
                f"{analysis.volatility.bps_per_sqrt_s(now_ns):.3f} bps in a second,"
                f" {analysis.volatility.bps_per_minute(now_ns):.2f} bps in a minute (weighted)",
            ),
            (
                "",
                f"{analysis.mids.bps:.3f} bps a mid, {analysis.trade_prices.bps:.3f} bps a trade (last 100)",
            ),
            (
                "price change",
                f"{_bps(prices.rise_fraction)} above the lowest, {_bps(prices.fall_fraction)} below the highest"
                f" of 60 s",
            ),
        ]

    def quote_text(self) -> str:
        """Return best bid and ask in words."""
        book, rules = self._listener.book, self._listener.rules
        if book is None:
            return "waiting"
        return (
            f"{rules.quantity_text(book.bid_lots)} @ {rules.price_text(book.bid_ticks)}  |"
            f"  {rules.quantity_text(book.ask_lots)} @ {rules.price_text(book.ask_ticks)}"
        )

    def _flow_rows(self) -> list[tuple[RenderableType, RenderableType]]:
        analysis = self._listener.analysis
        sums = analysis.flow_sums(self._clock.monotonic_ns())
        asset = self._listener.rules.quote_asset
        return [
            ("bought", f"{analysis.notional_quote(sums.bought):,.0f} {asset}"),
            ("sold", f"{analysis.notional_quote(sums.sold):,.0f} {asset}"),
            ("imbalance", f"{sums.imbalance:+.2f} in {sums.trades} trades"),
            ("", balance_bar(sums.imbalance)),
        ]

    def data_rows(self) -> list[tuple[RenderableType, RenderableType]]:
        """Return how the data comes."""
        measure, now_ns = self._listener.measure, self._clock.monotonic_ns()
        rate = measure.messages / max(measure.elapsed_s(now_ns), 0.001)
        return [
            ("quote delay", f"{measure.quote_delays_ms}"),
            ("trade delay", f"{measure.trade_delays_ms}"),
            ("data age", f"mean {measure.ages_ms.mean:.0f} ms"),
            ("messages", f"{measure.messages}, {rate:.0f} a second, {self._listener.unreadable} unreadable"),
            ("connections", ", ".join(f"{stream.name} {stream.connects}" for stream in self._streams)),
            ("cpu", f"{measure.cpu_percent(now_ns, time.process_time()):.1f} %{self._cpu_note}"),
        ]

    def line(self) -> str:
        """Return the state in one line."""
        listener, now_ns = self._listener, self._clock.monotonic_ns()
        sums = listener.analysis.flow_sums(now_ns)
        return (
            f"status  {self.quote_text()} | volatility"
            f" {listener.analysis.volatility.bps_per_minute(now_ns):.2f} bps in a minute"
            f" | flow {sums.imbalance:+.2f} in {sums.trades} trades"
            f" | change {_bps(listener.prices.change_fraction)} in 60 s"
            f" | quote delay {listener.measure.quote_delays_ms} | trade delay {listener.measure.trade_delays_ms}"
        )

    def figures(self) -> Mapping[str, object]:
        """Return the state as numbers."""
        listener, now_ns = self._listener, self._clock.monotonic_ns()
        return {
            **listener.measure.figures(now_ns, time.process_time()),
            "volatility_minute_bps": listener.analysis.volatility.bps_per_minute(now_ns),
            "flow_imbalance": listener.analysis.flow_sums(now_ns).imbalance,
            "price_change_bps": float(listener.prices.change_fraction * 10_000),
            "significant_trades": listener.analysis.significant_trades,
            "connects": sum(stream.connects for stream in self._streams),
            "unreadable": listener.unreadable,
        }

    def summary(self) -> Iterable[str]:
        """Return the result."""
        listener, now_ns = self._listener, self._clock.monotonic_ns()
        measure = listener.measure
        sums = listener.analysis.flow_sums(now_ns)
        yield f"quote delay  {measure.quote_delays_ms} ({measure.quote_delays_ms.count} changes)"
        yield f"trade delay  {measure.trade_delays_ms} ({measure.trade_delays_ms.count} trades)"
        yield f"data age     mean {measure.ages_ms.mean:.0f} ms, p95 {measure.ages_ms.quantile(95):.0f} ms"
        yield f"volatility   {listener.analysis.volatility.bps_per_minute(now_ns):.2f} bps in a minute"
        yield f"flow         {sums.imbalance:+.2f} in {sums.trades} trades of the last 60 s"
        yield f"significant  {listener.analysis.significant_trades} of {listener.analysis.trades} trades"
        yield f"messages     {measure.messages} in {measure.elapsed_s(now_ns):.0f} s, {measure.requests} requests"


class BasicView(StreamView):
    """Shows the streams as they are."""

    @property
    def news(self) -> deque[str]:
        """Lines that were not printed yet: everything."""
        return self._listener.new_raw

    def picture(self) -> RenderableType:
        """Return what a terminal shows."""
        return Group(
            Panel(self.quote_text(), title=self._title),
            Panel(self.latest(self._listener.raw, 20), title="as they come"),
            Panel(grid(self.data_rows()), title="data"),
        )


def _bps(fraction: object) -> str:
    return f"{float(str(fraction)) * 10_000:.2f} bps"


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Return the parsed command line; a bad one ends the program with exit code 2."""
    parser = Parser("market_stream", "The market by native streams: filtered and analysed, or as it comes.")
    parser.add_feed()
    parser.add_argument("--basic", action="store_true", help="quotes and trades as they come")
    parser.add_argument(
        "--spot", action="store_true", help="spot's streams: single trades, quotes without time"
    )
    return parser.parse(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Listen for a while; return the exit code."""
    options = parse_arguments(arguments)
    with log_level("utils.ws", logging.ERROR):  # that a stream is down shows in the picture
        return run(_listen(options))


async def _listen(options: argparse.Namespace) -> int:
    stop = Stop()
    stop.end_after(options.duration)
    with stop_signals.signals_go_to(stop.ask):
        async with chosen_venue(options) as venue:
            clock = SystemClock()
            rest = BinanceRest(AiohttpTransport(venue.rest_origin), clock)
            try:
                return await _listen_at(venue, rest, clock, stop, options)
            except (NotSent, OutcomeUnknown) as error:
                raise no_data(venue) from error
            except ExchangeError as error:
                raise DemoError(f"The exchange refused: {error}") from error
            finally:
                await rest.close()


async def _listen_at(
    venue: Venue, rest: BinanceRest, clock: Clock, stop: Stop, options: argparse.Namespace
) -> int:
    found: list[Listener] = []

    async def prepare() -> None:
        rules = await rules_of(rest, venue, options.symbol)
        await measure_clock(rest, venue, clock)
        measure = Measure(clock.monotonic_ns(), time.process_time())
        settings = settings_from(Config()).market_data
        found.append(Listener(rules, settings, clock, rest.server_clock.time_ms, measure))

    if not await unless_stopped(stop, prepare()):
        return 0
    listener = found[0]
    transport = socket_transport(venue.stream_origin)
    streams = streams_of(venue, options.symbol, transport, clock, listener.hear, spot=options.spot)
    stop.end_after(options.duration)
    kind = BasicView if options.basic else StreamView
    title = f"{options.symbol} by streams of {venue.stream_origin}"
    view = kind(listener, streams, clock, title, cpu_note(options))
    async with (
        shown(view, stop.ask, as_json=options.json),
        looking(listener.measure, rest.server_clock),
        _connected(streams),
    ):
        await stop.wanted()
    if not listener.measure.messages and listener.measure.elapsed_s(clock.monotonic_ns()) > 5:
        raise no_data(venue)
    return 0


@asynccontextmanager
async def _connected(streams: Sequence[Stream]) -> AsyncIterator[None]:
    """The streams are kept connected while the context lasts."""
    tasks = [asyncio.ensure_future(stream.run()) for stream in streams]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    stop_signals.catch()
    code = main()
    stop_signals.ignore()
    sys.exit(code)
