"""The wallet's movements: each once, whichever channel tells of it, in any order and any number of times."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cash import CashBook, CashEntry, CashKind, cash_kind

START_MS = 1_790_000_000_000


@st.composite
def told(draw: st.DrawFn) -> tuple[list[CashEntry], list[CashEntry]]:
    """Movements with few different amounts, and what both channels say of them: the record of all, in the end."""
    movements, deliveries = [], []
    for number in range(draw(st.integers(0, 6))):
        entry = CashEntry(
            kind=draw(st.sampled_from(CashKind)),
            symbol=draw(st.sampled_from(["", "BTCUSDT"])),
            asset="USDT",
            amount=Decimal(draw(st.sampled_from(["-0.12345678", "0.5", "100"]))),
            time_ms=START_MS + draw(st.integers(0, 200_000)),
            balance=Decimal(number),
        )
        recorded = replace(
            entry,
            transaction=f"row {number}",
            time_ms=entry.time_ms + draw(st.integers(-20_000, 20_000)),
            balance=Decimal(0),
        )
        movements.append(entry)
        deliveries += [entry] * draw(st.integers(0, 2)) + [recorded] * draw(st.integers(1, 3))
    return movements, draw(st.permutations(deliveries))


@given(told())
def test_each_movement_counts_once_whatever_the_channels_do(
    case: tuple[list[CashEntry], list[CashEntry]],
) -> None:
    """The sums are those of the movements, by kind, to the last digit."""
    movements, deliveries = case
    book = CashBook()
    for entry in deliveries:
        book.add(entry)
    for kind in CashKind:
        expected = sum((entry.amount for entry in movements if entry.kind is kind), Decimal(0))
        assert book.total(kind, "USDT") == expected


def test_many_movements_that_are_alike_are_kept_count_of_and_not_kept() -> None:
    """A thousand fundings of the same amount, told by both channels, are a thousand."""
    book = CashBook()
    for hour in range(1000):
        entry = CashEntry(CashKind.FUNDING, "", "USDT", Decimal("0.5"), START_MS + hour * 3_600_000)
        assert book.add(entry)
        assert not book.add(replace(entry, symbol="BTCUSDT", transaction=f"row {hour}"))
    assert book.total(CashKind.FUNDING, "USDT") == 500


def test_two_alike_that_are_far_apart_are_two() -> None:
    """The same funding eight hours later is another one, although one channel told of each."""
    book = CashBook()
    entry = CashEntry(CashKind.FUNDING, "BTCUSDT", "USDT", Decimal("-0.1"), START_MS)
    assert book.add(entry)
    assert book.add(replace(entry, time_ms=START_MS + 8 * 3_600_000, transaction="row"))
    assert not book.add(replace(entry, transaction="first row"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("FUNDING_FEE", CashKind.FUNDING),
        ("DEPOSIT", CashKind.TRANSFER),
        ("TRANSFER", CashKind.TRANSFER),
        ("INSURANCE_CLEAR", CashKind.OTHER),
        ("NEWLY_INVENTED", CashKind.OTHER),
    ],
)
def test_kind_of_what_we_do_not_know_is_no_profit(name: str, kind: CashKind) -> None:
    """Only funding belongs to a symbol's result."""
    assert cash_kind(name) is kind
