"""Amounts of money: exact Decimals with eight decimals, rounded half to even in one place.

Every amount that is booked is a whole multiple of 1e-8, so sums of amounts are exact in any order.

Source: the eight decimals of commission, realizedPnl and wallet balance in the user data stream; facts section 7.
"""

from decimal import ROUND_HALF_EVEN, Context, Decimal

EIGHT = Decimal("1E-8")
ZERO = Decimal("0.00000000")
EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)


def booked(amount: Decimal) -> Decimal:
    """Return ``amount`` rounded half to even to eight decimals: the form in which it is booked and sent."""
    return EXACT.quantize(amount, EIGHT)


def share(total: Decimal, part: int, whole: int) -> Decimal:
    """Return ``total × part / whole`` rounded once, half to even, to eight decimals."""
    return booked(EXACT.divide(EXACT.multiply(total, Decimal(part)), Decimal(whole)))


def product(*factors: Decimal | int) -> Decimal:
    """Return the product of ``factors`` rounded once to eight decimals."""
    result = Decimal(factors[0])
    for factor in factors[1:]:
        result = EXACT.multiply(result, factor)
    return booked(result)
