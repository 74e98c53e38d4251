"""What is not as usual about a symbol: its status, other filters, no listing, a market that stands elsewhere.

A tick or step that is announced later must be a multiple of the one in which the exchange counts, so that what rests
and what trades stays exact.

Source: facts section 3.2 (status, filters, deliveryDate), 9 (-1121, -4140, -5024), 11.22 (symbol lists differ).
"""

from dataclasses import replace
from typing import Any

from msgspec import structs

from sim.errors import refusal
from sim.market import BookTicker, DepthChange, FundingTerms, MarketEvent, Trade
from sim.rules import SymbolRules

TRADING = "TRADING"


def factors(own: SymbolRules, posted: SymbolRules) -> tuple[int, int]:
    """Return how many own ticks and steps of a symbol its posted ones have; raises ValueError if they are not whole."""
    return _factor("tick_size", own, posted), _factor("step_size", own, posted)


def _factor(name: str, own: SymbolRules, posted: SymbolRules) -> int:
    unit, wanted = getattr(own, name), getattr(posted, name)
    factor, rest = divmod(wanted, unit)
    if rest:
        raise ValueError(f"{name} {wanted} is no multiple of {unit}, in which {own.symbol} counts")
    return int(factor)


class Regime:
    """The terms under which a symbol trades at present; ``rules`` are its own, ``posted`` those in force."""

    __slots__ = (
        "expires_post_only",
        "is_listed",
        "is_usual",
        "lot_factor",
        "posted",
        "rules",
        "shift_ticks",
        "status",
        "thin_factor",
        "tick_factor",
    )

    def __init__(self, rules: SymbolRules) -> None:
        self.rules = rules
        self.posted = rules
        self.tick_factor = self.lot_factor = 1
        """How many ticks and lots of the symbol's own are in one of those posted."""
        self.is_listed = True
        self.status = TRADING
        self.shift_ticks = 0
        self.thin_factor = 1
        """How many times smaller than in the market what the book shows is."""
        self.is_usual = True
        """Whether market events happen as they come."""
        self.expires_post_only = False
        """Whether a post-only order that would take is accepted and expires, instead of being refused."""

    def enter(self, status: str) -> None:
        """Let the symbol have this status."""
        self.status = status
        self._settle()

    def list_it(self, *, is_listed: bool) -> None:
        """Let the exchange know the symbol or not."""
        self.is_listed = is_listed
        self._settle()

    def thin(self, factor: int) -> None:
        """Let the book show sizes so many times smaller than the market brings, of one lot at least."""
        self.thin_factor = factor
        self._settle()

    def shift(self, ticks: int) -> None:
        """Let the market stand so many ticks higher than it does now."""
        self.shift_ticks += ticks
        self._settle()

    def _settle(self) -> None:
        unmoved = not self.shift_ticks and self.thin_factor == 1
        self.is_usual = self.status == TRADING and self.is_listed and unmoved

    def post(self, **changes: Any) -> None:
        """Let other filters be in force; raises ValueError for a tick or step that does not fit the symbol's own."""
        self.posted = replace(
            self.rules, **{name: value for name, value in changes.items() if value is not None}
        )
        self.tick_factor, self.lot_factor = factors(self.rules, self.posted)

    def check_status(self, code: int) -> None:
        """Return if the symbol trades; raises ``code`` otherwise."""
        if self.status != TRADING:
            raise refusal(code)

    def moved(self, event: MarketEvent) -> MarketEvent | None:
        """Return the event as it happens here, None if it does not happen."""
        if isinstance(event, FundingTerms):
            return event
        if self.status != TRADING or not self.is_listed:
            return None
        if isinstance(event, BookTicker):
            return self._moved_quote(event)
        if isinstance(event, Trade):
            return structs.replace(event, price_ticks=self._shifted(event.price_ticks))
        return self._moved_depth(event)

    def _moved_quote(self, event: BookTicker) -> BookTicker:
        bid_ticks = self._shifted(event.bid_ticks)
        return structs.replace(
            event,
            bid_ticks=bid_ticks,
            bid_lots=self._thinned(event.bid_lots),
            ask_ticks=max(self._shifted(event.ask_ticks), bid_ticks + 1),
            ask_lots=self._thinned(event.ask_lots),
        )

    def _moved_depth(self, event: DepthChange) -> DepthChange:
        bids, asks = (
            tuple((self._shifted(ticks), self._thinned(lots)) for ticks, lots in levels)
            for levels in (event.bids, event.asks)
        )
        return structs.replace(event, bids=bids, asks=asks)

    def _thinned(self, lots: int) -> int:
        """Return a size of the book as it is here; what is gone stays gone."""
        return max(1, lots // self.thin_factor) if lots else 0

    def _shifted(self, ticks: int) -> int:
        """Return a price of the market as it stands here; an empty side stays empty."""
        return max(1, ticks + self.shift_ticks) if ticks else 0
