"""What is not as usual about a symbol: its status, filters other than its own, a market that stands elsewhere.

A tick or step that is announced later must be a multiple of the one in which the exchange counts, so that what rests
and what trades stays exact.

Source: facts section 3.2 (status, filters), 9 (-4140, -5024).
"""

from dataclasses import replace
from decimal import Decimal
from typing import Any

from sim.errors import ApiError, refusal
from sim.filters import check_notional, check_percent_price
from sim.market import BookTicker, DepthChange, FundingTerms, MarketEvent, Trade
from sim.orders import Side
from sim.rules import SymbolRules

TRADING = "TRADING"


class Regime:
    """The terms under which a symbol trades at present; ``rules`` are its own, ``posted`` those in force."""

    __slots__ = ("expires_post_only", "is_usual", "posted", "rules", "shift_ticks", "status")

    def __init__(self, rules: SymbolRules) -> None:
        self.rules = rules
        self.posted = rules
        self.status = TRADING
        self.shift_ticks = 0
        self.is_usual = True
        """Whether market events happen as they come."""
        self.expires_post_only = False
        """Whether a post-only order that would take is accepted and expires, instead of being refused."""

    def enter(self, status: str) -> None:
        """Let the symbol have this status."""
        self.status = status
        self._settle()

    def shift(self, ticks: int) -> None:
        """Let the market stand so many ticks higher than it does now."""
        self.shift_ticks += ticks
        self._settle()

    def _settle(self) -> None:
        self.is_usual = self.status == TRADING and not self.shift_ticks

    def post(self, **changes: Any) -> None:
        """Let other filters be in force; raises ValueError for a tick or step that does not fit the symbol's own."""
        for name in ("tick_size", "step_size"):
            wanted = changes.get(name)
            if wanted is not None and wanted % getattr(self.rules, name):
                raise ValueError(f"{name} {wanted} is no multiple of {getattr(self.rules, name)}")
        self.posted = replace(
            self.rules, **{name: value for name, value in changes.items() if value is not None}
        )

    def check_status(self, *, amends: bool) -> None:
        """Return if orders are taken; raises -4140, or -5024 for an amendment."""
        if self.status == TRADING:
            return
        if amends:
            raise ApiError(-5024, "Symbol is not in trading status. Order amendment is not permitted.")
        raise ApiError(-4140, "Invalid symbol status for opening position.")

    def check_filters(
        self, side: Side, price: Decimal | None, quantity: Decimal, mark: Decimal, notional_code: int | None
    ) -> None:
        """Return if the order fits the posted filters; ``notional_code`` None spares it the minimum notional."""
        posted = self.posted
        if posted is self.rules:
            return
        if price is not None and price % posted.tick_size:
            raise refusal(-4014)
        if quantity % posted.step_size:
            raise refusal(-4023)
        if price is not None:
            check_percent_price(posted, side, price, mark)
        if notional_code is not None:
            check_notional(posted, mark if price is None else price, quantity, notional_code)

    def moved(self, event: MarketEvent) -> MarketEvent | None:
        """Return the event as it happens here, None if it does not happen."""
        if isinstance(event, FundingTerms):
            return event
        if self.status != TRADING:
            return None
        if not self.shift_ticks:
            return event
        if isinstance(event, BookTicker):
            bid_ticks = self._shifted(event.bid_ticks)
            return replace(
                event, bid_ticks=bid_ticks, ask_ticks=max(self._shifted(event.ask_ticks), bid_ticks + 1)
            )
        if isinstance(event, Trade):
            return replace(event, price_ticks=self._shifted(event.price_ticks))
        return self._moved_depth(event)

    def _moved_depth(self, event: DepthChange) -> DepthChange:
        bids, asks = (
            tuple((self._shifted(ticks), lots) for ticks, lots in levels)
            for levels in (event.bids, event.asks)
        )
        return replace(event, bids=bids, asks=asks)

    def _shifted(self, ticks: int) -> int:
        """Return a price of the market as it stands here; an empty side stays empty."""
        return max(1, ticks + self.shift_ticks) if ticks else 0
