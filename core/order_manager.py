"""The worker that keeps the exchange's orders equal to what we want."""

import asyncio
import logging
from collections.abc import Sequence

from core.brake import RefusalBrake
from core.context import SymbolContext
from core.events import EventBus, RiskEvent, RiskKind
from core.execution import ExecutionEngine
from core.gate import STOPPING
from core.model import BookTop, OrderStatus, Quote
from core.order import LiveOrder, Plan, plan_replace
from core.risk import Trimmed, position_notional_quote, trim
from core.settings import RiskSettings
from core.strategy import desired_quotes
from utils.clock import Clock
from utils.errors import ExchangeError

log = logging.getLogger(__name__)


class OrderManager:
    """Refreshes the quotes of every symbol at their interval, and pulls them at once when the gate closes.

    ``progress`` counts, by symbol, turns of the control loop that ended in a known state: nothing waits to be cancelled
    that could not be. Whoever feeds a dead-man switch watches it grow.
    """

    name = "orders"
    TURN_S = 1.0
    PULL_DEADLINE_S = 2.0

    def __init__(
        self,
        contexts: Sequence[SymbolContext],
        execution: ExecutionEngine,
        bus: EventBus,
        clock: Clock,
        risk: RiskSettings,
    ) -> None:
        self.progress = {context.symbol: 0 for context in contexts}
        self._contexts = contexts
        self._execution = execution
        self._bus = bus
        self._clock = clock
        self._risk = risk
        self._wakes = {context.symbol: asyncio.Event() for context in contexts}
        self._brakes = {context.symbol: RefusalBrake() for context in contexts}
        self._told: dict[str, tuple[str, ...]] = {}
        for context in contexts:
            context.gate.listen(self._wakes[context.symbol].set)

    async def run(self) -> None:
        """Keep the quotes of every symbol until cancelled."""
        async with asyncio.TaskGroup() as group:
            for context in self._contexts:
                group.create_task(self._keep(context), name=f"{self.name} {context.symbol}")

    async def _keep(self, context: SymbolContext) -> None:
        interval_ns = int(context.settings.refresh_interval_s * 1e9)
        due_ns = 0
        while True:
            self._mirror_pause(context)
            await self._ask(context)
            now_ns = self._clock.monotonic_ns()
            if not context.gate.is_open:
                due_ns = 0
                await self._pull(context)
            elif now_ns >= due_ns:
                await self.refresh(context)
                on_time = due_ns and now_ns - due_ns < interval_ns
                due_ns = (due_ns if on_time else now_ns) + interval_ns
            else:
                await self._chase(context)
            if not any(order.cancel_requested for order in context.orders.living()):
                self.progress[context.symbol] += 1
            await self._rest(context, due_ns)

    def _mirror_pause(self, context: SymbolContext) -> None:
        """Have the gate follow ``strategy_paused``, whoever assigned it."""
        if context.state.strategy_paused:
            context.gate.close("paused", "strategy is paused")
        else:
            context.gate.open("paused")

    async def _rest(self, context: SymbolContext, due_ns: int) -> None:
        """Wait until the next turn: the next refresh, a change of the gate, at most a second."""
        until_due_s = (due_ns - self._clock.monotonic_ns()) / 1e9 if due_ns else self.TURN_S
        wake = self._wakes[context.symbol]
        try:
            async with asyncio.timeout(min(max(until_due_s, 0.0), self.TURN_S)):
                await wake.wait()
        except TimeoutError:
            pass
        wake.clear()

    async def _pull(self, context: SymbolContext) -> None:
        """Take all quotes out because the gate is closed; what cannot be verified is tried again next turn."""
        if not context.orders.living():
            return
        if STOPPING not in context.gate.reasons:
            log.warning("%s: pulling the quotes: %s", context.symbol, "; ".join(context.gate.reasons))
        async with context.lock:
            if not await self._execution.withdraw(context, self.PULL_DEADLINE_S):
                log.error("%s: could not verify that the quotes are out; trying again", context.symbol)

    async def _ask(self, context: SymbolContext) -> None:
        """Have the exchange say what became of orders of which something is known that cannot be."""
        if not context.orders.to_ask():
            return
        async with context.lock:
            try:
                await self._execution.ask(context)
            except ExchangeError as error:
                log.warning("%s: an order could not be looked up yet: %s", context.symbol, error)

    async def _chase(self, context: SymbolContext) -> None:
        """Try once more to get out what should be out already."""
        if not self._execution.loose(context):
            return
        async with context.lock:
            try:
                await self._execution.cancel(context, self._execution.loose(context))
            except ExchangeError as error:
                log.warning("%s: an order could not be cancelled yet: %s", context.symbol, error)

    async def refresh(self, context: SymbolContext) -> None:
        """Bring the exchange from the orders that rest to those that are wanted now.

        Nothing is placed on a book that is stale, or in a slot whose old order may still rest.
        """
        async with context.lock:
            try:
                if context.orders.living():
                    await self._execution.cancel(context, self._plan(context).cancels)
            except ExchangeError as error:
                log.warning("%s: refresh put off: %s", context.symbol, error)
                return
            if context.gate.is_open and context.state.book is not None:
                await self._place(context, context.state.book)

    def _plan(self, context: SymbolContext) -> Plan:
        book = context.state.book
        wanted = self._wanted(context, book) if book is not None else []
        return plan_replace(wanted, context.orders.living())

    async def _place(self, context: SymbolContext, book: BookTop) -> None:
        """Place what is wanted on the newest book, which may have moved while orders were cancelled."""
        orders = await self._execution.place(context, self._plan(context).places, book)
        context.state.last_order_time = self._clock.time_ms() / 1000
        context.state.quoted_mid_half_ticks = book.mid_half_ticks
        context.state.refreshes += 1
        self._learn(context, orders)

    def _wanted(self, context: SymbolContext, book: BookTop) -> list[Quote]:
        """Return the quotes to place now: what strategy wants, less what risk and the brake take away."""
        desired = desired_quotes(book, context.state.mark_price, context.rules, context.settings)
        price = context.state.risk_price(context.rules)
        known = context.ledger.position_quantity + context.rules.quantity(context.orders.uncounted_lots())
        trimmed = trim(desired.quotes, known, price, context.orders, context.rules, self._risk)
        if not context.orders.living():  # else it is what rests that leaves no room
            self._tell(context, desired.left_out, trimmed)
        brake, now_ns = self._brakes[context.symbol], self._clock.monotonic_ns()
        return [quote for quote in trimmed.kept if brake.allows(quote.slot, now_ns)]

    def _tell(self, context: SymbolContext, left_out: tuple[str, ...], trimmed: Trimmed) -> None:
        """Say which quotes are missing and why, once for as long as it stays the same."""
        over_limit = tuple(
            f"{quote.side.lower()} {quote.level}: {reason}"
            for quote, reason in zip(trimmed.left_out, trimmed.reasons, strict=True)
        )
        missing = left_out + over_limit
        levels = tuple(line.split(":")[0] for line in missing)
        if levels == self._told.get(context.symbol, ()):
            return
        self._told[context.symbol] = levels
        text = "; ".join(missing) or "all levels are quoted again"
        log.warning("%s: quotes left out: %s", context.symbol, text) if missing else log.info(
            "%s: %s", context.symbol, text
        )
        held = position_notional_quote(
            context.ledger.position_quantity, context.state.risk_price(context.rules)
        )
        self._bus.publish(RiskEvent(context.symbol, RiskKind.QUOTES_TRIMMED, held, text))

    def _learn(self, context: SymbolContext, orders: Sequence[LiveOrder]) -> None:
        brake, now_ns = self._brakes[context.symbol], self._clock.monotonic_ns()
        for order in orders:
            if order.status is not OrderStatus.REJECTED:
                brake.accepted(order.slot)
            elif brake.refused(order.slot, order.refused_code, now_ns):
                log.error(
                    "%s: %s %d was refused again and again (%s); trying once a minute from now on",
                    context.symbol,
                    order.side.lower(),
                    order.level,
                    order.reason,
                )
