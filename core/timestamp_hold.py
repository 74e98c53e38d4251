"""Orders wait while the exchange refuses our timestamps: one of them at a time asks whether it still does. Pure."""

FIRST_HOLD_S = 1.0
"""Longer than it takes to have the exchange's clock measured anew."""
LONGEST_HOLD_S = 10.0

_TIMESTAMP_CODES = frozenset({-1021, -5028})
"""Source: binance-futures error codes: INVALID_TIMESTAMP, ME_RECVWINDOW_REJECT."""


class TimestampHold:
    """After a refused timestamp nothing more is sent for a second, then one order, at times that grow to 10 s apart.

    Whatever else is refused would have been refused as well; an order that is taken ends the hold.
    """

    def __init__(self) -> None:
        self._refusals = 0
        self._until_ns = 0

    def refused(self, code: int, now_ns: int) -> bool:
        """Note the code of a refusal; return whether it begins a hold. Those of one attempt count once."""
        if code not in _TIMESTAMP_CODES or (self._refusals and now_ns < self._until_ns):
            return False
        hold_s = min(FIRST_HOLD_S * 2.0 ** min(self._refusals, 20), LONGEST_HOLD_S)
        self._refusals += 1
        self._until_ns = now_ns + int(hold_s * 1e9)
        return self._refusals == 1

    def accepted(self) -> bool:
        """Note that an order was taken; return whether that ends a hold."""
        was_held = self._refusals > 0
        self._refusals = 0
        return was_held

    def room(self, now_ns: int) -> int | None:
        """Return how many orders may be sent or amended now: none, one, or any number (None)."""
        if not self._refusals:
            return None
        return 1 if now_ns >= self._until_ns else 0
