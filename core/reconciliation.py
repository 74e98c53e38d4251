"""Getting the books equal to the exchange's: our orders out, every trade counted, the position compared.

One path for cold start, crash and reconnect.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from core.context import SymbolContext
from core.events import ConnectionEvent, ConnectionKind, EventBus, RiskEvent, RiskKind
from core.execution import ExecutionEngine
from core.gateway import TRADES_PAGE, Gateway
from core.last_look import LastLook
from core.model import Fill, Position
from core.recovery_steps import RecoverySteps
from core.risk import position_notional_quote
from core.user_stream import FORCED_PREFIXES, FillBook
from utils.errors import OutcomeUnknown, Refused

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Reading:
    """How far a look back has come: an attempt that takes too long is gone on with by the next one."""

    since_ms: int
    last_id: int = 0
    orders: dict[int, int] = field(default_factory=dict)
    """The exchange's time of the last trade of each order, the latest at the end."""
    harmless: set[int] = field(default_factory=set)
    """Orders of others that were asked about."""

    def note(self, trade_id: int, order_id: int, time_ms: int) -> None:
        """Note a trade."""
        self.last_id = max(self.last_id, trade_id)
        self.orders[order_id] = max(self.orders.pop(order_id, 0), time_ms)


class Reconciler:
    """Reconciles one symbol at a time, with its lock held.

    ``after_crash`` says that an earlier run may have left orders a moment ago, so that a first reading may lag.
    ``on_forced`` is called with symbol, reason and the trade's time when a trade turns out to be one that the exchange
    itself has made; ``looks`` says of each symbol up to where that is known.
    """

    LOCK_DEADLINE_S = 15.0
    WITHDRAW_DEADLINE_S = 10.0
    ORDERS_DEADLINE_S = 25.0
    TRADES_DEADLINE_S = 20.0
    POSITION_DEADLINE_S = 15.0
    LOOK_AGAIN_S = 2.0
    READ_AGAIN_S = 1.0
    READ_LAG_MS = 3000
    """By how much a reading of the position may lag behind what the exchange has done."""
    TRADES_LAG_MS = 600_000
    """How far back the question for trades begins while there has been none: they are counted once anyway."""
    OPENING_ATTEMPTS = 10
    LISTED_MS = 7 * 24 * 3600 * 1000 - 60_000
    """So far back the exchange lists trades."""
    MOST_ORDERS = 100
    """Whose orders traded while no daemon ran is asked of so many at most, the latest first."""
    MOST_SHORT_LISTS = 5
    MOST_TORN_READINGS = 5
    """So often the books are not opened at most: somebody else may trade all the time."""
    LOOKUP_LAG_MS = 10_000
    """The order of a trade that is younger may not be found yet."""
    MOST_LOOKUPS = 10
    """So often such an order is asked about at most: the time of its trade may be one that is still to come."""

    def __init__(
        self,
        gateway: Gateway,
        execution: ExecutionEngine,
        bus: EventBus,
        fills: FillBook,
        steps: RecoverySteps,
        *,
        on_forced: Callable[[str, str, int | None], None],
        on_missed: Callable[[Fill], None],
        looks: Mapping[str, LastLook],
        after_crash: bool,
    ) -> None:
        self._gateway = gateway
        self._execution = execution
        self._bus = bus
        self._fills = fills
        self._steps = steps
        self._on_forced = on_forced
        self._on_missed = on_missed
        self._looks = looks
        self._after_crash = after_crash
        self._began_ms = self._server_ms()
        self._opened_ms: dict[str, int] = {}
        self._looked_back: set[str] = set()
        self._readings: dict[str, _Reading] = {}
        """Looks back that are not done yet, by symbol."""
        self._short_lists = 0
        self._torn_readings: Counter[str] = Counter()
        self._lookups: dict[tuple[str, int], int] = {}
        """How often orders were asked about that are not found yet."""

    async def reconcile(self, context: SymbolContext) -> bool:
        """Have no order of ours rest, every trade counted, and the position equal to the exchange's.

        Return False if our orders could not be verified to be out. Raises ExchangeError if a reading fails.
        """
        async with self._locked(context):
            async with self._steps.step("reading open orders", self.ORDERS_DEADLINE_S):
                if not await self._withdraw(context):
                    return False
            if context.ledger.is_open:
                async with self._steps.step("reading trades", self.TRADES_DEADLINE_S):
                    missed = len(await self.count_missed_trades(context))
                async with self._steps.step("reading the position", self.POSITION_DEADLINE_S):
                    await self._compare_position(context)
            else:
                missed = 0
                async with self._steps.step("reading the position", self.POSITION_DEADLINE_S):
                    await self._open_ledger(context)
            if context.symbol not in self._looked_back:
                async with self._steps.step("reading trades", self.TRADES_DEADLINE_S):
                    await self._look_back(context)
        details = f"position {context.ledger.position_quantity:f}, {missed} missed fills"
        log.info("%s: reconciled: %s", context.symbol, details)
        self._bus.publish(ConnectionEvent("account", ConnectionKind.RECONCILED, details, context.symbol))
        return True

    @asynccontextmanager
    async def _locked(self, context: SymbolContext) -> AsyncIterator[None]:
        """Hold the symbol's lock, once whoever changes orders has finished."""
        async with self._steps.step("waiting for requests under way", self.LOCK_DEADLINE_S):
            await context.lock.acquire()
        try:
            yield
        finally:
            context.lock.release()

    async def _withdraw(self, context: SymbolContext) -> bool:
        """Have our orders out and verified; after a crash twice, because what a reading does not show may rest."""
        verified = await self._execution.withdraw(context, self.WITHDRAW_DEADLINE_S)
        if self._after_crash and not context.ledger.is_open:
            log.info("%s: the last run did not end well; looking again for its orders", context.symbol)
            await asyncio.sleep(self.LOOK_AGAIN_S)
            verified = await self._execution.withdraw(context, self.WITHDRAW_DEADLINE_S)
        return verified

    async def _open_ledger(self, context: SymbolContext) -> None:
        """Begin the books with a position and a last trade that belong together: none came between the readings.

        Raises OutcomeUnknown where one of them lags behind the other: no trade would ever explain the difference.
        """
        self._opened_ms[context.symbol] = self._server_ms()
        for _ in range(self.OPENING_ATTEMPTS):
            before = await self._gateway.last_trade(context.symbol)
            position = await self._gateway.witnessed_position(context.symbol)
            if before == await self._gateway.last_trade(context.symbol):
                break
        else:
            raise Refused(0, "the account trades too busily elsewhere to read its position")
        if not context.ledger.can_open(position, *before, self._server_ms()):
            self._torn_readings[context.symbol] += 1
            if self._torn_readings[context.symbol] <= self.MOST_TORN_READINGS:
                raise OutcomeUnknown("the position and the list of trades are not of the same moment yet")
        early = context.ledger.open(position, *before, self._server_ms() + self.READ_LAG_MS)
        context.orders.count_all()  # what orders of an earlier run have traded is in the position
        self._note_position(context, position)
        for fill in early:
            self._fills.count(context, fill)

    async def _look_back(self, context: SymbolContext) -> None:
        """Halt for what the exchange itself has traded before the books were opened, unless a run has looked at it.

        That may have been while no daemon ran, or before this one could read its position. Where none has ever looked,
        it is what was traded since this run began.
        """
        look, symbol, ledger = self._looks[context.symbol], context.symbol, context.ledger
        since_ms = self._began_ms if look.looked_ms is None else look.looked_ms + 1
        reading = self._readings.setdefault(symbol, _Reading(since_ms))
        await self._read_on(symbol, reading)
        if ledger.opened_after_ms >= reading.since_ms and reading.last_id < ledger.opened_after_id:
            self._short_lists += 1
            if self._short_lists <= self.MOST_SHORT_LISTS:
                raise OutcomeUnknown("the list of trades lacks the last one that is known")
        for order_id, time_ms in islice(list(reversed(reading.orders.items())), self.MOST_ORDERS):
            if order_id in reading.harmless:
                continue  # of an attempt that took too long
            client_id = await self._placed_as(symbol, order_id, time_ms)
            if client_id.startswith(FORCED_PREFIXES):
                text = f"the exchange itself traded the position before its books were opened ({client_id})"
                self._on_forced(symbol, text, time_ms)
                break
            reading.harmless.add(order_id)
        else:
            self._say_what_was_passed_over(symbol, len(reading.orders) - self.MOST_ORDERS)
        look.up_to(max(reading.orders.values(), default=ledger.opened_after_ms))
        self._looked_back.add(symbol)
        del self._readings[symbol]

    def _say_what_was_passed_over(self, symbol: str, orders: int) -> None:
        if orders > 0:
            text = (
                "%s: the %d orders before the last %d that traded while nobody looked were not asked about: if the"
                " exchange itself may have liquidated a part of the position, look at its list of orders"
            )
            log.warning(text, symbol, orders, self.MOST_ORDERS)

    async def _read_on(self, symbol: str, reading: _Reading) -> None:
        """Read what there is beyond the last trade that was read, page by page."""
        reading.since_ms = max(reading.since_ms, self._server_ms() - self.LISTED_MS)
        is_more = True
        while is_more:
            page = await self._gateway.trades_page(symbol, reading.last_id, reading.since_ms)
            for trade in page:
                reading.note(trade["id"], trade["orderId"], trade["time"])
            is_more = len(page) >= TRADES_PAGE

    def _server_ms(self) -> int:
        return self._gateway.rest.server_clock.time_ms()

    async def count_missed_trades(self, context: SymbolContext, differs_since_ms: int = 0) -> list[Fill]:
        """Count the trades that no stream told of; return them.

        Where the position is another one since ``differs_since_ms``, or something of it is unexplained, all since then
        are read, whatever their ids: one may have been hidden, or bear an id below the checkpoint after a reset.
        """
        missed = []
        ledger, asked_ms = context.ledger, self._server_ms()
        from_ms, after_id = asked_ms, ledger.checkpoint_id
        if ledger.unexplained_quantity:
            differs_since_ms = min(differs_since_ms or asked_ms, ledger.unexplained_since_ms)
        if differs_since_ms:
            from_ms, after_id = min(asked_ms, differs_since_ms), 0
        listed_ms = asked_ms - self.LISTED_MS  # asked for earlier ones, the exchange lists none of today
        since_ms = max(self._opened_ms[context.symbol], from_ms - self.TRADES_LAG_MS, listed_ms)
        trades = await self._gateway.user_trades(context.symbol, after_id, since_ms)
        for trade in trades:
            fill = self._gateway.fill(trade, await self._client_id(context, trade))
            if self._fills.count(context, fill):
                missed.append(fill)
                self._on_missed(fill)
                if fill.client_id.startswith(FORCED_PREFIXES):
                    reason = f"the exchange itself traded the position ({fill.client_id})"
                    self._on_forced(context.symbol, reason, fill.time_ms)
            ledger.checkpoint_id = max(ledger.checkpoint_id, fill.trade_id)
        if trades and context.symbol in self._looked_back:
            self._looks[context.symbol].up_to(max(trade["time"] for trade in trades))
        return missed

    async def _client_id(self, context: SymbolContext, trade: dict[str, Any]) -> str:
        """Return under which client id the order of a trade was placed: the list of trades does not tell.

        Numbers of orders are given anew after a reset of the exchange: one of which all is counted has not made it.
        One that was concluded to be gone, because the exchange did not find it, may have.
        """
        if context.ledger.has_counted(trade["id"], self._gateway.fill(trade, "").time_ms):
            return ""
        order = context.orders.by_order_id(trade["orderId"])
        if order is not None and (order.is_uncounted or not order.end_is_reported):
            return order.client_id
        return await self._placed_as(context.symbol, trade["orderId"], trade["time"])

    async def _placed_as(self, symbol: str, order_id: int, time_ms: int) -> str:
        """Return the client id of an order that has traded at this time, "" if the exchange does not find it.

        Raises OutcomeUnknown where that was a moment ago: the exchange may find it yet, and it may be one of its own.
        """
        client_id = await self._gateway.client_id_of(symbol, order_id)
        asked = self._lookups.pop((symbol, order_id), 0) + 1
        is_early = self._server_ms() - time_ms < self.LOOKUP_LAG_MS and asked < self.MOST_LOOKUPS
        if not client_id and is_early:
            self._lookups[symbol, order_id] = asked
            raise OutcomeUnknown("the exchange does not find the order of a trade of a moment ago")
        return client_id

    async def _compare_position(self, context: SymbolContext) -> None:
        """Adopt the exchange's position where no trade explains the difference (yet), and say so.

        A reading may lag behind our own fills: only one that is repeated, and is not older than the last fill, counts.
        """
        position = await self._gateway.position(context.symbol)
        if position.quantity != context.ledger.position_quantity:
            fills = context.ledger.fill_count
            await asyncio.sleep(self.READ_AGAIN_S)
            await self.count_missed_trades(context, position.update_ms or self._server_ms())
            asked_ms = self._server_ms() - self.READ_LAG_MS
            again = await self._gateway.witnessed_position(context.symbol)
            settled_ms = self._server_ms() - context.ledger.last_fill_ms
            is_old = settled_ms < self.READ_LAG_MS or context.ledger.outdates(again, self._server_ms())
            if again.quantity != position.quantity or context.ledger.fill_count != fills or is_old:
                raise OutcomeUnknown("the exchange's position is still moving or lags behind our fills")
            as_of_ms = max(again.update_ms or asked_ms, context.ledger.last_fill_ms)
            self._adopt_position(context, again, as_of_ms)
            position = again
        self._note_position(context, position)

    def _adopt_position(self, context: SymbolContext, position: Position, as_of_ms: int) -> None:
        ours = context.ledger.position_quantity
        if position.quantity == ours:
            return
        if context.ledger.takes_back(position):
            log.warning(
                "%s: the position held trades already that were listed after it was read", context.symbol
            )
            return
        text = (
            f"the exchange says {position.quantity}, our trades made {ours}, no trade explains the difference"
        )
        log.error("%s: position adopted: %s", context.symbol, text)
        context.ledger.adopt(position, as_of_ms)
        context.orders.count_all()
        notional = position_notional_quote(position.quantity, position.mark_price)
        self._bus.publish(RiskEvent(context.symbol, RiskKind.POSITION_ADOPTED, notional, text))

    def _note_position(self, context: SymbolContext, position: Position) -> None:
        context.state.exchange_position = position
        context.state.position = context.ledger.position_quantity
