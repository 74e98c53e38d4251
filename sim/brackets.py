"""Leverage brackets: how far a position may be levered, and what margin keeps it from liquidation.

Maintenance margin of a position is its notional × the rate of its bracket, less that bracket's ``cum``, which makes the
sum run on without a jump from one bracket to the next.

The first brackets of BTC, ETH, SOL, XRP and DOGE are Binance's of 2024 (facts section 10); the further ones have the
shape of Binance's and are not read from it. A client must take them from ``GET /fapi/v1/leverageBracket`` anyway.

Source: facts section 3.4 (leverageBracket), 10; Binance FAQ "Leverage and Margin of USDⓈ-M Futures".
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from sim.money import product
from sim.rules import SymbolRules, plain


@dataclass(frozen=True, slots=True)
class Bracket:
    """Positions over ``floor`` up to ``cap`` of notional, in quote units."""

    number: int
    max_leverage: int
    floor: int
    cap: int
    rate: Decimal
    cum: Decimal

    def maintenance(self, notional: Decimal) -> Decimal:
        """Return the maintenance margin of a position of ``notional`` (positive) in this bracket."""
        return product(notional, self.rate) - self.cum


_MILLION = 1_000_000
_LARGE = (
    (50_000, 125, "0.004"),
    (600_000, 100, "0.005"),
    (3 * _MILLION, 75, "0.0065"),
    (12 * _MILLION, 50, "0.01"),
    (70 * _MILLION, 25, "0.02"),
    (100 * _MILLION, 20, "0.025"),
    (230 * _MILLION, 10, "0.05"),
    (480 * _MILLION, 5, "0.1"),
    (600 * _MILLION, 4, "0.125"),
    (800 * _MILLION, 3, "0.15"),
    (1200 * _MILLION, 2, "0.25"),
    (1800 * _MILLION, 1, "0.5"),
)
_MIDDLE = (
    (20_000, 100, "0.005"),
    (200_000, 75, "0.0065"),
    (1 * _MILLION, 50, "0.01"),
    (5 * _MILLION, 25, "0.02"),
    (10 * _MILLION, 20, "0.025"),
    (25 * _MILLION, 10, "0.05"),
    (50 * _MILLION, 5, "0.1"),
    (60 * _MILLION, 4, "0.125"),
    (120 * _MILLION, 2, "0.25"),
    (200 * _MILLION, 1, "0.5"),
)
_SMALL = (
    (10_000, 75, "0.005"),
    (100_000, 50, "0.01"),
    (1 * _MILLION, 25, "0.02"),
    (5 * _MILLION, 20, "0.025"),
    (10 * _MILLION, 10, "0.05"),
    (25 * _MILLION, 5, "0.1"),
    (30 * _MILLION, 4, "0.125"),
    (60 * _MILLION, 2, "0.25"),
    (100 * _MILLION, 1, "0.5"),
)
_SMALLEST = ((10_000, 50, "0.005"), *_SMALL[2:])


def brackets_of(rules: SymbolRules) -> tuple[Bracket, ...]:
    """Return the brackets of a symbol, from the smallest positions up: by the leverage that it allows at most."""
    return _brackets(rules.max_leverage)


def bracket_of(rules: SymbolRules, notional: Decimal) -> Bracket:
    """Return the bracket of a position of ``notional`` (positive); the last one has no upper end."""
    rows = brackets_of(rules)
    return next((row for row in rows if notional <= row.cap), rows[-1])


def max_notional(rules: SymbolRules, leverage: int) -> int:
    """Return how large a position may be at ``leverage``."""
    return _max_notional(rules.max_leverage, leverage)


def bracket_rows(rules: SymbolRules) -> str:
    """Return the symbol's element of GET leverageBracket as JSON text; its amounts and ratios are JSON numbers."""
    rows = ",".join(
        f'{{"bracket":{row.number},"initialLeverage":{row.max_leverage},"notionalCap":{row.cap},'
        f'"notionalFloor":{row.floor},"maintMarginRatio":{row.rate},"cum":{plain(row.cum.normalize())}}}'
        for row in brackets_of(rules)
    )
    return f'{{"symbol":"{rules.symbol}","brackets":[{rows}]}}'


@lru_cache
def _max_notional(max_leverage: int, leverage: int) -> int:
    return max(row.cap for row in _brackets(max_leverage) if row.max_leverage >= leverage)


@lru_cache
def _brackets(max_leverage: int) -> tuple[Bracket, ...]:
    tables = (_LARGE, _MIDDLE, _SMALL, _SMALLEST)
    table = next((rows for rows in tables if rows[0][1] <= max_leverage), _SMALLEST)
    return tuple(_built(table))


def _built(table: Iterable[tuple[int, int, str]]) -> Iterable[Bracket]:
    floor, before, cum = 0, Decimal(0), Decimal(0)
    for number, (cap, leverage, text) in enumerate(table, 1):
        rate = Decimal(text)
        cum += floor * (rate - before) if floor else 0
        yield Bracket(number, leverage, floor, cap, rate, cum)
        floor, before = cap, rate
