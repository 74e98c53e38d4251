"""The market by polling: `python demo/market_fetch.py`.

Ticker, order book and trades through ccxt's async `binanceusdm`, with what that costs: how old the answers are, how
long ccxt's limiter has the next request wait, and how much of the exchange's limit is used up.
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
import time
from collections import deque
from collections.abc import Iterable, Mapping

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table

from demo._polling import KINDS, Poller, client_at
from demo._screen import grid, lines_of, shown
from demo._source import chosen_venue, cpu_note
from demo._work import looking, unless_stopped
from sim import stop_signals
from utils.clock import Clock, SystemClock


class PollingView:
    """Shows a poller."""

    def __init__(self, poller: Poller, clock: Clock, title: str, cpu_note: str = "") -> None:
        self._poller = poller
        self._clock = clock
        self._title = title
        self._cpu_note = cpu_note

    @property
    def news(self) -> deque[str]:
        """Lines that were not printed yet."""
        return self._poller.news

    def picture(self) -> RenderableType:
        """Return what a terminal shows."""
        measure, now_ns = self._poller.measure, self._clock.monotonic_ns()
        data = grid(
            [
                ("book delay", f"{measure.quote_delays_ms}   the exchange's last change to our knowing it"),
                ("trade delay", f"{measure.trade_delays_ms}   trade to our knowing it"),
                ("data age", f"mean {measure.ages_ms.mean:.0f} ms, now {measure.ages_ms.last:.0f} ms"),
                ("limit", self._limit()),
                ("cpu", f"{measure.cpu_percent(now_ns, time.process_time()):.1f} %{self._cpu_note}"),
            ]
        )
        return Group(
            Panel(data, title=self._title),
            Panel(self._endpoints(), title="requests"),
            Panel(lines_of(self._poller.prices), title="answers"),
        )

    def _endpoints(self) -> Table:
        table = Table(box=None, expand=True)
        table.add_column("request")
        for name in ("count", "weight", "round trip p50 ms", "p95 ms", "limiter waits ms"):
            table.add_column(name, justify="right")
        for kind, endpoint in self._poller.endpoints.items():
            trips = endpoint.round_trips_ms
            table.add_row(
                kind,
                str(trips.count),
                str(endpoint.weight),
                f"{trips.quantile(50):.0f}",
                f"{trips.quantile(95):.0f}",
                f"{endpoint.waits_ms.mean:.0f}",
            )
        return table

    def _limit(self) -> str:
        poller = self._poller
        a_minute = poller.measure.figures(self._clock.monotonic_ns(), 0.0)["requests_per_minute"]
        return (
            f"used {poller.used_weight} of {poller.weight_limit} weight this minute"
            f" with {a_minute:.0f} requests a minute; {self._fastest()}"
        )

    def _fastest(self) -> str:
        """Return how often a whole round could be made at most."""
        weight = sum(endpoint.weight for endpoint in self._poller.endpoints.values())
        if not weight or not self._poller.weight_limit:
            return "measuring"
        return (
            f"a round weighs {weight}: at most one each {60_000 * weight / self._poller.weight_limit:.0f} ms"
        )

    def line(self) -> str:
        """Return the state in one line."""
        measure = self._poller.measure
        return (
            f"status  book delay {measure.quote_delays_ms} | trade delay {measure.trade_delays_ms}"
            f" | data age {measure.ages_ms.mean:.0f} ms | {self._limit()}"
        )

    def figures(self) -> Mapping[str, object]:
        """Return the state as numbers."""
        poller = self._poller
        return {
            **poller.measure.figures(self._clock.monotonic_ns(), time.process_time()),
            "used_weight_1m": poller.used_weight,
            "weight_limit_1m": poller.weight_limit,
            "missed_trades": poller.missed_trades,
            "errors": sum(poller.errors.values()),
        }

    def summary(self) -> Iterable[str]:
        """Return the result."""
        measure, poller = self._poller.measure, self._poller
        yield f"book delay   {measure.quote_delays_ms} ({measure.quote_delays_ms.count} books)"
        yield f"trade delay  {measure.trade_delays_ms} ({measure.trade_delays_ms.count} trades)"
        yield f"data age     mean {measure.ages_ms.mean:.0f} ms, p95 {measure.ages_ms.quantile(95):.0f} ms"
        for kind, endpoint in poller.endpoints.items():
            yield (
                f"{kind:<12} {endpoint.round_trips_ms.count} requests of weight {endpoint.weight},"
                f" round trip {endpoint.round_trips_ms}, limiter waits {endpoint.waits_ms.mean:.0f} ms"
            )
        yield f"rate limit   {self._limit()}"
        if poller.errors:
            yield "errors       " + ", ".join(f"{name} {count}" for name, count in poller.errors.items())


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Return the parsed command line; a bad one ends the program with exit code 2."""
    parser = Parser("market_fetch", "The market by polling through ccxt, with delay and rate limit measured.")
    parser.add_feed()
    add = parser.add_argument
    add("--interval", metavar="S", type=float, default=1.0, help="from one round to the next; 1, 0: no pause")
    add("--what", default=",".join(KINDS), help="what is asked for, with commas; ticker,book,trades")
    options = parser.parse(arguments)
    options.what = tuple(options.what.split(","))
    if unknown := set(options.what) - set(KINDS):
        parser.error(f"--what knows {', '.join(KINDS)}, not {min(unknown) or 'nothing'}")
    if options.interval < 0:
        parser.error("--interval is 0 s or more")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Poll for a while; return the exit code."""
    return run(_poll(parse_arguments(arguments)))


async def _poll(options: argparse.Namespace) -> int:
    stop = Stop()
    stop.end_after(options.duration)
    with stop_signals.signals_go_to(stop.ask):
        async with chosen_venue(options) as venue, client_at(venue) as client:
            clock = SystemClock()
            poller = Poller(client, options.symbol, clock, options.what, time.process_time)
            if not await unless_stopped(stop, poller.prepare()):
                return 0
            stop.end_after(options.duration)
            title = f"{options.symbol} by polling {venue.rest_origin}"
            view = PollingView(poller, clock, title, cpu_note(options))
            async with (
                shown(view, stop.ask, as_json=options.json),
                looking(poller.measure, poller.server_clock),
            ):
                await unless_stopped(stop, poller.run(options.interval))
    return 0


if __name__ == "__main__":
    stop_signals.catch()
    code = main()
    stop_signals.ignore()
    sys.exit(code)
