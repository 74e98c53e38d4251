"""For how long the exchange has asked for silence, after 429, 418 and the like. Pure.

Durations, on a clock that is never stepped: on the exchange's, which is measured, and jumps, one that is over would be
in force again when that clock is set back.
"""

from core.rate_budget import Cost, Lane


class RateHold:
    """Until when nothing may be sent, and until when nothing that counts as an order; times are monotonic, in ms."""

    __slots__ = ("_orders_until_ms", "_until_ms")

    def __init__(self) -> None:
        self._until_ms: int | None = None
        self._orders_until_ms: int | None = None

    def begin(self, for_ms: int, now_ms: int, *, orders_only: bool) -> None:
        """Let nothing through for so long, in any lane; ``orders_only``: nothing that counts as an order.

        A shorter hold never ends a longer one.
        """
        until_ms = now_ms + for_ms
        if orders_only:
            self._orders_until_ms = _later(self._orders_until_ms, until_ms)
        else:
            self._until_ms = _later(self._until_ms, until_ms)

    @property
    def has_begun(self) -> bool:
        """Whether there was a hold of which nobody has seen the end; without one, nobody need ask for the time."""
        return self._until_ms is not None or self._orders_until_ms is not None

    def ends(self, now_ms: int) -> bool:
        """Return whether a hold on everything is over since this was asked last."""
        if self._until_ms is None or now_ms < self._until_ms:
            return False
        self._until_ms = None
        return True

    def left_ms(self, lane: Lane, cost: Cost, now_ms: int) -> int:
        """Return for how many ms a request of this lane and cost is held back; 0 if it is not.

        No hold on orders keeps back the order that closes a position: whether it is one too many, the exchange says.
        """
        left_ms = 0 if self._until_ms is None else self._until_ms - now_ms
        if cost.orders_1m and lane is not Lane.CANCEL and self._orders_until_ms is not None:
            left_ms = max(left_ms, self._orders_until_ms - now_ms)
        return max(left_ms, 0)


def _later(one_ms: int | None, other_ms: int) -> int:
    return other_ms if one_ms is None else max(one_ms, other_ms)
