"""The entry: command line, wiring for the environment, exit code. The only module that knows everything."""

import signal

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
HALT_SIGNAL = signal.SIGUSR1

_untold_signals: list[int] = []
"""Signals that came when nobody could take them: one during the start is a stop, one after the end changes nothing."""

if __name__ == "__main__":
    for _number in (*STOP_SIGNALS, HALT_SIGNAL):
        signal.signal(_number, lambda number, _frame: _untold_signals.append(number))

import argparse  # noqa: E402 - the signal handlers come first
import asyncio  # noqa: E402
import json  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import random  # noqa: E402
import sys  # noqa: E402
from collections.abc import AsyncIterator, Callable, Iterator, Sequence  # noqa: E402
from contextlib import asynccontextmanager, contextmanager  # noqa: E402
from dataclasses import replace  # noqa: E402
from decimal import Decimal  # noqa: E402
from fractions import Fraction  # noqa: E402
from pathlib import Path  # noqa: E402
from types import FrameType  # noqa: E402

from core.crash_count import CrashCount  # noqa: E402
from core.daily_loss import day_of  # noqa: E402
from core.day_file import DamagedDay, DayFile, DayRecord  # noqa: E402
from core.engine import Engine, ExitCode, Wiring, run_engine, unless_stopped  # noqa: E402
from core.flatten_command import FlattenCommand, Report  # noqa: E402
from core.gateway import Gateway  # noqa: E402
from core.halt import HaltLatch  # noqa: E402
from core.hardening import key_file_objection, leave_no_core, write_for_the_owner_only  # noqa: E402
from core.instance_lock import is_held  # noqa: E402
from core.kill_switch import KillSwitch  # noqa: E402
from core.log_setup import Logs, guard_last_words, harmless  # noqa: E402
from core.order_audit import Audit, OrderAudit, as_json, as_text  # noqa: E402
from core.preflight import Preflight, preflight  # noqa: E402
from core.restarts import Restarts  # noqa: E402
from core.settings import Settings, settings_from  # noqa: E402
from core.shutdown import StopRequest  # noqa: E402
from core.state import shared_state  # noqa: E402
from core.status_board import StatusBoard, build_of  # noqa: E402
from core.status_board import as_text as status_text  # noqa: E402
from core.status_socket import NoStatus, StatusSocket, read_status, status_path  # noqa: E402
from core.systemd import Notify, notify_socket, to_nobody  # noqa: E402
from utils.background import in_daemon_thread  # noqa: E402
from utils.clock import ServerClock, SystemClock  # noqa: E402
from utils.config_loader import Config, ConfigLoaderError, forget_keys, get_config, resolve_path  # noqa: E402
from utils.errors import ExchangeError, StartRefused  # noqa: E402
from utils.http import AiohttpTransport, BinanceRest  # noqa: E402
from utils.machine import THIS_MACHINE  # noqa: E402
from utils.redaction import redact, redactor  # noqa: E402
from utils.venue import LIVE, TESTNET, Environment, Venue, paper_venue  # noqa: E402
from utils.ws import SocketTransport  # noqa: E402

log = logging.getLogger("quant_pmm")

PAPER_KEY = "paper-key"
PAPER_SECRET = "paper-secret"  # noqa: S105 - opens nothing but the simulated exchange
EMBEDDED_ACCOUNT = "paper-embedded"


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line; a bad one ends the program with exit code 2."""
    parser = argparse.ArgumentParser(
        prog="main.py",
        allow_abbrev=False,  # --live is said in full
        description="A passive market maker for Binance USDⓈ-M futures; paper trading by default.",
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=("run", "check", "resume", "orders", "flatten", "status"),
        default="run",
        help="run: make a market (default); check: preflight only, places nothing; resume: clear a halt by risk; "
        "orders: what became of each order; flatten: cancel our orders, close the position, verify both; "
        "status: what the running daemon does",
    )
    parser.add_argument("--config", metavar="F", help="configuration file (default: config.yaml)")
    parser.add_argument("--env", metavar="F", help="environment file (default: .env)")
    parser.add_argument("--duration", metavar="S", type=_seconds, help="stop by itself after S seconds")
    parser.add_argument("--audit", action="store_true", help="with orders: compare, and fail on any doubt")
    parser.add_argument("--json", action="store_true", help="with orders or status: print one JSON object")
    parser.add_argument(
        "--live", action="store_true", help="confirm that EXCHANGE_ENV=live trades real money"
    )
    parser.add_argument(
        "--yes", action="store_true", help="with flatten: do not ask before it closes for real"
    )
    parser.add_argument(
        "--accept-loss", action="store_true", help="with resume: begin today's count of the loss limit anew"
    )
    parsed = parser.parse_args(arguments)
    if parsed.accept_loss and parsed.command != "resume":
        parser.error("--accept-loss belongs to the command resume")
    if parsed.yes and parsed.command != "flatten":
        parser.error("--yes belongs to the command flatten")
    if parsed.audit and parsed.command != "orders":
        parser.error("--audit belongs to the command orders")
    if parsed.json and parsed.command not in ("orders", "status"):
        parser.error("--json belongs to the commands orders and status")
    return parsed


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 10**9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    parsed = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    try:
        config = get_config(parsed.env, parsed.config)
    except ConfigLoaderError as error:
        _refuse(str(error))
        return ExitCode.REFUSED
    settings = settings_from(config)
    _guard_keys(config)
    if objection := _key_objection(settings, config):
        _refuse(f"{objection}.")
        return ExitCode.REFUSED
    commands: dict[str, Callable[[], int]] = {
        "run": lambda: _run(settings, config, parsed),
        "check": lambda: _check(settings, config, parsed),
        "resume": lambda: _resume(settings, accept_loss=parsed.accept_loss),
        "orders": lambda: _orders(settings, config, parsed),
        "flatten": lambda: _flatten(settings, config, parsed),
        "status": lambda: _status(settings, as_object=parsed.json),
    }
    with Logs(settings.logs.level, settings.logs.directory):
        if settings.environment is not Environment.PAPER:
            leave_no_core()
        return commands[parsed.command]()


def _refuse(reason: str) -> None:
    print(harmless(redact(f"configuration: {reason}")), file=sys.stderr)


def _guard_keys(config: Config) -> None:
    """Have the keys masked wherever they might be written, and out of the process environment."""
    for secret in (config.BINANCE_API_KEY, config.BINANCE_SECRET_KEY):
        redactor.learn(secret)
    forget_keys()


def _key_objection(settings: Settings, config: Config) -> str:
    """Return why a file that the keys of an account at Binance stand in may not hold them; empty if it may."""
    if settings.environment is Environment.PAPER:
        return ""
    return next(filter(None, map(key_file_objection, config.key_files)), "")


# --- run --------------------------------------------------------------------------------------------------------


def _run(settings: Settings, config: Config, parsed: argparse.Namespace) -> int:
    with asyncio.Runner() as runner:
        try:
            return runner.run(_run_until_stopped(settings, config, parsed))
        except StartRefused as refusal:
            log.error("refused to start: %s", refusal)
            return ExitCode.REFUSED
        except ExchangeError as error:
            log.error("could not start: %s", error)
            return ExitCode.FAULT


async def _run_until_stopped(settings: Settings, config: Config, parsed: argparse.Namespace) -> int:
    stop = StopRequest()
    if parsed.duration is not None:
        asyncio.get_running_loop().call_later(parsed.duration, stop.ask, f"{parsed.duration:g} s have passed")
    switch = KillSwitch(settings.state_directory, SystemClock().monotonic_ns)
    with _signals_go_to(stop.ask, switch):
        async with _wired(settings, config, live_confirmed=parsed.live) as wiring:
            with _service_manager() as notify:
                restarts = _restarts(settings, notify)
                wiring = replace(wiring, kill_switch=switch, notify=notify, restarts=restarts)
                return await _run_in_sight(settings, wiring, stop)


async def _run_in_sight(settings: Settings, wiring: Wiring, stop: StopRequest) -> int:
    """Run the engine beside its status socket."""
    board = StatusBoard(settings, wiring.account, wiring.clock, build_of(Path(__file__).parent))
    path = status_path(settings.state_directory, wiring.account, settings.symbols)
    async with StatusSocket(path, board.snapshot) as door:

        def show(engine: Engine) -> None:
            board.follow(engine)
            door.open()

        return await run_engine(settings, wiring, stop, show)


@contextmanager
def _service_manager() -> Iterator[Notify]:
    """Give the way to whatever started this process, if it wants to be told how it goes."""
    found = notify_socket(os.environ)
    try:
        yield found.tell if found is not None else to_nobody
    finally:
        if found is not None:
            found.close()


def _restarts(settings: Settings, notify: Notify) -> Restarts | None:
    """Return what holds a start back after bad ends; None on the embedded exchange, which nobody can hammer."""
    account, most = _account(settings), settings.safety.max_crashes_per_hour
    if account == EMBEDDED_ACCOUNT or not most:
        return None
    latches = [HaltLatch(settings.state_directory, account, symbol) for symbol in settings.symbols]
    return Restarts(_crash_count(settings), latches, SystemClock(), most, notify)


def _crash_count(settings: Settings) -> CrashCount:
    return CrashCount(settings.state_directory, _account(settings), settings.symbols)


@contextmanager
def _signals_go_to(ask: Callable[[str], None], switch: KillSwitch | None = None) -> Iterator[None]:
    """Have ``ask`` called on the event loop for each signal to stop, the first untold one included.

    The signal to halt throws the switch itself, whatever the event loop is doing; the rest follows on the loop. The
    loop's own handlers would not do: closing the loop puts the system's back, which kill a daemon that has stopped
    well on its last few lines.
    """
    loop = asyncio.get_running_loop()

    def tell(number: int, _frame: FrameType | None) -> None:
        name = f"{signal.Signals(number).name} received"
        if number != HALT_SIGNAL:
            loop.call_soon_threadsafe(ask, name)
        elif switch is not None:
            switch.throw(name)
            loop.call_soon_threadsafe(lambda: switch.on_throw())

    before = {number: signal.signal(number, tell) for number in (*STOP_SIGNALS, HALT_SIGNAL)}
    for numbers in (STOP_SIGNALS, (HALT_SIGNAL,)):
        for number in [number for number in _untold_signals if number in numbers][:1]:
            tell(number, None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@asynccontextmanager
async def _wired(settings: Settings, config: Config, *, live_confirmed: bool) -> AsyncIterator[Wiring]:
    """Connect a run to its exchange; the embedded simulated one lives as long as the context."""
    clock = SystemClock()
    key: str = config.BINANCE_API_KEY
    secret: str = config.BINANCE_SECRET_KEY
    async with _venue(settings) as (venue, account):
        embedded = account == EMBEDDED_ACCOUNT
        if settings.environment is Environment.PAPER and (embedded or not key):
            key, secret = PAPER_KEY, PAPER_SECRET
        server_clock = ServerClock(clock)
        clients = [
            BinanceRest(
                AiohttpTransport(origin),
                clock,
                api_key=key,
                api_secret=secret,
                timeout_s=settings.safety.request_timeout_s,
                server_clock=server_clock,
            )
            for origin in (venue.rest_origin, venue.wallet_origin)
            if origin
        ]
        try:
            yield Wiring(
                state=shared_state,
                rest=clients[0],
                wallet=clients[1] if len(clients) > 1 else None,
                streams=SocketTransport(venue.stream_origin),
                clock=clock,
                rng=random.Random(),
                run_blocking=in_daemon_thread,
                account=account,
                is_shared=not embedded,
                has_keys=bool(key and secret),
                live_confirmed=live_confirmed,
                machine=THIS_MACHINE,
                order_api=SocketTransport(venue.api_origin) if venue.api_origin else None,
            )
        finally:
            for client in clients:
                await client.close()


@asynccontextmanager
async def _venue(settings: Settings) -> AsyncIterator[tuple[Venue, str]]:
    """Give the origins of the environment and a name for the account there."""
    if settings.environment is Environment.LIVE:
        yield LIVE, "live"
    elif settings.environment is Environment.TESTNET:
        yield TESTNET, "testnet"
    elif settings.paper_url:
        yield paper_venue(settings.paper_url), paper_account(settings.paper_url)
    else:
        async with _embedded(settings) as origin:
            yield paper_venue(origin), EMBEDDED_ACCOUNT


@asynccontextmanager
async def _embedded(settings: Settings) -> AsyncIterator[str]:
    """Give the origin of a simulated exchange inside this process. Its account is new: no halt can stand on it."""
    from sim.embedded import embedded_exchange  # only paper trading pays for these imports
    from sim.feeds import FeedSettings
    from sim.market import MarketError

    paper = settings.paper
    for symbol in settings.symbols:
        HaltLatch(settings.state_directory, EMBEDDED_ACCOUNT, symbol).clear()
        DayFile(settings.state_directory, EMBEDDED_ACCOUNT, symbol).remove()
    feed = FeedSettings(
        kind=paper.market,
        symbols=settings.symbols,
        recording=resolve_path(paper.recording) if paper.recording else None,
        speed=Fraction(paper.speed),
        seed=paper.seed,
        loop=True,
    )
    try:
        async with embedded_exchange(
            feed,
            SystemClock(),
            api_key=PAPER_KEY,
            api_secret=PAPER_SECRET,
            wallet_quote=settings.risk.capital_quote,
            latency_ms=paper.latency_ms,
        ) as origin:
            yield origin
    except MarketError as error:
        raise StartRefused(f"paper market: {error}") from error


def paper_account(paper_url: str) -> str:
    """Return a name for the account on the simulated exchange at this address, fit for a file name."""
    return "paper-" + paper_url.removeprefix("http://").rstrip("/").replace(":", "-").strip("[]")


# --- check and resume -------------------------------------------------------------------------------------------


def _check(settings: Settings, config: Config, parsed: argparse.Namespace) -> int:
    try:
        found = asyncio.run(_ask(settings, config, parsed))
    except StartRefused as refusal:
        print(f"FAIL  {refusal}")
        return ExitCode.REFUSED
    except ExchangeError as error:
        _show(f"FAIL  the checks could not be finished: {error}; try again")
        return ExitCode.FAULT
    if found is None:
        print("FAIL  the checks were broken off")
        return ExitCode.FAULT
    _print_checks(found)
    failed = [check for check in found.checks if not check.passed]
    if not failed:
        return ExitCode.STOPPED
    return ExitCode.FAULT if failed[0].is_fault else ExitCode.REFUSED


async def _ask(settings: Settings, config: Config, parsed: argparse.Namespace) -> Preflight | None:
    stop = StopRequest()
    with _signals_go_to(stop.ask):
        async with _wired(settings, config, live_confirmed=parsed.live) as wiring:
            checks = preflight(
                settings,
                Gateway(wiring.rest, wiring.clock),
                wiring.wallet,
                has_keys=wiring.has_keys,
                confirmed=parsed.live,
                machine=wiring.machine,
            )
            return await unless_stopped(stop, checks)


def _print_checks(found: Preflight) -> None:
    width = max(len(check.name) for check in found.checks)
    for check in found.checks:
        _show(f"{'pass' if check.passed else 'FAIL'}  {check.name:<{width}}  {check.found}")
        if check.remedy:
            _show(f"{'':<{width + 8}}remedy: {check.remedy}")
        if check.caution:
            _show(f"{'':<{width + 8}}caution: {check.caution}")


def _show(text: str) -> None:
    """Print what may hold words of the exchange."""
    print(harmless(redact(text)))


def _resume(settings: Settings, *, accept_loss: bool) -> int:
    account = _account(settings)
    switch = KillSwitch(settings.state_directory, SystemClock().monotonic_ns)
    if switch.remove_file():  # before the latches: a daemon that sees them cleared may quote
        print(f"{switch.path} removed")
    _crash_count(settings).clear()
    for symbol in settings.symbols:
        about_loss = _about_todays_loss(settings, account, symbol, accept=accept_loss)
        latch = HaltLatch(settings.state_directory, account, symbol)
        halt = latch.read()
        latch.clear()
        _show(f"{symbol}: halt cleared ({halt.reason})" if halt else f"{symbol}: no halt stands on {account}")
        if about_loss:
            print(f"{symbol}: {about_loss}")
    return ExitCode.STOPPED


def _about_todays_loss(settings: Settings, account: str, symbol: str, *, accept: bool) -> str:
    """Return what there is to say of today's loss; accept it if asked to, before a daemon sees the halt cleared."""
    now_ms = SystemClock().time_ms()
    file, today = DayFile(settings.state_directory, account, symbol), day_of(now_ms)
    record: DayRecord | None = None
    damage = ""
    try:
        record = file.read(today)
    except DamagedDay as error:
        damage = f"the record of today's result cannot be used: {error}; "
    is_todays = record is not None and record.day == today
    if accept:
        lost = record.whole_quote if record is not None and is_todays else Decimal(0)
        file.accept(today, lost, now_ms)
        known = f"{lost:+.2f}" if is_todays else "unknown"
        text = f"{damage}today's result ({known}) is accepted; the count of the loss limit begins anew"
        log.warning("%s: %s", symbol, text)
        return text
    if record is not None and is_todays and record.is_over and not _is_accepted(file, record):
        return (
            f"today's loss limit still stands: {record.result_quote:+.2f} ({record.text}) of the allowed loss of"
            f" {record.limit_quote:f}; until 00:00 UTC the daemon halts again at once, unless the loss is accepted with"
            " `python main.py resume --accept-loss`"
        )
    return damage.removesuffix("; ")


def _is_accepted(file: DayFile, record: DayRecord) -> bool:
    accepted = file.acceptance(record.day)
    return accepted is not None and accepted.accepted_ms > record.saved_ms


def _account(settings: Settings) -> str:
    """Return the name of the account that the environment trades on."""
    accounts = {Environment.LIVE: "live", Environment.TESTNET: "testnet"}
    paper = paper_account(settings.paper_url) if settings.paper_url else EMBEDDED_ACCOUNT
    return accounts.get(settings.environment, paper)


# --- status -----------------------------------------------------------------------------------------------------


def _status(settings: Settings, *, as_object: bool) -> int:
    account = _account(settings)
    try:
        status = read_status(status_path(settings.state_directory, account, settings.symbols))
    except NoStatus as reason:
        is_there = any(is_held(settings.state_directory, account, symbol) for symbol in settings.symbols)
        text = "a daemon is there, but does not tell: it is starting, ending or stuck" if is_there else reason
        print(f"status: {text} ({account}, {', '.join(settings.symbols)})")
        return ExitCode.FAULT
    for line in [json.dumps(status, indent=2)] if as_object else status_text(status):
        _show(line)
    return ExitCode.STOPPED


# --- flatten ----------------------------------------------------------------------------------------------------


def _flatten(settings: Settings, config: Config, parsed: argparse.Namespace) -> int:
    if _account(settings) == EMBEDDED_ACCOUNT:
        print("flatten: the embedded exchange ends with its daemon, so there is nothing to flatten")
        return ExitCode.STOPPED
    if (
        settings.environment is Environment.LIVE
        and parsed.live
        and not parsed.yes
        and not _is_meant(settings)
    ):
        print("flatten: not confirmed; type the symbol on a terminal, or add --yes to the command line")
        return ExitCode.REFUSED
    try:
        reports = asyncio.run(_flattened(settings, config, parsed))
    except StartRefused as refusal:
        _show(f"flatten: nothing was done: {refusal}")
        return ExitCode.REFUSED
    except ExchangeError as error:
        _show(f"flatten: NOT VERIFIED: {error}; try again, or look on the exchange's own site")
        return ExitCode.NOT_VERIFIED
    if reports is None:
        print("flatten: NOT VERIFIED: broken off; run it again, or look on the exchange's own site")
        return ExitCode.NOT_VERIFIED
    for line in (line for report in reports for line in report.lines()):
        _show(line)
    is_done = all(report.result.is_done for report in reports)
    return ExitCode.STOPPED if is_done else ExitCode.NOT_VERIFIED


def _is_meant(settings: Settings) -> bool:
    """Tell whether somebody at a terminal confirms that real positions are to be closed."""
    if not sys.stdin.isatty():
        return False
    names = " ".join(settings.symbols)
    try:
        return input(f"This closes the real position. Type {names} to go on: ").strip() == names
    except EOFError:
        return False


async def _flattened(settings: Settings, config: Config, parsed: argparse.Namespace) -> list[Report] | None:
    """Return what was done about each symbol, None if it was broken off by a signal."""
    stop = StopRequest()
    with _signals_go_to(stop.ask):
        async with _wired(settings, config, live_confirmed=parsed.live) as wiring:
            return await unless_stopped(stop, FlattenCommand(settings, wiring).run())


# --- orders -----------------------------------------------------------------------------------------------------


def _orders(settings: Settings, config: Config, parsed: argparse.Namespace) -> int:
    try:
        audit = asyncio.run(_audited(settings, config, parsed))
    except OSError as error:
        print(f"orders: the journal in {settings.state_directory} cannot be read ({error.strerror})")
        return ExitCode.FAULT
    if parsed.json:
        print(as_json(audit))
    else:
        for line in as_text(audit):
            _show(line)
    return ExitCode.STOPPED if audit.is_accounted or not parsed.audit else ExitCode.FAULT


async def _audited(settings: Settings, config: Config, parsed: argparse.Namespace) -> Audit:
    """Return what became of the orders, by the journal and, for an audit, by the exchange if it can be asked."""
    account, now_ms = _account(settings), SystemClock().time_ms
    if not parsed.audit or account == EMBEDDED_ACCOUNT:
        note = "the embedded exchange ends with its daemon" if parsed.audit else "as asked"
        locked = account != EMBEDDED_ACCOUNT
        return await OrderAudit(
            settings.state_directory, account, settings.symbols, None, now_ms, by_lock=locked
        ).run(note)
    async with _wired(settings, config, live_confirmed=parsed.live) as wiring:
        gateway = Gateway(wiring.rest, wiring.clock) if wiring.has_keys else None
        return await OrderAudit(
            settings.state_directory, account, settings.symbols, gateway, wiring.clock.time_ms
        ).run("there are no API keys")


if __name__ == "__main__":
    guard_last_words()
    write_for_the_owner_only()
    _code = main()
    for _number in (
        *STOP_SIGNALS,
        HALT_SIGNAL,
    ):  # Python would put the system's handlers back, but not over these
        signal.signal(_number, signal.SIG_IGN)
    sys.exit(_code)
