"""A start that finds a close unfinished: what it needs to know before it can go on with that, and nothing else.

The preflight asks whether quoting is feasible. Here nothing is going to be quoted, and a refusal would leave a position
open that is over its limit. So only what makes a close impossible refuses it; all else is asked for again and again.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from core.gateway import Gateway
from core.halt import Halt, HaltLatch
from core.model import SymbolRules
from core.preflight import closing_check, keys_check
from core.settings import Settings
from core.start import Start
from core.systemd import more_time
from utils.errors import ExchangeError, NotSent, StartRefused

log = logging.getLogger(__name__)

ALARM_EVERY_S = 10.0
PAUSE_S = 2.0
MORE_TIME_S = 60.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a run begins with; ``wallet_quote`` is None where nobody has asked for it."""

    rules: Mapping[str, SymbolRules]
    wallet_quote: Decimal | None


def unfinished(latches: Iterable[HaltLatch]) -> list[Halt]:
    """Return the halts whose close an earlier run has begun and not verified."""
    halts = [latch.read() for latch in latches]
    return [halt for halt in halts if halt is not None and halt.is_closing]


async def prepare_to_close(start: Start) -> Prepared:
    """Return what a close needs, however long the exchange cannot be asked for it; that is said aloud now and then.

    Raises StartRefused where there are no keys, or real trading is not confirmed.
    """
    for check in (
        closing_check(start.settings, confirmed=start.confirmed),
        keys_check(start.settings, has_keys=start.has_keys),
    ):
        if not check.passed:
            raise StartRefused(
                f"a close is not finished, so a position may be open, and cannot be closed: {check.name}:"
                f" {check.found}; {check.remedy}"
            )
    said_ns: int | None = None
    while True:
        try:
            prepared = await _prepared(start.settings, start.gateway)
        except ExchangeError as error:
            now_ns = start.clock.monotonic_ns()
            if said_ns is None or now_ns - said_ns >= ALARM_EVERY_S * 1e9:
                said_ns = now_ns
                log.critical("a close is not finished, so a position may be open; trying again: %s", error)
        else:
            start.on_wait("")
            return prepared
        start.on_wait("waiting for the exchange, to finish a close")
        start.notify(f"{more_time(MORE_TIME_S)}\nSTATUS=waiting for the exchange, to finish a close")
        await asyncio.sleep(PAUSE_S)


async def _prepared(settings: Settings, gateway: Gateway) -> Prepared:
    await gateway.rest.synchronise_clock()
    rules = (await gateway.exchange_info()).rules
    for symbol in settings.symbols:
        if symbol not in rules:
            raise NotSent(f"the exchange does not list {symbol} at this moment")
    return Prepared({symbol: rules[symbol] for symbol in settings.symbols}, None)
