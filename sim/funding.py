"""Funding of one symbol: at which rate it is paid next, and when.

Without word from the market the rate is the exchange's own and the times are 00, 08 and 16 o'clock UTC. A market that
brings terms (a live one, a recording of mark prices, a scripted spike) changes the rate, and the live one the time too,
because not every symbol is on the eight hours. On a machine whose clock is slow a live market names the payment after
the next before the next one's time has come here; those terms wait until that one is paid.

Source: Market streams, "Mark Price Stream" (r, T); Get Funding Rate History.
"""

from decimal import Decimal

from sim.mark import next_funding_ms
from sim.market import FundingTerms

_NEAR_MS = 60_000
_SHORTEST_INTERVAL_MS = 3_600_000


class Funding:
    """The rate in force, and the time of the next payment in epoch milliseconds."""

    __slots__ = ("_named_rate", "_own_rate", "_waiting", "imposed_rate", "next_ms")

    def __init__(self, rate: Decimal, now_ms: int) -> None:
        self._own_rate = rate
        self._waiting: FundingTerms | None = None
        self._named_rate = rate
        self.imposed_rate: Decimal | None = None
        """What is in force whatever the market names, None for nothing."""
        self.next_ms = next_funding_ms(now_ms)

    @property
    def rate(self) -> Decimal:
        """The rate at which the next payment is due, a fraction that longs pay if it is positive."""
        return self._named_rate if self.imposed_rate is None else self.imposed_rate

    def change(self, terms: FundingTerms) -> None:
        """The terms are in force, or wait for a payment that is due before; a time that has passed already is none."""
        if self._comes_after_the_next(terms):
            self._waiting = terms
            return
        self._waiting = None
        self._named_rate = self._own_rate if terms.rate is None else terms.rate
        if terms.next_ms is not None and terms.next_ms > terms.time_ms:
            self.next_ms = terms.next_ms

    def settles(self, now_ms: int) -> bool:
        """Whether a payment is due now is told, once; the next is at the exchange's own time until terms say other."""
        if self.next_ms > now_ms:
            if self._waiting is not None:
                self.change(self._waiting)
            return False
        self.next_ms = next_funding_ms(now_ms)
        return True

    def _comes_after_the_next(self, terms: FundingTerms) -> bool:
        """Whether the terms are of the payment after the next, which is near; a script puts one off by less."""
        return (
            terms.next_ms is not None
            and self.next_ms - terms.time_ms <= _NEAR_MS
            and terms.next_ms - self.next_ms >= _SHORTEST_INTERVAL_MS
        )
