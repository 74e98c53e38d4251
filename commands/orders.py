"""``python main.py orders``: what became of each order, by the journal and, for an audit, by the exchange."""

import argparse
import asyncio
import json
import sys

from commands.printing import show
from commands.signals import signals_break_off, signals_go_to
from commands.wiring import EMBEDDED_ACCOUNT, account_of, wired
from core.exit_code import ExitCode
from core.gateway import Gateway
from core.order_audit import Audit, OrderAudit, as_json, as_text
from core.runs import unless_stopped
from core.settings import Settings
from core.shutdown import StopRequest
from core.state import SharedState
from utils.background import in_daemon_thread
from utils.clock import SystemClock
from utils.config_loader import Config


def orders(settings: Settings, config: Config, parsed: argparse.Namespace) -> int:
    """Print what became of each order; return the exit code."""
    try:
        audit = asyncio.run(_audited(settings, config, parsed))
        if audit is not None:
            with signals_break_off():
                _print_audit(audit, as_object=parsed.json)
    except KeyboardInterrupt:
        audit = None
    except OSError as error:
        reason = f"the journal in {settings.state_directory} cannot be read ({error.strerror})"
        print(json.dumps({"reason": reason}) if parsed.json else f"orders: {reason}")
        return ExitCode.FAULT
    if audit is None:
        print("orders: broken off", file=sys.stderr)
        return ExitCode.NOT_VERIFIED if parsed.audit else ExitCode.FAULT
    return _exit_code(audit, account_of(settings)) if parsed.audit else ExitCode.STOPPED


def _print_audit(audit: Audit, *, as_object: bool) -> None:
    if as_object:
        print(as_json(audit))
    else:
        for line in as_text(audit):
            show(line)


def _exit_code(audit: Audit, account: str) -> ExitCode:
    """Return what an audit comes to; the embedded exchange is gone with its daemon, so that nobody could ask it."""
    if not audit.is_accounted:
        return ExitCode.FAULT
    return ExitCode.STOPPED if audit.compared or account == EMBEDDED_ACCOUNT else ExitCode.NOT_VERIFIED


async def _audited(settings: Settings, config: Config, parsed: argparse.Namespace) -> Audit | None:
    """Return what became of the orders, None if a signal has broken it off."""
    stop = StopRequest()
    with signals_go_to(stop.ask):
        return await unless_stopped(stop, _audit(settings, config, parsed))


async def _audit(settings: Settings, config: Config, parsed: argparse.Namespace) -> Audit:
    """Return what became of the orders, by the journal and, for an audit, by the exchange if it can be asked."""
    account, now_ms = account_of(settings), SystemClock().time_ms
    if not parsed.audit or account == EMBEDDED_ACCOUNT:
        note = "the embedded exchange ends with its daemon" if parsed.audit else "as asked"
        locked = account != EMBEDDED_ACCOUNT
        return await OrderAudit(
            settings.state_directory,
            account,
            settings.symbols,
            None,
            now_ms,
            in_daemon_thread,
            by_lock=locked,
        ).run(note)
    async with wired(settings, config, SharedState(), live_confirmed=parsed.live) as wiring:
        gateway = Gateway(wiring.rest, wiring.clock) if wiring.has_keys else None
        return await OrderAudit(
            settings.state_directory,
            account,
            settings.symbols,
            gateway,
            wiring.clock.time_ms,
            wiring.run_blocking,
        ).run("there are no API keys")
