"""When a position is over its limit. Pure.

The mark price is the exchange's, and follows an index: what it says counts at once. Our own book may be swept for a
moment, or be thin for longer, and a close into such a book is the dearest there is. So a limit that only the book says
is broken counts when it stays so: valued at the best bid, the lower side, at every check for ``PERSISTS_S``, and no two
checks further apart than ``GAP_S`` or twice their interval. Until then the posture leaves only quotes that reduce the
position (``core.posture``).
"""

from decimal import Decimal

from core.risk import is_breach
from core.settings import RiskSettings

PERSISTS_S = 5.0
GAP_S = 2.0
"""Checks further apart than this, as while the position cannot be read, say nothing of the time between them."""


class BreachWatch:
    """Judges the position of one symbol, check after check."""

    def __init__(self, settings: RiskSettings) -> None:
        self._settings = settings
        self._gap_ns = max(GAP_S, 2 * settings.check_interval_s) * 1e9
        self._since_ns: int | None = None
        self._looked_ns = 0

    def price_of_breach(
        self, quantity: Decimal, mark_price: Decimal, bid_price: Decimal | None, now_ns: int
    ) -> Decimal | None:
        """Return the price at which this position breaks a limit, None while none is broken beyond doubt.

        ``mark_price`` is 0 where the exchange told of none, ``bid_price`` None where there is no fresh and sane book.
        Without a mark price the book has to do at once.
        """
        if is_breach(quantity, mark_price, self._settings):
            self._since_ns = None
            return mark_price
        if bid_price is None or not is_breach(quantity, bid_price, self._settings):
            self._since_ns = None
            return None
        if self._since_ns is None or now_ns - self._looked_ns > self._gap_ns:
            self._since_ns = now_ns
        self._looked_ns = now_ns
        is_certain = mark_price <= 0 or now_ns - self._since_ns >= PERSISTS_S * 1e9
        return bid_price if is_certain else None
