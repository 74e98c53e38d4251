"""One refresh: from the orders that rest to those that are wanted now."""

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from msgspec import structs

from core.amend_queue import PATIENCE_S
from core.brake import RefusalBrake
from core.context import SymbolContext
from core.decision import (
    UNTIL_THE_INTERVAL,
    Bounds,
    Decision,
    Plan,
    QuietBand,
    plan_amend,
    plan_replace,
    quiet_band,
)
from core.events import EventBus, RiskEvent, RiskKind
from core.execution import ExecutionEngine
from core.live_order import LiveOrder
from core.model import BookTop, OrderStatus, Quote
from core.risk import (
    Exposure,
    Trimmed,
    allowed,
    exposure_of,
    last_objection,
    position_notional_quote,
)
from core.settings import ManageSettings
from core.strategy import desired_quotes
from utils.clock import Clock
from utils.errors import ExchangeError

log = logging.getLogger(__name__)

_NUMBER = re.compile(r"\d[\d.]*")


def _nobody(_band: QuietBand) -> None:
    """Nobody waits for the end: a refresh will look at the orders anew."""


def _levels(missing: Sequence[str]) -> list[str]:
    """Return the side and level of each line about a quote that is missing."""
    return [line.split(":")[0] for line in missing]


def _without_numbers(line: str) -> str:
    """Return a line about a quote that is missing without the numbers of its reason."""
    level, _, reason = line.partition(":")
    return f"{level}:{_NUMBER.sub('#', reason)}"


def _impatient() -> bool:
    """No patience is left."""
    return False


@dataclass(slots=True, eq=False)
class _Requote:
    """Amendments that left together at once, until each has an answer or patience is over."""

    book: BookTop
    on_end: Callable[[QuietBand], None]
    timer: asyncio.TimerHandle | None = None
    answered: int = 0
    sent: int | None = None
    """None until all have left that can."""
    is_all: bool = True
    """Nothing else has to be done."""


class Refresher:
    """Brings one symbol's orders to what is wanted: keeps, amends, cancels, places. Remembers what was refused."""

    def __init__(
        self,
        context: SymbolContext,
        execution: ExecutionEngine,
        bus: EventBus,
        clock: Clock,
        manage: ManageSettings,
    ) -> None:
        self._context = context
        self._execution = execution
        self._bus = bus
        self._clock = clock
        self._manage = manage
        self._brake = RefusalBrake()
        self._missing: tuple[str, ...] = ()
        """Why quotes were missing at the last look, a line for each."""
        self._told: frozenset[str] = frozenset()
        """What has been told while those levels were missing, without its numbers."""
        self.is_patient = False
        """Whether orders that are off their targets by a move of the price alone may stay so, at the last look."""
        self.was_patient = False
        """Whether they might in all of the last refresh, looks that changed nothing not counted."""
        self._patience: Callable[[], bool] = _impatient
        self._requote: _Requote | None = None

    @property
    def is_requoting(self) -> bool:
        """Tell whether amendments that left at once are without an answer."""
        return self._requote is not None

    def requote(self, on_end: Callable[[QuietBand], None], *, is_patient: bool = False) -> bool:
        """Amend at once, in this very turn of the loop, what a move of the price asks for; return whether that was all.

        If so, ``on_end`` is called with the band like that of ``refresh`` once each amendment has an answer, or after
        ``PATIENCE_S``, perhaps before this returns. If not, because something is to be cancelled, placed or waited for,
        ``refresh`` has to be called: it waits for what has left already. A requote before the end of the last one does
        nothing: its end has the price be looked at again.
        """
        if self._requote is not None:
            return self._requote.is_all
        context, book = self._context, self._context.state.book
        if book is None or not self._may_requote() or not context.lock.take():
            return False
        self.is_patient = is_patient
        try:
            exposure = exposure_of(context)
            plan = self._plan(book, exposure)
            changes = plan.only_amends()
        except BaseException:
            context.lock.release()
            raise
        if changes is None:
            context.lock.release()
            return False
        context.refusal = ""  # no quote that is wanted is missing
        requote = self._requote = _Requote(book, on_end)
        try:
            changes = self._execution.askable(context, changes)
            exposure.begin_anew()
            on_answer = partial(self._answered, requote)
            sent = self._execution.amend_now(context, changes, book, exposure, on_answer)
        finally:  # a fault ends it as silence does
            loop = asyncio.get_running_loop()
            requote.timer = loop.call_later(PATIENCE_S, self._end_requote, requote)
        requote.sent = sent
        self._note(plan.decisions)
        if sent or not changes:  # else the refresh that follows is the first to do anything
            self._count(book, changes[:sent], ())
        if sent < len(changes):
            requote.is_all, requote.on_end = False, _nobody
        if requote.answered == sent:
            self._end_requote(requote)
        return requote.is_all

    def rehearse(self) -> None:
        """Go the way of a requote, up to its first signature, as if the price had moved; nothing is changed or told.

        What that way needs is in the caches of the core afterwards, for the move that is to come.
        """
        context, book = self._context, self._context.state.book
        if book is None or self._requote is not None or not self._may_requote():
            return
        step_ticks = 1 + int(self._manage.modify_threshold * book.mid_half_ticks)  # twice what is tolerated
        moved = structs.replace(
            book, bid_ticks=book.bid_ticks + step_ticks, ask_ticks=book.ask_ticks + step_ticks
        )
        exposure = exposure_of(context)
        if changes := self._plan(moved, exposure, rehearses=True).only_amends():
            exposure.begin_anew()
            self._execution.rehearse_amend(context, changes[0], moved, exposure)

    def _may_requote(self) -> bool:
        """Tell whether amendments can be sent now without asking for anything else first."""
        context = self._context
        return (
            context.settings.refresh_mode == "amend"
            and self._execution.amend_queue.goes_at_once
            and context.gate.is_open
            and self._execution.timestamps.room(self._clock.monotonic_ns()) is None
        )

    def _answered(self, requote: _Requote) -> None:
        requote.answered += 1
        if requote.answered == requote.sent:
            self._end_requote(requote)

    def _end_requote(self, requote: _Requote) -> None:
        """Let others change the orders again, and say until which mid these hold; once, by answers or patience."""
        if requote is not self._requote:
            return
        self._requote = None
        if requote.timer is not None:
            requote.timer.cancel()
        self._context.lock.release()
        requote.on_end(self._band(requote.book))

    async def refresh(self, patience: Callable[[], bool]) -> QuietBand:
        """Bring the exchange from the orders that rest to those that are wanted now; return until which mid that holds.

        While ``patience`` is left, an order that is off its target only by a move of the price is left where it is.
        Nothing is sent on a book that is stale, and nothing placed in a slot whose old order may still rest.
        """
        context = self._context
        async with context.lock:
            self._patience = patience
            self.is_patient = self.was_patient = patience()
            plan = self._plan(context.state.book)
            if plan.cancels:
                self._note(plan.decisions)
                try:
                    await self._execution.cancel(context, plan.cancels)
                except ExchangeError as error:
                    log.warning("%s: refresh put off: %s", context.symbol, error)
                    book = context.state.book
                    return UNTIL_THE_INTERVAL if book is None else self._band(book)
                plan = self._plan(context.state.book)  # the book may have moved meanwhile
            if not context.gate.is_open or context.state.book is None:
                return UNTIL_THE_INTERVAL
            return await self._bring(plan, context.state.book)

    async def _bring(self, plan: Plan, book: BookTop) -> QuietBand:
        """Amend and place, all at once, and then what was held back until one that was tried has been taken."""
        context = self._context
        self._note(plan.decisions)
        now_ns = self._clock.monotonic_ns()
        execution = self._execution
        places = [
            quote
            for quote in plan.places
            if self._brake.allows(quote.slot, now_ns) and execution.may_ask_for(context, quote)
        ]
        room = execution.timestamps.room(now_ns)  # None is for any number
        amends = execution.askable(context, plan.amends)[:room]
        places = places if room is None else places[: room - len(amends)]
        goes_alone = not context.orders.living() and (len(places) == 1 or not context.stream_is_proven)
        async with asyncio.TaskGroup() as group:  # broken off, what is on its way leaves its orders in doubt
            placing = group.create_task(self._place(places, book))
            await execution.amend(context, amends, book)
            book, has_cancelled = await self._follow_until(placing, book)
        placed = placing.result()
        self._count(book, amends, places)
        was_held = room is not None and self._execution.timestamps.room(now_ns) is None
        has_released = self._learn(placed, first_was_alone=goes_alone)
        context.refusal = self._brake.reason(quote.slot for quote in plan.places)
        if (
            (has_released or was_held or has_cancelled)
            and context.gate.is_open
            and context.state.book is not None
        ):
            return await self._bring(self._plan(context.state.book), context.state.book)
        return self._band(book)

    async def _follow_until(
        self, placing: asyncio.Future[list[LiveOrder]], book: BookTop
    ) -> tuple[BookTop, bool]:
        """Return when the new orders have their answers; while those take long, the others follow the price.

        What is returned is the book that the orders have followed last, and whether some have gone that are wanted.
        """
        context, execution = self._context, self._execution
        has_cancelled = False
        while not (await asyncio.wait({placing}, timeout=PATIENCE_S))[0]:
            newest = context.state.book
            if newest is None or not context.gate.is_open or context.settings.refresh_mode == "replace":
                continue
            if execution.timestamps.room(self._clock.monotonic_ns()) is not None:
                continue  # the order on its way is the one that asks
            self.is_patient = self._patience()
            plan = self._plan(newest)
            if await self._follow(plan, newest):
                book = newest
                self.was_patient &= self.is_patient
                has_cancelled |= bool(plan.cancels)
        return book, has_cancelled

    async def _follow(self, plan: Plan, book: BookTop) -> bool:
        """Amend and cancel at once, and place nothing; return whether anything was to be done."""
        context, execution = self._context, self._execution
        amends = execution.askable(context, plan.amends)
        if not (amends or plan.cancels):
            return False
        self._note(plan.decisions)
        await asyncio.gather(execution.amend(context, amends, book), self._try_to_cancel(plan.cancels))
        self._count(book, amends, ())
        return True

    async def _try_to_cancel(self, orders: Sequence[LiveOrder]) -> None:
        try:
            await self._execution.cancel(self._context, orders)
        except ExchangeError as error:
            log.warning("%s: orders could not be cancelled yet: %s", self._context.symbol, error)

    def _count(
        self, book: BookTop, amends: Sequence[tuple[LiveOrder, Quote, str]], places: Sequence[Quote]
    ) -> None:
        """Have the state tell of a refresh."""
        state = self._context.state
        if amends:
            state.last_change = f"{len(amends)} amended ({amends[0][2]})"
        if amends or places:
            state.last_order_time = self._clock.time_ms() / 1000
        state.quoted_mid_half_ticks = book.mid_half_ticks
        state.refreshes += 1

    async def _place(self, quotes: Sequence[Quote], book: BookTop) -> list[LiveOrder]:
        """Place quotes; while the account stream has not told of an order of ours, one of them only, as a question.

        The farthest that may be sent is the least likely to be filled unheard. If it was not accepted, the next refresh
        asks again; but not while it is unknown whether it was.
        """
        context = self._context
        if context.stream_is_proven or not quotes:
            return await self._execution.place(context, quotes, book)
        is_in_doubt = any(order.status is OrderStatus.IN_DOUBT for order in context.orders.living())
        if is_in_doubt or context.orders.awaiting_echo:
            return []
        sendable = [quote for quote in quotes if not last_objection(context, quote, book)]
        first = max(sendable or quotes, key=lambda quote: quote.level)
        placed = await self._execution.place(context, [first], book)
        if not context.stream_is_proven:
            return placed
        others = [quote for quote in quotes if quote is not first]
        return placed + await self._execution.place(context, others, book)

    def _plan(
        self, book: BookTop | None, exposure: Exposure | None = None, *, rehearses: bool = False
    ) -> Plan:
        """Return what is to be done on this book; without one, nothing is wanted. A rehearsal is told to nobody.

        ``exposure`` is that of this moment, if it is known already.
        """
        context = self._context
        living = context.orders.living()
        if book is None:
            return plan_replace((), living)
        wanted = self._wanted(book, exposure, tells=not rehearses)
        if context.settings.refresh_mode == "replace":
            return plan_replace(wanted, living)
        is_patient = self.is_patient and not rehearses
        return plan_amend(wanted, living, self._bounds(book, is_patient=is_patient))

    def _bounds(self, book: BookTop, *, is_patient: bool) -> Bounds:
        return Bounds.at(book.mid_half_ticks, self._context.quoting, self._manage, is_patient=is_patient)

    def _band(self, book: BookTop) -> QuietBand:
        context = self._context
        if context.settings.refresh_mode == "replace":
            return UNTIL_THE_INTERVAL
        return quiet_band(context.orders.living(), self._bounds(book, is_patient=self.is_patient))

    def _note(self, decisions: Sequence[Decision]) -> None:
        """Leave with each order why it is treated as it is."""
        for one in decisions:
            if one.order is not None:
                one.order.decision = f"{one.move}: {one.reason}"

    def _wanted(self, book: BookTop, exposure: Exposure | None, *, tells: bool) -> list[Quote]:
        """Return the quotes to have now: what strategy wants, less what risk takes away."""
        context = self._context
        desired = desired_quotes(book, context.state.mark_price, context.rules, context.quoting)
        trimmed = allowed(context, desired.quotes, exposure)
        if tells and (context.settings.refresh_mode == "amend" or not context.orders.living()):
            self._tell(desired.left_out, trimmed)  # else it is what rests that leaves no room
        return list(trimmed.kept)

    def _tell(self, left_out: tuple[str, ...], trimmed: Trimmed) -> None:
        """Say which quotes are missing and why, once for as long as it stays the same.

        A level whose reasons take turns has each of them told once: what was told before is no news.
        """
        if not (left_out or trimmed.left_out or self._missing):
            return
        over_limit = tuple(
            f"{quote.side.lower()} {quote.level}: {reason}"
            for quote, reason in zip(trimmed.left_out, trimmed.reasons, strict=True)
        )
        missing = left_out + over_limit
        if missing == self._missing:
            return
        are_others = _levels(missing) != _levels(self._missing)
        self._missing = missing
        kinds = frozenset(map(_without_numbers, missing))
        if are_others or not kinds <= self._told:
            self._told = kinds if are_others else kinds | self._told
            self._say(missing)

    def _say(self, missing: Sequence[str]) -> None:
        context = self._context
        text = "; ".join(missing) or "all levels are quoted again"
        if missing:
            log.warning("%s: quotes left out: %s", context.symbol, text)
        else:
            log.info("%s: %s", context.symbol, text)
        price = context.state.risk_price(context.rules)
        held = position_notional_quote(context.ledger.position_quantity, price)
        self._bus.publish(RiskEvent(context.symbol, RiskKind.QUOTES_TRIMMED, held, text))

    def _learn(self, placed: Sequence[LiveOrder], *, first_was_alone: bool) -> bool:
        """Note what became of new orders; return whether slots that were held back may be filled now."""
        now_ns, has_released = self._clock.monotonic_ns(), False
        for number, order in enumerate(placed):
            if order.status is OrderStatus.IN_DOUBT:
                continue  # neither taken nor refused, for all that is known
            if order.status is not OrderStatus.REJECTED:
                reduces = order.side.sign * self._context.ledger.position_quantity < 0
                has_released |= self._brake.accepted(
                    order.slot, now_ns, reduces=reduces, alone=first_was_alone and number == 0
                )
            else:
                self._learn_refusal(order, now_ns)
        return has_released

    def _learn_refusal(self, order: LiveOrder, now_ns: int) -> None:
        if self._brake.refused(order.slot, order.refused_code, now_ns, order.reason):
            log.error(
                "%s: %s %d was refused again and again (%s); trying seldom from now on",
                self._context.symbol,
                order.side.lower(),
                order.level,
                order.reason,
            )
