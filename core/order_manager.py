"""The worker that keeps the exchange's orders equal to what we want."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from core.context import SymbolContext
from core.decision import QuietBand
from core.events import EventBus, OrderResetEvent, ResetKind
from core.execution import ExecutionEngine
from core.gate import STOPPING
from core.live_order import LiveOrder
from core.posture import Posture
from core.refresh import Refresher
from core.schedule import Schedule
from core.settings import ManageSettings
from core.wake import Wake
from utils.clock import Clock
from utils.errors import ExchangeError

log = logging.getLogger(__name__)

Standing = tuple[Posture, bool, int]
"""How far risk holds the quotes back, whether the account stream has told of one, how often quoting was closed."""


class OrderManager:
    """Refreshes the quotes of every symbol at their interval and on moves, resets them now and then, and pulls them at
    once when the gate closes.

    ``progress`` counts, by symbol, turns of the control loop that ended in a known state: nothing waits to be cancelled
    that could not be. Whoever feeds a dead-man switch watches it grow. ``alive`` counts those as well at whose end a
    limit or a ban let nothing be sent: a new process could do no better, and would not know of it.
    """

    name = "orders"
    TURN_S = 1.0
    PULL_DEADLINE_S = 2.0
    SETTLE_EVERY_S = 0.5
    """However often the price asks for a turn, what is in doubt is asked about at this pace: each time costs weight."""

    def __init__(
        self,
        contexts: Sequence[SymbolContext],
        execution: ExecutionEngine,
        bus: EventBus,
        clock: Clock,
        manage: ManageSettings,
    ) -> None:
        self.progress = {context.symbol: 0 for context in contexts}
        self.alive = dict(self.progress)
        self._contexts = contexts
        self._execution = execution
        self._bus = bus
        self._clock = clock
        self._manage = manage
        self._clean_up_ns = 0
        self._settled_ns = {context.symbol: 0 for context in contexts}
        self._closings = {context.symbol: asyncio.Event() for context in contexts}
        self._wakes = {context.symbol: Wake() for context in contexts}
        self._refreshers = {
            context.symbol: Refresher(context, execution, bus, clock, manage) for context in contexts
        }
        self._schedules = {context.symbol: Schedule(context.settings, manage) for context in contexts}
        self._is_running = False
        self._looking: set[str] = set()
        self._rehearsed = 0
        self._faults: dict[str, Exception] = {}
        self._unkept: set[str] = set()
        """Symbols whose quotes a run that failed has left; they are pulled before anything else is done with them."""
        self._asleep_until_ns = {context.symbol: 0 for context in contexts}
        for context in contexts:
            context.gate.listen(partial(self._on_gate, context))
            context.on_book = self._on_book
            context.on_posture = context.on_proven = self._look_at_once

    async def run(self) -> None:
        """Keep the quotes of every symbol until cancelled; where that fails, they are pulled before it is told.

        What could not be verified to be out by then is pulled first of all by the next run.
        """
        self._unkept = {context.symbol for context in self._contexts if context.orders.living()}
        self._is_running = True
        try:
            async with asyncio.TaskGroup() as group:
                for context in self._contexts:
                    group.create_task(self._keep(context), name=f"{self.name} {context.symbol}")
                    group.create_task(self._cut(context), name=f"{self.name} {context.symbol} at the gate")
        except Exception:
            self._is_running = False
            await asyncio.gather(*(self._leave(context) for context in self._contexts))
            raise
        finally:
            self._is_running = False

    async def _leave(self, context: SymbolContext) -> None:
        """Pull the quotes of a run that has failed, if that can be done soon; whatever comes of it is not raised."""
        try:
            async with asyncio.timeout(self.PULL_DEADLINE_S):
                await self._pull(context)
        except Exception as error:  # noqa: BLE001 - what the run has failed of is told, and the next one pulls first
            cause = str(error) or "no answer in time"
            log.error("%s: the quotes could not be pulled (%s); the restart does it", context.symbol, cause)

    def _on_gate(self, context: SymbolContext) -> None:
        self._wakes[context.symbol].set()
        if not context.gate.is_open:
            self._closings[context.symbol].set()

    def _on_book(self, context: SymbolContext, mid_half_ticks: int) -> None:
        """Look at the orders if the price has left the band in which they may stay as they are."""
        now_ns = self._clock.monotonic_ns()
        if self._schedules[context.symbol].moved_to(mid_half_ticks, now_ns):
            self._look_soon(context, now_ns)

    # --- quick turns ------------------------------------------------------------------------------------------

    def _look_soon(self, context: SymbolContext, now_ns: int) -> None:
        """Follow the price after what has come with this book, if the orders have to follow now; else in time.

        Several books that come together have the orders follow the newest.
        """
        symbol = context.symbol
        if not self._is_running or not self._schedules[symbol].refresh_is_due(now_ns):
            self._wakes[symbol].set()
        elif symbol not in self._looking:
            self._looking.add(symbol)
            asyncio.get_running_loop().call_soon(self._quick_turn, context)

    def _quick_turn(self, context: SymbolContext) -> None:
        """Amend what has to follow without waiting for anything; leave it to the worker if more is to be done."""
        symbol = context.symbol
        self._looking.discard(symbol)
        is_free = self._is_running and not context.state.strategy_paused and symbol not in self._unkept
        now_ns = self._clock.monotonic_ns()
        try:
            if (
                not is_free
                or self._schedules[symbol].reset_is_due(now_ns)
                or not self._requote(context, now_ns)
            ):
                self._wakes[symbol].set()
        except Exception as error:  # noqa: BLE001 - the worker ends by it, as by a fault in a turn of its own
            self._faults[symbol] = error
            self._wakes[symbol].set()

    def _requote(self, context: SymbolContext, now_ns: int) -> bool:
        """Have quotes that are due follow the price at once; return whether that is all there is to do."""
        schedule = self._schedules[context.symbol]
        is_patient = schedule.is_patient(now_ns)
        standing = self._standing(context)
        on_end = partial(self._requoted, context, now_ns, is_patient, standing)
        return self._refreshers[context.symbol].requote(on_end, is_patient=is_patient)

    def rehearse(self) -> None:
        """Go the way of a move of the price up to where something would be sent, of one symbol after the other.

        Nothing is changed. For whoever has time between two messages.
        """
        self._rehearsed = (self._rehearsed + 1) % len(self._contexts)
        self._refreshers[self._contexts[self._rehearsed].symbol].rehearse()

    def _requoted(
        self,
        context: SymbolContext,
        began_ns: int,
        is_patient: bool,  # noqa: FBT001 - bound beforehand
        standing: Standing,
        band: QuietBand,
    ) -> None:
        """Note a requote whose answers have come; the price may have gone on meanwhile."""
        symbol, now_ns = context.symbol, self._clock.monotonic_ns()
        schedule = self._schedules[symbol]
        mid_half_ticks = context.state.quoted_mid_half_ticks
        schedule.refreshed(began_ns, band, now_ns, is_patient=is_patient, mid_half_ticks=mid_half_ticks)
        context.state.reset_due_ns = schedule.reset_due_ns
        if standing != self._standing(context):
            schedule.hurry()  # it may have changed too late for that requote
        if schedule.is_sooner_than(self._asleep_until_ns[symbol]) or context.orders.to_ask():
            self._look_soon(context, now_ns)

    def _standing(self, context: SymbolContext) -> Standing:
        """Return what a refresh relies on beside the book: with another one, there has to be another refresh."""
        return context.posture, context.stream_is_proven, self._schedules[context.symbol].closings

    def _look_at_once(self, context: SymbolContext) -> None:
        """Bring the orders into line at once: with another posture, or since more may rest than before."""
        self._schedules[context.symbol].hurry()
        self._wakes[context.symbol].set()

    # --- turns of the worker ----------------------------------------------------------------------------------

    async def _keep(self, context: SymbolContext) -> None:
        while True:
            if fault := self._faults.pop(context.symbol, None):
                raise fault
            self._mirror_pause(context)
            if context.symbol not in self._unkept:  # else what rests unattended is pulled first
                await self._settle(context)
            await self._turn(context, self._clock.monotonic_ns())
            self._clean_up(self._clock.monotonic_ns())
            is_known = not any(order.cancel_requested for order in context.orders.living())
            self.progress[context.symbol] += is_known
            self.alive[context.symbol] += is_known or self._execution.is_limited
            await self._rest(context)

    def _clean_up(self, now_ns: int) -> None:
        """Now and then, have orders that ended long ago leave memory."""
        interval_s = self._manage.cleanup_interval_s
        if now_ns >= self._clean_up_ns:
            self._clean_up_ns = now_ns + int(interval_s * 1e9)
            for each in self._contexts:
                each.orders.forget_ended(now_ns, interval_s)

    async def _turn(self, context: SymbolContext, now_ns: int) -> None:
        schedule = self._schedules[context.symbol]
        if not context.gate.is_open or context.symbol in self._unkept:
            schedule.close()
            await self._pull(context)
            if not context.orders.living():
                self._unkept.discard(context.symbol)
        elif schedule.reset_is_due(now_ns):
            await self.reset(context)
        elif schedule.refresh_is_due(now_ns) and not self._requote(context, now_ns):
            standing = self._standing(context)
            refresher = self._refreshers[context.symbol]
            band = await refresher.refresh(lambda: schedule.is_patient(self._clock.monotonic_ns()))
            schedule.refreshed(
                now_ns,
                band,
                self._clock.monotonic_ns(),
                is_patient=refresher.was_patient,
                mid_half_ticks=context.state.quoted_mid_half_ticks,
            )
            if standing != self._standing(context):
                schedule.hurry()  # it may have changed too late for that refresh
        context.state.reset_due_ns = schedule.reset_due_ns

    def _mirror_pause(self, context: SymbolContext) -> None:
        """Have the gate follow ``strategy_paused``, whoever assigned it."""
        if context.state.strategy_paused:
            context.gate.close("paused", "strategy is paused")
        else:
            context.gate.open("paused")

    async def _rest(self, context: SymbolContext) -> None:
        """Wait until the next turn: the next refresh, a move, a change of the gate, at most a second."""
        wait_s = self._schedules[context.symbol].wait_ns(self._clock.monotonic_ns()) / 1e9
        if not context.gate.is_open or self._refreshers[context.symbol].is_requoting:
            wait_s = self.TURN_S
        wait_s = min(wait_s, self.TURN_S)
        self._asleep_until_ns[context.symbol] = self._clock.monotonic_ns() + int(wait_s * 1e9)
        wake = self._wakes[context.symbol]
        await wake.comes(wait_s)
        wake.clear()

    async def reset(self, context: SymbolContext) -> None:
        """Take all quotes out, verify it, and have the next turn bring them back; tried again if it cannot be verified.

        Whatever our books and the exchange's may have come to differ in, they agree afterwards: nothing of ours rests.
        """
        began_ns, orders = self._clock.monotonic_ns(), len(context.orders.living())
        self._tell(context, ResetKind.STARTED, orders, began_ns)
        async with context.lock:
            is_out = await self._execution.withdraw(context, self.PULL_DEADLINE_S)
        if is_out:
            self._schedules[context.symbol].was_reset(self._clock.monotonic_ns())
            self._tell(context, ResetKind.DONE, orders, began_ns)
        else:
            log.error("%s: reset: could not verify that the quotes are out; trying again", context.symbol)
            self._tell(context, ResetKind.FAILED, orders, began_ns)

    def _tell(self, context: SymbolContext, kind: ResetKind, orders: int, began_ns: int) -> None:
        duration_ms = (self._clock.monotonic_ns() - began_ns) / 1e6
        if kind is not ResetKind.FAILED:
            log.info("%s: reset of %d quotes %s", context.symbol, orders, kind)
        self._bus.publish(
            OrderResetEvent(
                symbol=context.symbol,
                kind=kind,
                reason="reset interval",
                orders=orders,
                duration_ms=duration_ms,
            )
        )

    async def _pull(self, context: SymbolContext) -> None:
        """Take all quotes out: quoting is closed, or nobody kept them. What cannot be verified is tried again."""
        if not context.orders.living():
            return
        if STOPPING not in context.gate.reasons:
            reason = "; ".join(context.gate.reasons) or "their worker failed"
            log.warning("%s: pulling the quotes: %s", context.symbol, reason)
        async with context.lock:
            if not await self._execution.withdraw(context, self.PULL_DEADLINE_S):
                log.error("%s: could not verify that the quotes are out; trying again", context.symbol)

    async def _cut(self, context: SymbolContext) -> None:
        """Send the cancels at once when the gate closes while a change of orders waits for its answer.

        The turn that waits, or whoever else holds the lock, may do so for seconds. Nothing is concluded from these
        cancels: the pull that follows verifies.
        """
        closing = self._closings[context.symbol]
        while True:
            await closing.wait()
            closing.clear()
            if context.gate.is_open or not context.lock.locked():
                continue
            self._schedules[context.symbol].close()
            uncancelled = [order for order in context.orders.living() if not order.cancel_requested]
            try:
                await self._execution.cancel(context, uncancelled)
            except ExchangeError as error:
                log.warning("%s: the quotes could not be cancelled yet: %s", context.symbol, error)

    async def _settle(self, context: SymbolContext) -> None:
        """Find out about what is in doubt, and get out what should be out; at a pace of its own.

        Not only while no refresh is due: with a short interval, or in a lively market, one is due at every turn.
        """
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._settled_ns[context.symbol] < self.SETTLE_EVERY_S * 1e9:
            return
        if context.orders.to_ask():
            self._settled_ns[context.symbol] = now_ns
            await self._ask(context)
        if context.gate.is_open and (loose := self._loose(context)):
            self._settled_ns[context.symbol] = now_ns
            await self._chase(context, loose)

    async def _ask(self, context: SymbolContext) -> None:
        """Have the exchange say what became of orders of which something is known that cannot be."""
        async with context.lock:
            try:
                await self._execution.ask(context)
            except ExchangeError as error:
                log.warning("%s: an order could not be looked up yet: %s", context.symbol, error)

    def _loose(self, context: SymbolContext) -> list[LiveOrder]:
        """Return what should be out already, and what could not be amended in time."""
        late = [order for order in context.orders.living() if self._is_late(order)]
        return [*self._execution.loose(context), *late]

    async def _chase(self, context: SymbolContext, loose: Sequence[LiveOrder]) -> None:
        """Try once more to get these orders out; where that has no answer either, look up what became of them."""
        async with context.lock:
            try:
                unheard = await self._execution.cancel(context, loose)
                await self._execution.look_up(context, unheard)
            except ExchangeError as error:
                log.warning("%s: an order could not be cancelled yet: %s", context.symbol, error)

    def _is_late(self, order: LiveOrder) -> bool:
        """Tell whether an amendment is without an answer for so long that its order has to go."""
        change = order.change
        if change is None or order.cancel_requested:
            return False
        return self._clock.monotonic_ns() - change.sent_ns > self._manage.modification_timeout_s * 1e9
