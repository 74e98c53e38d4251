"""What rests, or may rest, on a symbol: added up as each order changes, not anew at each question. Pure."""

from collections.abc import Iterable

from msgspec import Struct

from core.live_order import LiveOrder
from core.model import Side

Slot = tuple[Side, int]


class Share(Struct, frozen=True, gc=False):
    """What one order, or several in one slot, add at worst: ``worth`` in ticks times lots, lots, number of orders."""

    worth: int = 0
    lots: int = 0
    orders: int = 0


NONE = Share()


def share_of(order: LiveOrder) -> Share:
    """Return what an order that lives adds at worst, whatever an amendment that is under way leaves it with."""
    change = order.change
    left = order.remaining_lots
    if change is None or not change.is_amending:
        return Share(order.price_ticks * left, left, 1)
    then = max(change.lots - order.executed_lots, 0)
    return Share(max(order.price_ticks * left, change.price_ticks * then), max(left, then), 1)


class Load:
    """The sums over all living orders of a symbol: by side, and by slot."""

    __slots__ = ("_shares", "by_side", "by_slot")

    def __init__(self) -> None:
        self._shares: dict[str, Share] = {}
        self.by_side = {Side.BUY: NONE, Side.SELL: NONE}
        self.by_slot: dict[Slot, Share] = {}

    @classmethod
    def of(cls, orders: Iterable[LiveOrder]) -> "Load":
        """Return the sums over these orders, counted anew."""
        load = cls()
        for order in orders:
            share = load._shares[order.client_id] = share_of(order)
            side, slot = order.side, order.slot
            load.by_side[side] = _more(load.by_side[side], share)
            in_slot = load.by_slot.get(slot)
            load.by_slot[slot] = share if in_slot is None else _more(in_slot, share)
        return load

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Load):
            return NotImplemented
        return (self.by_side, self.by_slot) == (other.by_side, other.by_slot)

    __hash__ = None  # type: ignore[assignment]  # it changes

    @property
    def count(self) -> int:
        """Return how many orders there are."""
        return len(self._shares)

    def note(self, order: LiveOrder, *, lives: bool) -> None:
        """Count an order as it stands now, or no longer."""
        before = self._shares.get(order.client_id, NONE)
        share = share_of(order) if lives else NONE
        if share == before:
            return
        if lives:
            self._shares[order.client_id] = share
        else:
            del self._shares[order.client_id]
        side, slot = order.side, order.slot
        self.by_side[side] = _moved(self.by_side[side], before, share)
        in_slot = _moved(self.by_slot.get(slot, NONE), before, share)
        if in_slot.orders:
            self.by_slot[slot] = in_slot
        else:
            del self.by_slot[slot]


def _more(total: Share, share: Share) -> Share:
    return Share(total.worth + share.worth, total.lots + share.lots, total.orders + share.orders)


def _moved(total: Share, before: Share, share: Share) -> Share:
    return Share(
        total.worth - before.worth + share.worth,
        total.lots - before.lots + share.lots,
        total.orders - before.orders + share.orders,
    )
