"""Funding of one symbol: at which rate it is paid next, and when.

Without word from the market the rate is the exchange's own and the times are 00, 08 and 16 o'clock UTC. A market that
brings terms (a live one, a recording of mark prices, a scripted spike) changes the rate, and the live one the time too,
because not every symbol is on the eight hours.

Source: Market streams, "Mark Price Stream" (r, T); Get Funding Rate History.
"""

from decimal import Decimal

from sim.mark import next_funding_ms
from sim.market import FundingTerms


class Funding:
    """The rate in force, and the time of the next payment in epoch milliseconds."""

    __slots__ = ("_own_rate", "next_ms", "rate")

    def __init__(self, rate: Decimal, now_ms: int) -> None:
        self._own_rate = rate
        self.rate = rate
        self.next_ms = next_funding_ms(now_ms)

    def change(self, terms: FundingTerms) -> None:
        """The terms are in force; a time that has passed already is none."""
        self.rate = self._own_rate if terms.rate is None else terms.rate
        if terms.next_ms is not None and terms.next_ms > terms.time_ms:
            self.next_ms = terms.next_ms

    def settles(self, now_ms: int) -> bool:
        """Whether a payment is due now is told, once; the next is at the exchange's own time until terms say other."""
        if self.next_ms > now_ms:
            return False
        self.next_ms = next_funding_ms(now_ms)
        return True
