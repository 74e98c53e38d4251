"""The entry: command line, settings, exit code. What it can be asked for is in ``commands``."""

import gc

from commands.signals import ignore_late_signals, keep_early_signals

if __name__ == "__main__":
    keep_early_signals()
    gc.disable()  # nothing of what a start makes is garbage, and looking for it takes a twentieth of the start

import argparse
import sys
from collections.abc import Sequence

from core.exit_code import ExitCode
from core.hardening import key_file_objection, leave_no_core, write_for_the_owner_only
from core.log_setup import Logs, guard_last_words, harmless
from core.settings import Settings, settings_from
from core.state import shared_state
from utils.config_loader import Config, ConfigLoaderError, forget_keys, get_config
from utils.redaction import redact, redactor
from utils.venue import Environment


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
    parser.add_argument(
        "--audit",
        action="store_true",
        help="with orders: compare with the exchange, and fail on any doubt (1: a problem, 3: it could not be asked)",
    )
    parser.add_argument("--json", action="store_true", help="with orders or status: print one JSON object")
    parser.add_argument(
        "--live",
        action="store_true",
        help="confirm that EXCHANGE_ENV=live trades real money; refused with any other",
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
    if parsed.live and (objection := _live_objection(settings, config)):
        _refuse(objection)
        return ExitCode.REFUSED
    if objection := _key_objection(settings, config):
        _refuse(f"{objection}.")
        return ExitCode.REFUSED
    with Logs(settings.logs.level, settings.logs.directory):
        if settings.environment is not Environment.PAPER:
            leave_no_core()
        return _done(settings, config, parsed)


def _done(settings: Settings, config: Config, parsed: argparse.Namespace) -> int:
    """Do what is asked for; return the exit code. Each command pays for its own imports."""
    if parsed.command == "run":
        from commands.run import run

        return run(settings, config, parsed, shared_state)
    gc.enable()
    match parsed.command:
        case "check":
            from commands.check import check

            return check(settings, config, parsed)
        case "resume":
            from commands.resume import resume

            return resume(settings, accept_loss=parsed.accept_loss)
        case "orders":
            from commands.orders import orders

            return orders(settings, config, parsed)
        case "flatten":
            from commands.flatten import flatten

            return flatten(settings, config, parsed)
        case _:
            from commands.status import status

            return status(settings, as_object=parsed.json)


def _refuse(reason: str) -> None:
    print(harmless(redact(f"configuration: {reason}")), file=sys.stderr)


def _guard_keys(config: Config) -> None:
    """Have the keys masked wherever they might be written, and out of the process environment."""
    for secret in (config.BINANCE_API_KEY, config.BINANCE_SECRET_KEY):
        redactor.learn(secret)
    forget_keys()


def _live_objection(settings: Settings, config: Config) -> str:
    """Return why nobody can mean ``--live`` here, because nothing of it would be real; empty if they can.

    What is done on paper then succeeds, and whoever asked for it believes that it was done to the real position.
    """
    if settings.environment is Environment.LIVE:
        return ""
    return (
        f"--live is given, and EXCHANGE_ENV is {settings.environment} (environment file: {config.env_path or 'none'});"
        " set EXCHANGE_ENV=live, name the file that says so with --env, or leave --live out."
    )


def _key_objection(settings: Settings, config: Config) -> str:
    """Return why a file that the keys of an account at Binance stand in may not hold them; empty if it may."""
    if settings.environment is Environment.PAPER:
        return ""
    return next(filter(None, map(key_file_objection, config.key_files)), "")


if __name__ == "__main__":
    guard_last_words()
    write_for_the_owner_only()
    _code = main()
    ignore_late_signals()
    sys.exit(_code)
