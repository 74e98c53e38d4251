"""Keeps the exchange's rules of the symbols as they are: another status, other filters, another tick.

Source: binance-futures exchangeInfo.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from decimal import Decimal

from core.context import SymbolContext
from core.events import EventBus, RiskEvent, RiskKind
from core.gateway import Gateway
from core.model import SymbolRules
from core.rereading import read_again
from core.rules_change import TRADING, RulesStep, differences, rules_step
from utils.clock import Clock

log = logging.getLogger(__name__)

SYMBOL_KEY = "symbol"


class RulesWatch:
    """Reads the rules of every symbol at an interval, at reconciliations, and when a refusal speaks of them.

    A symbol that is not ``TRADING`` has its gate closed under ``SYMBOL_KEY``, with its status as the reason, until it
    trades again. Other bounds are taken over. For another tick or step ``on_new_units`` is called with the reason, at
    each reading while that is so: the gate stays closed, and the daemon has to begin anew.
    """

    EVERY_S = 600.0
    AGAIN_S = 5.0
    """While a symbol does not trade, the rules could not be read, or the daemon could not begin anew yet."""
    SPACING_S = 10.0
    """However many refusals speak of rules, they are read so seldom: the reply is a megabyte."""
    QUIET_MS = 15_000
    """A best bid and ask that have not changed for so long may be those of a market that is halted."""
    FRESH_S = 60.0
    """A reconciliation does not read again what was read within this time."""
    CHANGED_EVERY_S = 30.0
    """For ``EVERY_S`` after a change: no refusal tells that what was tightened is loosened again."""

    def __init__(
        self,
        contexts: Sequence[SymbolContext],
        gateway: Gateway,
        bus: EventBus,
        clock: Clock,
        on_new_units: Callable[[str], None],
    ) -> None:
        self._contexts = contexts
        self._gateway = gateway
        self._bus = bus
        self._clock = clock
        self._on_new_units = on_new_units
        self._due = asyncio.Event()
        self._read_ns = clock.monotonic_ns()
        self._changed_ns: int | None = None
        self._untraded: dict[str, str] = {}
        self._outdated: dict[str, str] = {}
        """The symbols whose tick or step is another one by now, with what has changed."""

    def look_soon(self) -> None:
        """Have the rules read without waiting for the interval: what is known of them may be old."""
        self._due.set()

    async def run(self) -> None:
        """Read the rules now and then until cancelled."""
        await read_again(
            "the exchange's rules",
            self.check,
            self._due,
            self.AGAIN_S,
            is_due=lambda: bool(self._untraded or self._outdated) or self._age_s() >= self._interval_s(),
            spacing_s=lambda: self.SPACING_S - self._age_s(),
        )

    def _age_s(self) -> float:
        return (self._clock.monotonic_ns() - self._read_ns) / 1e9

    def _interval_s(self) -> float:
        """Return after how long the rules are read again: sooner after a change, and where a market stands still.

        Such a market may be halted.
        """
        now_ns = self._clock.monotonic_ns()
        if self._changed_ns is not None and now_ns - self._changed_ns < int(self.EVERY_S * 1e9):
            return self.CHANGED_EVERY_S
        now_ms = self._gateway.rest.server_clock.time_ms()
        books = [context.state.book for context in self._contexts]
        stands = any(book is not None and now_ms - book.exchange_ms > self.QUIET_MS for book in books)
        return self.FRESH_S if stands else self.EVERY_S

    async def refresh(self) -> None:
        """Have the rules be fresh. Raises ExchangeError if they have to be read and cannot be."""
        if self._due.is_set() or self._untraded or self._age_s() > self.FRESH_S:
            await self.check()

    async def check(self) -> None:
        """Read the rules and do what they call for. Raises ExchangeError if they cannot be read."""
        self._due.clear()
        found = await self._gateway.symbol_rules([context.symbol for context in self._contexts])
        self._read_ns = self._clock.monotonic_ns()
        for context in self._contexts:
            rules = found.get(context.symbol)
            step = rules_step(context.rules, rules) if rules is not None else RulesStep.NOTHING
            if step is not RulesStep.BEGIN_ANEW:
                self._outdated.pop(context.symbol, None)
            status = rules.status if rules is not None else "not listed any more"
            self._judge_status(context, status, may_open=step is not RulesStep.BEGIN_ANEW)
            if rules is not None and step is not RulesStep.NOTHING:
                self._judge_rules(context, rules, step)

    def _judge_status(self, context: SymbolContext, status: str, *, may_open: bool) -> None:
        before = self._untraded.get(context.symbol, TRADING)
        if status == TRADING:
            self._untraded.pop(context.symbol, None)
            if may_open:
                context.gate.open(SYMBOL_KEY)
        else:
            self._untraded[context.symbol] = status
            context.gate.close(SYMBOL_KEY, f"{context.symbol} is {status}")
        if status != before:
            log.warning("%s is %s (was %s)", context.symbol, status, before)
            self._tell(context, f"status {before} -> {status}")

    def _judge_rules(self, context: SymbolContext, rules: SymbolRules, step: RulesStep) -> None:
        self._changed_ns = self._clock.monotonic_ns()
        what = differences(context.rules, rules)
        if step is RulesStep.BEGIN_ANEW:
            reason = f"the exchange changed the rules of {context.symbol}: {what}"
            context.gate.close(SYMBOL_KEY, f"{reason}; beginning anew")
            if self._outdated.get(context.symbol) != what:
                self._outdated[context.symbol] = what
                log.warning("%s; beginning anew", reason)
                self._tell(context, what)
            self._on_new_units(reason)
            return
        if context.rules.status == rules.status:
            log.warning("%s: the exchange changed its rules: %s", context.symbol, what)
            self._tell(context, what)
        context.rules = rules

    def _tell(self, context: SymbolContext, what: str) -> None:
        self._bus.publish(RiskEvent(context.symbol, RiskKind.RULES, Decimal(0), what))
