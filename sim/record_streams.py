"""`python -m sim record`: the market streams of an exchange, written into files that can be replayed."""

import argparse
import asyncio
import logging
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from sim.command_line import EXIT_FAULT, EXIT_USAGE, OneSentenceParser
from sim.day_files import DayFiles
from sim.market import MarketError
from sim.public_files import QUOTES, TRADES
from sim.stop_signals import signals_go_to
from sim.stream_client import (
    MAINNET_STREAMS,
    Message,
    Subscription,
    UnknownHost,
    kept_up,
    quote_target,
    stream_origin,
    trade_target,
)
from utils.clock import Clock, SystemClock

FLUSH_EVERY_S = 1.0
_SYMBOL = re.compile(r"[A-Z0-9_]{1,40}")
_LONGEST_S = 366 * 24 * 3600.0


class Recorder:
    """Writes what the streams of `symbols` at `origin` bring into `files`."""

    def __init__(self, origin: str, symbols: Sequence[str], files: DayFiles) -> None:
        self._origin = origin
        self._symbols = list(symbols)
        self._files = files
        self._failed = asyncio.Event()
        self._failure: BaseException | None = None

    async def record(self, clock: Clock, stopped: asyncio.Event) -> None:
        """The streams have been recorded until `stopped` was set; all that came is in the files.

        Raises:
            MarketError: a file cannot be written.
        """
        try:
            async with kept_up(self._subscriptions(clock), self._fail):
                while not stopped.is_set() and not self._failed.is_set():
                    await self._nap(stopped)
                    self._files.flush()
        finally:
            self._files.flush()
        if self._failure is not None:
            raise self._failure

    async def _nap(self, stopped: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(FLUSH_EVERY_S):
                await stopped.wait()
        except TimeoutError:
            return

    def _subscriptions(self, clock: Clock) -> list[Subscription]:
        # The jitter of reconnects needs no seed of the user's: it changes nothing that is written.
        rng = random.Random(clock.time_ms())
        return [
            Subscription(
                self._origin + target,
                clock,
                rng,
                on_message=self._put,
                on_up=self._files.resume,
                on_down=lambda: None,
            )
            for target in (quote_target(self._symbols), trade_target(self._symbols))
        ]

    def _put(self, message: Message) -> None:
        if message.get("s") in self._symbols:
            self._files.put(message)

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        self._failed.set()


def record_command(arguments: Sequence[str]) -> int:
    """The streams have been recorded for the time given, or until SIGINT or SIGTERM; the exit code is returned."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    code = EXIT_USAGE
    try:
        files = _folder(options.out)
        code = EXIT_FAULT
        asyncio.run(_record(options, files, SystemClock()))
    except MarketError as error:
        sys.stderr.write(f"python -m sim record: {error}\n")
        return code
    counts = files.counts
    if not counts[QUOTES]:
        sys.stderr.write(
            f"python -m sim record: no quote of {', '.join(options.symbol)} came from {options.url}: "
            "check the symbol and the network.\n"
        )
        return EXIT_FAULT
    refused = f", {files.refused} messages could not be used" if files.refused else ""
    sys.stdout.write(f"{counts[QUOTES]} quotes and {counts[TRADES]} trades are in {options.out}{refused}\n")
    return 0


async def _record(options: argparse.Namespace, files: DayFiles, clock: Clock) -> None:
    stopped = asyncio.Event()
    if options.duration is not None:
        asyncio.get_running_loop().call_later(options.duration, stopped.set)
    with signals_go_to(stopped.set):
        sys.stdout.write(f"recording {', '.join(options.symbol)} from {options.url} into {options.out}\n")
        sys.stdout.flush()
        await Recorder(options.url, options.symbol, files).record(clock, stopped)


def _folder(path: Path) -> DayFiles:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MarketError(f"{path} cannot be made ({error.strerror}): name another folder.") from error
    return DayFiles(path)


def _parser() -> argparse.ArgumentParser:
    parser = OneSentenceParser(
        prog="python -m sim record",
        description="Records bookTicker and aggTrade streams into files of Binance's public format. No key is needed.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--url", type=_origin, default=MAINNET_STREAMS, help=f"{MAINNET_STREAMS}, or http://127.0.0.1:PORT")
    add(
        "--symbol",
        type=_symbols,
        default=["BTCUSDT"],
        metavar="S",
        help="symbol, or several with commas; BTCUSDT",
    )
    add(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the files; gone on with if it has some",
    )
    add("--duration", type=_seconds, metavar="S", help="seconds to record; until Ctrl-C without it")
    return parser


def _origin(text: str) -> str:
    try:
        return stream_origin(text)
    except UnknownHost as error:
        raise argparse.ArgumentTypeError(str(error).removesuffix(".")) from error


def _symbols(text: str) -> list[str]:
    names = [name.strip().upper() for name in text.split(",") if name.strip()]
    for name in names:
        if not _SYMBOL.fullmatch(name):
            raise argparse.ArgumentTypeError(f"{name} is no symbol: use letters and digits, like BTCUSDT")
    if not names:
        raise argparse.ArgumentTypeError("there is no symbol: name one, like BTCUSDT")
    return list(dict.fromkeys(names))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST_S:
        raise argparse.ArgumentTypeError(f"{text} is no duration: use a number of seconds above 0")
    return seconds
