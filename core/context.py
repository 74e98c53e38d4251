"""What belongs to one symbol, in one place, handed to the workers that keep it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from core.gate import Gate
from core.ledger import Ledger
from core.model import SymbolRules
from core.order import LiveOrders
from core.settings import QuoteSettings, RiskSettings
from core.state import SymbolState


def _nobody(_context: "SymbolContext", _mid_half_ticks: int) -> None:
    """Nobody wants to know of a new book."""


@dataclass(slots=True)
class SymbolContext:
    """One symbol's rules, settings, state, orders and books.

    ``lock`` is held while orders are being changed or counted, so that a refresh, a withdrawal, a flatten and a
    reconciliation never overlap. ``gate`` is asked before each quote, and ``limits`` are kept by each. ``on_book`` is
    called with the mid of every book that proves to be the present one; it has to be quick.
    """

    settings: QuoteSettings
    rules: SymbolRules
    state: SymbolState
    gate: Gate
    limits: RiskSettings
    orders: LiveOrders = field(default_factory=LiveOrders)
    ledger: Ledger = field(default_factory=Ledger)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    on_book: "Callable[[SymbolContext, int], None]" = _nobody

    @property
    def symbol(self) -> str:
        """Return the symbol's name."""
        return self.rules.symbol
