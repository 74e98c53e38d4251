"""Our orders: what is known of each, what may still change, and what has to be done to get what we want. Pure.

The rules that everything here keeps:

1. An order is registered before it is sent; its client id is never used again.
2. Three things can become of a request: accepted, refused, unknown. An unknown order counts as resting at full size.
3. Knowledge only grows: the executed quantity never falls, a life whose end the exchange has reported never begins
   again. An end that was only concluded here (refused, never existed) is undone by the exchange's word.
4. "Not found" ends no life by itself; ``absence_is_proof`` says when absence has become proof.
5. At most one living order fills a slot (side and level), and at most one change of an order is under way.
6. Where an order stands is decided by one table, ``core.order_life``; what that table does not know has the exchange
   asked (``LiveOrders.to_ask``).
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from core.model import OrderReport, OrderStatus, Quote, Side, SymbolRules
from core.order_life import Open, State, Trigger, after, sighting

PREFIX = "qpmm-"
"""Client ids that begin like this are ours; orders of others are never touched."""

MAX_AMENDS = 10_000
"""The exchange amends one order less often than this."""

_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


def is_ours(client_id: str) -> bool:
    """Tell whether an order with this client id was placed by this program."""
    return client_id.startswith(PREFIX)


class ClientIds:
    """Mints client ids that no other instance and no other run ever minted: prefix, instance, boot time, sequence.

    At most 36 characters of ``[.A-Z:/a-z0-9_-]``, as the exchange demands.
    """

    def __init__(self, instance_id: str, boot_ms: int) -> None:
        self._stem = f"{PREFIX}{instance_id}-{_base36(boot_ms)}"
        self._next = 0

    def mint(self) -> str:
        """Return a client id that was never returned before."""
        self._next += 1
        return f"{self._stem}-{_base36(self._next)}"


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _BASE36[digit] + digits
    return digits or "0"


class ChangeKind(StrEnum):
    """What a change under way is to do."""

    AMEND = "AMEND"
    CANCEL = "CANCEL"


@dataclass(frozen=True, slots=True)
class Change:
    """A change of an order that is under way: sent, and neither refused nor seen to be done.

    ``price_ticks`` and ``lots`` are the target of an amend, ``lots`` as a total, what is executed included.
    ``in_doubt`` says that nobody here knows whether an amend was executed; a cancel that was sent over such an amend
    keeps its target.
    """

    kind: ChangeKind
    price_ticks: int
    lots: int
    sent_ns: int
    in_doubt: bool = False

    @property
    def is_amending(self) -> bool:
        """Tell whether the target may come to rest, or rest already."""
        return self.kind is ChangeKind.AMEND or self.in_doubt

    @property
    def open(self) -> Open:
        """Return the name of it in the table."""
        if self.kind is ChangeKind.CANCEL:
            return Open.CANCEL_OVER_AMEND if self.in_doubt else Open.CANCEL
        return Open.AMEND_IN_DOUBT if self.in_doubt else Open.AMEND


@dataclass(slots=True)
class LiveOrder:
    """One order of ours, from before it is sent until after its life has ended."""

    client_id: str
    side: Side
    level: int
    price_ticks: int
    lots: int
    sent_ns: int
    decided_mid_half_ticks: int = 0
    """The mid on which the order was decided; 0 for an order of an earlier run."""
    status: OrderStatus = OrderStatus.PENDING_NEW
    """What rests, whatever change of it is under way."""
    change: Change | None = None
    """The change under way; at most one."""
    order_id: int = 0
    executed_lots: int = 0
    counted_lots: int = 0
    """Executed lots whose trades are in the ledger: the status of an order may come before its trades."""
    adopted_lots: int = 0
    """Those of them that were taken for counted with a position of the exchange's: their trades may come yet."""
    update_ms: int = 0
    """The exchange's time of the latest report."""
    amends: int = 0
    """How often an amend was sent."""
    amend_sent_ns: int = 0
    """Monotonic time of the latest."""
    amended_from_ms: int = 0
    """The exchange's time of the latest report before it."""
    amended_from: tuple[int, int] = (0, 0)
    """Price and lots before it."""
    reading: tuple[int, int] | None = None
    """Price and lots that a look-up has shown since nothing could change them any more."""
    told: tuple[object, ...] = ()
    """What was told of it last to whoever follows the changes of orders."""
    puzzle: tuple[State, Trigger] | None = None
    """What was said of it last that cannot be: it is asked about once."""
    accepted_ns: int = 0
    echoed: bool = False
    """The user stream has spoken of this order since it was placed, or amended last."""
    not_found: int = 0
    uncancellable_ns: int = 0
    """Monotonic time of the last cancel that the exchange answered with "unknown order"; 0 for none."""
    end_is_reported: bool = False
    """The exchange itself has reported the end of this order's life."""
    ended_ns: int = 0
    """Monotonic time since which it is known to have ended; 0 for not yet."""
    refused_code: int = 0
    amend_refused_code: int = 0
    """Why the exchange would not amend it, where trying again would give the same answer; such an order is replaced."""
    reason: str = ""
    decision: str = ""
    """What the latest refresh decided about it, and why."""

    @property
    def remaining_lots(self) -> int:
        """Return the lots that may still be filled."""
        return 0 if self.status.is_terminal else max(self.lots - self.executed_lots, 0)

    @property
    def slot(self) -> tuple[Side, int]:
        """Return the place that this order fills."""
        return self.side, self.level

    @property
    def state(self) -> State:
        """Return where it stands in the table of its life."""
        if self.status.is_terminal:
            return State(self.status, Open.NOTHING if self.end_is_reported else Open.PROOF)
        return State(self.status, self.change.open if self.change is not None else Open.NOTHING)

    @property
    def shown_status(self) -> OrderStatus:
        """Return the status with a change under way taken into account."""
        return self.state.shown

    @property
    def cancel_requested(self) -> bool:
        """Tell whether a cancel is under way."""
        return self.change is not None and self.change.kind is ChangeKind.CANCEL

    @property
    def amend_in_doubt(self) -> bool:
        """Tell whether nobody here knows which price and quantity rest."""
        return self.change is not None and self.change.in_doubt

    @property
    def is_amendable(self) -> bool:
        """Tell whether an amend may be sent now."""
        return after(self.state, Trigger.AMEND_SENT) is not None and self.amends < MAX_AMENDS

    @property
    def worst_price_ticks(self) -> int:
        """Return the price of the worst that may rest."""
        return self._worst()[0]

    @property
    def worst_remaining_lots(self) -> int:
        """Return the lots of the worst that may rest and be filled."""
        return self._worst()[1]

    def _worst(self) -> tuple[int, int]:
        """Return price and lots of the larger notional of what rested and what an amend may have made of it."""
        if self.status.is_terminal:
            return self.price_ticks, 0
        rested = self.price_ticks, max(self.lots - self.executed_lots, 0)
        if self.change is None or not self.change.is_amending:
            return rested
        target = self.change.price_ticks, max(self.change.lots - self.executed_lots, 0)
        return max(rested, target, key=lambda pair: pair[0] * pair[1])


class EndedOrder(NamedTuple):
    """What is kept of an order that has left memory, so that a late fill still finds what it was."""

    side: Side
    level: int
    status: OrderStatus
    end_is_reported: bool
    order_id: int
    price_ticks: int
    lots: int
    executed_lots: int
    adopted_lots: int
    update_ms: int

    @classmethod
    def of(cls, order: LiveOrder) -> "EndedOrder":
        """Return what is kept of this order."""
        return cls(
            order.side,
            order.level,
            order.status,
            order.end_is_reported,
            order.order_id,
            order.price_ticks,
            order.lots,
            order.executed_lots,
            order.adopted_lots,
            order.update_ms,
        )

    def recalled(self, client_id: str) -> LiveOrder:
        """Return the order as it was when it left, everything executed of it counted."""
        order = LiveOrder(client_id, self.side, self.level, self.price_ticks, self.lots, 0)
        order.status, order.end_is_reported = self.status, self.end_is_reported
        order.order_id, order.update_ms = self.order_id, self.update_ms
        order.executed_lots = order.counted_lots = self.executed_lots
        order.adopted_lots = self.adopted_lots
        order.accepted_ns, order.echoed = int(order.order_id > 0), True
        return order


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
        """Monotonic time of acceptance, by client id, of orders and amendments that the user stream has not told of."""
        self._uncounted: dict[str, int] = {}
        self.on_change: Callable[[LiveOrder], None] = _nobody
        """Called with an order each time it stands, costs or is executed otherwise than before; it has to be quick."""
        self._ask: dict[str, str] = {}
        self._living: dict[str, LiveOrder] = {}
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
        self._tell(order)
        return order

    def adopt(self, report: OrderReport, now_ns: int) -> LiveOrder:
        """Return the order of this report, taken up if it was not known: left by an earlier run. Level 0 is no slot."""
        order = self.find(report.client_id)
        if order is None:
            order = LiveOrder(report.client_id, report.side, 0, report.price_ticks, report.lots, now_ns)
            order.echoed = True
            self._living[report.client_id] = order
        self.apply(order, report, now_ns)
        return order

    def apply(self, order: LiveOrder, report: OrderReport, now_ns: int) -> bool:
        """Add what the exchange reports to what is known; return whether anything changed.

        Reports may come late, twice, or in any order of channels.
        """
        before = _facts(order)
        order.order_id = report.order_id
        self._client_ids[report.order_id] = order.client_id
        order.not_found = 0
        if not order.accepted_ns and not order.echoed:
            self.awaiting_echo[order.client_id] = now_ns
        order.accepted_ns = order.accepted_ns or now_ns
        order.executed_lots = max(order.executed_lots, report.executed_lots)
        self._note_uncounted(order, now_ns)
        was_concluded = order.state.open is Open.PROOF
        if was_concluded or not order.status.is_terminal:
            self._note_values(order, report)
        self._move(order, sighting(report.status, order.executed_lots))
        if was_concluded and not order.status.is_terminal:
            order.reason = "believed not to exist, but does"
        self._settle_if_seen(order, report)
        self._tell(order)
        return before != _facts(order)

    @staticmethod
    def _note_values(order: LiveOrder, report: OrderReport) -> None:
        """Take price and quantity of a newer report; an amendment is newer than a trade of the same millisecond."""
        newer = report.update_ms > order.update_ms
        newer = newer or (report.is_amendment and report.update_ms == order.update_ms)
        if newer and report.price_ticks:
            order.price_ticks, order.lots = report.price_ticks, report.lots
        order.update_ms = max(order.update_ms, report.update_ms)

    def _settle_if_seen(self, order: LiveOrder, report: OrderReport) -> None:
        """Note that an amend is done when a report that is newer than its sending shows its target."""
        change = order.change
        if change is None or not change.is_amending:
            return
        shown, target = (report.price_ticks, report.lots), (change.price_ticks, change.lots)
        if shown == target == (order.price_ticks, order.lots) and _tells_of(report, order, target):
            self._move(order, Trigger.AMEND_SETTLED)

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
        if asked_ns < _settled_ns(order.amend_sent_ns, recv_window_ms):
            return changed
        values = report.price_ticks, report.lots
        if order.reading != values:
            order.reading = values
            return changed
        before = _facts(order)
        order.price_ticks, order.lots = values
        self._move(order, Trigger.AMEND_SETTLED)
        self._tell(order)
        return changed or before != _facts(order)

    # --- changes ----------------------------------------------------------------------------------------------

    def begin_amend(self, order: LiveOrder, price_ticks: int, lots: int, now_ns: int) -> None:
        """Note an amend that is about to be sent: from now on the worse of old and new counts.

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
        self._tell(order)

    def end_amend(self, order: LiveOrder) -> None:
        """Note that an amend was refused, changed nothing, or was not sent: what rested before rests still."""
        self._move(order, Trigger.AMEND_REFUSED)
        self._tell(order)

    def doubt_amend(self, order: LiveOrder, reason: str) -> None:
        """Note that the outcome of an amend is unknown: either the old or the new may rest."""
        before = order.state
        self._move(order, Trigger.AMEND_UNKNOWN)
        if order.state != before:
            order.reason = reason
        self._tell(order)

    def begin_cancel(self, order: LiveOrder, now_ns: int) -> None:
        """Note a cancel that is about to be sent; it may follow a cancel, an amend, and a placing without answer."""
        if self._move(order, Trigger.CANCEL_SENT, now_ns) and order.change is not None:
            order.change = replace(order.change, sent_ns=now_ns)
        self._tell(order)

    def end_cancel(self, order: LiveOrder) -> None:
        """Note that a cancel was refused: the order rests, or is gone, as it was before."""
        self._move(order, Trigger.CANCEL_REFUSED)
        self._tell(order)

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

    def _tell(self, order: LiveOrder) -> None:
        """Tell whoever follows the changes of orders, if there is one."""
        now = (order.state, order.price_ticks, order.lots, order.executed_lots)
        if now != order.told:
            order.told = now
            self.on_change(order)

    def _remember(self, order: LiveOrder) -> None:
        self._ended[order.client_id] = order
        while len(self._ended) > self.REMEMBERED:
            self._shorten(next(iter(self._ended.values())))

    def register_taker(self, client_id: str, side: Side, lots: int, now_ns: int) -> LiveOrder:
        """Return a new order that takes at any price and never rests: it is followed for the record only.

        ``doubt`` and ``end`` note its outcome, ``note_taker`` what the exchange says of it.
        """
        order = LiveOrder(client_id, side, 0, 0, lots, now_ns)
        self._takers[client_id] = order
        while len(self._takers) > self.TAKERS:
            self._takers.popitem(last=False)
        self._tell(order)
        return order

    def note_taker(self, report: OrderReport) -> None:
        """Add what the exchange says of an order that takes; of others nothing is noted."""
        order = self._takers.get(report.client_id)
        if order is None:
            return
        order.order_id = report.order_id
        order.executed_lots = max(order.executed_lots, report.executed_lots)
        self._move(order, sighting(report.status, order.executed_lots))
        self._tell(order)

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

    def count(self, order: LiveOrder, lots: int, now_ns: int) -> None:
        """Note that trades of so many lots of this order are in the ledger."""
        self._move(order, Trigger.TRADED)
        order.counted_lots += lots
        known = min(max(order.counted_lots - order.executed_lots, 0), order.adopted_lots)
        order.adopted_lots -= known
        order.counted_lots -= known
        order.executed_lots = max(order.executed_lots, order.counted_lots)
        self._note_uncounted(order, now_ns)
        self._tell(order)

    def _note_uncounted(self, order: LiveOrder, now_ns: int) -> None:
        if order.executed_lots > order.counted_lots:
            self._uncounted.setdefault(order.client_id, now_ns)
        else:
            self._uncounted.pop(order.client_id, None)

    def uncounted_lots(self) -> int:
        """Return what has been executed without its trades being in the ledger yet: bought less sold."""
        orders = [order for client_id in self._uncounted if (order := self.find(client_id)) is not None]
        return sum(order.side.sign * (order.executed_lots - order.counted_lots) for order in orders)

    def uncounted_since_ns(self) -> int | None:
        """Return since when the oldest of those trades is missing, None if none is."""
        return min(self._uncounted.values(), default=None)

    def count_all(self) -> None:
        """Take everything executed for counted: a position of the exchange's has been adopted that holds it."""
        for client_id in list(self._uncounted):
            order = self.find(client_id)
            if order is not None:
                order.adopted_lots += order.executed_lots - order.counted_lots
                order.counted_lots = order.executed_lots
        self._uncounted.clear()

    def expect_echo(self, order: LiveOrder, now_ns: int) -> None:
        """Note that the exchange has answered that it amended the order: the user stream has to speak of it."""
        if not order.echoed:
            self.awaiting_echo.setdefault(order.client_id, now_ns)

    def echo(self, order: LiveOrder) -> None:
        """Note that the user stream has spoken of this order: the proof that it still reports."""
        order.echoed = True
        self.awaiting_echo.pop(order.client_id, None)

    def doubt(self, order: LiveOrder, reason: str) -> None:
        """Note that the outcome of placing this order is unknown; it counts as resting until the exchange says."""
        before = order.status
        if self._move(order, Trigger.PLACE_UNKNOWN) and order.status is not before:
            order.reason = reason
        self._tell(order)

    def end(self, order: LiveOrder, status: OrderStatus, reason: str = "") -> bool:
        """Note that this order's life has ended, as we conclude; return False if what is known contradicts it.

        REJECTED says that placing it was refused or never happened, CANCELLED that the exchange has it no longer.
        """
        if not self._move(order, _CONCLUSION[status]):
            return False
        order.reason = reason or order.reason
        self._tell(order)
        return True

    def resting_notional_quote(self, side: Side, rules: SymbolRules) -> Decimal:
        """Return what all living orders of a side are worth at worst, those in doubt included, in the quote asset."""
        living = (order for order in self._living.values() if order.side is side)
        return sum(
            (rules.notional_quote(order.worst_price_ticks, order.worst_remaining_lots) for order in living),
            Decimal(0),
        )

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
        return replace(change, kind=ChangeKind.CANCEL, in_doubt=False)
    if what_is_open is Open.AMEND:
        return change
    kind = ChangeKind.AMEND if what_is_open is Open.AMEND_IN_DOUBT else ChangeKind.CANCEL
    return replace(change, kind=kind, in_doubt=True)


def _facts(order: LiveOrder) -> tuple[object, ...]:
    return order.status, order.executed_lots, order.order_id, order.price_ticks, order.lots


DOUBT_SETTLES_AFTER_S = 1.0
"""How long after the last moment of possible execution a "not found" is believed."""


def absence_is_proof(order: LiveOrder, now_ns: int, recv_window_ms: int) -> bool:
    """Tell whether the answers about an order in doubt prove that it does not rest.

    The exchange executes nothing that is older than its receive window. After that a cancel that finds nothing proves
    it, because cancels are answered by what matches orders, and not, like queries, by a copy that may lag. Two queries
    that found nothing are asked for besides.
    """
    settled_ns = _settled_ns(order.sent_ns, recv_window_ms)
    return order.not_found >= 2 and now_ns >= settled_ns and order.uncancellable_ns >= settled_ns


def _settled_ns(sent_ns: int, recv_window_ms: int) -> int:
    """Return from when on nothing that was sent then is executed any more, and what was is to be read."""
    return sent_ns + recv_window_ms * 1_000_000 + int(DOUBT_SETTLES_AFTER_S * 1e9)
