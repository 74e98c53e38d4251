"""Amendments: what is sent to change an order in place, and what each answer means for it."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from core.context import SymbolContext
from core.events import EventBus, OrderModifyEvent, OrderModifyFailureEvent, OrderModifySuccessEvent
from core.gateway import Amend, Answer, Gateway
from core.model import BookTop, OrderReport, Quote
from core.order import MAX_AMENDS, LiveOrder
from utils.clock import Clock
from utils.errors import NotSent, OutcomeUnknown, RateLimited, Refused

log = logging.getLogger(__name__)

MAX_AMEND_BATCH = 5

NO_NEED_TO_MODIFY = -5027
TOO_MANY_MODIFICATIONS = -5026
MODIFICATION_PENDING = -5043

_MAY_BE_GONE = frozenset({-2013, -2011, -5022})
"""Unknown order, or a post-only price that would take: the order may have ended before, or by this very request."""

_PASSING = frozenset({0, -1001, -1003, -1008, -1015, -1021, -2019, -4140, -5024, -5028})
"""Refusals that say nothing of the next attempt: nothing was sent, the exchange was busy or halted, a limit was
reached, margin was short for the moment, the clock was off."""

E = TypeVar("E", OrderModifyEvent, OrderModifySuccessEvent, OrderModifyFailureEvent)


@dataclass(frozen=True, slots=True)
class Amendment:
    """One order, what it is to become, and why; ``old`` is its price and total quantity before, in ticks and lots."""

    order: LiveOrder
    quote: Quote
    reason: str
    old: tuple[int, int]
    new: tuple[int, int]


class Amending:
    """Sends amendments in batches and notes what became of each.

    ``objection`` is asked at the moment of sending, ``report`` and ``look_up`` note what the exchange says of an order.
    ``rate_limited`` is told when the exchange takes no more for a while.
    """

    def __init__(
        self,
        gateway: Gateway,
        clock: Clock,
        bus: EventBus,
        *,
        objection: Callable[[SymbolContext, LiveOrder, int, int, BookTop], str],
        report: Callable[[SymbolContext, LiveOrder, OrderReport], None],
        rate_limited: Callable[[RateLimited], None],
    ) -> None:
        self._gateway = gateway
        self._clock = clock
        self._bus = bus
        self._objection = objection
        self._report = report
        self._rate_limited = rate_limited

    async def amend(
        self, context: SymbolContext, changes: Sequence[tuple[LiveOrder, Quote, str]], book: BookTop
    ) -> list[LiveOrder]:
        """Amend orders to quotes that were decided on ``book``; return those that have to be looked up now.

        A refused amendment, or one that was not sent, leaves its order as it rests. One without an answer leaves two
        possibilities, both of which count until the exchange says which.
        """
        begun = [one for change in changes if (one := self._begin(context, *change, book)) is not None]
        batches = [begun[at : at + MAX_AMEND_BATCH] for at in range(0, len(begun), MAX_AMEND_BATCH)]
        unclear = await asyncio.gather(*(self._send(context, batch) for batch in batches))
        return [order for orders in unclear for order in orders]

    def _begin(
        self, context: SymbolContext, order: LiveOrder, quote: Quote, reason: str, book: BookTop
    ) -> Amendment | None:
        """Note an amendment that is about to be sent; None if it must not be."""
        new = quote.price_ticks, order.executed_lots + quote.lots
        amendment = Amendment(order, quote, reason, (order.price_ticks, order.lots), new)
        objection = "" if order.is_amendable else f"it stands at {order.state}"
        objection = objection or self._objection(context, order, *new, book)
        if objection:
            log.info("%s: %s %d not amended: %s", context.symbol, order.side.lower(), order.level, objection)
            self._publish(OrderModifyFailureEvent, context, amendment, f"not sent: {objection}")
            return None
        now_ns = self._clock.monotonic_ns()
        context.orders.begin_amend(order, *new, now_ns)
        order.decided_mid_half_ticks = book.mid_half_ticks
        context.state.tick_to_order_ms = (now_ns - book.received_ns) / 1e6
        self._publish(OrderModifyEvent, context, amendment, reason)
        return amendment

    async def _send(self, context: SymbolContext, batch: Sequence[Amendment]) -> list[LiveOrder]:
        """Send one request and note its answers; return the orders that have to be looked up."""
        requests = [Amend(one.order, *one.new) for one in batch]
        answers: Sequence[Answer | NotSent]
        try:
            answers = await self._gateway.amend(context.rules, requests)
        except (NotSent, Refused, OutcomeUnknown) as error:
            answers = [error] * len(batch)
        except BaseException as error:  # also when this task is cancelled: the request may be on its way
            for one in batch:
                self._doubt(context, one, OutcomeUnknown(type(error).__name__))
            raise
        pairs = zip(batch, answers, strict=True)
        return [one.order for one, answer in pairs if self._is_unclear(context, one, answer)]

    def _is_unclear(self, context: SymbolContext, amendment: Amendment, answer: Answer | NotSent) -> bool:
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
        self._report(context, order, report)
        if order.status.is_terminal:
            self._fail(context, amendment, f"the order is {order.status}", 0)
        elif (report.price_ticks, report.lots) == amendment.new:
            self._publish(OrderModifySuccessEvent, context, amendment, amendment.reason)
        else:
            self._doubt(context, amendment, OutcomeUnknown("the answer shows another price or quantity"))
        return False

    def _refused(self, context: SymbolContext, amendment: Amendment, refusal: Refused) -> bool:
        order = amendment.order
        context.orders.end_amend(order)
        self._fail(context, amendment, str(refusal), refusal.code)
        if isinstance(refusal, RateLimited):
            self._rate_limited(refusal)
        if refusal.code == TOO_MANY_MODIFICATIONS:
            order.amends = MAX_AMENDS
        elif refusal.code not in _PASSING | _MAY_BE_GONE | {NO_NEED_TO_MODIFY}:
            order.amend_refused_code = refusal.code
        # "No need": the target rests already, so what is known here is wrong.
        return refusal.code in _MAY_BE_GONE or refusal.code == NO_NEED_TO_MODIFY

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
