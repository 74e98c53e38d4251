"""Amendments: what is sent to change an order in place, and what each answer means for it."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec import Struct

from core.amend_queue import AmendQueue
from core.brake import POST_ONLY_WOULD_TAKE, UNREADABLE, CrossingBrake, told_code
from core.context import SymbolContext
from core.events import EventBus, OrderModifyEvent, OrderModifyFailureEvent, OrderModifySuccessEvent
from core.gateway import Amend, Answer
from core.live_order import MAX_AMENDS, LiveOrder
from core.model import BookTop, OrderReport, Quote
from core.risk import Exposure
from utils.clock import Clock
from utils.errors import NotSent, OutcomeUnknown, Refused

log = logging.getLogger(__name__)

NO_NEED_TO_MODIFY = -5027
TOO_MANY_MODIFICATIONS = -5026
MODIFICATION_PENDING = -5043

_MAY_BE_GONE = frozenset({-2013, -2011, POST_ONLY_WOULD_TAKE})
"""Unknown order, or a post-only price that would take: the order may have ended before, or by this very request."""

_PASSING = frozenset({0, -1001, -1003, -1008, -1015, -1021, -5028})
"""Refusals that say nothing of the next attempt: nothing was sent, the exchange was busy, a limit was reached, the
clock was off."""

_MAY_PASS = frozenset({-2019, -4140, -5024, UNREADABLE})
"""Margin is short for the moment, the symbol halted, or no code was given; the third time in a row it is for good."""
STRIKES = 3

E = TypeVar("E", OrderModifyEvent, OrderModifySuccessEvent, OrderModifyFailureEvent)


class Amendment(Struct, frozen=True):
    """One order, what it is to become, and why; ``old`` is its price and total quantity before, in ticks and lots."""

    order: LiveOrder
    quote: Quote
    reason: str
    old: tuple[int, int]
    new: tuple[int, int]


class _Wish(Struct, eq=False):
    """An amendment on its way through the queue; what it changes is settled when it leaves."""

    amending: "Amending"
    context: SymbolContext
    order: LiveOrder
    quote: Quote
    reason: str
    book: BookTop
    exposure: Exposure | None = None
    """What the symbol is exposed to in the turn in which several leave, those before this one counted."""
    amendment: Amendment | None = None
    is_told: bool = False
    is_unclear: bool = False

    @property
    def new(self) -> tuple[int, int]:
        """Return the price and the total quantity that it asks for now."""
        return self.quote.price_ticks, self.order.executed_lots + self.quote.lots

    def objection(self) -> str:
        """Return why it is not to be sent; empty if it is."""
        return self.amending.objection_to(self)

    def begin(self) -> Amend:
        """Note that it leaves now, and return what it asks for."""
        self.amendment = self.amending.begin(self)
        return Amend(self.order, *self.amendment.new)

    def tell(self) -> None:
        """Have it be known that it has begun."""
        if self.amendment is not None and not self.is_told:
            self.is_told = True
            self.amending.tell(self.context, self.amendment)

    def hindrance(self) -> str:
        """Return why nothing of this symbol is to be amended at this moment; empty if it may be."""
        return self.amending.closed(self.context)

    def settle(self, answer: Answer | NotSent) -> None:
        """Note what became of it."""
        if self.amendment is not None:
            self.tell()
            self.is_unclear = self.amending.is_unclear(self.context, self.amendment, answer)

    def forgo(self, reason: str) -> None:
        """Note that it was never sent."""
        self.amending.forgo(self, reason)


class Amending:
    """Has amendments sent by the queue, and notes what became of each.

    ``objection`` is asked at the moment of sending, ``closed`` at the end of a wait after that; ``report`` and
    ``look_up`` note what the exchange says of an order. ``accepted`` and ``refused`` are told of each answer, for what
    it says of others that follow.
    """

    def __init__(
        self,
        queue: AmendQueue,
        clock: Clock,
        bus: EventBus,
        *,
        objection: Callable[[SymbolContext, LiveOrder, int, int, BookTop, Exposure | None], str],
        closed: Callable[[SymbolContext], str],
        report: Callable[[SymbolContext, LiveOrder, OrderReport], None],
        accepted: Callable[[], None],
        refused: Callable[[Refused], None],
        crossings: CrossingBrake,
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._bus = bus
        self._objection = objection
        self.closed = closed
        self._report = report
        self._accepted = accepted
        self._on_refused = refused
        self._crossings = crossings

    async def amend(
        self, context: SymbolContext, changes: Sequence[tuple[LiveOrder, Quote, str]], book: BookTop
    ) -> list[LiveOrder]:
        """Amend orders to quotes that were decided on ``book``; return those that have to be looked up now.

        A refused amendment, or one that was not sent, leaves its order as it rests. One without an answer leaves two
        possibilities, both of which count until the exchange says which.
        """
        wishes = [_Wish(self, context, *change, book) for change in changes]
        await self._queue.amend(context, wishes)
        return [wish.order for wish in wishes if wish.is_unclear]

    def amend_now(
        self,
        context: SymbolContext,
        changes: Sequence[tuple[LiveOrder, Quote, str]],
        book: BookTop,
        exposure: Exposure,
        on_end: Callable[[], None],
    ) -> int:
        """Send at once those amendments that need not wait for anything; return how many, counted from the first.

        ``exposure`` is that of this moment. ``on_end`` is called after the outcome of each has been noted; what has to
        be looked up is then in the books.
        """
        wishes = [_Wish(self, context, *change, book, exposure) for change in changes]
        return self._queue.amend_now(context, wishes, on_end)

    def rehearsed(
        self,
        context: SymbolContext,
        change: tuple[LiveOrder, Quote, str],
        book: BookTop,
        exposure: Exposure,
    ) -> Amend | None:
        """Return what an amendment would ask for if it left now, None if it is objected to; it is not begun."""
        wish = _Wish(self, context, *change, book, exposure)
        return None if wish.objection() else Amend(wish.order, *wish.new)

    def objection_to(self, wish: "_Wish") -> str:
        """Return why the order is not to be amended like this; empty if it is."""
        order = wish.order
        if not order.is_amendable:
            return f"it stands at {order.state}"
        return self._objection(wish.context, order, *wish.new, wish.book, wish.exposure)

    def begin(self, wish: "_Wish") -> Amendment:
        """Note an amendment that leaves now."""
        context, order = wish.context, wish.order
        amendment = Amendment(order, wish.quote, wish.reason, (order.price_ticks, order.lots), wish.new)
        now_ns = self._clock.monotonic_ns()
        context.orders.begin_amend(order, *amendment.new, now_ns, tells=False)
        order.decided_mid_half_ticks = wish.book.mid_half_ticks
        context.state.tick_to_order_ms = (now_ns - wish.book.received_ns) / 1e6
        return amendment

    def tell(self, context: SymbolContext, amendment: Amendment) -> None:
        """Have it count, and be known, that an amendment has begun."""
        context.orders.tell(amendment.order)
        self._publish(OrderModifyEvent, context, amendment, amendment.reason)

    def forgo(self, wish: "_Wish", reason: str) -> None:
        """Note an amendment that never left."""
        order = wish.order
        amendment = Amendment(order, wish.quote, wish.reason, (order.price_ticks, order.lots), wish.new)
        self._fail(wish.context, amendment, f"not sent: {reason}", 0)

    def is_unclear(self, context: SymbolContext, amendment: Amendment, answer: Answer | NotSent) -> bool:
        """Note one answer; return whether the order has to be looked up."""
        match answer:
            case OrderReport():
                return self._taken(context, amendment, answer)
            case OutcomeUnknown():
                self._doubt(context, amendment, answer)
                return False
            case Refused(code=code) if code == MODIFICATION_PENDING:
                self._doubt(context, amendment, answer)
                return False
            case Refused():
                return self._refused(context, amendment, answer)
        context.orders.end_amend(amendment.order)
        self._fail(context, amendment, f"not sent: {answer}", 0)
        return False

    def _taken(self, context: SymbolContext, amendment: Amendment, report: OrderReport) -> bool:
        """Note the order as the exchange's answer shows it; it may have ended by the request, or meanwhile."""
        order = amendment.order
        self._accepted()
        order.amend_strikes = 0
        self._crossings.accepted(context.symbol, order.side, amendment.new[0])
        self._report(context, order, report)
        if order.status.is_terminal:
            self._fail(context, amendment, f"the order is {order.status}", 0)
        elif (report.price_ticks, report.lots) == amendment.new:
            context.orders.expect_echo(order, self._clock.monotonic_ns())
            self._publish(OrderModifySuccessEvent, context, amendment, amendment.reason)
        else:
            self._doubt(context, amendment, OutcomeUnknown("the answer shows another price or quantity"))
        return False

    def _refused(self, context: SymbolContext, amendment: Amendment, refusal: Refused) -> bool:
        order, code = amendment.order, told_code(refusal)
        context.orders.end_amend(order)
        self._fail(context, amendment, str(refusal), refusal.code)
        self._on_refused(refusal)
        if refusal.code == TOO_MANY_MODIFICATIONS:
            order.amends = MAX_AMENDS
        elif refusal.code == POST_ONLY_WOULD_TAKE:
            now_ns = self._clock.monotonic_ns()
            self._crossings.refused(context.symbol, order.side, amendment.new[0], now_ns)
        elif code not in _PASSING | {NO_NEED_TO_MODIFY}:
            order.amend_strikes += 1
            if code not in _MAY_PASS or order.amend_strikes >= STRIKES:
                order.amend_refused_code = code
        # "No need": the target rests already, so what is known here is wrong.
        is_unclear = refusal.code in _MAY_BE_GONE or refusal.code == NO_NEED_TO_MODIFY
        if is_unclear:
            context.orders.wonder(order, f"its amendment was refused ({refusal.code})")
        return is_unclear

    def _doubt(self, context: SymbolContext, amendment: Amendment, error: OutcomeUnknown | Refused) -> None:
        order = amendment.order
        context.orders.doubt_amend(order, str(error))
        log.warning("%s: unknown whether %s was amended (%s); asking", context.symbol, order.client_id, error)
        code = error.code if isinstance(error, Refused) else 0
        self._fail(context, amendment, str(error), code, in_doubt=True)

    def _fail(
        self, context: SymbolContext, amendment: Amendment, reason: str, code: int, *, in_doubt: bool = False
    ) -> None:
        order = amendment.order
        if not in_doubt:
            log.info("%s: %s %d not amended: %s", context.symbol, order.side.lower(), order.level, reason)
        self._publish(OrderModifyFailureEvent, context, amendment, reason, code=code, in_doubt=in_doubt)

    def _publish(
        self, kind: type[E], context: SymbolContext, amendment: Amendment, reason: str, **more: object
    ) -> None:
        order, rules = amendment.order, context.rules
        (old_ticks, old_lots), (new_ticks, new_lots) = amendment.old, amendment.new
        self._bus.publish(
            kind(
                symbol=context.symbol,
                client_id=order.client_id,
                side=order.side,
                level=order.level,
                old_price=rules.price(old_ticks),
                new_price=rules.price(new_ticks),
                old_quantity=rules.quantity(old_lots),
                new_quantity=rules.quantity(new_lots),
                reason=reason,
                **more,  # type: ignore[arg-type]  # of the one kind that has them
            )
        )
