"""Keeps an eye on how the account is set up: no quote rests on an account of another kind than the start has checked.

Source: binance-futures accountConfig, symbolConfig, ACCOUNT_CONFIG_UPDATE.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from core.account_rules import SymbolSetup, account_problem
from core.context import SymbolContext
from core.events import EventBus, RiskEvent, RiskKind
from core.gate import Gate
from core.gateway import Gateway
from core.rereading import read_again
from core.risk import position_notional_quote
from utils.clock import Clock

log = logging.getLogger(__name__)

ACCOUNT_KEY = "account"


class AccountWatch:
    """Reads modes, leverage and margin type at each reconciliation, when something suggests a change, and hourly.

    The account's gate is closed under ``ACCOUNT_KEY`` while any of it is not as it has to be, with what it is and what
    to do as the reason; it opens by itself once it is put right. Nothing is ever changed here.
    """

    EVERY_S = 3600.0
    AGAIN_S = 5.0
    """While the account is not as it has to be, or could not be read."""

    def __init__(
        self,
        contexts: Sequence[SymbolContext],
        gateway: Gateway,
        bus: EventBus,
        clock: Clock,
        gate: Gate,
        leverage: int,
    ) -> None:
        self._contexts = contexts
        self._gateway = gateway
        self._bus = bus
        self._clock = clock
        self._gate = gate
        self._read_ns = clock.monotonic_ns()
        self._wanted = {context.symbol: SymbolSetup(leverage, "") for context in contexts}
        self._due = asyncio.Event()
        self._problem = ""

    def look_soon(self) -> None:
        """Have the account read without waiting for the interval: it may have been changed."""
        self._due.set()

    def changed(self, what: str) -> None:
        """Close the gate at once: the exchange tells of a change; a reading shows whether it matters."""
        log.warning("the account's configuration was changed: %s; reading it", what)
        self._gate.close(ACCOUNT_KEY, f"the account's configuration was changed ({what}); reading it")
        self._due.set()

    async def run(self) -> None:
        """Read the account now and then until cancelled."""
        await read_again(
            "the account's configuration", self.check, self._due, self.AGAIN_S, is_due=self._is_due
        )

    def _is_due(self) -> bool:
        """Tell whether something was wrong with it, or the interval has passed."""
        return bool(self._problem) or self._clock.monotonic_ns() - self._read_ns >= self.EVERY_S * 1e9

    async def check(self) -> bool:
        """Read the account; return whether it is as it has to be. Raises ExchangeError if it cannot be read."""
        self._due.clear()
        self._read_ns = self._clock.monotonic_ns()
        modes, setups = await asyncio.gather(
            self._gateway.account_modes(),
            asyncio.gather(*(self._gateway.symbol_setup(context.symbol) for context in self._contexts)),
        )
        found = {context.symbol: setup for context, setup in zip(self._contexts, setups, strict=True)}
        for symbol, setup in found.items():
            if not self._wanted[symbol].margin_type:  # the first reading: that of the start
                self._wanted[symbol] = replace(self._wanted[symbol], margin_type=setup.margin_type)
        problem = account_problem(modes, found, self._wanted)
        self._show(problem)
        return not problem

    def _show(self, problem: str) -> None:
        if problem:
            self._gate.close(ACCOUNT_KEY, problem)
        elif not self._due.is_set():  # else it was changed while it was being read
            self._gate.open(ACCOUNT_KEY)
        if problem == self._problem:
            return
        self._problem = problem
        if problem:
            log.error("quoting is paused: %s", problem)
        else:
            log.warning("the account is as it has to be again")
        for context in self._contexts:
            price = context.state.risk_price(context.rules)
            held = position_notional_quote(context.ledger.position_quantity, price)
            self._bus.publish(
                RiskEvent(context.symbol, RiskKind.ACCOUNT, held, problem or "as it has to be again")
            )
