"""The worker that gets the daemon to a known state, at the start and after every gap, and keeps its lifelines.

One path for cold start, crash and reconnect: gate closed, our orders out and verified, trades since the last known
one counted, position compared (``core.reconciliation``), dead-man switch acknowledged (``core.dead_man``), gate open.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence

from core.client_ids import is_ours
from core.context import SymbolContext
from core.dead_man import DeadManSwitch
from core.events import ConnectionEvent, ConnectionKind, EventBus
from core.execution import ExecutionEngine
from core.gate import Gate
from core.gateway import Gateway
from core.model import OrderReport
from core.reconciliation import Reconciler
from core.settings import SafetySettings
from core.user_stream import FillBook, UserEvents
from utils.clock import Clock
from utils.errors import ExchangeError, Refused
from utils.venue import private_target
from utils.ws import Backoff, Stream, WsTransport

log = logging.getLogger(__name__)

RECONCILE_KEY = "reconcile"
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
    ECHO_DEADLINE_S = 5.0
    CLOCK_EVERY_S = 300.0
    LISTEN_KEY_RETRY_S = 30.0
    AUDIT_EVERY_S = 60.0
    FIRST_AUDIT_S = 1.0
    ORDER_AUDIT_EVERY_S = 60.0
    STREAM_LAG_MS = 2000
    """A fill that REST told of may still be on its way on the stream for so long."""

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
        self._due = asyncio.Event()
        fills = FillBook(bus, clock, on_fill)
        self.reconciler = Reconciler(gateway, execution, bus, fills, after_crash=after_crash)
        self.dead_man = DeadManSwitch(
            contexts, gateway, bus, clock, safety, progress=progress, on_lapse=self.request_reconcile
        )
        self._events = UserEvents(
            {context.symbol: context for context in contexts},
            execution,
            fills,
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

    async def run(self) -> None:
        """Keep everything until cancelled; the account's gate is closed whenever this does not run."""
        self.request_reconcile("recovery starts")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.stream.run(), name="account stream")
                group.create_task(self._reconcile_when_due(), name="reconciliation")
                group.create_task(self._keep_listen_key(), name="listen key")
                group.create_task(self.dead_man.run(), name="dead-man switch")
                group.create_task(self._keep_clock(), name="clock offset")
                group.create_task(self._expect_echoes(), name="echo check")
                group.create_task(self._audit_trades(), name="trade audit")
                group.create_task(self._audit_orders(), name="order audit")
        finally:
            self._gate.close(RECONCILE_KEY, "recovery is not running")

    # --- when to reconcile ------------------------------------------------------------------------------------

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
                if not await self.reconciler.reconcile(context):
                    log.warning("%s: not reconciled: our orders are not verified to be out", context.symbol)
                    return False
        except ExchangeError as error:
            log.warning("not reconciled: %s", error)
            return False
        return True

    async def _audit_trades(self) -> None:
        """Compare the trades with the exchange's now and then, so that none is missed for long."""
        while True:
            await asyncio.sleep(self.AUDIT_EVERY_S)
            for context in self._contexts:
                try:
                    missed = (
                        await self.reconciler.count_missed_trades(context) if context.ledger.is_open else []
                    )
                except ExchangeError as error:
                    log.warning("%s: trades could not be compared: %s", context.symbol, error)
                    continue
                now_ms = self._gateway.rest.server_clock.time_ms()
                overdue = [fill for fill in missed if now_ms - fill.time_ms > self.STREAM_LAG_MS]
                if overdue:
                    self.request_reconcile(
                        f"{context.symbol}: the account stream did not tell of {len(overdue)} fills"
                    )

    async def _audit_orders(self) -> None:
        """Compare the open orders with the exchange's now and then: none of ours may rest that is not known here.

        What is known here has to rest there, too, and as it is known: a stream may have kept something to itself.
        """
        wait_s = self.FIRST_AUDIT_S
        while True:
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, self.ORDER_AUDIT_EVERY_S)
            if not self._gate.is_open:
                wait_s = self.FIRST_AUDIT_S  # soon after every opening: a first reading may have lagged
                continue
            for context in self._contexts:
                asked_ns = self._clock.monotonic_ns()
                try:
                    resting = await self._gateway.open_orders(context.rules, is_ours)
                except ExchangeError as error:
                    log.warning("%s: open orders could not be compared: %s", context.symbol, error)
                    continue
                self._note_resting(context, resting, asked_ns)
                unknown = [report for report in resting if self._is_unknown(context, report)]
                if unknown:
                    self.request_reconcile(f"{context.symbol}: {len(unknown)} orders of ours rest unknown")

    def _note_resting(self, context: SymbolContext, resting: Sequence[OrderReport], asked_ns: int) -> None:
        """Take what is new in a list of open orders, and have those asked about that it should hold and does not."""
        for report in resting:
            order = context.orders.find(report.client_id)
            if order is not None and not order.status.is_terminal:
                self._execution.report(context, order, report)
        listed = {report.client_id for report in resting}
        before_ns = asked_ns - self.STREAM_LAG_MS * 1_000_000
        for order in context.orders.living():
            if order.client_id not in listed and 0 < order.accepted_ns < before_ns:
                context.orders.wonder(order, "it is not among the open orders of the exchange")

    def _is_unknown(self, context: SymbolContext, report: OrderReport) -> bool:
        """Tell whether an order that rests is not known, or believed not to exist; just ended ones may lag."""
        order = context.orders.find(report.client_id)
        return order is None or (order.status.is_terminal and not order.end_is_reported)

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
