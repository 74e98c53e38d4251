"""What is to be done to each order so that what rests becomes what is wanted: keep, amend, replace. Pure.

The rule, for an order whose slot (side and level) has a quote wanted at ``target``, with all distances as fractions of
the mid price:

- its distance from the mid is outside of ``[min_spread, max_spread]``: not kept, whatever follows;
- ``|price - target|`` up to ``modify_threshold`` (and always one tick, unless the threshold is 0): keep. Beyond, keep
  while there is patience left: a deviation is followed once it has lasted, the sooner the larger it is
  (``core.patience``), so that a flicker of the mid costs neither a request nor a place in the queue;
- up to ``max_modify_deviation`` (and always one tick): amend; beyond: cancel, and place anew once it is gone.

An amended order goes to the end of the queue at its new price, so an order that is near enough is left alone even if
its target has moved a little. Once one order has to be amended, others that are beyond half of the threshold go with
it: the same price move would have each of them follow within moments, with a request of its own.
"""

from collections.abc import Iterable, Mapping, Sequence, Set

from msgspec import Struct

from core.brake import UNREADABLE
from core.live_order import LiveOrder
from core.load import Slot
from core.model import OrderStatus, Quote
from core.settings import ManageSettings, QuoteSettings
from core.strategy import level_price_ticks, spread_objection
from utils.word import Word

MOST_AMENDMENTS = 9_900
"""An order is replaced before the exchange's cap of 10 000 amendments (-5026)."""

_UNSETTLED = frozenset({OrderStatus.PENDING_NEW, OrderStatus.IN_DOUBT})


class Move(Word):
    """What is done about one slot."""

    KEEP = "keep"
    AMEND = "amend"
    CANCEL = "cancel"
    PLACE = "place"
    WAIT = "wait"


class Decision(Struct, frozen=True):
    """What is done about one slot, and why in a few words."""

    move: Move
    reason: str
    order: LiveOrder | None = None
    quote: Quote | None = None
    is_company: bool = False
    """An amendment that only goes along with others: the order could have been kept."""


class Plan(Struct, frozen=True):
    """The decisions about every slot that has an order or shall have one."""

    decisions: tuple[Decision, ...]

    def only_amends(self) -> list[tuple[LiveOrder, Quote, str]] | None:
        """Return the orders to be amended as ``amends`` does, None if any is to be cancelled or placed, too."""
        for one in self.decisions:
            if one.move is Move.CANCEL or one.move is Move.PLACE:
                return None
        return self.amends

    @property
    def cancels(self) -> list[LiveOrder]:
        """Return the orders to be cancelled."""
        return [one.order for one in self.decisions if one.move is Move.CANCEL and one.order is not None]

    @property
    def amends(self) -> list[tuple[LiveOrder, Quote, str]]:
        """Return the orders to be amended, what each is to become, and why: farthest from its target first.

        A queue that has no room for all takes the first; in any fixed order it would be the same ones each time.
        """
        amends = [one for one in self.decisions if one.move is Move.AMEND]
        if len(amends) > 1:
            amends.sort(key=_urgency)
        return [
            (one.order, one.quote, one.reason)
            for one in amends
            if one.order is not None and one.quote is not None
        ]

    @property
    def places(self) -> list[Quote]:
        """Return the quotes to be placed, each in a slot in which no order may rest."""
        return [one.quote for one in self.decisions if one.move is Move.PLACE and one.quote is not None]


def _urgency(amend: Decision) -> tuple[bool, int]:
    """Return what amendments are sorted by: those that go along only are last, the farthest is first of each kind."""
    order, quote = amend.order, amend.quote
    deviation = abs(order.price_ticks - quote.price_ticks) if order is not None and quote is not None else 0
    return amend.is_company, -deviation


def plan_replace(desired: Iterable[Quote], living: Sequence[LiveOrder]) -> Plan:
    """Return the plan of ``refresh_mode: replace``: every living order out, every desired quote anew.

    A quote is placed only once no order may rest in its slot any more, so that after the cancels the plan is made again
    with what they left.
    """
    occupied = {order.slot for order in living}
    out = [Decision(Move.CANCEL, "refresh", order) for order in living]
    return Plan((*out, *_places(_by_slot(desired), occupied)))


def plan_amend(desired: Sequence[Quote], living: Sequence[LiveOrder], bounds: "Bounds") -> Plan:
    """Return the plan of ``refresh_mode: amend``, by the rule at the head of this file."""
    wanted = _by_slot(desired)
    taken: set[Slot] = set()
    decisions: list[Decision] = []
    is_amending = False
    for order in living:
        slot = order.side, order.level
        decision = _decide(order, None if slot in taken else wanted.get(slot), bounds)
        is_amending = is_amending or decision.move is Move.AMEND
        decisions.append(decision)
        taken.add(slot)
    if is_amending:
        decisions = [_take_along(one, bounds) if one.move is Move.KEEP else one for one in decisions]
    return Plan((*decisions, *_places(wanted, taken)))


def _by_slot(desired: Iterable[Quote]) -> dict[Slot, Quote]:
    return {(quote.side, quote.level): quote for quote in desired}


def _places(wanted: Mapping[Slot, Quote], occupied: Set[Slot]) -> list[Decision]:
    if len(wanted) == len(occupied) and wanted.keys() == occupied:
        return []
    return [
        Decision(Move.PLACE, "free slot", quote=quote)
        for slot, quote in wanted.items()
        if slot not in occupied
    ]


class Bounds(Struct, frozen=True):
    """The rule's fractions at one mid price, in ticks."""

    mid_half_ticks: int
    quoting: QuoteSettings
    keep_ticks: int
    amend_ticks: int
    is_patient: bool = False
    """A deviation beyond the threshold has not lasted long enough yet to be followed."""

    @classmethod
    def at(
        cls,
        mid_half_ticks: int,
        quoting: QuoteSettings,
        managing: ManageSettings,
        *,
        is_patient: bool = False,
    ) -> "Bounds":
        """Return the bounds that hold at this mid price."""
        numerator, denominator = managing.threshold_ratio
        keep_ticks = numerator * mid_half_ticks // (2 * denominator)
        keep_ticks = max(keep_ticks, 1) if numerator else 0
        most, of_most = managing.deviation_ratio
        return cls(
            mid_half_ticks,
            quoting,
            keep_ticks,
            amend_ticks=max(most * mid_half_ticks // (2 * of_most), keep_ticks, 1),
            is_patient=is_patient,
        )


def _decide(order: LiveOrder, quote: Quote | None, bounds: Bounds) -> Decision:
    if quote is None and order.amend_in_doubt and not order.cancel_requested:
        return Decision(Move.CANCEL, "not wanted any more, whatever became of its amendment", order)
    if order.change is not None or order.status in _UNSETTLED:
        return Decision(Move.WAIT, "a change is under way", order)
    if quote is None:
        return Decision(Move.CANCEL, "not wanted any more" if order.level else "of an earlier run", order)
    deviation = abs(order.price_ticks - quote.price_ticks)
    if deviation > bounds.amend_ticks:
        return Decision(Move.CANCEL, f"{_bps(deviation, bounds)} away: replaced", order, quote)
    if order.amend_refused_code:
        code = "no code" if order.amend_refused_code == UNREADABLE else order.amend_refused_code
        return Decision(Move.CANCEL, f"amend refused ({code}): replaced", order, quote)
    if order.amends >= MOST_AMENDMENTS:
        return Decision(Move.CANCEL, f"amended {order.amends} times: replaced", order, quote)
    objection = spread_objection(order.side, order.price_ticks, bounds.mid_half_ticks, bounds.quoting)
    if objection and deviation:
        return Decision(Move.AMEND, objection, order, quote)
    if deviation > bounds.keep_ticks and not bounds.is_patient:
        return Decision(Move.AMEND, f"{_bps(deviation, bounds)} away", order, quote)
    if _size_is_off(order, quote):
        return Decision(Move.AMEND, f"{order.remaining_lots} of {quote.lots} lots left", order, quote)
    waits = ", not for long" if deviation > bounds.keep_ticks else ""
    return Decision(Move.KEEP, f"{_bps(deviation, bounds)} away{waits}", order, quote)


def _size_is_off(order: LiveOrder, quote: Quote) -> bool:
    """Tell whether the open size is worth losing the queue place for: less than half of it is left, or it is too big.

    One lot more than wanted is not too big, nor are as many more as the same money buys at the order's own price.
    """
    if 2 * order.remaining_lots < quote.lots:
        return True
    # What both are worth at most, in ticks times lots, is below (wanted lots + 1) x the target: the wanted lots are
    # that money over the target, rounded down. So an order of no more money is never above it at its own price; one
    # above the target is measured at the target, where it may have the one lot.
    lower_ticks = min(order.price_ticks, quote.price_ticks)
    return order.remaining_lots * lower_ticks > (quote.lots + 1) * quote.price_ticks


def _take_along(decision: Decision, bounds: Bounds) -> Decision:
    """Return a decision to keep, changed to an amendment if the order is close to having to be amended by itself."""
    order, quote = decision.order, decision.quote
    if order is None or quote is None:
        return decision
    if 2 * abs(order.price_ticks - quote.price_ticks) <= bounds.keep_ticks:
        return decision
    return Decision(Move.AMEND, f"{decision.reason}, with others", order, quote, is_company=True)


def _bps(ticks: int, bounds: Bounds) -> str:
    return f"{ticks * 20_000 / bounds.mid_half_ticks:.2f} bps"


class QuietBand(Struct, frozen=True, gc=False):
    """The mid prices, in half ticks, between which no order has to be changed."""

    low: int
    high: int
    middle_low: int = 0
    """The lowest of the mids at which an order is exactly at its target; ``middle_high`` is the highest of them."""
    middle_high: int = 2**63

    def holds(self, mid_half_ticks: int) -> bool:
        """Tell whether nothing has to be done at this mid price."""
        return self.low <= mid_half_ticks <= self.high

    def deviation_bps(self, mid_half_ticks: int) -> float:
        """Return how far the order that is farthest from its target is from it, in basis points of the mid."""
        farthest = max(mid_half_ticks - self.middle_low, self.middle_high - mid_half_ticks)
        return farthest / mid_half_ticks * 10_000


UNTIL_THE_INTERVAL = QuietBand(0, 2**63)
"""No move asks for a look at the orders; the interval does."""


def quiet_band(living: Sequence[LiveOrder], bounds: Bounds) -> QuietBand:
    """Return how far the mid may move before the rule may ask for a change: cheap to test on every tick.

    On the safe side by a tick or two: at its edge the plan may still say that everything is kept. Without an order
    there is nothing that a move could take out of its place: a free slot is filled at the interval.
    """
    near = [_near_target(order, bounds) for order in living if order.level]
    if not near:
        return UNTIL_THE_INTERVAL
    bands = near + [_within_spread(order, bounds.quoting) for order in living if order.level]
    return QuietBand(
        max(band.low for band in bands),
        min(band.high for band in bands),
        min(band.middle_low for band in near),
        max(band.middle_high for band in near),
    )


def _near_target(order: LiveOrder, bounds: Bounds) -> QuietBand:
    """Return the mids whose target is within the threshold of the order's price.

    A target moves with the mid, times one plus or minus its offset, and is rounded to a tick, as the threshold is.
    """
    mid_half_ticks, keep_ticks = bounds.mid_half_ticks, bounds.keep_ticks
    behind = order.price_ticks - level_price_ticks(mid_half_ticks, order.side, order.level, bounds.quoting)
    numerator, denominator = bounds.quoting.offset_ratio
    # half ticks of the mid by which a target moves a tick, as a fraction
    half, of_half = 2 * denominator, denominator + order.level * numerator
    middle = mid_half_ticks + _towards_zero(behind * half, of_half)
    reach = max(keep_ticks - 2, 0) * half // of_half
    return QuietBand(middle - reach, middle + reach, middle, middle)


def _towards_zero(numerator: int, denominator: int) -> int:
    return numerator // denominator if numerator >= 0 else -(-numerator // denominator)


def _within_spread(order: LiveOrder, settings: QuoteSettings) -> QuietBand:
    """Return the mids from which the order is neither nearer than min_spread nor farther than max_spread."""
    edges = []
    for numerator, denominator in (settings.min_spread_ratio, settings.max_spread_ratio):
        share = denominator - order.side.sign * numerator
        edges.append((2 * order.price_ticks * denominator, share) if share else (2**63, 1))
    (first, of_first), (second, of_second) = edges
    if first * of_second > second * of_first:
        first, of_first, second, of_second = second, of_second, first, of_first
    return QuietBand(-(-first // of_first), second // of_second)
