"""``python main.py check``: the preflight alone, with what was found and the remedies; nothing is placed."""

import argparse
import asyncio
from collections.abc import Coroutine
from typing import Any

from commands.halts import halts_text
from commands.printing import show
from commands.wiring import until_stopped
from core.exit_code import ExitCode
from core.gateway import Gateway
from core.preflight import Preflight, preflight
from core.settings import Settings
from core.wiring import Wiring
from utils.config_loader import Config
from utils.errors import ExchangeError, StartRefused


def check(settings: Settings, config: Config, parsed: argparse.Namespace) -> int:
    """Check whether a run could start; return the exit code."""
    try:
        found = asyncio.run(_ask(settings, config, parsed))
    except StartRefused as refusal:
        print(f"FAIL  {refusal}")
        return ExitCode.REFUSED
    except ExchangeError as error:
        show(f"FAIL  the checks could not be finished: {error}; try again")
        return ExitCode.FAULT
    if found is None:
        print("FAIL  the checks were broken off")
        return ExitCode.FAULT
    _print_checks(found)
    for line in halts_text(settings):
        show(f"note  {line}")
    if all(check.passed for check in found.checks):
        return ExitCode.STOPPED
    return ExitCode.REFUSED if any(check.is_mistake for check in found.checks) else ExitCode.FAULT


async def _ask(settings: Settings, config: Config, parsed: argparse.Namespace) -> Preflight | None:
    """Return what was found, None if it was broken off by a signal."""

    def ask(wiring: Wiring) -> Coroutine[Any, Any, Preflight]:
        return preflight(
            settings,
            Gateway(wiring.rest, wiring.clock),
            wiring.wallet,
            has_keys=wiring.has_keys,
            confirmed=parsed.live,
            machine=wiring.machine,
        )

    return await until_stopped(settings, config, ask, live_confirmed=parsed.live)


def _print_checks(found: Preflight) -> None:
    width = max(len(check.name) for check in found.checks)
    for check in found.checks:
        word = "pass" if check.passed else "WAIT" if check.is_passing else "FAIL"
        show(f"{word}  {check.name:<{width}}  {check.found}")
        if check.remedy:
            show(f"{'':<{width + 8}}remedy: {check.remedy}")
        if check.caution:
            show(f"{'':<{width + 8}}caution: {check.caution}")
