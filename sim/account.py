"""The account: wallet, positions, fees, funding and margin of a one-way account, exact to eight decimals.

The wallet is in the quote asset; fees may be paid in BNB instead, which ``fees`` keeps.

A position keeps its lots and the sum of what they cost. Reducing releases the proportional part of that sum, rounded
once to eight decimals, so that realised profits over a round trip add up exactly to the cash that moved.

Positions are crossed, which stand on the wallet together, or isolated, which stand on a part of it alone: the margin
at their leverage of what was opened, less what was closed, with their funding and with what was added by hand.

Source: facts section 3.4 (margin fields), 7.3 (account events); Binance FAQ on cross margin for the formulas.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from msgspec import Struct

from sim.brackets import bracket_of, brackets_of
from sim.fees import NO_FEE, Fee, FeeOptions, Fees
from sim.money import EXACT, ZERO, booked, product, share
from sim.rules import SymbolRules


@dataclass(frozen=True, slots=True)
class Booking:
    """What a fill did to the wallet: realised profit before fees, and the fee (positive: cost)."""

    realised: Decimal
    fee: Fee


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
        return product(rules.quantity(self.lots), mark) if self.lots else ZERO

    def unrealised(self, rules: SymbolRules, mark: Decimal) -> Decimal:
        """Return the profit that closing at ``mark`` would realise, before fees."""
        return self.notional(rules, mark) - self.cost if self.lots else ZERO

    def _per_unit(self, amount: Decimal, rules: SymbolRules) -> Decimal:
        if not self.lots:
            return ZERO
        return booked(EXACT.divide(amount, rules.quantity(self.lots)))


class OpenInterest(Struct, frozen=True):
    """Value of the resting orders that may enlarge a position, a side, in quote units."""

    bids: Decimal = ZERO
    asks: Decimal = ZERO


MARGIN_HISTORY = 10_000


@dataclass(frozen=True, slots=True)
class MarginChange:
    """Margin that an isolated position got (or gave back, if negative), by a TRADE or by USER_ADJUST."""

    symbol: str
    kind: str
    amount: Decimal
    time_ms: int


@dataclass(slots=True)
class Account:
    """Wallet and positions; ``rules`` and the marks passed in carry the symbols.

    ``funded_ms`` is when the wallet got what it began with. ``isolated`` has the part of the wallet that isolated
    positions stand on, by symbol; a symbol that is not in it is crossed.
    """

    rules: Mapping[str, SymbolRules]
    wallet: Decimal
    default_leverage: int = 20
    funded_ms: int = 0
    fees_paid: Decimal = ZERO
    funding_received: Decimal = ZERO
    multi_assets: bool = False
    fees: Fees = field(default_factory=lambda: Fees(FeeOptions()))
    positions: dict[str, Position] = field(default_factory=dict)
    leverages: dict[str, int] = field(default_factory=dict)
    isolated: dict[str, Decimal] = field(default_factory=dict)
    margin_changes: deque[MarginChange] = field(default_factory=lambda: deque(maxlen=MARGIN_HISTORY))

    def __post_init__(self) -> None:
        self.wallet = booked(self.wallet)
        for symbol, rules in self.rules.items():
            self.positions[symbol] = Position()
            self.leverages[symbol] = min(self.default_leverage, rules.max_leverage)

    def book_fill(
        self, symbol: str, signed_lots: int, price_ticks: int, now_ms: int, *, maker: bool, free: bool = False
    ) -> Booking:
        """Book a fill of ``signed_lots`` (negative: sold) at ``price_ticks``: position, fee and wallet follow.

        ``free`` spares it the fee.
        """
        rules, position = self.rules[symbol], self.positions[symbol]
        value = product(rules.price(price_ticks), rules.quantity(abs(signed_lots)))
        fee = NO_FEE if free else self.fees.charge(rules, value, maker=maker)
        before = position.lots
        realised = position.trade(signed_lots, value)
        _note_paid(position, before, signed_lots, fee.value)
        position.update_ms = now_ms
        if symbol in self.isolated:
            self._set_aside(symbol, before, signed_lots, value, now_ms)
        self.wallet += realised
        if not fee.asset:
            self.wallet -= fee.amount
            self.fees_paid += fee.amount
        return Booking(realised, fee)

    def book_funding(self, symbol: str, mark: Decimal, rate: Decimal) -> Decimal:
        """Settle funding of the symbol at ``mark``; longs pay a positive ``rate``. Returns what the wallet received."""
        rules, position = self.rules[symbol], self.positions[symbol]
        received = booked(-EXACT.multiply(position.notional(rules, mark), rate))
        self.wallet += received
        self.funding_received += received
        if symbol in self.isolated:
            self.isolated[symbol] += received
        return received

    def unrealised(self, marks: Mapping[str, Decimal]) -> Decimal:
        """Return the unrealised profit over all symbols at ``marks``."""
        total = ZERO
        for symbol, position in self.positions.items():
            if position.lots:
                total += position.unrealised(self.rules[symbol], marks[symbol])
        return total

    def equity(self, marks: Mapping[str, Decimal]) -> Decimal:
        """Return the margin balance: wallet plus unrealised profit."""
        return self.wallet + self.unrealised(marks)

    # Isolated positions

    @property
    def cross_wallet(self) -> Decimal:
        """Return the part of the wallet that crossed positions and new orders stand on."""
        return self.wallet - sum(self.isolated.values(), ZERO) if self.isolated else self.wallet

    def cross_unrealised(self, marks: Mapping[str, Decimal]) -> Decimal:
        """Return the unrealised profit of the crossed positions."""
        return self.unrealised(marks) - sum((self._profit(symbol, marks) for symbol in self.isolated), ZERO)

    def cross_equity(self, marks: Mapping[str, Decimal]) -> Decimal:
        """Return the margin balance of the crossed positions."""
        return self.cross_wallet + self.cross_unrealised(marks)

    def isolated_equity(self, symbol: str, mark: Decimal) -> Decimal:
        """Return the margin balance of an isolated position."""
        return self.isolated[symbol] + self.positions[symbol].unrealised(self.rules[symbol], mark)

    def cover(self, marks: Mapping[str, Decimal]) -> Decimal:
        """Return what the initial margins of all symbols may come to: isolated positions have set theirs aside."""
        if not self.isolated:
            return self.equity(marks)
        held = sum((self.position_margin(symbol, marks[symbol]) for symbol in self.isolated), ZERO)
        return self.cross_equity(marks) + held

    def adjust_margin(self, symbol: str, amount: Decimal, now_ms: int, kind: str = "USER_ADJUST") -> None:
        """Let an isolated position have so much more of the wallet, or less if it is negative."""
        self.isolated[symbol] += amount
        self.margin_changes.append(MarginChange(symbol, kind, amount, now_ms))

    def _set_aside(
        self, symbol: str, lots_before: int, signed_lots: int, value: Decimal, now_ms: int
    ) -> None:
        """Give back the margin of what a fill closed, and set aside that of what it opened."""
        lots, held = abs(signed_lots), self.isolated[symbol]
        closed = min(lots, abs(lots_before)) if lots_before * signed_lots < 0 else 0
        change = -share(held, closed, abs(lots_before)) if closed else ZERO
        if lots > closed:
            opened = share(value, lots - closed, lots)
            change += booked(EXACT.divide(opened, Decimal(self.leverages[symbol])))
        self.adjust_margin(symbol, change, now_ms, "TRADE")

    def _profit(self, symbol: str, marks: Mapping[str, Decimal]) -> Decimal:
        return self.positions[symbol].unrealised(self.rules[symbol], marks[symbol])

    # Margins

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
        notional = abs(self.positions[symbol].notional(rules, mark))
        return bracket_of(rules, notional).maintenance(notional)

    def cross_maintenance(self, marks: Mapping[str, Decimal]) -> Decimal:
        """Return the maintenance margin of the crossed positions."""
        return self.maintenance({name: mark for name, mark in marks.items() if name not in self.isolated})

    def maintenance(self, marks: Mapping[str, Decimal]) -> Decimal:
        """Return the maintenance margin of all positions at ``marks``."""
        return sum((self.maintenance_margin(symbol, mark) for symbol, mark in marks.items()), ZERO)

    def liquidation_price(self, symbol: str, marks: Mapping[str, Decimal]) -> Decimal:
        """Return the mark at which margin balance meets maintenance margin; zero if there is none.

        For a crossed position the other symbols are taken to stay where they are.
        """
        rules, position = self.rules[symbol], self.positions[symbol]
        if not position.lots:
            return ZERO
        quantity = rules.quantity(position.lots)
        if symbol in self.isolated:
            return _meeting_price(rules, quantity, self.isolated[symbol] - position.cost)
        others = [name for name in self.positions if name != symbol and name not in self.isolated]
        spare = self.cross_wallet - position.cost
        for name in others:
            spare += self.positions[name].unrealised(self.rules[name], marks[name])
            spare -= self.maintenance_margin(name, marks[name])
        return _meeting_price(rules, quantity, spare)


def _meeting_price(rules: SymbolRules, quantity: Decimal, spare: Decimal) -> Decimal:
    """Return the price at which ``spare`` + quantity × price is the maintenance margin, zero if there is none.

    In the brackets that the solution does not lie in, the formula gives a price of another bracket and is passed over.
    """
    if quantity > 0 and spare >= 0:
        return ZERO  # what is held is paid for whole: no price above zero is low enough
    for bracket in brackets_of(rules):
        slope = EXACT.subtract(EXACT.multiply(abs(quantity), bracket.rate), quantity)
        price = EXACT.divide(spare + bracket.cum, slope)
        if bracket.floor < abs(quantity) * price <= bracket.cap:
            return booked(price)
    return ZERO


def _note_paid(position: Position, lots_before: int, signed_lots: int, fee: Decimal) -> None:
    """Keep the fees of the open position; of a fill that flips it, only the part that opened the new one."""
    if position.lots == 0:
        position.paid = ZERO
    elif lots_before * position.lots < 0:
        position.paid = share(fee, abs(position.lots), abs(signed_lots))
    else:
        position.paid += fee
