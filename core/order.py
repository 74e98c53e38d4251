"""Our orders: what is known of each, what may still change, and what has to be done to get what we want. Pure.

The rules that everything here keeps:

1. An order is registered before it is sent; its client id is never used again.
2. Three things can become of a request: accepted, refused, unknown. An unknown order counts as resting at full size.
3. Knowledge only grows: the executed quantity never falls, a life whose end the exchange has reported never begins
   again. An end that was only concluded here (refused, never existed) is undone by the exchange's word.
4. "Not found" ends no life by itself; ``absence_is_proof`` says when absence has become proof.
5. At most one living order fills a slot (side and level).
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from core.model import OrderReport, OrderStatus, Quote, Side, SymbolRules

PREFIX = "qpmm-"
"""Client ids that begin like this are ours; orders of others are never touched."""

_RANK = {
    OrderStatus.PENDING_NEW: 0,
    OrderStatus.IN_DOUBT: 0,
    OrderStatus.ACTIVE: 1,
    OrderStatus.PARTIALLY_FILLED: 2,
}
_ENDED_RANK = 3
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
    order_id: int = 0
    executed_lots: int = 0
    counted_lots: int = 0
    """Executed lots whose trades are in the ledger: the status of an order may come before its trades."""
    update_ms: int = 0
    """The exchange's time of the latest report."""
    cancel_requested: bool = False
    accepted_ns: int = 0
    echoed: bool = False
    """The user stream has spoken of this order."""
    not_found: int = 0
    uncancellable_ns: int = 0
    """Monotonic time of the last cancel that the exchange answered with "unknown order"; 0 for none."""
    end_is_reported: bool = False
    """The exchange itself has reported the end of this order's life."""
    refused_code: int = 0
    reason: str = ""

    @property
    def remaining_lots(self) -> int:
        """Return the lots that may still be filled."""
        return 0 if self.status.is_terminal else self.lots - self.executed_lots

    @property
    def slot(self) -> tuple[Side, int]:
        """Return the place that this order fills."""
        return self.side, self.level

    @property
    def shown_status(self) -> OrderStatus:
        """Return the status with a cancel under way taken into account."""
        waiting = self.cancel_requested and not self.status.is_terminal
        return OrderStatus.PENDING_CANCEL if waiting else self.status


class LiveOrders:
    """All orders of ours on one symbol. Those whose life has ended are remembered, up to a bound, for late fills."""

    REMEMBERED = 5000

    def __init__(self) -> None:
        self.awaiting_echo: dict[str, int] = {}
        """Monotonic time of acceptance, by client id, of orders that the user stream has not spoken of yet."""
        self._uncounted: dict[str, int] = {}
        self._living: dict[str, LiveOrder] = {}
        self._ended: OrderedDict[str, LiveOrder] = OrderedDict()

    def living(self) -> list[LiveOrder]:
        """Return the orders that rest, or may rest, in the order of their registration."""
        return list(self._living.values())

    def find(self, client_id: str) -> LiveOrder | None:
        """Return the order with this client id, living or remembered."""
        return self._living.get(client_id) or self._ended.get(client_id)

    def by_order_id(self, order_id: int) -> LiveOrder | None:
        """Return the order to which the exchange gave this id, living or remembered."""
        known = [*self._living.values(), *reversed(self._ended.values())]
        return next((order for order in known if order.order_id == order_id), None)

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
        order.not_found = 0
        if not order.accepted_ns and not order.echoed:
            self.awaiting_echo[order.client_id] = now_ns
        order.accepted_ns = order.accepted_ns or now_ns
        order.executed_lots = max(order.executed_lots, report.executed_lots)
        self._note_uncounted(order, now_ns)
        if order.status.is_terminal and not order.end_is_reported and not report.status.is_terminal:
            self._revive(order)
        if not order.status.is_terminal:
            self._advance(order, report)
        order.end_is_reported = order.end_is_reported or report.status.is_terminal
        return before != _facts(order)

    def _revive(self, order: LiveOrder) -> None:
        """Take an order up again that was believed not to exist, and does."""
        self._ended.pop(order.client_id, None)
        self._living[order.client_id] = order
        order.status = OrderStatus.PENDING_NEW
        order.reason = "believed not to exist, but does"

    def _advance(self, order: LiveOrder, report: OrderReport) -> None:
        if report.update_ms > order.update_ms and report.price_ticks:
            order.price_ticks, order.lots = report.price_ticks, report.lots
        order.update_ms = max(order.update_ms, report.update_ms)
        if report.status.is_terminal:
            self.end(order, report.status)
        elif order.executed_lots > 0:
            order.status = OrderStatus.PARTIALLY_FILLED
        elif _RANK[report.status] >= _RANK[order.status]:
            order.status = report.status

    def count(self, order: LiveOrder, lots: int, now_ns: int) -> None:
        """Note that trades of so many lots of this order are in the ledger."""
        order.counted_lots += lots
        order.executed_lots = max(order.executed_lots, order.counted_lots)
        self._note_uncounted(order, now_ns)

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
                order.counted_lots = order.executed_lots
        self._uncounted.clear()

    def echo(self, order: LiveOrder) -> None:
        """Note that the user stream has spoken of this order: the proof that it still reports."""
        order.echoed = True
        self.awaiting_echo.pop(order.client_id, None)

    def doubt(self, order: LiveOrder, reason: str) -> None:
        """Note that the outcome of placing this order is unknown; it counts as resting until the exchange says."""
        if order.status is OrderStatus.PENDING_NEW:
            order.status = OrderStatus.IN_DOUBT
            order.reason = reason

    def end(self, order: LiveOrder, status: OrderStatus, reason: str = "") -> None:
        """Note that this order's life has ended."""
        order.status = status
        order.reason = reason or order.reason
        self._living.pop(order.client_id, None)
        self._ended[order.client_id] = order
        while len(self._ended) > self.REMEMBERED:
            self._ended.popitem(last=False)

    def resting_notional_quote(self, side: Side, rules: SymbolRules) -> Decimal:
        """Return what all living orders of a side are worth, those in doubt included, in the quote asset."""
        living = (order for order in self._living.values() if order.side is side)
        return sum(
            (rules.notional_quote(order.price_ticks, order.remaining_lots) for order in living), Decimal(0)
        )

    def notional_by_slot(self, rules: SymbolRules) -> dict[tuple[Side, int], Decimal]:
        """Return what the living orders of each slot are worth, those in doubt included, in the quote asset."""
        worth: dict[tuple[Side, int], Decimal] = {}
        for order in self._living.values():
            notional = rules.notional_quote(order.price_ticks, order.remaining_lots)
            worth[order.slot] = worth.get(order.slot, Decimal(0)) + notional
        return worth


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
    settled_ns = order.sent_ns + recv_window_ms * 1_000_000 + int(DOUBT_SETTLES_AFTER_S * 1e9)
    return order.not_found >= 2 and now_ns >= settled_ns and order.uncancellable_ns >= settled_ns


@dataclass(frozen=True, slots=True)
class Plan:
    """The commands that lead from the orders that rest to those wanted: cancel first, then place."""

    cancels: tuple[LiveOrder, ...]
    places: tuple[Quote, ...]


def plan_replace(desired: Iterable[Quote], living: Sequence[LiveOrder]) -> Plan:
    """Return the plan of ``refresh_mode: replace``: every living order out, every desired quote anew.

    A quote is placed only once no order may rest in its slot any more, so that after the cancels the plan is made again
    with what they left.
    """
    occupied = {order.slot for order in living}
    return Plan(tuple(living), tuple(quote for quote in desired if quote.slot not in occupied))
