"""Carries out what ``core.flatten`` decides: quotes out, confirmed, position closed, both verified.

Used by the risk controller and by ``python main.py flatten``. Nothing that is said or recorded here can stop it: what
goes wrong beside a request is logged if it can be, and the next step is taken.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

from core.client_ids import is_ours
from core.context import SymbolContext
from core.execution import ExecutionEngine
from core.flatten import Ask, Clear, Close, Done, Efforts, Relearn, Scene, Step, Terms, Wait, dust, next_step
from core.gateway import MAX_CANCEL_BATCH, Gateway
from core.live_order import LiveOrder, settled_ns
from core.model import OrderReport, OrderStatus, SymbolRules
from utils.clock import Clock
from utils.errors import ExchangeError, NotSent, Overloaded, Refused
from utils.quietly import quietly

log = logging.getLogger(__name__)

T = TypeVar("T")

_OTHER_UNIT = "less than the step with which this run began; `python main.py flatten` closes it"


@dataclass(frozen=True, slots=True)
class Flattened:
    """How far it got: ``is_flat`` and ``is_out`` are verified at the exchange, ``trouble`` says what is in the way.

    ``dust`` is what is left of the position and too small for any order; ``orders`` counts the closing orders.
    """

    is_flat: bool
    is_out: bool
    dust: str
    trouble: str
    orders: int

    @property
    def is_done(self) -> bool:
        """Tell whether nothing of ours rests and nothing is held that could be closed."""
        return self.is_flat and self.is_out


@dataclass(slots=True)
class _Closing:
    """One close from its beginning until it is verified, over as many rounds as that takes."""

    rules: SymbolRules
    began_ns: int
    efforts: Efforts = field(default_factory=Efforts)
    doubtful: LiveOrder | None = None
    """The closing order whose outcome is not known."""
    asked: int = 0
    """How often the exchange did not find it."""
    trouble: str = ""


class Flattening:
    """Closes the position of one symbol at a time for each caller; it may be asked again until it is done.

    A book that was proven within ``max_book_age_ms`` gives the touch; otherwise the exchange is asked for it.
    """

    LOCK_PATIENCE_S = 0.7
    CONFIRM_S = 1.0
    """For how long the close waits until no quote rests: what is over its limit does not wait for long."""
    WITHDRAW_S = 5.0
    ROUND_S = 10.0
    ROUND_ORDERS = 12
    ROUND_STEPS = 60
    PAUSE_S = 0.2
    BOOK_TIMEOUT_S = 0.5
    ORDERS_TIMEOUT_S = 0.4
    CLOCK_TIMEOUT_S = 0.5

    def __init__(
        self,
        gateway: Gateway,
        execution: ExecutionEngine,
        clock: Clock,
        terms: Terms,
        *,
        max_book_age_ms: int,
    ) -> None:
        self._gateway = gateway
        self._execution = execution
        self._clock = clock
        self._terms = terms
        self._max_book_age_ns = max_book_age_ms * 1_000_000
        self._hindrance = ""
        self._closings: dict[str, _Closing] = {}

    async def flatten(self, context: SymbolContext) -> Flattened:
        """Take one round: cancel, confirm, close, verify; the caller has closed the gate, and asks again if it fails.

        Whoever holds the symbol's lock is waited for, but not for long: a reduce-only order cannot do harm, a position
        over its limit can.
        """
        closing = self._closings.get(context.symbol)
        if closing is None:
            closing = _Closing(context.rules, self._clock.monotonic_ns())
            self._closings[context.symbol] = closing
        before = closing.efforts.orders
        await self._cancel_at_once(context)
        async with self._lock_or_patience(context):
            await self._withdraw(context, self.CONFIRM_S)
            done = await self._close(context, closing)
        async with self._lock_or_patience(context):
            is_out = await self._withdraw(context, self.WITHDRAW_S)
        if done is not None:
            done = await self._verified(context, closing)
        orders = closing.efforts.orders - before
        if done is None or not is_out:
            trouble = closing.trouble if done is None else "could not verify that no order of ours rests"
            return Flattened(is_flat=done is not None, is_out=is_out, dust="", trouble=trouble, orders=orders)
        del self._closings[context.symbol]
        return Flattened(is_flat=True, is_out=True, dust=done.dust, trouble="", orders=orders)

    async def _verified(self, context: SymbolContext, closing: _Closing) -> Done | None:
        """Return what is left now that no quote rests, None if there is something to close again."""
        step = self._next(context, closing, await self._look(context, closing))
        if isinstance(step, Done):
            return step
        closing.trouble = "something was filled meanwhile"
        return None

    # --- quotes out -------------------------------------------------------------------------------------------

    async def _cancel_at_once(self, context: SymbolContext) -> None:
        """Send the cancels without waiting for anybody; they are verified later."""
        try:
            async with asyncio.timeout(self.LOCK_PATIENCE_S):
                await self._execution.cancel(context, context.orders.living())
        except (TimeoutError, ExchangeError) as error:
            _say(logging.WARNING, "%s: the quotes could not be cancelled yet: %s", context.symbol, error)
        except Exception as error:  # noqa: BLE001 - what is recorded of a cancel must not stop the cancel
            _say(logging.ERROR, "%s: cancelling without a record: %s", context.symbol, error)
            await self._try(self._cancel(context.rules, context.orders.living()))

    async def _withdraw(self, context: SymbolContext, within_s: float) -> bool:
        """Have no order of ours rest; return whether the exchange has confirmed that."""
        try:
            return await self._execution.withdraw(context, within_s)
        except Exception as error:  # noqa: BLE001 - as above
            _say(logging.ERROR, "%s: cancelling without a record: %s", context.symbol, error)
        return bool(await self._try(self._withdraw_bare(context, within_s)))

    async def _withdraw_bare(self, context: SymbolContext, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                while resting := self._ours_of(
                    context, await self._gateway.open_orders(context.rules, is_ours)
                ):
                    await self._cancel(context.rules, [_order_of(report) for report in resting])
        except TimeoutError:
            return False
        return True

    async def _cancel(self, rules: SymbolRules, orders: list[LiveOrder]) -> None:
        for start in range(0, len(orders), MAX_CANCEL_BATCH):
            await self._gateway.cancel(rules, orders[start : start + MAX_CANCEL_BATCH])

    # --- closing ----------------------------------------------------------------------------------------------

    async def _close(self, context: SymbolContext, closing: _Closing) -> Done | None:
        """Take steps until there is nothing left to close; None if that is not so after a bounded number of them."""
        until_ns = self._clock.monotonic_ns() + int(self.ROUND_S * 1e9)
        orders = closing.efforts.orders + self.ROUND_ORDERS
        for _ in range(self.ROUND_STEPS):
            scene = await self._look(context, closing)
            step = self._next(context, closing, scene)
            if isinstance(step, Done):
                return step
            if self._clock.monotonic_ns() >= until_ns or closing.efforts.orders >= orders:
                break
            if not await self._take(context, closing, scene, step):
                await asyncio.sleep(self.PAUSE_S)
        return None

    def _next(self, context: SymbolContext, closing: _Closing, scene: Scene) -> Step:
        """Return the next step; a rest for which this run has no unit is left, for it would be tried for ever."""
        step = next_step(scene, closing.efforts, closing.rules, self._terms)
        if not isinstance(step, Close) or scene.quantity is None:
            return step
        if _as_known(step, closing.rules, context.rules)[0]:
            return step
        return Done(dust(scene.quantity, closing.rules, _OTHER_UNIT))

    async def _take(self, context: SymbolContext, closing: _Closing, scene: Scene, step: Step) -> bool:
        """Take a step; return whether there is reason to look again at once."""
        match step:
            case Close():
                return await self._send(context, closing, scene, step)
            case Ask():
                await self._try(self._ask(context, closing))
            case Clear():
                closing.efforts.clears += 1
                await self._withdraw(context, self.CONFIRM_S)
            case Relearn():
                await self._try(self._relearn(context, closing))
            case Wait(reason):
                closing.trouble = reason
        return False

    def _ours_of(self, context: SymbolContext, resting: Sequence[OrderReport]) -> list[OrderReport]:
        """Return those of them that are ours: another instance's are its own to take out."""
        execution, orders = self._execution, context.orders
        return [
            report
            for report in resting
            if orders.find(report.client_id) is not None or not execution.is_strangers(report)
        ]

    async def _look(self, context: SymbolContext, closing: _Closing) -> Scene:
        """Return what is known now: position and open orders are asked for anew each time."""
        await self._gateway.rest.mend_clock(self.CLOCK_TIMEOUT_S)
        position, resting = await asyncio.gather(
            self._try(self._gateway.witnessed_position(context.symbol)),
            self._try(self._resting(context)),
        )
        if position is not None:
            context.state.exchange_position = position
        doubtful = closing.doubtful
        if doubtful is not None and doubtful.status.is_terminal:  # the account stream has told of it
            closing.doubtful = doubtful = None
        is_held = position is not None and position.quantity != 0
        return Scene(
            quantity=position.quantity if position is not None else None,
            resting=len(self._ours_of(context, resting)) if resting is not None else None,
            in_flight=doubtful is not None,
            touch=await self._touch(context, closing.rules) if is_held else None,
            mark_price=position.mark_price if position is not None else Decimal(0),
            elapsed_s=(self._clock.monotonic_ns() - closing.began_ns) / 1e9,
        )

    async def _resting(self, context: SymbolContext) -> list[OrderReport]:
        """Return our open orders; raises TimeoutError after a short while, because the close can do without."""
        async with asyncio.timeout(self.ORDERS_TIMEOUT_S):
            return await self._gateway.open_orders(context.rules, is_ours)

    async def _touch(self, context: SymbolContext, rules: SymbolRules) -> tuple[int, int] | None:
        """Return best bid and ask in ticks of these rules, rounded outwards; None if there is no recent book."""
        book, now_ns = context.state.book, self._clock.monotonic_ns()
        if book is None or now_ns - context.state.book_proven_ns > self._max_book_age_ns:
            book = await self._try(
                self._gateway.book_top(
                    context.rules,
                    attempts=1,
                    timeout_s=self.BOOK_TIMEOUT_S,
                    max_age_ms=self._max_book_age_ns // 1_000_000,
                )
            )
        if book is None or not book.is_sane:
            return None
        known = context.rules
        return rules.floor_ticks(known.price(book.bid_ticks)), rules.ceil_ticks(known.price(book.ask_ticks))

    async def _send(self, context: SymbolContext, closing: _Closing, scene: Scene, close: Close) -> bool:
        """Send a closing order; return whether it was executed as a whole."""
        efforts = closing.efforts
        lots, price_ticks = _as_known(close, closing.rules, context.rules)
        efforts.sent(close, scene)
        order = self._execution.begin_close(context, close.side, lots, price_ticks)
        closing.doubtful, closing.asked = order, 0
        closing.trouble = "unknown whether a closing order was executed"
        try:
            report = await self._execution.close(context, order)
        except (NotSent, Overloaded) as error:
            closing.doubtful = None
            closing.trouble = f"the closing order was not taken: {error}"
        except Refused as error:
            closing.doubtful = None
            efforts.refused(error.code, scene.elapsed_s)
            closing.trouble = f"the closing order was refused: {error}"
        except Exception as error:  # noqa: BLE001 - whatever it was, the exchange is asked what became of the order
            closing.trouble = f"unknown whether a closing order was executed ({error}); asking"
        else:
            efforts.taken()
            closing.doubtful = None if report.status.is_terminal else order
            closing.trouble = "the closing orders find too few on the other side"
            return report.executed_lots >= lots
        _say(logging.WARNING, "%s: %s", context.symbol, closing.trouble)
        return False

    async def _ask(self, context: SymbolContext, closing: _Closing) -> None:
        """Find out what became of the doubtful closing order: by its client id, and by the trades since.

        That it is not found proves nothing until the exchange executes it no more. One that rests is cancelled.
        """
        order = closing.doubtful
        if order is None:
            return
        report = await self._gateway.find_order(context.rules, order.client_id)
        if report is not None:
            context.orders.note_taker(report)
            if report.status.is_terminal:
                closing.doubtful = None
            else:
                await self._gateway.cancel(context.rules, [order])
            return
        closing.asked += 1
        late_ns = settled_ns(order.sent_ns, self._gateway.rest.recv_window_ms)
        if closing.asked < 2 or self._clock.monotonic_ns() < late_ns:
            return
        if not await self._has_traded(context, order):
            context.orders.end(order, OrderStatus.REJECTED, "never reached the exchange")
        closing.doubtful = None

    async def _has_traded(self, context: SymbolContext, order: LiveOrder) -> bool:
        """Tell whether there are trades since the order was sent that are of no order known here."""
        rest = self._gateway.rest
        age_ms = (self._clock.monotonic_ns() - order.sent_ns) // 1_000_000
        since_ms = rest.server_clock.time_ms() - age_ms - rest.recv_window_ms
        trades = await self._gateway.user_trades(context.symbol, 0, since_ms)
        takers = {taker.order_id for taker in context.orders.takers()}
        return any(
            trade["side"] == order.side.value
            and trade["orderId"] not in takers
            and context.orders.by_order_id(trade["orderId"]) is None
            for trade in trades
        )

    async def _relearn(self, context: SymbolContext, closing: _Closing) -> None:
        closing.efforts.has_relearned = True
        info = await self._gateway.exchange_info()
        closing.rules = info.rules.get(context.symbol, closing.rules)

    # --- what holds it up, and what must not ------------------------------------------------------------------

    async def _try(self, work: Awaitable[T]) -> T | None:
        """Return the result, or None if there is none, whatever the reason."""
        try:
            return await work
        except (ExchangeError, TimeoutError) as error:
            hindrance = str(error) or "no answer in time"
            if hindrance != self._hindrance:  # once for as long as it is the same
                self._hindrance = hindrance
                _say(logging.INFO, "while closing: %s", hindrance)
        except Exception as error:  # noqa: BLE001 - the next step is more important than any reason
            _say(logging.ERROR, "while closing: %s: %s", type(error).__name__, error)
        return None

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


def _as_known(close: Close, learned: SymbolRules, known: SymbolRules) -> tuple[int, int | None]:
    """Return lots and price in the units of the rules that the program knows; never more, and never a worse price."""
    lots = known.floor_lots(learned.quantity(close.lots))
    if close.price_ticks is None:
        return lots, None
    price = learned.price(close.price_ticks)
    return lots, known.ceil_ticks(price) if close.side.sign < 0 else known.floor_ticks(price)


def _order_of(report: OrderReport) -> LiveOrder:
    """Return what a cancel needs to know of an order that nobody here may know."""
    return LiveOrder(report.client_id, report.side, 0, report.price_ticks, report.lots, 0)


def _say(level: int, text: str, *values: object) -> None:
    """Log, if that can be done."""
    quietly(lambda: log.log(level, text, *values))
