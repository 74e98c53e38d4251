"""One order of ours: what is known of it, what may still change, and when its absence has become proof. Pure."""

from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from msgspec import Struct

from core.model import OrderStatus, Side, SymbolRules
from core.order_life import Open, State, Trigger, after
from utils.word import Word

_NOTHING = Decimal(0)
MAX_AMENDS = 10_000
"""The exchange amends one order less often than this."""


class ChangeKind(Word):
    """What a change under way is to do."""

    AMEND = "AMEND"
    CANCEL = "CANCEL"


class Change(Struct, frozen=True, gc=False):
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


_AMENDABLE = frozenset(
    status for status in OrderStatus if after(State(status, Open.NOTHING), Trigger.AMEND_SENT) is not None
)
"""What the table says, for a look without making a state."""


@dataclass(slots=True)
class LiveOrder:
    """One order of ours, from before it is sent until after its life has ended."""

    client_id: str
    side: Side
    level: int
    price_ticks: int
    lots: int
    sent_ns: int
    """Monotonic time at which it was signed; until then, that of its registration."""
    decided_mid_half_ticks: int = 0
    """The mid on which the order was decided; 0 for an order of an earlier run."""
    status: OrderStatus = OrderStatus.PENDING_NEW
    """What rests, whatever change of it is under way."""
    change: Change | None = None
    """The change under way; at most one."""
    order_id: int = 0
    executed_lots: int = 0
    executed_rest: Decimal = _NOTHING
    """What is executed beyond these lots: of an order from before a change of the step, in the base asset."""
    counted_lots: int = 0
    """Executed lots whose trades are in the ledger: the status of an order may come before its trades."""
    counted_rest: Decimal = _NOTHING
    """What of those trades is beyond these lots."""
    adopted_lots: int = 0
    """Those of them that were taken for counted with a position of the exchange's: their trades may come yet."""
    adopted_until_ms: int = 0
    """The exchange's time of the latest report then: a later trade is none of those."""
    update_ms: int = 0
    """The exchange's time of the latest report."""
    amends: int = 0
    """How often an amend was sent."""
    amend_sent_ns: int = 0
    """Monotonic time at which the latest was signed."""
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
    cancel_sent_ns: int = 0
    """Monotonic time of the latest cancel."""
    heard_cancel_ns: int = -1
    """Which was the latest when the user stream spoke of this order last; -1 if it has not."""
    not_found: int = 0
    uncancellable_ns: int = 0
    """Monotonic time of the last cancel that the exchange answered with "unknown order"; 0 for none."""
    end_is_reported: bool = False
    """The exchange itself has reported the end of this order's life."""
    ended_ns: int = 0
    """Monotonic time since which it is known to have ended; 0 for not yet."""
    refused_code: int = 0
    amend_refused_code: int = 0
    amend_strikes: int = 0
    """Why the exchange would not amend it, where trying again would give the same answer; such an order is replaced."""
    reason: str = ""
    decision: str = ""
    """What the latest refresh decided about it, and why."""

    @property
    def last_sent_ns(self) -> int:
        """Return the monotonic time at which something was sent for it last."""
        return max(self.sent_ns, self.amend_sent_ns, self.cancel_sent_ns)

    @property
    def executed(self) -> tuple[int, Decimal]:
        """Return what is executed: whole lots, and what is beyond them."""
        return self.executed_lots, self.executed_rest

    def executed_quantity(self, rules: SymbolRules) -> Decimal:
        """Return what is executed in the base asset, to the last digit."""
        return rules.quantity(self.executed_lots) + self.executed_rest

    @property
    def uncounted_lots(self) -> int:
        """Return the executed lots whose trades are not in the ledger yet."""
        return self.executed_lots - self.counted_lots

    @property
    def is_uncounted(self) -> bool:
        """Tell whether trades of what is executed are not in the ledger yet."""
        return self.executed > (self.counted_lots, self.counted_rest)

    def count_all(self) -> None:
        """Take all that is executed for counted."""
        self.counted_lots, self.counted_rest = self.executed

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
        if self.change is None and self.status in _AMENDABLE:
            return self.amends < MAX_AMENDS
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
    sent_ns: int
    """When something was sent for it last."""
    status: OrderStatus
    end_is_reported: bool
    order_id: int
    price_ticks: int
    lots: int
    executed: tuple[int, Decimal]
    adopted_lots: int
    adopted_until_ms: int
    update_ms: int

    @classmethod
    def of(cls, order: LiveOrder) -> "EndedOrder":
        """Return what is kept of this order."""
        return cls(
            order.side,
            order.level,
            order.last_sent_ns,
            order.status,
            order.end_is_reported,
            order.order_id,
            order.price_ticks,
            order.lots,
            order.executed,
            order.adopted_lots,
            order.adopted_until_ms,
            order.update_ms,
        )

    def recalled(self, client_id: str) -> LiveOrder:
        """Return the order as it was when it left, everything executed of it counted."""
        order = LiveOrder(client_id, self.side, self.level, self.price_ticks, self.lots, self.sent_ns)
        order.status, order.end_is_reported = self.status, self.end_is_reported
        order.order_id, order.update_ms = self.order_id, self.update_ms
        order.executed_lots, order.executed_rest = self.executed
        order.count_all()
        order.adopted_lots, order.adopted_until_ms = self.adopted_lots, self.adopted_until_ms
        order.accepted_ns, order.echoed = int(order.order_id > 0), True
        return order


ECHO_WITHIN_S = 5.0
"""For how long the account stream may keep silent about what was accepted."""


def echo_due_ns(order: LiveOrder | None, known_ns: int, recv_window_ms: int) -> int:
    """Return until when the account stream has to have told of what is known to be done since ``known_ns``.

    Where the answer was lost, that may be long after it was: the exchange takes nothing that is older than the window
    of its timestamp. None is for an order that has left memory.
    """
    if order is not None:
        known_ns = min(known_ns, order.last_sent_ns + recv_window_ms * 1_000_000)
    return known_ns + int(ECHO_WITHIN_S * 1e9)


DOUBT_SETTLES_AFTER_S = 1.0
"""How long after the last moment of possible execution a "not found" is believed."""


def absence_is_proof(order: LiveOrder, now_ns: int, recv_window_ms: int) -> bool:
    """Tell whether the answers about an order in doubt prove that it does not rest.

    The exchange executes nothing that is older than its receive window. After that a cancel that finds nothing proves
    it, because cancels are answered by what matches orders, and not, like queries, by a copy that may lag. Two queries
    that found nothing are asked for besides.
    """
    proof_from_ns = settled_ns(order.sent_ns, recv_window_ms)
    return order.not_found >= 2 and now_ns >= proof_from_ns and order.uncancellable_ns >= proof_from_ns


def settled_ns(sent_ns: int, recv_window_ms: int) -> int:
    """Return from when on nothing that was sent then is executed any more, and what was is to be read."""
    return sent_ns + recv_window_ms * 1_000_000 + int(DOUBT_SETTLES_AFTER_S * 1e9)
