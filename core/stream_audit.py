"""Is everything known here that the account stream should have told? Echoes, trades and open orders are compared."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from core.client_ids import is_ours
from core.context import SymbolContext
from core.execution import ExecutionEngine
from core.gate import Gate
from core.gateway import Gateway
from core.live_order import LiveOrder, echo_due_ns
from core.model import Fill, OrderReport
from core.reconciliation import Reconciler
from utils.clock import Clock
from utils.errors import ExchangeError

log = logging.getLogger(__name__)


class StreamAudit:
    """Holds the account stream to what else is known; asks for a reconciliation where it has kept something to itself.

    ``drop`` gives up the stream's connection for the reason given; ``is_up`` tells whether there is one.
    """

    TRADE_DEADLINE_S = 5.0
    LATE_ECHO_S = 1.0
    """The least that an echo gets from when the order is known to be accepted, however long ago that happened: until
    then no quote leaves (``ExecutionEngine``)."""
    TRADES_EVERY_S = 15.0
    TRADES_RETRY_S = 1.0
    """How soon they are compared again when they could not be; ever more seldom while that lasts."""
    FIRST_ORDERS_S = 1.0
    ORDERS_EVERY_S = 5.0
    STREAM_LAG_MS = 2000
    """A fill that REST told of may still be on its way on the stream for so long."""
    LIST_LAG_MS = 4000
    """A list of open orders may still show one that has ended for so long; later it is another one of the same id: the
    network may bring a request twice, the second time after the end of the first order."""

    def __init__(
        self,
        contexts: Sequence[SymbolContext],
        gateway: Gateway,
        execution: ExecutionEngine,
        reconciler: Reconciler,
        clock: Clock,
        gate: Gate,
        *,
        is_up: Callable[[], bool],
        drop: Callable[[str], None],
        request_reconcile: Callable[[str], None],
    ) -> None:
        self._contexts = contexts
        self._gateway = gateway
        self._execution = execution
        self._reconciler = reconciler
        self._clock = clock
        self._gate = gate
        self._is_up = is_up
        self._drop = drop
        self._request_reconcile = request_reconcile
        self._up_since_ms = 0
        self._untold: dict[tuple[str, int], int] = {}
        """Monotonic time since which a trade is known of which the stream has not told, by symbol and id."""
        self._listed_ended: dict[str, dict[str, int]] = {}
        """By symbol, the orders that lists of open orders show although their end was reported, by client id: since
        which monotonic time."""

    async def run(self) -> None:
        """Compare until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._audit_trades(), name="trade audit")
            group.create_task(self._audit_orders(), name="order audit")

    def missed(self, fill: Fill) -> None:
        """Note a trade that only the list of trades has told of: one made under this connection has to be told yet."""
        if self._is_up() and fill.time_ms > self._up_since_ms:
            self._untold[fill.symbol, fill.trade_id] = self._clock.monotonic_ns()

    def told(self, fill: Fill) -> None:
        """Note that the stream has told of a trade."""
        self._untold.pop((fill.symbol, fill.trade_id), None)

    def forget_echoes(self) -> None:
        """Expect nothing of a new connection about what was sent or traded before it."""
        self._up_since_ms = self._gateway.rest.server_clock.time_ms()
        self._untold.clear()
        for context in self._contexts:
            context.orders.expect_no_echo_before(self._clock.monotonic_ns())

    def look(self) -> None:
        """See now and then whether the stream owes us something for too long."""
        self._expect_echoes()
        self._expect_trades()

    def _expect_echoes(self) -> None:
        """Give up a user stream that stays silent about orders that the exchange has accepted, or about trades.

        What it owes is forgotten when there is another one: until it is known to be down, that keeps quotes back.
        """
        now_ns = self._clock.monotonic_ns()
        is_untold = min(self._untold.values(), default=now_ns) < now_ns - int(self.TRADE_DEADLINE_S * 1e9)
        is_unheard = any(
            self._patience_ends_ns(context.orders.find(client_id), known_ns) < now_ns
            for context in self._contexts
            for client_id, known_ns in context.orders.awaiting_echo.items()
        )
        if self._is_up() and (is_untold or is_unheard):
            self._drop("silent about trades" if is_untold else "silent about our orders")

    def _patience_ends_ns(self, order: LiveOrder | None, known_ns: int) -> int:
        """Return until when the stream is kept although it has not told of what is known since ``known_ns``."""
        due_ns = echo_due_ns(order, known_ns, self._gateway.rest.recv_window_ms)
        return max(due_ns, known_ns + int(self.LATE_ECHO_S * 1e9))

    def _expect_trades(self) -> None:
        """Reconcile when an order is known to be executed and the stream does not bring its trades."""
        overdue_ns = self._clock.monotonic_ns() - self.STREAM_LAG_MS * 1_000_000
        for context in self._contexts:
            since_ns = context.orders.uncounted_since_ns()
            if since_ns is not None and since_ns < overdue_ns and self._gate.is_open:
                self._request_reconcile(
                    f"{context.symbol}: an order was executed, but its trades are missing"
                )

    async def _audit_trades(self) -> None:
        """Compare the trades with the exchange's now and then, so that none is missed for long.

        Without an answer they are compared again soon: nothing else finds trades that leave the position as it was.
        """
        wait_s, retry_s = self.TRADES_EVERY_S, self.TRADES_RETRY_S
        while True:
            await asyncio.sleep(wait_s)
            answered = [await self._compare_trades(context) for context in self._contexts]
            if all(answered):
                wait_s, retry_s = self.TRADES_EVERY_S, self.TRADES_RETRY_S
            else:
                wait_s, retry_s = retry_s, min(2 * retry_s, self.TRADES_EVERY_S)

    async def _compare_trades(self, context: SymbolContext) -> bool:
        """Count the trades that the stream has not told of; return whether they could be read."""
        if not context.ledger.is_open:
            return True
        try:
            missed = await self._reconciler.count_missed_trades(context)
        except ExchangeError as error:
            log.warning("%s: trades could not be compared: %s", context.symbol, error)
            return False
        now_ms = self._gateway.rest.server_clock.time_ms()
        overdue = [fill for fill in missed if now_ms - fill.time_ms > self.STREAM_LAG_MS]
        if overdue:
            self._request_reconcile(
                f"{context.symbol}: the account stream did not tell of {len(overdue)} fills"
            )
        return True

    async def _audit_orders(self) -> None:
        """Compare the open orders with the exchange's now and then: none of ours may rest that is not known here.

        What is known here has to rest there, too, and as it is known: a stream may have kept something to itself.
        """
        wait_s = self.FIRST_ORDERS_S
        while True:
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, self.ORDERS_EVERY_S)
            if not self._gate.is_open:
                wait_s = self.FIRST_ORDERS_S  # soon after every opening: a first reading may have lagged
                self._listed_ended.clear()
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
                    self._request_reconcile(f"{context.symbol}: {len(unknown)} orders of ours rest unknown")
                elif self._rest_after_their_end(context, resting, asked_ns):
                    self._request_reconcile(f"{context.symbol}: orders of ours rest after their end")

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
        """Tell whether an order that rests is not known, or believed not to exist."""
        order = context.orders.find(report.client_id)
        if order is None:
            return not self._execution.is_strangers(report)
        return order.status.is_terminal and not order.end_is_reported

    def _rest_after_their_end(
        self, context: SymbolContext, resting: Sequence[OrderReport], asked_ns: int
    ) -> bool:
        """Tell whether orders rest whose end was reported, for longer than a list may lag."""
        known = self._listed_ended.get(context.symbol, {})
        ended = {
            report.client_id: known.get(report.client_id, asked_ns)
            for report in resting
            if (order := context.orders.find(report.client_id)) is not None and order.end_is_reported
        }
        self._listed_ended[context.symbol] = ended
        return asked_ns - min(ended.values(), default=asked_ns) > self.LIST_LAG_MS * 1_000_000
