"""What belongs to one symbol, in one place, handed to the workers that keep it."""

import asyncio
from dataclasses import dataclass, field

from core.gate import Gate
from core.ledger import Ledger
from core.model import SymbolRules
from core.order import LiveOrders
from core.settings import QuoteSettings
from core.state import SymbolState


@dataclass(slots=True)
class SymbolContext:
    """One symbol's rules, settings, state, orders and books.

    ``lock`` is held while orders are being changed or counted, so that a refresh, a withdrawal, a flatten and a
    reconciliation never overlap. ``gate`` is asked before each quote.
    """

    settings: QuoteSettings
    rules: SymbolRules
    state: SymbolState
    gate: Gate
    orders: LiveOrders = field(default_factory=LiveOrders)
    ledger: Ledger = field(default_factory=Ledger)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def symbol(self) -> str:
        """Return the symbol's name."""
        return self.rules.symbol
