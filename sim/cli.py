"""The simulated exchange as a program of its own: `python -m sim`."""

import argparse
import asyncio
import logging
import re
import sys
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path

from sim.clockwork import drive
from sim.command_line import EXIT_FAULT, EXIT_USAGE, OneSentenceParser
from sim.exchange import ApiKey, Exchange, Options
from sim.fault_file import load_script
from sim.fault_rules import FaultError, Script
from sim.feeds import KINDS, LIVE, RECORDING, SYNTHETIC, FeedSettings, open_market
from sim.latency import SYNTAX, Latencies, constant, parse_latencies
from sim.market import MarketError
from sim.record_streams import record_command
from sim.relay import relayed
from sim.server import ServerRefused, start_server
from sim.stop_signals import signals_go_to
from sim.stream_client import MAINNET_STREAMS
from sim.switches import SwitchError, read_switches
from utils.clock import Clock, SystemClock

DEFAULT_API_KEY = "paper-key"
DEFAULT_API_SECRET = "paper-secret"  # noqa: S105  # the secret of an exchange made of paper
# Binance's own keys are 64 letters and digits.
_REAL_KEY = re.compile(r"[A-Za-z0-9]{64}")
_MAX_PORT = 65535
_MAX_SPEED = 10_000
_MAX_LATENCY_MS = 10_000


def main(arguments: list[str] | None = None) -> int:
    """The exchange has run until SIGINT or SIGTERM, or a recording is made; the exit code is returned."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["record"]:
        return record_command(arguments[1:])
    options = _parser().parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(_serve(options, SystemClock()))
    except (MarketError, ServerRefused, FaultError) as error:
        sys.stderr.write(f"python -m sim: {error}\n")
        return EXIT_USAGE
    except _MarketBroke as error:
        sys.stderr.write(f"python -m sim: {error}\n")
        return EXIT_FAULT
    return 0


class _MarketBroke(Exception):
    """The market failed after the exchange had begun to run."""


async def _serve(options: argparse.Namespace, clock: Clock) -> None:
    stopped = asyncio.Event()
    with signals_go_to(stopped.set):
        await _serve_until(stopped, options, clock)


async def _serve_until(stopped: asyncio.Event, options: argparse.Namespace, clock: Clock) -> None:
    settings = _feed_settings(options)
    market = open_market(settings, clock.time_ms())
    exchange = Exchange(
        market,
        api_key=options.api_key,
        api_secret=options.api_secret,
        now_ms=clock.time_ms(),
        wallet_quote=options.wallet,
        faults=options.faults,
        options=_switched(options),
        keys=options.public_key or [],
    )
    server = await start_server(exchange, clock, options.host, options.port, _latencies(options))
    try:
        sys.stdout.write(f"simulated exchange on {server.url}\n{_summary(settings, options)}\n")
        sys.stdout.flush()
        async with relayed(market, clock):
            await _drive_until(stopped, exchange, clock)
    finally:
        await server.close()


async def _drive_until(stopped: asyncio.Event, exchange: Exchange, clock: Clock) -> None:
    """Time has passed for the exchange until `stopped` was set, also beyond the end of the market."""
    driving = asyncio.ensure_future(drive(exchange, clock))
    stopping = asyncio.ensure_future(stopped.wait())
    try:
        await asyncio.wait({driving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if driving.done():
            driving.result()
        await stopping
    except MarketError as error:
        raise _MarketBroke(str(error)) from error
    finally:
        for task in (driving, stopping):
            task.cancel()
        await asyncio.gather(driving, stopping, return_exceptions=True)


def _summary(settings: FeedSettings, options: argparse.Namespace) -> str:
    if settings.kind == RECORDING:
        source = f"recording {settings.recording}, {'in a loop' if settings.loop else 'once'}"
    elif settings.kind == LIVE:
        source = f"live, {settings.live_url or MAINNET_STREAMS}"
    else:
        source = f"synthetic, seed {settings.seed}"
    if settings.events is not None:
        source += f", events of {settings.events}"
    lines = (
        ("symbol", ", ".join(settings.symbols)),
        ("market", source),
        ("speed", f"{float(settings.speed):g}x"),
        ("wallet", f"{options.wallet} USDT"),
        ("latency", str(_latencies(options))),
        ("keys", f"{options.api_key} / {options.api_secret}" if _is_default(options) else "as given"),
        *_told_faults(options.faults),
        ("stop", "Ctrl-C"),
    )
    return "\n".join(f"  {name:<8}{value}" for name, value in lines)


def _told_faults(faults: Script | None) -> list[tuple[str, str]]:
    return [] if faults is None else [("faults", f"{len(faults.rules)} in the scenario, seed {faults.seed}")]


def _is_default(options: argparse.Namespace) -> bool:
    return bool(options.api_key == DEFAULT_API_KEY and options.api_secret == DEFAULT_API_SECRET)


def _feed_settings(options: argparse.Namespace) -> FeedSettings:
    names = ",".join(options.symbol or ["BTCUSDT"]).upper().split(",")
    return FeedSettings(
        kind=options.market or (RECORDING if options.recording else SYNTHETIC),
        symbols=tuple(dict.fromkeys(name.strip() for name in names if name.strip())),
        recording=options.recording,
        speed=options.speed,
        seed=options.seed,
        events_per_s=options.events_per_second,
        loop=options.loop,
        events=options.events,
        live_url=options.live_url,
    )


def _parser() -> argparse.ArgumentParser:
    parser = OneSentenceParser(
        prog="python -m sim",
        description="A simulated Binance USDⓈ-M futures exchange on this machine: REST and streams under one URL.",
        epilog="python -m sim record --help tells how to record market streams.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on; loopback only")
    add("--port", type=_port, default=0, help="port to listen on; 0, the default, takes any free one")
    add("--market", choices=KINDS, help="where prices come from; synthetic unless --recording is given")
    add(
        "--recording",
        type=Path,
        metavar="PATH",
        help="folder with Binance's public data files, or a raw capture",
    )
    add("--events", type=Path, metavar="FILE", help="YAML file with jumps, droughts, halts and more, by time")
    add(
        "--symbol",
        action="append",
        metavar="S",
        help="symbol, or several with commas; BTCUSDT",
    )
    add("--live-url", default="", metavar="URL", help="loopback URL that plays mainnet for --market live")
    add("--speed", type=_speed, default=Fraction(1), help="market seconds in one second; 1")
    add("--seed", type=int, default=1, help="number that makes a synthetic market repeatable; 1")
    add(
        "--events-per-second",
        type=float,
        metavar="N",
        help="quotes and trades a second of each symbol of a synthetic market; as many as the real one has",
    )
    add(
        "--loop",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="start a recording again at its end",
    )
    add("--wallet", type=_amount, default=Decimal(5000), metavar="USDT", help="wallet at the start; 5000")
    add(
        "--faults",
        type=_scenario,
        metavar="FILE",
        help="scenario of what goes wrong, in YAML (docs/faults.md)",
    )
    add(
        "--set",
        action="append",
        type=_switch,
        metavar="NAME=VALUE",
        help="one of the exchange's switches, such as deployment=demo (docs/switches.md); may be repeated",
    )
    add(
        "--public-key",
        action="append",
        type=_public_key,
        metavar="NAME=FILE",
        help="API key of that name whose holder signs with RSA or Ed25519; FILE has the public key as PEM",
    )
    add("--latency-ms", type=_latency, default=0.0, help="one-way latency of requests and streams in ms; 0")
    add("--latency", type=_drawn_latency, metavar="SPEC", help=f"instead, drawn with the seed: {SYNTAX}")
    add("--api-key", type=_made_up_key, default=DEFAULT_API_KEY, help=f"key; {DEFAULT_API_KEY}")
    add(
        "--api-secret",
        type=_made_up_key,
        default=DEFAULT_API_SECRET,
        help=f"secret; {DEFAULT_API_SECRET}",
    )
    return parser


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > _MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text} is no port: use 0 to {_MAX_PORT}")
    return int(text)


def _speed(text: str) -> Fraction:
    try:
        speed = Fraction(text)
    except (ValueError, ZeroDivisionError):
        speed = Fraction(0)
    if not 0 < speed <= _MAX_SPEED:
        raise argparse.ArgumentTypeError(f"{text} is no speed: use a number above 0, at most {_MAX_SPEED}")
    return speed


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(0)
    if not amount.is_finite() or amount <= 0:
        raise argparse.ArgumentTypeError(f"{text} is no amount: use a number of USDT above 0")
    return amount


def _latency(text: str) -> float:
    try:
        latency_ms = float(text)
    except ValueError:
        latency_ms = -1.0
    if not 0 <= latency_ms <= _MAX_LATENCY_MS:
        raise argparse.ArgumentTypeError(f"{text} is no latency: use 0 to {_MAX_LATENCY_MS} ms")
    return latency_ms


def _switched(options: argparse.Namespace) -> Options:
    return read_switches(options.set or [])


def _switch(text: str) -> str:
    try:
        read_switches([text])
    except SwitchError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _public_key(text: str) -> ApiKey:
    name, _, path = text.partition("=")
    try:
        return ApiKey(_made_up_key(name), public_key=Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text} names no public key: {error}") from None


def _scenario(text: str) -> Script:
    try:
        return load_script(Path(text))
    except FaultError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _drawn_latency(text: str) -> Latencies:
    try:
        return parse_latencies(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _latencies(options: argparse.Namespace) -> Latencies:
    drawn: Latencies | None = options.latency
    if drawn is None:
        return Latencies(constant(options.latency_ms), constant(options.latency_ms))
    return replace(drawn, seed=options.seed)


def _made_up_key(text: str) -> str:
    if not text or _REAL_KEY.fullmatch(text):
        raise argparse.ArgumentTypeError("it is empty or looks real: use a made-up one, or leave it out")
    return text
