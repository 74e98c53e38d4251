"""The mark follows the mid slowly, and funding times are 00, 08 and 16 UTC."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from sim.mark import MarkPrice, next_funding_ms

HOUR_MS = 3_600_000


def test_first_mid_sets_the_mark() -> None:
    """There is nothing to smooth yet."""
    price = MarkPrice()
    price.sample(Decimal("100.05"))
    assert (price.mark, price.index) == (Decimal("100.05"), Decimal("100.05"))


def test_mark_moves_a_fifth_of_the_way() -> None:
    """Each second closes a fifth of the distance to the mid; the index is the mid."""
    price = MarkPrice()
    price.sample(Decimal(100))
    price.sample(Decimal(110))
    assert (price.mark, price.index) == (Decimal(102), Decimal(110))
    price.sample(Decimal(110))
    assert price.mark == Decimal("103.6")


@given(st.lists(st.decimals(min_value=1, max_value=10**6, places=4), min_size=1, max_size=20))
def test_mark_stays_within_what_was_seen(mids: list[Decimal]) -> None:
    """A weighted average leaves the range of its inputs by no more than its rounding."""
    price = MarkPrice()
    for mid in mids:
        price.sample(mid)
    slack = Decimal("1E-8")
    assert min(mids) - slack <= price.mark <= max(mids) + slack


@given(st.integers(min_value=0, max_value=10**13))
def test_next_funding_lies_ahead_by_at_most_eight_hours(now_ms: int) -> None:
    """Funding is due at 00, 08 and 16 o'clock UTC, strictly after now."""
    due_ms = next_funding_ms(now_ms)
    assert due_ms % (8 * HOUR_MS) == 0
    assert 0 < due_ms - now_ms <= 8 * HOUR_MS
