"""What every demo begins with: the packages it needs, its command line, and an end that is never a traceback."""

import argparse
import asyncio
import importlib.util
import os
import sys
from collections.abc import Callable, Coroutine
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

EXIT_FAULT = 1
EXIT_USAGE = 2

PACKAGES = {
    "aiohttp": "aiohttp",
    "dotenv": "python-dotenv",
    "msgspec": "msgspec",
    "rich": "rich",
    "websockets": "websockets",
    "yaml": "PyYAML",
}
"""What all demos import, and what it is called where it is installed from."""


class DemoError(Exception):
    """The demo cannot go on; the text is one sentence with the remedy."""


def need_packages(*more: str) -> None:
    """What the demos import is there, and ``more``; else one sentence says what to do, and the program ends with 2."""
    missing = [
        name
        for module, name in {**PACKAGES, **dict(zip(more, more, strict=True))}.items()
        if importlib.util.find_spec(module) is None
    ]
    if missing:
        sys.stderr.write(
            f"{', '.join(missing)} is not installed: run `make demo` once, or"
            " `pip install -r requirements-demo.txt`, and start the demo with that Python.\n"
        )
        raise SystemExit(EXIT_USAGE)


class Parser(argparse.ArgumentParser):
    """A command line whose errors are one sentence; it knows what all demos have in common."""

    def __init__(self, name: str, description: str) -> None:
        super().__init__(prog=f"python demo/{name}.py", description=description, allow_abbrev=False)
        self._synthetic_speed = Fraction(1)
        add = self.add_argument
        add("--duration", metavar="S", type=_positive, default=30.0, help="end by itself after S seconds; 30")
        add("--symbol", metavar="S", type=str.upper, default="BTCUSDT", help="what is traded; BTCUSDT")
        add("--live", action="store_true", help="the real public market, without keys; never places an order")

    def add_market(self, synthetic_speed: int = 1) -> None:
        """Let the market of the embedded exchange be chosen; a synthetic one runs at this speed unless told another."""
        self._synthetic_speed = Fraction(synthetic_speed)
        add = self.add_argument
        add("--market", choices=("synthetic", "recording"), help="where the embedded market comes from")
        add("--recording", metavar="DIR", type=Path, help="folder with Binance's public data files")
        usual = "1" if synthetic_speed == 1 else f"{synthetic_speed}, of a recording 1"
        add("--speed", metavar="X", type=_speed, help=f"market seconds in one second; {usual}")
        add("--seed", metavar="N", type=int, default=1, help="another number, another synthetic market; 1")

    def add_feed(self) -> None:
        """Let the market be the embedded one, or one that is served already; and let the output be JSON."""
        self.add_market()
        add = self.add_argument
        add("--url", default="", help="a simulated exchange that runs: what `python -m sim` prints first")
        add("--json", action="store_true", help="one JSON object a second instead of a picture")

    def parse(self, arguments: list[str] | None) -> argparse.Namespace:
        """Return what the command line says, as far as it makes sense together."""
        options = self.parse_args(arguments)
        is_chosen = bool(options.market or options.recording or options.speed)
        url = getattr(options, "url", "")
        if options.live and (is_chosen or url):
            self.error("--live is the real market: leave --market, --recording, --speed and --url out")
        if url and is_chosen:
            self.error(
                "the exchange at --url has its market already: leave --market, --recording and --speed out"
            )
        if options.market == "recording" and options.recording is None:
            self.error("a recording needs its folder: add --recording DIR")
        if options.recording is not None:
            options.recording, options.market = options.recording.resolve(), "recording"
        is_synthetic = not options.live and options.market != "recording"
        options.speed = options.speed or (self._synthetic_speed if is_synthetic else Fraction(1))
        return options

    def error(self, message: str) -> NoReturn:
        """One sentence is written to stderr and the program ends with 2."""
        sys.stderr.write(f"{self.prog}: {message} (--help lists the options)\n")
        raise SystemExit(EXIT_USAGE)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 10**9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def _speed(text: str) -> Fraction:
    try:
        speed = Fraction(text)
    except (ValueError, ZeroDivisionError):
        speed = Fraction(0)
    if not Fraction(1, 100) <= speed <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0.01 to 10000")
    return speed


positive_number: Callable[[str], float] = _positive


def run(work: Coroutine[Any, Any, int]) -> int:
    """Return the exit code of the work; what is wrong is said in one sentence."""
    try:
        return asyncio.run(work)
    except DemoError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_FAULT
    except BrokenPipeError:  # nobody reads any more, `| head` for example: nothing is left to be done
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


class Stop:
    """The wish to end: by a signal, or because the time is over."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def end_after(self, duration_s: float) -> None:
        """Have the demo end so long from now, whatever was said before."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(duration_s, self._asked.set)

    def ask(self) -> None:
        """Have the demo end."""
        self._asked.set()

    async def wanted(self) -> None:
        """Wait until the demo shall end."""
        await self._asked.wait()
