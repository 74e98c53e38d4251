"""Which way the book leans: the microprice and the imbalance of its levels. Pure."""

from decimal import Decimal

from core.market_model import Level, Levels
from core.model import SymbolRules


def microprice(bid: Level, ask: Level, rules: SymbolRules) -> Decimal:
    """Return the middle weighted by the size on the other side, to a hundredth of a tick: near to where size is thin.

    With b bids at B and a asks at A it is (B·a + A·b) / (a + b). The middle itself when there is no size at all.
    """
    (bid_ticks, bid_lots), (ask_ticks, ask_lots) = bid, ask
    lots = bid_lots + ask_lots
    if not lots:
        return rules.tick_size * (bid_ticks + ask_ticks) / 2
    hundredths = round(100 * (bid_ticks * ask_lots + ask_ticks * bid_lots) / lots)
    return rules.tick_size * hundredths / 100


def imbalance(bids: Levels, asks: Levels, levels: int) -> float:
    """Return bids less asks over both, in lots of the best ``levels`` levels: from -1 (asks only) to 1 (bids only)."""
    bid_lots = sum(lots for _, lots in bids[:levels])
    ask_lots = sum(lots for _, lots in asks[:levels])
    total = bid_lots + ask_lots
    return (bid_lots - ask_lots) / total if total else 0.0
