"""The worker that gets the daemon to a known state, at the start and after every gap, and keeps its lifelines.

One path for cold start, crash and reconnect: gate closed, our orders out and verified, trades since the last known
one counted, position compared, dead-man switch acknowledged, gate open.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence

from core.context import SymbolContext
from core.events import ConnectionEvent, ConnectionKind, EventBus, RiskEvent, RiskKind
from core.execution import ExecutionEngine
from core.gate import Gate
from core.gateway import Gateway
from core.model import Fill, OrderReport, Position
from core.order import is_ours
from core.risk import position_notional_quote
from core.settings import SafetySettings
from core.user_stream import FillBook, UserEvents
from utils.clock import Clock
from utils.errors import ExchangeError, OutcomeUnknown, Refused
from utils.venue import private_target
from utils.ws import Backoff, Stream, WsTransport

log = logging.getLogger(__name__)

RECONCILE_KEY = "reconcile"
DEAD_MAN_KEY = "dead man"
LISTEN_KEY_GONE = -1125


class RecoveryManager:
    """Keeps the user stream, the listen key, the clock offset and the dead-man switch; reconciles after every gap.

    ``gate`` is the account's gate, the parent of every symbol's. ``progress`` returns a number for a symbol that grows
    only while its control loop works: the dead-man switch is fed by nothing else. ``on_fill`` is called with the symbol
    of every fill, ``on_forced`` with symbol and reason when the exchange itself has traded the position.
    ``after_crash`` says that an earlier run may have left orders a moment ago, so that a first reading may lag.
    """

    name = "recovery"
    TURN_S = 0.5
    RETRY_S = 1.0
    WITHDRAW_DEADLINE_S = 10.0
    ECHO_DEADLINE_S = 5.0
    CLOCK_EVERY_S = 300.0
    LISTEN_KEY_RETRY_S = 30.0
    AUDIT_EVERY_S = 60.0
    FIRST_AUDIT_S = 1.0
    ORDER_AUDIT_EVERY_S = 10.0
    READ_AGAIN_S = 1.0
    LOOK_AGAIN_S = 2.0
    READ_LAG_MS = 3000
    """By how much a reading may lag behind what the exchange has done."""
    STREAM_LAG_MS = 2000
    """A fill that REST told of may still be on its way on the stream for so long."""
    OPENING_ATTEMPTS = 10

    def __init__(
        self,
        contexts: Sequence[SymbolContext],
        gateway: Gateway,
        execution: ExecutionEngine,
        transport: WsTransport,
        bus: EventBus,
        clock: Clock,
        rng: random.Random,
        gate: Gate,
        safety: SafetySettings,
        *,
        progress: Callable[[str], int],
        on_fill: Callable[[str], None],
        on_forced: Callable[[str, str], None],
        after_crash: bool,
    ) -> None:
        self._contexts = contexts
        self._gateway = gateway
        self._execution = execution
        self._bus = bus
        self._clock = clock
        self._gate = gate
        self._safety = safety
        self._progress = progress
        self._fed_at_progress: dict[str, int] = {}
        self._dead_man_ack_ns: dict[str, int] = {}
        self._trades_since_ms = 0
        self._after_crash = after_crash
        self._due = asyncio.Event()
        self._fills = FillBook(bus, clock, on_fill)
        self._events = UserEvents(
            {context.symbol: context for context in contexts},
            execution,
            self._fills,
            on_doubt=self.request_reconcile,
            on_forced=on_forced,
            on_key_expired=lambda: self.stream.drop("the listen key has expired"),
        )
        self.stream = Stream(
            "account",
            transport,
            clock,
            Backoff(rng),
            target=self._new_target,
            on_message=self._events.receive,
            on_up=self._stream_up,
            on_down=self._stream_down,
        )
        gate.close(RECONCILE_KEY, "not reconciled with the exchange yet")
        for context in contexts:
            context.gate.close(DEAD_MAN_KEY, "dead-man switch is not armed yet")

    async def run(self) -> None:
        """Keep everything until cancelled; the account's gate is closed whenever this does not run."""
        self.request_reconcile("recovery starts")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.stream.run(), name="account stream")
                group.create_task(self._reconcile_when_due(), name="reconciliation")
                group.create_task(self._keep_listen_key(), name="listen key")
                group.create_task(self._feed_dead_man(), name="dead-man switch")
                group.create_task(self._keep_clock(), name="clock offset")
                group.create_task(self._expect_echoes(), name="echo check")
                group.create_task(self._audit_trades(), name="trade audit")
                group.create_task(self._audit_orders(), name="order audit")
        finally:
            self._gate.close(RECONCILE_KEY, "recovery is not running")

    # --- reconciliation ---------------------------------------------------------------------------------------

    def request_reconcile(self, reason: str) -> None:
        """Close the gate and have the exchange asked what is true."""
        if self._gate.close(RECONCILE_KEY, "reconciling with the exchange"):
            log.info("reconciling with the exchange: %s", reason)
        self._due.set()

    def _stream_up(self) -> None:
        self._forget_echoes()
        self._bus.publish(ConnectionEvent("account", ConnectionKind.UP))
        self.request_reconcile("the account stream is up")

    def _stream_down(self, reason: str) -> None:
        self._bus.publish(ConnectionEvent("account", ConnectionKind.DOWN, reason))
        self.request_reconcile(f"the account stream is down: {reason}")

    async def _reconcile_when_due(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            if not self.stream.is_up:
                continue  # it asks again when it is up
            if not await self._reconcile_all():
                await asyncio.sleep(self.RETRY_S)
                self._due.set()
            elif not self._due.is_set() and self.stream.is_up:
                self._gate.open(RECONCILE_KEY)

    async def _reconcile_all(self) -> bool:
        try:
            for context in self._contexts:
                if not await self.reconcile(context):
                    log.warning("%s: not reconciled: our orders are not verified to be out", context.symbol)
                    return False
        except ExchangeError as error:
            log.warning("not reconciled: %s", error)
            return False
        return True

    async def reconcile(self, context: SymbolContext) -> bool:
        """Have no order of ours rest, every trade counted, and the position equal to the exchange's.

        Return False if our orders could not be verified to be out. Raises ExchangeError if a reading fails.
        """
        async with context.lock:
            if not await self._withdraw(context):
                return False
            if context.ledger.is_open:
                missed = len(await self.count_missed_trades(context))
                await self._compare_position(context)
            else:
                missed = 0
                await self._open_ledger(context)
        details = f"position {context.ledger.position_quantity:f}, {missed} missed fills"
        log.info("%s: reconciled: %s", context.symbol, details)
        self._bus.publish(ConnectionEvent("account", ConnectionKind.RECONCILED, details, context.symbol))
        return True

    async def _withdraw(self, context: SymbolContext) -> bool:
        """Have our orders out and verified; after a crash twice, because what a reading does not show may rest."""
        verified = await self._execution.withdraw(context, self.WITHDRAW_DEADLINE_S)
        if self._after_crash and not context.ledger.is_open:
            log.info("%s: the last run did not end well; looking again for its orders", context.symbol)
            await asyncio.sleep(self.LOOK_AGAIN_S)
            verified = await self._execution.withdraw(context, self.WITHDRAW_DEADLINE_S)
        return verified

    async def _open_ledger(self, context: SymbolContext) -> None:
        """Begin the books with a position and a last trade that belong together: none came between the readings."""
        self._trades_since_ms = self._server_ms()
        for _ in range(self.OPENING_ATTEMPTS):
            before = await self._gateway.last_trade_id(context.symbol)
            position = await self._gateway.position(context.symbol)
            if before == await self._gateway.last_trade_id(context.symbol):
                break
        else:
            raise Refused(0, "the account trades too busily elsewhere to read its position")
        early = context.ledger.open(position, before)
        self._note_position(context, position)
        for fill in early:
            self._fills.count(context, fill)

    def _server_ms(self) -> int:
        return self._gateway.rest.server_clock.time_ms()

    async def count_missed_trades(self, context: SymbolContext) -> list[Fill]:
        """Count the trades that no stream told of; return them."""
        missed = []
        asked_ms = self._server_ms()
        trades = await self._gateway.user_trades(
            context.symbol, context.ledger.checkpoint_id, self._trades_since_ms
        )
        for trade in trades:
            order = context.orders.by_order_id(trade["orderId"])
            fill = self._gateway.fill(trade, order.client_id if order is not None else "")
            if self._fills.count(context, fill):
                missed.append(fill)
            context.ledger.checkpoint_id = max(context.ledger.checkpoint_id, fill.trade_id)
        if (
            not context.ledger.checkpoint_id
        ):  # no trade yet: begin the next question where this one can have lagged
            self._trades_since_ms = max(self._trades_since_ms, asked_ms - self.READ_LAG_MS)
        return missed

    async def _audit_trades(self) -> None:
        """Compare the trades with the exchange's now and then, so that none is missed for long."""
        while True:
            await asyncio.sleep(self.AUDIT_EVERY_S)
            for context in self._contexts:
                try:
                    missed = await self.count_missed_trades(context) if context.ledger.is_open else []
                except ExchangeError as error:
                    log.warning("%s: trades could not be compared: %s", context.symbol, error)
                    continue
                overdue = [fill for fill in missed if self._server_ms() - fill.time_ms > self.STREAM_LAG_MS]
                if overdue:
                    self.request_reconcile(
                        f"{context.symbol}: the account stream did not tell of {len(overdue)} fills"
                    )

    async def _audit_orders(self) -> None:
        """Compare the open orders with the exchange's now and then: none of ours may rest that is not known here."""
        wait_s = self.FIRST_AUDIT_S
        while True:
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, self.ORDER_AUDIT_EVERY_S)
            if not self._gate.is_open:
                wait_s = self.FIRST_AUDIT_S  # soon after every opening: a first reading may have lagged
                continue
            for context in self._contexts:
                try:
                    resting = await self._gateway.open_orders(context.rules, is_ours)
                except ExchangeError as error:
                    log.warning("%s: open orders could not be compared: %s", context.symbol, error)
                    continue
                unknown = [report for report in resting if self._is_unknown(context, report)]
                if unknown:
                    self.request_reconcile(f"{context.symbol}: {len(unknown)} orders of ours rest unknown")

    def _is_unknown(self, context: SymbolContext, report: OrderReport) -> bool:
        """Tell whether an order that rests is not known, or believed not to exist; just ended ones may lag."""
        order = context.orders.find(report.client_id)
        return order is None or (order.status.is_terminal and not order.end_is_reported)

    async def _compare_position(self, context: SymbolContext) -> None:
        """Adopt the exchange's position where no trade explains the difference, and say so.

        A reading may lag behind our own fills: only one that is repeated, and is not older than the last fill, counts.
        """
        position = await self._gateway.position(context.symbol)
        if position.quantity != context.ledger.position_quantity:
            fills = context.ledger.fill_count
            await asyncio.sleep(self.READ_AGAIN_S)
            asked_ms = self._server_ms() - self.READ_LAG_MS
            again = await self._gateway.position(context.symbol)
            settled_ms = self._server_ms() - context.ledger.last_fill_ms
            is_old = settled_ms < self.READ_LAG_MS or 0 < again.update_ms < context.ledger.last_fill_ms
            if again.quantity != position.quantity or context.ledger.fill_count != fills or is_old:
                raise OutcomeUnknown("the exchange's position is still moving or lags behind our fills")
            self._adopt_position(context, again, asked_ms)
            position = again
        self._note_position(context, position)

    def _adopt_position(self, context: SymbolContext, position: Position, as_of_ms: int) -> None:
        ours = context.ledger.position_quantity
        if position.quantity == ours:
            return
        log.error(
            "%s: position adopted: the exchange says %s, our trades made %s",
            context.symbol,
            position.quantity,
            ours,
        )
        context.ledger.adopt(position, as_of_ms)
        context.orders.count_all()
        notional = position_notional_quote(position.quantity, position.mark_price)
        self._bus.publish(RiskEvent(context.symbol, RiskKind.POSITION_ADOPTED, notional, f"ours was {ours}"))

    def _note_position(self, context: SymbolContext, position: Position) -> None:
        context.state.exchange_position = position
        context.state.position = context.ledger.position_quantity

    # --- lifelines --------------------------------------------------------------------------------------------

    async def _new_target(self) -> str:
        return private_target(await self._gateway.create_listen_key())

    async def _keep_listen_key(self) -> None:
        wait_s = self._safety.listen_key_refresh_s
        while True:
            await asyncio.sleep(wait_s)
            try:
                await self._gateway.keep_listen_key()
                wait_s = self._safety.listen_key_refresh_s
            except Refused as refusal:
                if refusal.code == LISTEN_KEY_GONE:
                    self.stream.drop("the listen key has expired")
                wait_s = self.LISTEN_KEY_RETRY_S
            except ExchangeError as error:
                log.warning("the listen key could not be kept alive: %s", error)
                wait_s = self.LISTEN_KEY_RETRY_S

    async def _expect_echoes(self) -> None:
        """Give up a user stream that stays silent about orders that the exchange has accepted."""
        while True:
            await asyncio.sleep(self.TURN_S)
            overdue_ns = self._clock.monotonic_ns() - int(self.ECHO_DEADLINE_S * 1e9)
            accepted_ns = [
                accepted for context in self._contexts for accepted in context.orders.awaiting_echo.values()
            ]
            if self.stream.is_up and accepted_ns and min(accepted_ns) < overdue_ns:
                self._forget_echoes()
                self.stream.drop("silent about our orders")
            self._expect_trades()

    def _expect_trades(self) -> None:
        """Reconcile when an order is known to be executed and the stream does not bring its trades."""
        overdue_ns = self._clock.monotonic_ns() - self.STREAM_LAG_MS * 1_000_000
        for context in self._contexts:
            since_ns = context.orders.uncounted_since_ns()
            if since_ns is not None and since_ns < overdue_ns and self._gate.is_open:
                self.request_reconcile(f"{context.symbol}: an order was executed, but its trades are missing")

    def _forget_echoes(self) -> None:
        """Expect nothing of a new connection that only the old one could have told."""
        for context in self._contexts:
            context.orders.awaiting_echo.clear()

    async def _keep_clock(self) -> None:
        """Measure the offset to the exchange's clock now and then, and at once when a timestamp was refused."""
        elapsed_s = 0.0
        while True:
            await asyncio.sleep(self.TURN_S)
            elapsed_s += self.TURN_S
            if elapsed_s < self.CLOCK_EVERY_S and not self._gateway.rest.clock_is_doubtful:
                continue
            elapsed_s = 0.0
            try:
                await self._gateway.rest.synchronise_clock()
            except ExchangeError as error:
                log.warning("the exchange's clock could not be read: %s", error)
                await asyncio.sleep(self.RETRY_S)

    async def _feed_dead_man(self) -> None:
        """Refresh the exchange's countdown of each symbol while its control loop makes progress, and only then."""
        while True:
            fed = [await self._feed_one(context) for context in self._contexts]
            await asyncio.sleep(self._safety.dead_man_refresh_s if all(fed) else self.RETRY_S)

    async def _feed_one(self, context: SymbolContext) -> bool:
        progress = self._progress(context.symbol)
        fed = progress != self._fed_at_progress.get(context.symbol) and await self._arm(context)
        if fed:
            self._fed_at_progress[context.symbol] = progress
        self._judge_dead_man(context)
        return fed

    async def _arm(self, context: SymbolContext) -> bool:
        sent_ns = self._clock.monotonic_ns()
        try:
            await self._gateway.arm_dead_man(context.symbol, int(self._safety.dead_man_window_s * 1000))
        except ExchangeError as error:
            log.warning("%s: the dead-man switch could not be refreshed: %s", context.symbol, error)
            return False
        if self._has_lapsed(context, sent_ns):
            self.request_reconcile("the dead-man switch had lapsed")
        self._dead_man_ack_ns[context.symbol] = sent_ns
        if context.gate.open(DEAD_MAN_KEY):
            self._tell_dead_man(context, "armed")
        return True

    def _has_lapsed(self, context: SymbolContext, now_ns: int) -> bool:
        ack_ns = self._dead_man_ack_ns.get(context.symbol)
        return ack_ns is not None and now_ns - ack_ns > self._safety.dead_man_window_s * 1e9

    def _judge_dead_man(self, context: SymbolContext) -> None:
        if not self._has_lapsed(context, self._clock.monotonic_ns()):
            return
        if context.gate.close(DEAD_MAN_KEY, "dead-man switch has lapsed"):
            log.error(
                "%s: the dead-man switch has lapsed: the exchange has cancelled our orders", context.symbol
            )
            self._tell_dead_man(context, "lapsed")

    def _tell_dead_man(self, context: SymbolContext, what: str) -> None:
        self._bus.publish(ConnectionEvent("dead-man switch", ConnectionKind.DEAD_MAN, what, context.symbol))

    async def disarm_dead_man(self) -> None:
        """Stop the exchange's countdown; only after it was verified that no order of ours rests."""
        for context in self._contexts:
            await self._gateway.arm_dead_man(context.symbol, 0)
