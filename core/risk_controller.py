"""The worker that checks the position, and closes it when it is over the limit."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal

from core.context import SymbolContext
from core.day_keeper import DAY_KEY, DayKeeper
from core.events import ConnectionEvent, ConnectionKind, EventBus, RiskEvent, RiskKind
from core.execution import ExecutionEngine
from core.gateway import Gateway
from core.halt import HaltLatch
from core.model import Position, Side
from core.posture import LOSS, Posture, Stance
from core.posture_keeper import PostureKeeper
from core.risk import breach_text, is_breach, position_notional_quote
from core.settings import RiskSettings
from utils.background import RunBlocking
from utils.clock import Clock
from utils.errors import AuthFailed, ExchangeError, OutcomeUnknown

log = logging.getLogger(__name__)

GATE_KEY = "risk"
CHECK_KEY = "position check"


class RiskController:
    """Reads each position from the exchange at an interval, and at once after a fill.

    A position over ``initial_capital × leverage × max_net_position_ratio`` closes the gate in the same turn, engages
    the halt latch, takes the quotes out, closes the position by reduce-only market orders in the exchange's own size,
    and verifies that it is flat. Quoting stays paused until an operator clears the halt.

    ``on_difference`` is called when the exchange's position stays different from ours.
    """

    name = "risk"
    WITHDRAW_DEADLINE_S = 5.0
    LOCK_PATIENCE_S = 0.7
    FLATTEN_ATTEMPTS = 5
    FLATTEN_PAUSE_S = 0.2
    UNCONFIRMED_AFTER_S = 3.0
    SPACING_S = 0.4
    """However many fills come, checks are at least so far apart: each costs request weight."""

    def __init__(
        self,
        contexts: Sequence[SymbolContext],
        gateway: Gateway,
        execution: ExecutionEngine,
        bus: EventBus,
        clock: Clock,
        settings: RiskSettings,
        latches: Mapping[str, HaltLatch],
        run_blocking: RunBlocking,
        days: DayKeeper,
        on_difference: Callable[[str], None],
    ) -> None:
        self._contexts = contexts
        self._gateway = gateway
        self._execution = execution
        self._bus = bus
        self._clock = clock
        self._settings = settings
        self._latches = latches
        self._run_blocking = run_blocking
        self._days = days
        self._on_difference = on_difference
        self._forced: dict[str, str] = {}
        self._wakes = {context.symbol: asyncio.Event() for context in contexts}
        self._hurries = {context.symbol: asyncio.Event() for context in contexts}
        self._context_of = {context.symbol: context for context in contexts}
        self._confirmed_ns = {context.symbol: 0 for context in contexts}
        self._differing: dict[str, tuple[Decimal, int]] = {}
        self._latched: set[str] = set()
        self._halted: dict[str, str] = {}
        self._must_flatten: set[str] = set()
        self._day_complaint = ""
        self.postures = PostureKeeper(contexts, bus, clock, own=self._own_posture, loss=days.reading)
        bus.subscribe(self._on_connection, ConnectionEvent)
        for context in contexts:
            context.gate.close(CHECK_KEY, "position is not confirmed yet")

    def check_now(self, symbol: str) -> None:
        """Have the position checked without waiting for the interval."""
        self._wakes[symbol].set()

    def _on_connection(self, event: ConnectionEvent) -> None:
        """Look at the position at once when the books have been compared: quoting may wait for that."""
        if event.kind is ConnectionKind.RECONCILED and event.symbol in self._wakes:
            self._wakes[event.symbol].set()
            if self._days.is_waiting(self._context_of[event.symbol]):
                self._hurries[event.symbol].set()

    def halt(self, symbol: str, reason: str) -> None:
        """Halt the symbol as if it had broken its limit, for a reason from elsewhere."""
        self._forced[symbol] = reason
        self._wakes[symbol].set()

    async def run(self) -> None:
        """Check every position until cancelled; the gates are closed whenever this does not run."""
        try:
            async with asyncio.TaskGroup() as group:
                for context in self._contexts:
                    self._bus.publish(self._limits(context))
                    group.create_task(self._watch(context), name=f"{self.name} {context.symbol}")
        finally:
            for context in self._contexts:
                context.gate.close(CHECK_KEY, "position is not being checked")

    def _limits(self, context: SymbolContext) -> RiskEvent:
        limit = self._settings.position_limit_quote
        return RiskEvent(context.symbol, RiskKind.LIMITS, limit, f"position limit {limit:f}")

    async def _watch(self, context: SymbolContext) -> None:
        wake, hurry = self._wakes[context.symbol], self._hurries[context.symbol]
        while True:
            wake.clear()
            hurry.clear()
            await self.check(context)
            spacing_s = min(self.SPACING_S, self._settings.check_interval_s)
            if await _comes(hurry, spacing_s):
                continue
            await _comes(wake, self._settings.check_interval_s - spacing_s)

    def _own_posture(self, context: SymbolContext) -> Stance:
        """Return what a position that is being closed, or a halt, calls for, whatever the readings say."""
        reason = self._halted.get(context.symbol, "")
        if context.symbol in self._must_flatten:
            return Stance(Posture.FLATTEN, reason)
        return Stance(Posture.HALT, reason) if reason else Stance()

    async def check(self, context: SymbolContext) -> None:
        """Read the position and do what it calls for; then have the symbol stand as all readings call for."""
        try:
            await self._check(context)
        finally:
            called = self.postures.look(context)
        if called.posture is Posture.FLATTEN and context.symbol not in self._halted:
            await self._respond(context, self._notional(context), called.reason)
        if not self._days.is_waiting(context):
            context.gate.open(DAY_KEY)

    def _notional(self, context: SymbolContext) -> Decimal:
        price = context.state.risk_price(context.rules)
        return position_notional_quote(context.ledger.position_quantity, price)

    async def _check(self, context: SymbolContext) -> None:
        await self._look_for_resume(context)
        try:
            position = await self._gateway.position(context.symbol)
        except ExchangeError as error:
            self._unconfirmed(context, error)
            return
        self._confirm(context, position)
        price = max(position.mark_price, context.state.risk_price(context.rules))
        notional = position_notional_quote(position.quantity, price)
        if is_breach(position.quantity, price, self._settings):
            reason = breach_text(position.quantity, price, context.rules, self._settings)
            await self._respond(context, notional, reason)
        elif context.symbol in self._forced:
            await self._respond(context, notional, self._forced.pop(context.symbol))
        elif context.symbol in self._must_flatten:
            await self._flatten(context)
        elif context.ledger.is_open:
            self._compare(context, position)
            await self._count_day(context, position)

    async def _count_day(self, context: SymbolContext, position: Position) -> None:
        """Have today's result be known, while our books and the exchange's agree: in between it would be a guess."""
        if position.quantity != context.ledger.position_quantity:
            return
        mark_price = position.mark_price or context.state.mark_price
        try:
            if await self._days.keep(context, mark_price):
                self.postures.forget(context, LOSS)
        except ExchangeError as error:
            if self._day_complaint != str(error):
                self._day_complaint = str(error)
                log.warning("%s: today's result is not known yet: %s", context.symbol, error)

    def _confirm(self, context: SymbolContext, position: Position) -> None:
        self._confirmed_ns[context.symbol] = self._clock.monotonic_ns()
        context.state.exchange_position = position
        context.state.last_risk_check = self._clock.time_ms() / 1000
        context.gate.open(CHECK_KEY)

    def _unconfirmed(self, context: SymbolContext, error: ExchangeError) -> None:
        """Close the gate once the position has not been confirmed for a while: no answer is not "flat"."""
        silent_s = (self._clock.monotonic_ns() - self._confirmed_ns[context.symbol]) / 1e9
        if silent_s < self.UNCONFIRMED_AFTER_S and not isinstance(error, AuthFailed):
            return
        if context.gate.close(CHECK_KEY, "position cannot be confirmed"):
            log.warning("%s: the position cannot be confirmed: %s", context.symbol, error)

    def _compare(self, context: SymbolContext, position: Position) -> None:
        """Report a difference to the exchange that two checks in a row found with no fill in between."""
        difference = position.quantity - context.ledger.position_quantity
        seen = (difference, context.ledger.fill_count)
        if difference == 0:
            self._differing.pop(context.symbol, None)
        elif self._differing.get(context.symbol) == seen:
            self._differing.pop(context.symbol)
            self._on_difference(
                f"{context.symbol}: the exchange's position is {position.quantity}, ours"
                f" {context.ledger.position_quantity}"
            )
        else:
            self._differing[context.symbol] = seen

    # --- halting ----------------------------------------------------------------------------------------------

    async def _look_for_resume(self, context: SymbolContext) -> None:
        """Unpause when the operator has cleared the latch of a halt of ours; the gate opens last."""
        if context.symbol not in self._latched or context.symbol in self._must_flatten:
            return
        if self._latches[context.symbol].read() is not None:
            return
        await self._days.take_acceptance(context, context.state.mark_price)
        self._latched.discard(context.symbol)
        self._halted.pop(context.symbol, None)
        called = self.postures.begin_anew(context)
        if called.posture is Posture.FLATTEN:
            await self._respond(context, self._notional(context), called.reason)
            return
        context.state.strategy_paused = False
        context.gate.open(GATE_KEY)
        log.warning("%s: the halt was cleared by the operator; quoting resumes", context.symbol)

    async def _respond(self, context: SymbolContext, notional_quote: Decimal, reason: str) -> None:
        """Pause first, in this turn; then everything else."""
        context.gate.close(GATE_KEY, "halted by risk")
        context.state.strategy_paused = True
        self._must_flatten.add(context.symbol)
        self._halted[context.symbol] = reason
        self._show(context)
        log.error("%s: RISK: %s; closing it and pausing", context.symbol, reason)
        self._bus.publish(RiskEvent(context.symbol, RiskKind.BREACH, notional_quote, reason))
        await asyncio.gather(self._engage(context, reason), self._flatten(context))

    def _show(self, context: SymbolContext) -> None:
        """Have posture and record follow; whatever goes wrong here, the position is closed."""
        try:
            self.postures.look(context)
            self._days.save(context)
        except Exception:
            log.exception("%s: posture or record could not follow", context.symbol)

    async def _engage(self, context: SymbolContext, reason: str) -> None:
        latch, now_ms = self._latches[context.symbol], self._clock.time_ms()
        try:
            await self._run_blocking(lambda: latch.engage(reason, now_ms))
        except OSError as error:
            log.critical(
                "%s: the halt could not be written to disk (%s); it stands until this process ends",
                context.symbol,
                error.strerror,
            )
        else:
            self._latched.add(context.symbol)

    async def _flatten(self, context: SymbolContext) -> None:
        """Take the quotes out, close the position, and verify both; tried again at the next check if it fails.

        Whoever holds the symbol's lock is waited for, but not for long: a reduce-only order cannot do harm, a position
        over its limit can.
        """
        await self._cancel_at_once(context)
        async with self._lock_or_patience(context):
            is_flat = await self._close_position(context)
        async with context.lock:
            is_out = await self._execution.withdraw(context, self.WITHDRAW_DEADLINE_S)
        if not is_out:
            log.error("%s: could not verify that the quotes are out", context.symbol)
        if is_flat and is_out and await self._is_flat(context):
            self._must_flatten.discard(context.symbol)
            self._show(context)
            log.warning(
                "%s: the position is closed; quoting is paused until `python main.py resume`", context.symbol
            )
            self._bus.publish(RiskEvent(context.symbol, RiskKind.FLAT, Decimal(0), ""))
            return
        log.critical("%s: the position could not be closed; trying again", context.symbol)
        self._bus.publish(RiskEvent(context.symbol, RiskKind.NOT_FLAT, self._notional(context), ""))

    async def _cancel_at_once(self, context: SymbolContext) -> None:
        """Send the cancels without waiting for anybody; they are verified later."""
        try:
            async with asyncio.timeout(self.LOCK_PATIENCE_S):
                await self._execution.cancel(context, context.orders.living())
        except (TimeoutError, ExchangeError) as error:
            log.warning("%s: the quotes could not be cancelled yet: %s", context.symbol, error)

    @asynccontextmanager
    async def _lock_or_patience(self, context: SymbolContext) -> AsyncIterator[None]:
        """Hold the symbol's lock if it can be had soon, and go on without it otherwise."""
        try:
            async with asyncio.timeout(self.LOCK_PATIENCE_S):
                await context.lock.acquire()
        except TimeoutError:
            yield
            return
        try:
            yield
        finally:
            context.lock.release()

    async def _close_position(self, context: SymbolContext) -> bool:
        """Send reduce-only market orders until the exchange says flat, a bounded number of times."""
        for attempt in range(self.FLATTEN_ATTEMPTS):
            if attempt:
                await asyncio.sleep(self.FLATTEN_PAUSE_S)
            try:
                position = await self._gateway.position(context.symbol)
                context.state.exchange_position = position
                lots = context.rules.floor_lots(abs(position.quantity))
                if lots == 0:
                    return True
                side = Side.SELL if position.quantity > 0 else Side.BUY
                await self._execution.reduce_position(context, side, lots)
            except OutcomeUnknown as error:
                log.warning(
                    "%s: unknown whether the closing order was executed (%s); asking", context.symbol, error
                )
            except ExchangeError as error:
                log.warning("%s: the closing order was refused: %s", context.symbol, error)
        return await self._is_flat(context)

    async def _is_flat(self, context: SymbolContext) -> bool:
        try:
            position = await self._gateway.position(context.symbol)
        except ExchangeError:
            return False
        return context.rules.floor_lots(abs(position.quantity)) == 0


async def _comes(event: asyncio.Event, within_s: float) -> bool:
    """Tell whether the event comes within so many seconds, having waited for it."""
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
