"""Orders at work: `python demo/order_management.py`.

The daemon itself on an embedded simulated exchange, in `refresh_mode: amend`: placing, amending, cancelling, fills,
and a timed reset with its countdown, with a reason beside each. With --live the exchange follows the real public
market; orders stay on paper in any case, and no key is read.
"""

import os
import signal
import sys

if __name__ == "__main__":  # until there is something to be ended well, Ctrl-C ends it on the spot
    for _number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(_number, lambda *_: os._exit(0))

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from any folder

from demo._start import DemoError, Parser, need_packages, positive_number, run

need_packages()

import argparse
import asyncio
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from core.engine import Engine
from core.exit_code import ExitCode
from core.runs import run_engine
from core.settings import Settings
from core.shutdown import StopRequest
from demo._desk import HEARD, Desk
from demo._desk_view import DeskView, LogPane
from demo._paper import demo_settings, market_has_begun, wired
from demo._screen import shown
from demo._source import feed_settings
from demo._work import log_level, unless_stopped
from sim import stop_signals
from utils.clock import SystemClock
from utils.config_loader import ConfigLoaderError
from utils.errors import ExchangeError, StartRefused


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Return the parsed command line; a bad one ends the program with exit code 2."""
    parser = Parser("order_management", "The order desk of the daemon at work, on paper.")
    parser.add_market(synthetic_speed=10)
    add = parser.add_argument
    add("--levels", metavar="N", type=int, default=3, help="orders on each side of the mid price; 3")
    add("--reset-interval", metavar="S", type=positive_number, default=20.0, help="between two resets; 20")
    return parser.parse(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Show the daemon at work; return its exit code."""
    options = parse_arguments(arguments)
    with tempfile.TemporaryDirectory(prefix="quant_pmm-demo-") as folder:
        try:
            settings = demo_settings(options, Path(folder))
        except ConfigLoaderError as error:
            sys.stderr.write(f"python demo/order_management.py: {error}\n")
            return ExitCode.REFUSED
        return run(_demonstrate(options, settings))


async def _demonstrate(options: argparse.Namespace, settings: Settings) -> int:
    clock, desk, stop = SystemClock(), Desk(), StopRequest()
    title = f"{options.symbol} on paper, market: {feed_settings(options).kind}"
    view = DeskView(desk, clock, title, options.duration)
    asyncio.get_running_loop().call_later(options.duration, stop.want, f"{options.duration:g} s have passed")

    def look_at(engine: Engine) -> None:
        view.engine = engine
        desk.watch(engine.contexts[0])
        engine.bus.subscribe(lambda fact: desk.hear(fact, clock.time_ms()), *HEARD, name="demo")

    ask = partial(stop.ask, "asked to stop")
    with stop_signals.signals_go_to(ask), _log_goes_to(view), _in_one_sentence():
        async with (
            wired(options, settings, lambda: desk.sweep(clock.time_ms())) as (wiring, view.http),
            shown(view, ask),
        ):
            if not await unless_stopped(stop, market_has_begun(wiring.rest, options.symbol)):
                return ExitCode.STOPPED
            return await run_engine(settings, wiring, stop, look_at)


@contextmanager
def _in_one_sentence() -> Iterator[None]:
    """What keeps the daemon from starting is said in one sentence."""
    try:
        yield
    except StartRefused as refusal:
        raise DemoError(f"The daemon refused to start: {refusal}") from refusal
    except ExchangeError as error:
        raise DemoError(f"The market did not answer ({error}): try again.") from error


@contextmanager
def _log_goes_to(view: DeskView) -> Iterator[None]:
    """The program's log goes to the pane, and as lines to whoever reads lines."""

    def take(line: str, level: int) -> None:
        view.log.append(line)
        view.news.append(f"log  {line}")
        if level >= logging.ERROR:
            view.errors.append(line)

    root, pane = logging.getLogger(), LogPane(take)
    root.addHandler(pane)
    try:
        with log_level("", logging.INFO):
            yield
    finally:
        root.removeHandler(pane)


if __name__ == "__main__":
    stop_signals.catch()
    code = main()
    stop_signals.ignore()
    sys.exit(code)
