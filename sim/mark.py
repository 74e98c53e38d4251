"""Mark and index price: the mid and a slowly following average of it.

Rule: at every whole second the index becomes the mid, and the mark moves a fifth of its distance to the index (a time
constant of about 4.5 s). The first quote sets both. Both are rounded half to even to eight decimals. A fault can hold
the index off the mid; the mark follows it there.

Binance's own mark price weighs several venues and the premium; for one recorded market this keeps the two
properties that clients depend on: it follows the market, and a single print does not move it.
"""

from decimal import Decimal

from sim.money import EXACT, ZERO, booked

SMOOTHING = Decimal("0.2")
FUNDING_INTERVAL_MS = 8 * 3600 * 1000


class MarkPrice:
    """Mark and index of one symbol, zero until the market has been seen."""

    __slots__ = ("index", "mark", "offset_bps")

    def __init__(self) -> None:
        self.index = ZERO
        self.mark = ZERO
        self.offset_bps = 0.0

    def sample(self, mid: Decimal) -> None:
        """Take the mid of this second."""
        self.index = booked(mid if not self.offset_bps else mid * Decimal(1 + self.offset_bps / 10_000))
        if not self.mark:
            self.mark = self.index
            return
        self.mark = booked(self.mark + EXACT.multiply(self.index - self.mark, SMOOTHING))


def next_funding_ms(now_ms: int) -> int:
    """Return the next funding time after ``now_ms``: 00, 08 or 16 o'clock UTC."""
    return (now_ms // FUNDING_INTERVAL_MS + 1) * FUNDING_INTERVAL_MS
