"""``python main.py flatten``: our orders out and the positions closed, both verified, without a daemon."""

import argparse
import asyncio
import sys

from commands.printing import show
from commands.signals import signals_break_off
from commands.wiring import EMBEDDED_ACCOUNT, account_of, until_stopped
from core.exit_code import ExitCode
from core.flatten_command import FlattenCommand, Report
from core.settings import Settings
from utils.config_loader import Config
from utils.errors import ExchangeError, StartRefused
from utils.venue import Environment


def flatten(settings: Settings, config: Config, parsed: argparse.Namespace) -> int:
    """Close what is open, after a confirmation where it is real; return the exit code."""
    if account_of(settings) == EMBEDDED_ACCOUNT:
        print(
            "flatten: the embedded exchange ends with its daemon, so there is nothing to flatten; EXCHANGE_ENV is"
            f" {settings.environment} (environment file: {config.env_path or 'none'})"
        )
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
        show(f"flatten: nothing was done: {refusal}")
        return ExitCode.REFUSED
    except ExchangeError as error:
        show(f"flatten: NOT VERIFIED: {error}; try again, or look on the exchange's own site")
        return ExitCode.NOT_VERIFIED
    if reports is None:
        print("flatten: NOT VERIFIED: broken off; run it again, or look on the exchange's own site")
        return ExitCode.NOT_VERIFIED
    for line in (line for report in reports for line in report.lines()):
        show(line)
    is_done = all(report.result.is_done for report in reports)
    return ExitCode.STOPPED if is_done else ExitCode.NOT_VERIFIED


def _is_meant(settings: Settings) -> bool:
    """Tell whether somebody at a terminal confirms that real positions are to be closed."""
    if not sys.stdin.isatty():
        return False
    names = " ".join(settings.symbols)
    try:
        with signals_break_off():
            return input(f"This closes the real position. Type {names} to go on: ").strip() == names
    except (EOFError, KeyboardInterrupt):
        print()  # the prompt has no end of line
        return False


async def _flattened(settings: Settings, config: Config, parsed: argparse.Namespace) -> list[Report] | None:
    """Return what was done about each symbol, None if it was broken off by a signal."""
    return await until_stopped(
        settings, config, lambda wiring: FlattenCommand(settings, wiring).run(), live_confirmed=parsed.live
    )
