"""What a fill costs: the rates of the account's tier, and the discount of whoever pays in BNB.

At tier 0 the rates are the symbol's own. Paying in BNB takes 10 % off while the futures wallet holds enough BNB; the
fee is then taken in BNB, at a price of BNB that is set and does not move.

Source: facts section 10 (VIP 0, 10 % off), 3.4 (commissionRate, feeBurn); Binance's table of USDⓈ-M futures fees, as
others have republished it.
"""

from dataclasses import dataclass
from decimal import Decimal

from sim.money import EXACT, ZERO, booked, product
from sim.rules import SymbolRules

BNB = "BNB"
BNB_SHARE = Decimal("0.9")
TIERS = (
    ("0.000200", "0.000500"),
    ("0.000160", "0.000400"),
    ("0.000140", "0.000350"),
    ("0.000120", "0.000320"),
    ("0.000100", "0.000300"),
    ("0.000080", "0.000270"),
    ("0.000060", "0.000250"),
    ("0.000040", "0.000220"),
    ("0.000020", "0.000200"),
    ("0.000000", "0.000170"),
)
"""Maker and taker rate of VIP 0 to 9, USDT-margined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeeOptions:
    """``tier`` is the VIP level, ``bnb`` the BNB in the futures wallet, ``bnb_price`` its price in quote units.

    ``burns_bnb`` is the switch of feeBurn as the account has it at first.
    """

    tier: int = 0
    burns_bnb: bool = False
    bnb: Decimal = Decimal(0)
    bnb_price: Decimal = Decimal(600)

    def __post_init__(self) -> None:
        if not 0 <= self.tier < len(TIERS):
            raise ValueError(f"there is no fee tier {self.tier}: 0 to {len(TIERS) - 1}")
        if self.bnb < 0 or self.bnb_price <= 0:
            raise ValueError("the BNB of the wallet must not be negative, and its price must be positive")


@dataclass(frozen=True, slots=True)
class Fee:
    """``amount`` of ``asset`` ("" for the quote asset), which is worth ``value`` in quote units."""

    amount: Decimal
    asset: str
    value: Decimal


class Fees:
    """The rates in force and the BNB that pays them."""

    __slots__ = ("bnb", "bnb_price", "burns_bnb", "tier")

    def __init__(self, options: FeeOptions) -> None:
        self.tier = options.tier
        self.burns_bnb = options.burns_bnb
        self.bnb = booked(options.bnb)
        self.bnb_price = options.bnb_price

    def rate(self, rules: SymbolRules, *, maker: bool) -> Decimal:
        """Return the fraction of a fill's value that it costs."""
        if not self.tier:
            return rules.maker_fee if maker else rules.taker_fee
        return Decimal(TIERS[self.tier][0 if maker else 1])

    def charge(self, rules: SymbolRules, value: Decimal, *, maker: bool) -> Fee:
        """Return the fee of a fill worth ``value``; if it is paid in BNB, that BNB is gone."""
        amount = product(value, self.rate(rules, maker=maker))
        if not self.burns_bnb or not amount:
            return Fee(amount, "", amount)
        less = product(amount, BNB_SHARE)
        in_bnb = booked(EXACT.divide(less, self.bnb_price))
        if in_bnb > self.bnb:
            return Fee(amount, "", amount)
        self.bnb -= in_bnb
        return Fee(in_bnb, BNB, less)


NO_FEE = Fee(ZERO, "", ZERO)
