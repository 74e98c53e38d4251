"""Our orders: what is known of each, what may still change, and what has to be done to get what we want. Pure.

The rules that everything here keeps:

1. An order is registered before it is sent; its client id is never used again.
2. Three things can become of a request: accepted, refused, unknown. An unknown order counts as resting at full size.
3. Knowledge only grows: the executed quantity never falls, a life whose end the exchange has reported never begins
   again. An end that was only concluded here (refused, never existed) is undone by the exchange's word.
4. "Not found" ends no life by itself; ``live_order.absence_is_proof`` says when absence has become proof.
5. At most one living order fills a slot (side and level), and at most one change of an order is under way.
6. Where an order stands is decided by one table, ``core.order_life``; what that table does not know has the exchange
   asked (``LiveOrders.to_ask``).
"""

from collections import OrderedDict
from collections.abc import Callable
from decimal import Decimal

from msgspec import structs

from core.live_order import Change, ChangeKind, EndedOrder, LiveOrder, echo_due_ns, settled_ns
from core.load import Load
from core.model import OrderReport, OrderStatus, Quote, Side, SymbolRules
from core.order_life import Open, State, Trigger, after, sighting

_NOTHING = Decimal(0)


def _nobody(_order: LiveOrder) -> None:
    """Nobody follows the changes of orders."""


class LiveOrders:
    """All orders of ours on one symbol.

    Those whose life has ended are remembered as a whole for a while and, after that, in short, up to a bound, so that
    a late fill finds them.
    """

    REMEMBERED = 5000
    RECORDED = 50_000
    TAKERS = 1000

    def __init__(self) -> None:
        self.awaiting_echo: dict[str, int] = {}
        """By client id, the monotonic time since which it is known what the exchange did and the user stream owes."""
        self._echoes_since_ns = -(10**18)
        self._uncounted: dict[str, int] = {}
        self.on_change: Callable[[LiveOrder], None] = _nobody
        """Called with an order each time it stands, costs or is executed otherwise than before; it has to be quick."""
        self._ask: dict[str, str] = {}
        self._living: dict[str, LiveOrder] = {}
        self.load = Load()
        """What all living orders add up to at worst."""
        self._ended: OrderedDict[str, LiveOrder] = OrderedDict()
        self._records: OrderedDict[str, EndedOrder] = OrderedDict()
        self._client_ids: dict[int, str] = {}
        self._takers: OrderedDict[str, LiveOrder] = OrderedDict()

    def living(self) -> list[LiveOrder]:
        """Return the orders that rest, or may rest, in the order of their registration."""
        return list(self._living.values())

    def find(self, client_id: str) -> LiveOrder | None:
        """Return the order with this client id, living or remembered; one that had left memory is back in it."""
        return self._living.get(client_id) or self._ended.get(client_id) or self._recall(client_id)

    def _recall(self, client_id: str) -> LiveOrder | None:
        record = self._records.pop(client_id, None)
        if record is None:
            return None
        order = self._ended[client_id] = record.recalled(client_id)
        return order

    def by_order_id(self, order_id: int) -> LiveOrder | None:
        """Return the order to which the exchange gave this id, living or remembered."""
        return self.find(self._client_ids.get(order_id, ""))

    def forget_ended(self, now_ns: int, older_than_s: float) -> int:
        """Have orders leave memory that are known to have ended for this long; return how many did.

        What has been executed without being counted, and what has to be asked about, stays.
        """
        oldest_ns = now_ns - int(older_than_s * 1e9)
        old = []
        for order in self._ended.values():
            order.ended_ns = order.ended_ns or now_ns
            if order.ended_ns <= oldest_ns and not self._is_needed(order):
                old.append(order)
        for order in old:
            self._shorten(order)
        return len(old)

    def _is_needed(self, order: LiveOrder) -> bool:
        return order.client_id in self._uncounted or order.client_id in self._ask

    def _shorten(self, order: LiveOrder) -> None:
        """Keep a short record only, and of the oldest of those nothing."""
        self._ended.pop(order.client_id, None)
        self._records[order.client_id] = EndedOrder.of(order)
        while len(self._records) > self.RECORDED:
            client_id, record = self._records.popitem(last=False)
            self._client_ids.pop(record.order_id, None)
            self.awaiting_echo.pop(client_id, None)

    def slot_is_free(self, slot: tuple[Side, int]) -> bool:
        """Tell whether no order rests, or may rest, in this slot."""
        return all(order.slot != slot for order in self._living.values())

    def in_doubt(self) -> list[LiveOrder]:
        """Return the orders of which nobody here knows whether they exist."""
        return [order for order in self._living.values() if order.status is OrderStatus.IN_DOUBT]

    def register(
        self, client_id: str, quote: Quote, now_ns: int, decided_mid_half_ticks: int = 0
    ) -> LiveOrder:
        """Return a new order that counts as resting from now on. Call this before sending."""
        if self.find(client_id) is not None:
            raise ValueError(f"client id {client_id} was used before")
        order = LiveOrder(client_id, quote.side, quote.level, quote.price_ticks, quote.lots, now_ns)
        order.decided_mid_half_ticks = decided_mid_half_ticks
        self._living[client_id] = order
        self.tell(order)
        return order

    def adopt(self, report: OrderReport, now_ns: int) -> LiveOrder:
        """Return the order of this report, taken up if it was not known: left by an earlier run. Level 0 is no slot.

        What such an order has traded by then is in the books: with the position with which they began, or counted as
        the trade of an order that nobody knew.
        """
        order = self.find(report.client_id)
        if order is not None:
            self.apply(order, report, now_ns)
            return order
        self._takers.pop(report.client_id, None)  # one that rests all the same is an order like any other
        order = LiveOrder(report.client_id, report.side, 0, report.price_ticks, report.lots, now_ns)
        order.echoed = True
        self._living[report.client_id] = order
        self.apply(order, report, now_ns)
        self._take_for_counted(order)
        return order

    def apply(self, order: LiveOrder, report: OrderReport, now_ns: int) -> bool:
        """Add what the exchange reports to what is known; return whether anything changed.

        Reports may come late, twice, or in any order of channels.
        """
        before = _facts(order)
        order.order_id = report.order_id
        self._client_ids[report.order_id] = order.client_id
        order.not_found = 0
        if not order.accepted_ns and not order.echoed and order.sent_ns >= self._echoes_since_ns:
            self.awaiting_echo[order.client_id] = now_ns
        order.accepted_ns = order.accepted_ns or now_ns
        _execute(order, report.executed_lots, report.executed_rest)
        self._note_uncounted(order, now_ns)
        was_concluded = order.state.open is Open.PROOF
        if was_concluded or not order.status.is_terminal:
            self._note_values(order, report)
        self._move(order, sighting(report.status, is_executed=any(order.executed)))
        if was_concluded and not order.status.is_terminal:
            order.reason = "believed not to exist, but does"
        self._settle_if_seen(order, report, now_ns)
        self.tell(order)
        return before != _facts(order)

    @staticmethod
    def _note_values(order: LiveOrder, report: OrderReport) -> None:
        """Take price and quantity of a newer report; an amendment is newer than a trade of the same millisecond."""
        newer = report.update_ms > order.update_ms
        newer = newer or (report.is_amendment and report.update_ms == order.update_ms)
        if newer and report.price_ticks:
            order.price_ticks, order.lots = report.price_ticks, report.lots
        order.update_ms = max(order.update_ms, report.update_ms)

    def _settle_if_seen(self, order: LiveOrder, report: OrderReport, now_ns: int) -> None:
        """Note that an amend is done when a report that is newer than its sending shows its target.

        The user stream has to speak of it, also where the answer was lost and it was asked about.
        """
        change = order.change
        if change is None or not change.is_amending:
            return
        shown, target = (report.price_ticks, report.lots), (change.price_ticks, change.lots)
        if shown == target == (order.price_ticks, order.lots) and _tells_of(report, order, target):
            self._move(order, Trigger.AMEND_SETTLED)
            self.expect_echo(order, now_ns)

    def read(
        self, order: LiveOrder, report: OrderReport, asked_ns: int, now_ns: int, recv_window_ms: int
    ) -> bool:
        """Add what a look-up, asked at ``asked_ns``, has shown; return whether anything changed.

        Two that were asked after the receive window of an amend, and agree, settle it: nothing of it is executed any
        more. One alone, or one from within the window, proves nothing, because what is read may lag.
        """
        is_current = report.update_ms >= order.update_ms
        changed = self.apply(order, report, now_ns)
        if order.change is None or not order.change.is_amending or not is_current:
            return changed
        if asked_ns < settled_ns(order.amend_sent_ns, recv_window_ms):
            return changed
        values = report.price_ticks, report.lots
        if order.reading != values:
            order.reading = values
            return changed
        before = _facts(order)
        order.price_ticks, order.lots = values
        self._move(order, Trigger.AMEND_SETTLED)
        self.tell(order)
        return changed or before != _facts(order)

    # --- changes ----------------------------------------------------------------------------------------------

    def begin_amend(
        self, order: LiveOrder, price_ticks: int, lots: int, now_ns: int, *, tells: bool = True
    ) -> None:
        """Note an amend that is about to be sent: from now on the worse of old and new counts.

        Without ``tells`` it counts, and those who follow the changes of orders hear of it, by ``tell``: that has to be
        called in the same turn.

        ``lots`` is the new total, what is executed included. ValueError if a change is under way, or the order is not
        one that can be amended.
        """
        if not order.is_amendable:
            raise ValueError(f"{order.client_id} cannot be amended: {order.state}, {order.amends} amends")
        order.amends += 1
        order.amend_sent_ns = now_ns
        order.amended_from_ms = order.update_ms
        order.amended_from = order.price_ticks, order.lots
        order.reading = None
        order.echoed = False
        order.change = Change(ChangeKind.AMEND, price_ticks, lots, now_ns)
        if tells:
            self.tell(order)

    def end_amend(self, order: LiveOrder) -> None:
        """Note that an amend was refused, changed nothing, or was not sent: what rested before rests still."""
        self._move(order, Trigger.AMEND_REFUSED)
        self.tell(order)

    def doubt_amend(self, order: LiveOrder, reason: str) -> None:
        """Note that the outcome of an amend is unknown: either the old or the new may rest."""
        before = order.state
        self._move(order, Trigger.AMEND_UNKNOWN)
        if order.state != before:
            order.reason = reason
        self.tell(order)

    def begin_cancel(self, order: LiveOrder, now_ns: int) -> None:
        """Note a cancel that is about to be sent; it may follow a cancel, an amend, and a placing without answer."""
        if self._move(order, Trigger.CANCEL_SENT, now_ns) and order.change is not None:
            order.change = structs.replace(order.change, sent_ns=now_ns)
        order.cancel_sent_ns = now_ns
        self.tell(order)

    def end_cancel(self, order: LiveOrder) -> None:
        """Note that a cancel was refused: the order rests, or is gone, as it was before."""
        self._move(order, Trigger.CANCEL_REFUSED)
        self.tell(order)

    # --- the table --------------------------------------------------------------------------------------------

    def _move(self, order: LiveOrder, trigger: Trigger, now_ns: int = 0) -> bool:
        """Have the order stand where the table says; where it says nothing have the exchange asked; return False."""
        before = order.state
        then = after(before, trigger)
        if then is None:
            self._puzzle(order, before, trigger)
            return False
        if then != before:
            self._become(order, then, now_ns)
        return True

    def _puzzle(self, order: LiveOrder, state: State, trigger: Trigger) -> None:
        if order.puzzle != (state, trigger) and order.client_id not in self._takers:
            order.puzzle = state, trigger
            self._ask[order.client_id] = f"{trigger}, but it stands at {state}"

    def _become(self, order: LiveOrder, then: State, now_ns: int) -> None:
        order.status = then.rest
        order.end_is_reported = then.rest.is_terminal and then.open is not Open.PROOF
        order.change = _change(order, then.open, now_ns)
        order.puzzle = None
        if order.client_id in self._takers:
            return
        if then.rest.is_terminal:
            self._living.pop(order.client_id, None)
            self._remember(order)
        elif order.client_id not in self._living:
            self._ended.pop(order.client_id, None)
            self._records.pop(order.client_id, None)
            self._living[order.client_id] = order
            order.ended_ns = 0

    def tell(self, order: LiveOrder) -> None:
        """Count the order as it stands now, and tell whoever follows the changes of orders, unless it was told so."""
        self.load.note(order, lives=order.client_id in self._living)
        now = (order.state, order.price_ticks, order.lots, order.executed)
        if now != order.told:
            order.told = now
            self.on_change(order)

    def _remember(self, order: LiveOrder) -> None:
        self._ended[order.client_id] = order
        while len(self._ended) > self.REMEMBERED:
            self._shorten(next(iter(self._ended.values())))

    def register_taker(
        self, client_id: str, side: Side, lots: int, now_ns: int, price_ticks: int = 0
    ) -> LiveOrder:
        """Return a new order that takes and never rests, at any price with 0: it is followed for the record only.

        ``doubt`` and ``end`` note its outcome, ``note_taker`` what the exchange says of it.
        """
        order = LiveOrder(client_id, side, 0, price_ticks, lots, now_ns)
        self._takers[client_id] = order
        while len(self._takers) > self.TAKERS:
            self._takers.popitem(last=False)
        self.tell(order)
        return order

    def takers(self) -> list[LiveOrder]:
        """Return the latest orders that take, oldest first."""
        return list(self._takers.values())

    def note_taker(self, report: OrderReport) -> None:
        """Add what the exchange says of an order that takes; of others nothing is noted."""
        order = self._takers.get(report.client_id)
        if order is None:
            return
        order.order_id = report.order_id
        _execute(order, report.executed_lots, report.executed_rest)
        self._move(order, sighting(report.status, is_executed=any(order.executed)))
        self.tell(order)

    def to_ask(self) -> dict[str, str]:
        """Return, by client id, the orders to be looked up at the exchange, with the reason.

        Those of which something was said that cannot be, and those whose amend has an unknown outcome.
        """
        doubted = {
            order.client_id: f"unknown whether it was amended ({order.reason})"
            for order in self._living.values()
            if order.amend_in_doubt
        }
        return doubted | self._ask

    def wonder(self, order: LiveOrder, reason: str) -> None:
        """Have the exchange asked about this order, for this reason, until it has answered."""
        self._ask[order.client_id] = reason

    def asked(self, order: LiveOrder) -> None:
        """Note that the exchange has answered about this order; said once more, the same is not asked again."""
        self._ask.pop(order.client_id, None)

    # --- trades -----------------------------------------------------------------------------------------------

    def count(
        self, order: LiveOrder, lots: int, now_ns: int, rest: Decimal = _NOTHING, time_ms: int = 0
    ) -> None:
        """Note that trades of so many lots more of this order are in the ledger.

        ``rest`` is what all its trades come to beyond whole lots, ``time_ms`` the exchange's time of this one: only one
        from before what is executed was taken for counted can be a part of that.
        """
        self._move(order, Trigger.TRADED)
        order.counted_lots += lots
        order.counted_rest = rest
        known = min(lots, order.adopted_lots) if time_ms <= order.adopted_until_ms else 0
        order.adopted_lots -= known
        order.counted_lots -= known
        _execute(order, order.counted_lots, order.counted_rest)
        self._note_uncounted(order, now_ns)
        self.tell(order)

    def _note_uncounted(self, order: LiveOrder, now_ns: int) -> None:
        if order.is_uncounted:
            self._uncounted.setdefault(order.client_id, now_ns)
        else:
            self._uncounted.pop(order.client_id, None)

    def uncounted_lots(self) -> int:
        """Return what has been executed without its trades being in the ledger yet: bought less sold."""
        if not self._uncounted:
            return 0
        orders = [order for client_id in self._uncounted if (order := self.find(client_id)) is not None]
        return sum(order.side.sign * order.uncounted_lots for order in orders)

    def uncounted_since_ns(self) -> int | None:
        """Return since when the oldest of those trades is missing, None if none is."""
        return min(self._uncounted.values(), default=None)

    def count_all(self) -> None:
        """Take everything executed for counted: a position of the exchange's has been adopted that holds it."""
        for client_id in list(self._uncounted):
            order = self.find(client_id)
            if order is not None:
                self._take_for_counted(order)
        self._uncounted.clear()

    def _take_for_counted(self, order: LiveOrder) -> None:
        """Take what is executed of an order for counted; one of its trades that comes all the same is no other one."""
        order.adopted_lots += order.uncounted_lots
        order.adopted_until_ms = order.update_ms
        order.count_all()
        self._uncounted.pop(order.client_id, None)

    def expect_echo(self, order: LiveOrder, now_ns: int) -> None:
        """Note that the exchange has said that it amended the order: the user stream has to speak of it."""
        if not order.echoed and order.amend_sent_ns >= self._echoes_since_ns:
            self.awaiting_echo.setdefault(order.client_id, now_ns)

    def expect_word_of_end(self, order: LiveOrder, sent_ns: int, now_ns: int) -> None:
        """Note that the exchange has said that the cancel of that moment ended the order.

        The user stream has to speak of that, too, unless it has since, or has begun only after it: others may have been
        sent later.
        """
        if order.heard_cancel_ns < sent_ns and sent_ns >= self._echoes_since_ns:
            self.awaiting_echo.setdefault(order.client_id, now_ns)

    def echo_is_overdue(self, now_ns: int, recv_window_ms: int) -> bool:
        """Tell whether the user stream owes its word on what was accepted so long ago that it may be dead."""
        return any(
            echo_due_ns(self.find(client_id), known_ns, recv_window_ms) < now_ns
            for client_id, known_ns in self.awaiting_echo.items()
        )

    def expect_no_echo_before(self, now_ns: int) -> None:
        """Expect nothing of a user stream that began just now about what was sent before it.

        Such an order may have ended meanwhile: a look-up shows it, and no stream will ever speak of it again.
        """
        self._echoes_since_ns = now_ns
        self.awaiting_echo.clear()

    def echo(self, order: LiveOrder) -> None:
        """Note that the user stream has spoken of this order: the proof that it still reports."""
        order.echoed, order.heard_cancel_ns = True, order.cancel_sent_ns
        self.awaiting_echo.pop(order.client_id, None)

    def doubt(self, order: LiveOrder, reason: str) -> None:
        """Note that the outcome of placing this order is unknown; it counts as resting until the exchange says."""
        before = order.status
        if self._move(order, Trigger.PLACE_UNKNOWN) and order.status is not before:
            order.reason = reason
        self.tell(order)

    def end(self, order: LiveOrder, status: OrderStatus, reason: str = "") -> bool:
        """Note that this order's life has ended, as we conclude; return False if what is known contradicts it.

        REJECTED says that placing it was refused or never happened, CANCELLED that the exchange has it no longer.
        """
        if not self._move(order, _CONCLUSION[status]):
            return False
        order.reason = reason or order.reason
        self.tell(order)
        return True

    def resting_notional_quote(self, side: Side, rules: SymbolRules) -> Decimal:
        """Return what all living orders of a side are worth at worst, those in doubt included, in the quote asset."""
        share = self.load.by_side[side]
        return rules.notional_quote(1, share.worth) if share.orders else Decimal(0)

    def notional_by_slot(self, rules: SymbolRules) -> dict[tuple[Side, int], Decimal]:
        """Return what the living orders of each slot are worth at worst, in the quote asset."""
        worth: dict[tuple[Side, int], Decimal] = {}
        for order in self._living.values():
            notional = rules.notional_quote(order.worst_price_ticks, order.worst_remaining_lots)
            worth[order.slot] = worth.get(order.slot, Decimal(0)) + notional
        return worth


def _tells_of(report: OrderReport, order: LiveOrder, target: tuple[int, int]) -> bool:
    """Tell whether a report that shows the target of an amend can only be the work of that amend.

    Where the target is what rested before, every report shows it: only a new amendment tells.
    """
    if target == order.amended_from:
        return report.is_amendment and report.update_ms > order.amended_from_ms
    in_same_ms = report.is_amendment and report.update_ms == order.amended_from_ms
    return report.update_ms > order.amended_from_ms or in_same_ms


_CONCLUSION = {
    OrderStatus.REJECTED: Trigger.PLACE_REFUSED,
    OrderStatus.CANCELLED: Trigger.ABSENCE_PROVEN,
}


def _change(order: LiveOrder, what_is_open: Open, now_ns: int) -> Change | None:
    """Return the change under way that belongs to what is open."""
    if what_is_open in (Open.NOTHING, Open.PROOF):
        return None
    change = order.change or Change(ChangeKind.CANCEL, order.price_ticks, order.lots, now_ns)
    if what_is_open is Open.CANCEL:
        return structs.replace(change, kind=ChangeKind.CANCEL, in_doubt=False)
    if what_is_open is Open.AMEND:
        return change
    kind = ChangeKind.AMEND if what_is_open is Open.AMEND_IN_DOUBT else ChangeKind.CANCEL
    return structs.replace(change, kind=kind, in_doubt=True)


def _execute(order: LiveOrder, lots: int, rest: Decimal) -> None:
    """Have so much of the order be executed in all, if it is not more already."""
    order.executed_lots, order.executed_rest = max(order.executed, (lots, rest))


def _facts(order: LiveOrder) -> tuple[object, ...]:
    return order.status, order.executed, order.order_id, order.price_ticks, order.lots
