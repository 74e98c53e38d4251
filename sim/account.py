"""The account: wallet, positions, fees, funding and margin of a one-way cross account, exact to eight decimals.

A position keeps its lots and the sum of what they cost. Reducing releases the proportional part of that sum, rounded
once to eight decimals, so that realised profits over a round trip add up exactly to the cash that moved.

Source: facts section 3.4 (margin fields), 7.3 (account events); Binance FAQ on cross margin for the formulas.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from sim.money import EXACT, ZERO, booked, product, share
from sim.rules import SymbolRules

MAX_NOTIONAL = Decimal(10_000_000)
"""The cap of the single leverage bracket that is modelled."""


@dataclass(frozen=True, slots=True)
class Booking:
    """What a fill did to the wallet: realised profit before fees, and the fee (positive: cost)."""

    realised: Decimal
    fee: Decimal


@dataclass(slots=True)
class Position:
    """Signed lots, what they cost (signed like them), and what reducing has earned so far."""

    lots: int = 0
    cost: Decimal = ZERO
    paid: Decimal = ZERO
    realised: Decimal = ZERO
    update_ms: int = 0

    def trade(self, signed_lots: int, value: Decimal) -> Decimal:
        """Book a trade of ``signed_lots`` worth ``value`` (positive) in all; return the realised profit."""
        closing = min(abs(signed_lots), abs(self.lots)) if self.lots * signed_lots < 0 else 0
        sign = 1 if signed_lots > 0 else -1
        closing_value = share(value, closing, abs(signed_lots))
        released = share(self.cost, closing, abs(self.lots)) if closing else ZERO
        realised = -sign * closing_value - released if closing else ZERO
        self.lots += signed_lots
        self.cost = self.cost - released + sign * (value - closing_value)
        self.realised += realised
        return realised

    def entry_price(self, rules: SymbolRules) -> Decimal:
        """Return the average entry price, zero when flat."""
        return self._per_unit(self.cost, rules)

    def break_even_price(self, rules: SymbolRules) -> Decimal:
        """Return the price at which closing would bring back entry cost and the fees paid for it, zero when flat."""
        return self._per_unit(self.cost + self.paid, rules)

    def notional(self, rules: SymbolRules, mark: Decimal) -> Decimal:
        """Return the signed value of the position at ``mark``."""
        return product(rules.quantity(self.lots), mark)

    def unrealised(self, rules: SymbolRules, mark: Decimal) -> Decimal:
        """Return the profit that closing at ``mark`` would realise, before fees."""
        return self.notional(rules, mark) - self.cost if self.lots else ZERO

    def _per_unit(self, amount: Decimal, rules: SymbolRules) -> Decimal:
        if not self.lots:
            return ZERO
        return booked(EXACT.divide(amount, rules.quantity(self.lots)))


@dataclass(frozen=True, slots=True)
class OpenInterest:
    """Value of the resting orders that may enlarge a position, a side, in quote units."""

    bids: Decimal = ZERO
    asks: Decimal = ZERO


@dataclass(slots=True)
class Account:
    """Wallet and positions; ``rules`` and the marks passed in carry the symbols."""

    rules: Mapping[str, SymbolRules]
    wallet: Decimal
    default_leverage: int = 20
    fees_paid: Decimal = ZERO
    funding_received: Decimal = ZERO
    positions: dict[str, Position] = field(default_factory=dict)
    leverages: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.wallet = booked(self.wallet)
        for symbol, rules in self.rules.items():
            self.positions[symbol] = Position()
            self.leverages[symbol] = min(self.default_leverage, rules.max_leverage)

    def book_fill(
        self, symbol: str, signed_lots: int, price_ticks: int, now_ms: int, *, maker: bool
    ) -> Booking:
        """Book a fill of ``signed_lots`` (negative: sold) at ``price_ticks``: position, fee and wallet follow."""
        rules, position = self.rules[symbol], self.positions[symbol]
        value = product(rules.price(price_ticks), rules.quantity(abs(signed_lots)))
        fee = product(value, rules.maker_fee if maker else rules.taker_fee)
        before = position.lots
        realised = position.trade(signed_lots, value)
        _note_paid(position, before, signed_lots, fee)
        position.update_ms = now_ms
        self.wallet += realised - fee
        self.fees_paid += fee
        return Booking(realised, fee)

    def book_funding(self, symbol: str, mark: Decimal, rate: Decimal) -> Decimal:
        """Settle funding of the symbol at ``mark``; longs pay a positive ``rate``. Returns what the wallet received."""
        rules, position = self.rules[symbol], self.positions[symbol]
        received = booked(-EXACT.multiply(position.notional(rules, mark), rate))
        self.wallet += received
        self.funding_received += received
        return received

    def unrealised(self, marks: Mapping[str, Decimal]) -> Decimal:
        """Return the unrealised profit over all symbols at ``marks``."""
        return sum(
            (
                position.unrealised(self.rules[symbol], marks[symbol])
                for symbol, position in self.positions.items()
            ),
            ZERO,
        )

    def equity(self, marks: Mapping[str, Decimal]) -> Decimal:
        """Return the margin balance: wallet plus unrealised profit."""
        return self.wallet + self.unrealised(marks)

    def position_margin(self, symbol: str, mark: Decimal) -> Decimal:
        """Return the initial margin of the symbol's position alone."""
        notional = abs(self.positions[symbol].notional(self.rules[symbol], mark))
        return booked(EXACT.divide(notional, Decimal(self.leverages[symbol])))

    def initial_margin(
        self, symbol: str, mark: Decimal, orders: OpenInterest, leverage: int | None = None
    ) -> Decimal:
        """Return the initial margin of position and orders: the worse of "all bids fill" and "all asks fill"."""
        notional = self.positions[symbol].notional(self.rules[symbol], mark)
        worst = max(abs(notional + orders.bids), abs(notional - orders.asks))
        return booked(EXACT.divide(worst, Decimal(leverage or self.leverages[symbol])))

    def maintenance_margin(self, symbol: str, mark: Decimal) -> Decimal:
        """Return the maintenance margin of the symbol's position."""
        rules = self.rules[symbol]
        return product(abs(self.positions[symbol].notional(rules, mark)), maintenance_rate(rules))

    def liquidation_price(self, symbol: str, marks: Mapping[str, Decimal]) -> Decimal:
        """Return the mark at which equity meets maintenance margin, other symbols unchanged; zero if there is none."""
        rules, position = self.rules[symbol], self.positions[symbol]
        if not position.lots:
            return ZERO
        others = [name for name in self.positions if name != symbol]
        spare = self.wallet - position.cost
        for name in others:
            spare += self.positions[name].unrealised(self.rules[name], marks[name])
            spare -= self.maintenance_margin(name, marks[name])
        quantity = rules.quantity(position.lots)
        slope = EXACT.subtract(EXACT.multiply(abs(quantity), maintenance_rate(rules)), quantity)
        return max(booked(EXACT.divide(spare, slope)), ZERO)


def _note_paid(position: Position, lots_before: int, signed_lots: int, fee: Decimal) -> None:
    """Keep the fees of the open position; of a fill that flips it, only the part that opened the new one."""
    if position.lots == 0:
        position.paid = ZERO
    elif lots_before * position.lots < 0:
        position.paid = share(fee, abs(position.lots), abs(signed_lots))
    else:
        position.paid += fee


def maintenance_rate(rules: SymbolRules) -> Decimal:
    """Return the maintenance margin rate of the symbol's first bracket (facts section 10)."""
    return Decimal("0.004") if rules.max_leverage >= 125 else Decimal("0.005")
