"""Commands become requests, and each request gets one of three outcomes: accepted, refused, unknown.

Callers hold the symbol's lock. The gate and the last objection are asked at the moment of sending.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from core.amend_queue import AmendQueue
from core.amending import Amending
from core.brake import POST_ONLY_WOULD_TAKE, CrossingBrake, told_code
from core.client_ids import ClientIds, is_ours
from core.context import SymbolContext
from core.events import EventBus, OrderEvent, OrderKind
from core.gateway import MAX_CANCEL_BATCH, UNKNOWN_ORDER, Gateway
from core.live_order import LiveOrder, absence_is_proof
from core.model import BookTop, OrderReport, OrderStatus, Quote, Side
from core.risk import Exposure, amend_objection, last_objection
from core.timestamp_hold import TimestampHold
from utils.clock import Clock
from utils.errors import ExchangeError, NotSent, OutcomeUnknown, Overloaded, RateLimited, Refused

log = logging.getLogger(__name__)

DUPLICATE_CLIENT_ID = -4116

_KIND_OF_STATUS = {
    OrderStatus.ACTIVE: OrderKind.PLACED,
    OrderStatus.PARTIALLY_FILLED: OrderKind.PARTIALLY_FILLED,
    OrderStatus.FILLED: OrderKind.FILLED,
    OrderStatus.CANCELLED: OrderKind.CANCELLED,
    OrderStatus.EXPIRED: OrderKind.EXPIRED,
    OrderStatus.EXPIRED_IN_MATCH: OrderKind.EXPIRED,
    OrderStatus.REJECTED: OrderKind.REJECTED,
}


def _nobody(_code: int) -> None:
    """Nobody wants to know of refusals."""


class ExecutionEngine:
    """Sends what was decided, and keeps the orders' records true whatever comes back.

    ``recv_window_ms`` is the bound after which the exchange executes a request no more; no quote is sent on a book that
    was not proven within ``max_book_age_ms``.
    """

    WITHDRAW_PAUSE_S = 0.25
    CLOCK_TIMEOUT_S = 0.5
    LONGEST_WITHDRAW_PAUSE_S = 1.0
    CANCEL_PATIENCE_S = 0.5
    """So long cancels may go unanswered while there is another way, by which each order is cancelled then; quotes have
    to be out within 2 s, and whoever asks has less patience than any request."""

    def __init__(
        self,
        gateway: Gateway,
        clock: Clock,
        bus: EventBus,
        ids: ClientIds,
        *,
        recv_window_ms: int,
        max_book_age_ms: int,
        amend_queue: AmendQueue | None = None,
    ) -> None:
        self._gateway = gateway
        self._clock = clock
        self._bus = bus
        self._ids = ids
        self._recv_window_ms = recv_window_ms
        self._max_book_age_ns = max_book_age_ms * 1_000_000
        self._place_again_ns = 0
        self.timestamps = TimestampHold()
        self._crossings = CrossingBrake()
        self.is_strangers: Callable[[OrderReport], bool] = lambda _report: False
        """Tells whether an order with our prefix was placed by somebody else who lives; whoever knows puts it here."""
        self._complained: dict[str, str] = {}
        self._unheard_cancels: set[tuple[str, bool, bool | None]] = set()
        """Of which symbols no cancel is answered: batches and single ones apart, and those that go a second way."""
        self.on_refusal: Callable[[int], None] = _nobody
        """Called with the code of each refusal of a new order: it may say that rules or account have changed."""
        self.amend_queue = amend_queue or AmendQueue(gateway.amend, clock)
        self._amending = Amending(
            self.amend_queue,
            clock,
            bus,
            objection=self._amend_objection,
            closed=self._closed,
            report=self.report,
            accepted=self._accepted,
            refused=self._learn_refusal,
            crossings=self._crossings,
        )

    @property
    def is_limited(self) -> bool:
        """Tell whether nothing can be sent for now because of a limit or a ban."""
        return self._gateway.rest.limited_for_s > 0

    def may_ask_for(self, context: SymbolContext, quote: Quote) -> bool:
        """Tell whether an order may ask for this price now: it was not refused again and again as one that takes."""
        if not self._crossings.grips:
            return True
        now_ns = self._clock.monotonic_ns()
        return self._crossings.allows(context.symbol, quote.side, quote.price_ticks, now_ns)

    def askable(
        self, context: SymbolContext, changes: list[tuple[LiveOrder, Quote, str]]
    ) -> list[tuple[LiveOrder, Quote, str]]:
        """Return those of the changes of orders that may ask for their price now."""
        if not self._crossings.grips:
            return changes
        return [each for each in changes if self.may_ask_for(context, each[1])]

    # --- placing ----------------------------------------------------------------------------------------------

    async def place(self, context: SymbolContext, quotes: Sequence[Quote], book: BookTop) -> list[LiveOrder]:
        """Place quotes that were decided on ``book``, all at once; return their orders with what became of each."""
        free = [quote for quote in quotes if context.orders.slot_is_free(quote.slot)]
        return list(await asyncio.gather(*(self._place_one(context, quote, book) for quote in free)))

    async def _place_one(self, context: SymbolContext, quote: Quote, book: BookTop) -> LiveOrder:
        now_ns = self._clock.monotonic_ns()
        order = context.orders.register(self._ids.mint(), quote, now_ns, book.mid_half_ticks)
        objection = self._objection(context, quote, book)
        if objection:
            self._end(context, order, OrderStatus.REJECTED, f"not sent: {objection}")
            return order
        context.state.tick_to_order_ms = (now_ns - book.received_ns) / 1e6
        try:
            report = await self._gateway.place_post_only(
                *(context.rules, order.client_id, quote, partial(self._objection, context, quote, book)),
                on_signing=partial(self._note_signing, order),
            )
        except (NotSent, Refused) as error:
            self._refused(context, order, error)
        except BaseException as error:  # also when this task is cancelled: the request may be on its way
            self._doubt(context, order, str(error) or type(error).__name__)
            if not isinstance(error, OutcomeUnknown):
                raise
        else:
            self._accepted()
            self._crossings.accepted(context.symbol, order.side, quote.price_ticks)
            self.report(context, order, report)
        return order

    def _note_signing(self, order: LiveOrder) -> None:
        """Note that an order is signed now: waiting for limits or clock, it may have grown older than its decision."""
        order.sent_ns = self._clock.monotonic_ns()

    def _objection(self, context: SymbolContext, quote: Quote, book: BookTop) -> str:
        if self._clock.monotonic_ns() > context.state.dead_man_sends_until_ns:
            return "the dead-man switch is about to lapse"
        return self._closed(context) or last_objection(context, quote, book)

    def _closed(self, context: SymbolContext) -> str:
        """Return why no quote may be sent or changed at this moment, or an empty string."""
        if not context.gate.is_open:
            return f"quoting is closed ({'; '.join(context.gate.reasons)})"
        now_ns = self._clock.monotonic_ns()
        if now_ns - context.state.book_proven_ns > self._max_book_age_ns:
            return "the book is stale"
        if now_ns < self._place_again_ns:
            return "the exchange takes no more orders for now"
        if self.timestamps.room(now_ns) == 0:
            return "the exchange refuses our timestamps"
        if context.orders.awaiting_echo and context.orders.echo_is_overdue(now_ns, self._recv_window_ms):
            return "the account stream is silent about an order"
        return ""

    def _refused(self, context: SymbolContext, order: LiveOrder, error: NotSent | Refused) -> None:
        if isinstance(error, Refused) and error.code == DUPLICATE_CLIENT_ID:
            self._doubt(context, order, "the exchange has an order of this id already")
            return
        if isinstance(error, Refused):
            self._learn_refusal(error)
            order.refused_code = told_code(error)
            if error.code == POST_ONLY_WOULD_TAKE:
                now_ns = self._clock.monotonic_ns()
                self._crossings.refused(context.symbol, order.side, order.price_ticks, now_ns)
            self.on_refusal(error.code)
        self._end(context, order, OrderStatus.REJECTED, str(error))

    def _doubt(self, context: SymbolContext, order: LiveOrder, reason: str) -> None:
        context.orders.doubt(order, reason)
        if order.status is OrderStatus.IN_DOUBT:
            log.warning(
                "%s: unknown whether %s was placed (%s); asking", context.symbol, order.client_id, reason
            )
            self._publish(context, order, OrderKind.IN_DOUBT, reason)

    def _learn_refusal(self, refusal: Refused) -> None:
        """Note what a refused order or amendment says of those that would follow it."""
        now_ns = self._clock.monotonic_ns()
        if isinstance(refusal, RateLimited):
            self._place_again_ns = now_ns + int(refusal.retry_after_s * 1e9)
        if self.timestamps.refused(refusal.code, now_ns):
            self._gateway.rest.clock_is_doubtful = True  # an entry of a batch has not said so yet
            log.warning("orders wait while the exchange's clock is measured anew: %s", refusal)

    def _accepted(self) -> None:
        if self.timestamps.accepted():
            log.info("the exchange takes our timestamps again")

    # --- amending ---------------------------------------------------------------------------------------------

    async def amend(
        self, context: SymbolContext, changes: Sequence[tuple[LiveOrder, Quote, str]], book: BookTop
    ) -> None:
        """Amend orders to quotes that were decided on ``book``, for the reason given with each; note every outcome.

        Those that do not come soon are noted when they do. What cannot be looked up now is asked about later (``ask``).
        """
        unclear = await self._amending.amend(context, changes, book)
        try:
            await self.look_up(context, unclear)
        except ExchangeError as error:
            log.warning("%s: an order could not be looked up yet: %s", context.symbol, error)

    def amend_now(
        self,
        context: SymbolContext,
        changes: Sequence[tuple[LiveOrder, Quote, str]],
        book: BookTop,
        exposure: Exposure,
        on_end: Callable[[], None],
    ) -> int:
        """Amend like ``amend`` as many of the orders, from the first, as needs no waiting; return how many.

        ``exposure`` is that of this moment. ``on_end`` is called after the outcome of each of them has been noted.
        """
        return self._amending.amend_now(context, changes, book, exposure, on_end)

    def rehearse_amend(
        self,
        context: SymbolContext,
        change: tuple[LiveOrder, Quote, str],
        book: BookTop,
        exposure: Exposure,
    ) -> None:
        """Object to an amendment, and sign it, without sending it; nothing is changed."""
        if (amend := self._amending.rehearsed(context, change, book, exposure)) is not None:
            self._gateway.rehearse_amend(context.rules, amend)

    def _amend_objection(
        self,
        context: SymbolContext,
        order: LiveOrder,
        price_ticks: int,
        total_lots: int,
        book: BookTop,
        exposure: Exposure | None,
    ) -> str:
        return self._closed(context) or amend_objection(
            context, order, price_ticks, total_lots, book, exposure
        )

    # --- cancelling -------------------------------------------------------------------------------------------

    async def cancel(self, context: SymbolContext, orders: Sequence[LiveOrder]) -> list[LiveOrder]:
        """Cancel these orders; return those of which it is unknown whether they were, for want of a readable answer.

        All leave at once: the failure of one batch keeps no other back. Afterwards each order has ended, or is known to
        need another look. Raises RateLimited and AuthFailed; other failures leave the orders living, to be cancelled
        again. What cannot be looked up now is asked about later (``ask``).
        """
        self.amend_queue.drop(orders, "it is being cancelled")
        sent_ns = self._clock.monotonic_ns()
        for order in orders:
            context.orders.begin_cancel(order, sent_ns)
        unheard: list[LiveOrder] = []
        unclear: list[LiveOrder] = []
        batches = [
            orders[start : start + MAX_CANCEL_BATCH] for start in range(0, len(orders), MAX_CANCEL_BATCH)
        ]
        failures = await self._cancel_batches(context, batches, sent_ns, unheard, unclear)
        failures += await self._try_to_look_up(context, unclear)
        if failures:
            raise failures[0]
        return unheard

    async def _cancel_batches(
        self,
        context: SymbolContext,
        batches: Sequence[Sequence[LiveOrder]],
        sent_ns: int,
        unheard: list[LiveOrder],
        unclear: list[LiveOrder],
        *,
        by_rest: bool | None = None,
    ) -> list[BaseException]:
        """Cancel these batches like ``_cancel_batch``, all at once; return what failed and is more than no answer."""
        outcomes = await asyncio.gather(
            *(
                self._cancel_batch(context, batch, sent_ns, unheard, unclear, by_rest=by_rest)
                for batch in batches
            ),
            return_exceptions=True,
        )
        return [outcome for outcome in outcomes if outcome is not None]

    async def _cancel_batch(
        self,
        context: SymbolContext,
        orders: Sequence[LiveOrder],
        sent_ns: int,
        unheard: list[LiveOrder],
        unclear: list[LiveOrder],
        *,
        by_rest: bool | None,
    ) -> None:
        """Cancel up to ten orders; add those without a readable answer to one list, those to look up to the other.

        A batch goes by REST alone, a single cancel by the order socket while that is up. Where the one fails and there
        is the other, each order is cancelled by that: it does no harm to cancel an order twice. ``by_rest`` is None for
        the first way, and for the second, after which there is none, whether it is REST. Where there are two
        ways, each is tried once while the exchange is too busy.
        """
        is_batch, is_first = len(orders) > 1, by_rest is None
        has_socket = is_first and self._gateway.can_cancel_singly()
        patience_s = self.CANCEL_PATIENCE_S if has_socket else None
        way = context.symbol, is_batch, by_rest
        try:
            results = await self._gateway.cancel(
                *(context.rules, orders, patience_s),
                avoids_socket=by_rest is True,
                attempts=1 if has_socket or not is_first else 3,
            )
        except (NotSent, OutcomeUnknown, Overloaded) as error:
            goes_on = is_first and self._gateway.can_cancel_singly() if is_batch else has_socket
            is_busy = isinstance(error, Overloaded)
            if is_busy and not goes_on:
                raise
            if way not in self._unheard_cancels:  # once for as long as it goes on
                self._unheard_cancels.add(way)
                other = "each goes by the order socket" if is_batch else "it goes by REST"
                how = "was not taken" if is_busy else "got no answer"
                what = other if goes_on else "orders count as resting"
                log.warning("%s: a cancel %s (%s); %s", context.symbol, how, error, what)
            if goes_on:
                singly = [[each] for each in orders]
                failures = await self._cancel_batches(
                    *(context, singly, sent_ns, unheard, unclear), by_rest=not is_batch
                )
                if failures:
                    raise failures[0] from error
            else:  # what left the first way without an answer may have been executed
                unheard += () if is_first and isinstance(error, NotSent) else orders
            return
        self._unheard_cancels.discard(way)
        if is_first:
            self._unheard_cancels.discard((context.symbol, False, not is_batch))
        for order, result in zip(orders, results, strict=True):
            if not isinstance(result, Refused):
                self.report(context, order, result)
                context.orders.expect_word_of_end(order, sent_ns, self._clock.monotonic_ns())
            elif self._is_unclear(context, order, result):
                unclear.append(order)

    async def _try_to_look_up(
        self, context: SymbolContext, orders: Sequence[LiveOrder]
    ) -> list[BaseException]:
        """Look these orders up, those of which that fails later; return what failed and is more than no answer."""
        outcomes = await asyncio.gather(
            *(self._look_up_one(context, order) for order in orders), return_exceptions=True
        )
        for order, outcome in zip(orders, outcomes, strict=True):
            if isinstance(outcome, ExchangeError):
                context.orders.wonder(order, f"what its cancel found could not be looked up ({outcome})")
        return [
            outcome
            for outcome in outcomes
            if outcome is not None and not isinstance(outcome, NotSent | OutcomeUnknown)
        ]

    def _is_unclear(self, context: SymbolContext, order: LiveOrder, refusal: Refused) -> bool:
        """Note a cancel that was refused, mostly because the order was filled or is gone; return whether to ask."""
        if refusal.code == UNKNOWN_ORDER:
            order.uncancellable_ns = self._clock.monotonic_ns()
        else:
            log.warning("%s: cancel of %s refused: %s", context.symbol, order.client_id, refusal)
        return not order.status.is_terminal

    async def withdraw(self, context: SymbolContext, deadline_s: float) -> bool:
        """Cancel all orders of ours on the symbol until the exchange confirms that none rests; return whether it did.

        Finds orders that an earlier run left, too. Orders of others are not touched. Attempts come ever slower, down to
        one a second: what the exchange refuses to do it refuses four times a second as well.
        """
        pause_s = self.WITHDRAW_PAUSE_S
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    if await self._withdraw_once(context):
                        return True
                    await self._gateway.rest.mend_clock(
                        self.CLOCK_TIMEOUT_S
                    )  # at the end of a run nobody else does it
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, self.LONGEST_WITHDRAW_PAUSE_S)
        except TimeoutError:
            return False

    async def _withdraw_once(self, context: SymbolContext) -> bool:
        try:
            if context.orders.living():
                await self.cancel(context, context.orders.living())
            resting = await self.ours_at_exchange(context)
            if resting:  # also those that were believed to have ended
                await self.cancel(context, resting)
            seen = {order.client_id for order in resting}
            await self.look_up(
                context, [order for order in context.orders.living() if order.client_id not in seen]
            )
        except ExchangeError as error:
            self._complain(context, type(error).__name__, f"could not verify that no order rests: {error}")
            return False
        self._complained.pop(context.symbol, None)
        return not resting and not context.orders.living()

    async def ours_at_exchange(self, context: SymbolContext) -> list[LiveOrder]:
        """Return our orders that rest at the exchange; unknown ones are taken up, not those of a living stranger."""
        resting = []
        for report in await self._gateway.open_orders(context.rules, is_ours):
            known = context.orders.find(report.client_id)
            if known is None and self.is_strangers(report):
                continue
            order = context.orders.adopt(report, self._clock.monotonic_ns())
            if known is None:
                log.warning("%s: found an order of an earlier run: %s", context.symbol, report.client_id)
                self._publish(context, order, OrderKind.ORPHAN, "left by an earlier run")
            resting.append(order)
        return resting

    def _complain(self, context: SymbolContext, kind: str, text: str) -> None:
        """Log a complaint once for as long as it is of the same kind."""
        if self._complained.get(context.symbol) != kind:
            self._complained[context.symbol] = kind
            log.warning("%s: %s", context.symbol, text)

    # --- finding out ------------------------------------------------------------------------------------------

    async def look_up(self, context: SymbolContext, orders: Sequence[LiveOrder]) -> None:
        """Ask the exchange what became of these orders, all at once, and note the answers."""
        await asyncio.gather(*(self._look_up_one(context, order) for order in orders))

    async def _look_up_one(self, context: SymbolContext, order: LiveOrder) -> None:
        asked_ns = self._clock.monotonic_ns()
        report = await self._gateway.find_order(context.rules, order.client_id)
        if report is not None:
            context.orders.asked(order)
            self.report(context, order, report, asked_ns)
            return
        order.not_found += 1
        now_ns = self._clock.monotonic_ns()
        if not order.status.is_terminal and absence_is_proof(order, now_ns, self._recv_window_ms):
            self._vanished(context, order)
        if order.status.is_terminal:
            context.orders.asked(order)  # else it is asked again: once not found proves nothing

    def _vanished(self, context: SymbolContext, order: LiveOrder) -> None:
        """End the life of an order that the exchange has proven not to have: never accepted, or long forgotten."""
        if order.accepted_ns:
            context.orders.end(order, OrderStatus.CANCELLED, "the exchange knows it no longer")
            self._publish(context, order, OrderKind.CANCELLED, order.reason)
        else:
            context.orders.end(order, OrderStatus.REJECTED, "never reached the exchange")
            self._publish(context, order, OrderKind.NEVER_EXISTED, order.reason)

    @staticmethod
    def loose(context: SymbolContext) -> list[LiveOrder]:
        """Return the orders that are in doubt, or whose cancel has not been answered."""
        return [
            order
            for order in context.orders.living()
            if order.cancel_requested or order.status is OrderStatus.IN_DOUBT
        ]

    def report(
        self, context: SymbolContext, order: LiveOrder, report: OrderReport, asked_ns: int | None = None
    ) -> None:
        """Note what the exchange says of an order, from whichever channel; publish what is new.

        ``asked_ns`` is the time of asking if it was asked: only such a reading may settle an amend without its target.
        """
        before, was_placed = order.status, order.order_id != 0
        price_ticks, lots = order.price_ticks, order.lots
        if not self._note(context, order, report, asked_ns) or (
            before.is_terminal and order.status is before
        ):
            return
        if before.is_terminal and not order.status.is_terminal:
            log.error("%s: %s was believed not to exist, but rests", context.symbol, order.client_id)
        if (price_ticks, lots) != (order.price_ticks, order.lots):
            self._publish(context, order, OrderKind.AMENDED)
        if not was_placed and order.status is not OrderStatus.ACTIVE:
            self._publish(context, order, OrderKind.PLACED)
        kind = _KIND_OF_STATUS.get(order.status)
        if kind is not None and not (was_placed and kind is OrderKind.PLACED):
            self._publish(context, order, kind)

    def _note(
        self, context: SymbolContext, order: LiveOrder, report: OrderReport, asked_ns: int | None
    ) -> bool:
        now_ns = self._clock.monotonic_ns()
        if asked_ns is None:
            return context.orders.apply(order, report, now_ns)
        return context.orders.read(order, report, asked_ns, now_ns, self._recv_window_ms)

    async def ask(self, context: SymbolContext) -> None:
        """Look up the orders of which something is known that cannot be, or whose amend has an unknown outcome.

        Those that the exchange does not find are cancelled: only a cancel that finds nothing proves their end.
        """
        questions = context.orders.to_ask()
        asked = [order for client_id in questions if (order := context.orders.find(client_id)) is not None]
        for order in asked:
            log.info("%s: asking about %s: %s", context.symbol, order.client_id, questions[order.client_id])
        await self.look_up(context, asked)
        lost = [order for order in asked if order.not_found > 1 and not order.status.is_terminal]
        if lost:
            await self.cancel(context, lost)

    # --- closing the position ---------------------------------------------------------------------------------

    def begin_close(
        self, context: SymbolContext, side: Side, lots: int, price_ticks: int | None
    ) -> LiveOrder:
        """Return a new reduce-only order that is about to be sent by ``close``, its client id taken down."""
        now_ns = self._clock.monotonic_ns()
        return context.orders.register_taker(self._ids.mint(), side, lots, now_ns, price_ticks or 0)

    async def close(self, context: SymbolContext, order: LiveOrder) -> OrderReport:
        """Send an order of ``begin_close``; note its outcome, and raise it if it is not that it was accepted."""
        price_ticks = order.price_ticks or None
        try:
            report = await self._gateway.reduce_position(
                *(context.rules, order.client_id, order.side, order.lots, price_ticks),
                on_signing=partial(self._note_signing, order),
            )
        except (NotSent, Refused) as error:
            if isinstance(error, Refused) and error.code == DUPLICATE_CLIENT_ID:
                context.orders.doubt(order, "the exchange has an order of this id already")
                raise OutcomeUnknown(order.reason) from error
            context.orders.end(order, OrderStatus.REJECTED, str(error))
            raise
        except BaseException as error:  # also when this task is cancelled: the request may be on its way
            context.orders.doubt(order, str(error) or type(error).__name__)
            raise
        context.orders.note_taker(report)
        return report

    # --- telling ----------------------------------------------------------------------------------------------

    def _end(self, context: SymbolContext, order: LiveOrder, status: OrderStatus, reason: str) -> None:
        if not context.orders.end(order, status, reason):
            # the account stream has told of it already: what exists cannot be refused
            log.error("%s: %s was refused (%s), but exists", context.symbol, order.client_id, reason)
            return
        expected = order.refused_code == POST_ONLY_WOULD_TAKE or reason.startswith("not sent")
        level = logging.INFO if expected else logging.WARNING
        log.log(level, "%s: %s %d not placed: %s", context.symbol, order.side.lower(), order.level, reason)
        self._publish(context, order, OrderKind.REJECTED, reason)

    def _publish(self, context: SymbolContext, order: LiveOrder, kind: OrderKind, details: str = "") -> None:
        if kind in (OrderKind.PLACED, OrderKind.AMENDED) and order.decided_mid_half_ticks:
            details = f"mid={context.rules.tick_size * order.decided_mid_half_ticks / 2:f}"
        if kind is OrderKind.CANCELLED and order.decision.startswith("cancel: "):
            details = details or order.decision.removeprefix("cancel: ")
        self._bus.publish(
            OrderEvent(
                symbol=context.symbol,
                kind=kind,
                client_id=order.client_id,
                side=order.side,
                level=order.level,
                price=context.rules.price(order.price_ticks),
                quantity=context.rules.quantity(order.lots),
                details=details,
            )
        )
