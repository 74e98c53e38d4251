"""The result of a day: what counts, over midnight, after a restart, and in its file on disk."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.daily_loss import (
    DAY_MS,
    DayCount,
    Sums,
    day_of,
    quantity_at_start,
    start_ms_of,
    unrealized_at_start,
)
from core.day_file import DamagedDay, DayFile, DayRecord, date_text
from core.ledger import Ledger
from core.model import Fill, Position, Side
from utils.durable import write_whole

from .examples import fill

ZERO = Decimal(0)
TODAY = 20_413
"""2025-11-21."""


def ledger_with(quantity: str = "0", entry: str = "80000") -> Ledger:
    """Books that begin with this position."""
    ledger = Ledger()
    ledger.open(Position("BTCUSDT", Decimal(quantity), Decimal(entry), Decimal(entry), ZERO, 0), 0)
    return ledger


def count(began_with: str = "0", **changes: Any) -> DayCount:
    """A day that began with this unrealised profit, nothing made before the books were opened."""
    plain = DayCount(TODAY, Sums(), Sums(), Decimal(began_with))
    return replace(plain, **changes)


def test_day_begins_at_midnight_utc() -> None:
    """The last millisecond before it belongs to the day before."""
    start = start_ms_of(TODAY)
    assert (day_of(start - 1), day_of(start), day_of(start + DAY_MS)) == (TODAY - 1, TODAY, TODAY + 1)
    assert date_text(TODAY) == "2025-11-21"


def test_result_is_realised_and_unrealised_less_fees_with_funding() -> None:
    """Long 0.003 at 79 900, marked at 79 000: -2.70; a fee of 0.05, 1 realised before, and 0.20 of funding paid."""
    ledger = ledger_with()
    ledger.apply(fill())
    ledger.realized_pnl_quote += 1
    ledger.funding_quote -= Decimal("0.2")
    result = count().result(ledger, Decimal(79_000), "USDT", {})
    assert result.unrealized_quote == Decimal("-2.7")
    assert result.quote == Decimal(1) - Decimal("2.7") - Decimal("0.04794") - Decimal("0.2")
    assert result.loss_quote == -result.quote
    assert result.text == "realised +1.00, unrealised -2.70, fees -0.05, funding -0.20"


def test_profit_is_no_loss() -> None:
    """0, and not below."""
    result = count().result(ledger_with("0.01"), Decimal(81_000), "USDT", {})
    assert (result.quote, result.loss_quote) == (Decimal(10), ZERO)


def test_carried_position_brings_only_what_it_makes_today() -> None:
    """80 lost before midnight are yesterday's; the 10 lost since are today's."""
    result = count("-80").result(ledger_with("0.01"), Decimal(71_000), "USDT", {})
    assert result.quote == Decimal(-10)


def test_fee_in_another_asset_counts_once_its_price_is_known() -> None:
    """0.001 BNB are 0.60 at 600; without a price they are named and left out."""
    ledger = ledger_with()
    ledger.apply(fill(commission=Decimal("0.001"), commission_asset="BNB"))
    blind = count().result(ledger, Decimal(79_900), "USDT", {})
    assert (blind.fees_quote, blind.unvalued) == (ZERO, (("BNB", Decimal("0.001")),))
    seeing = count().result(ledger, Decimal(79_900), "USDT", {"BNB": Decimal(600)})
    assert (seeing.fees_quote, seeing.unvalued) == (Decimal("0.6"), ())


def test_next_day_begins_with_nothing_made_and_nothing_accepted() -> None:
    """Whatever the ledger holds; what comes later counts."""
    ledger = ledger_with("0.01")
    ledger.realized_pnl_quote, ledger.funding_quote = Decimal(-50), Decimal(-3)
    later = count("-5", accepted_quote=Decimal(-40), accepted_ms=9).next(ledger, Decimal(79_000), TODAY + 1)
    assert later.result(ledger, Decimal(79_000), "USDT", {}).quote == 0
    assert later == replace(later, day=TODAY + 1, accepted_quote=ZERO, accepted_ms=0)
    ledger.realized_pnl_quote -= 7
    assert later.result(ledger, Decimal(79_100), "USDT", {}).quote == -6


def test_accepted_loss_begins_the_count_anew() -> None:
    """What is lost after it counts in full."""
    ledger = ledger_with()
    ledger.realized_pnl_quote = Decimal(-120)
    result = count().result(ledger, ZERO, "USDT", {})
    accepted = count().accepting(result, 77)
    assert accepted.result(ledger, ZERO, "USDT", {}).quote == 0
    ledger.realized_pnl_quote -= 30
    after = accepted.result(ledger, ZERO, "USDT", {})
    assert (after.quote, after.whole_quote) == (Decimal(-30), Decimal(-150))
    assert after.text.endswith("-120.00 of it accepted")


def test_funding_is_what_the_exchange_has_on_record() -> None:
    """Whether the stream told of all of it, or of some that is on record already."""
    ledger = ledger_with()
    ledger.funding_quote = Decimal("-0.3")
    healed = count().with_funding(ledger, Decimal("-1.1"))
    assert healed.sums(ledger).funding_quote == Decimal("-1.1")
    ledger.funding_quote -= 1
    assert healed.sums(ledger).funding_quote == Decimal("-2.1")


FILLS = st.lists(
    st.tuples(st.sampled_from(Side), st.integers(1, 20), st.integers(70_000, 90_000)), min_size=1, max_size=12
)


def traded(position: Ledger, fills: list[tuple[Side, int, int]]) -> list[Fill]:
    """Fills with the profit that the exchange reports of each, applied to the books."""
    made = []
    for number, (side, lots, price) in enumerate(fills, 1):
        quantity, held = Decimal(lots) / 1000, position.position_quantity
        closed = min(quantity, abs(held)) if held * side.sign < 0 else ZERO
        realized = -side.sign * closed * (Decimal(price) - position.entry_price)
        one = fill(number, side, str(quantity), price=Decimal(price), realized_pnl_quote=realized)
        made.append(one)
        position.apply(one)
    return made


@given(fills=FILLS, held=st.integers(-30, 30), start=st.integers(70_000, 90_000))
def test_day_is_the_same_whether_it_was_watched_or_rebuilt_from_trades(
    fills: list[tuple[Side, int, int]], held: int, start: int
) -> None:
    """From today's trades and the price at midnight comes the very result of a daemon that ran all day."""
    ledger = ledger_with(str(Decimal(held) / 1000), "80000")
    began_with = ledger.unrealized_pnl_quote(Decimal(start))
    made = traded(ledger, fills)
    assert quantity_at_start(ledger.position_quantity, made) == Decimal(held) / 1000
    rebuilt = unrealized_at_start(ledger.position_quantity, ledger.entry_price, made, Decimal(start))
    assert abs(rebuilt - (began_with if held else ZERO)) < Decimal("1e-15")
    watched = count(str(began_with)).result(ledger, Decimal(81_000), "USDT", {})
    fresh = ledger_with(f"{ledger.position_quantity:f}", f"{ledger.entry_price:f}")
    again = DayCount(TODAY, Sums.of_fills(made, ZERO), Sums(), rebuilt).result(
        fresh, Decimal(81_000), "USDT", {}
    )
    assert abs(watched.quote - again.quote) < Decimal("1e-15")


# --- on disk --------------------------------------------------------------------------------------------------

RECORD = DayRecord(
    account="paper-test",
    symbol="BTCUSDT",
    day=TODAY,
    date=date_text(TODAY),
    unrealized_at_start_quote=Decimal("-1.25"),
    result_quote=Decimal("-101.5"),
    whole_quote=Decimal("-141.5"),
    limit_quote=Decimal(100),
    text="realised -141.50",
    accepted_quote=Decimal(-40),
    accepted_ms=5,
    saved_ms=start_ms_of(TODAY) + 7,
)


def day_file(folder: Path, account: str = "paper-test", symbol: str = "BTCUSDT") -> DayFile:
    """The file of this symbol in a folder."""
    return DayFile(folder / "state", account, symbol)


def test_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """To the last digit; where there is no file, there is none."""
    file = day_file(tmp_path)
    assert file.read(TODAY) is None
    file.write(RECORD)
    assert file.read(TODAY) == RECORD
    assert file.read(TODAY + 1) == RECORD


def test_record_tells_whether_the_limit_was_reached() -> None:
    """At it is over; a limit of 0 is none."""
    assert RECORD.is_over
    assert replace(RECORD, result_quote=Decimal(-100)).is_over
    assert not replace(RECORD, result_quote=Decimal("-99.99")).is_over
    assert not replace(RECORD, limit_quote=ZERO).is_over


def test_record_that_is_torn_anywhere_is_refused(tmp_path: Path) -> None:
    """No length of it is taken for whole."""
    file = day_file(tmp_path)
    file.write(RECORD)
    whole = file.path.read_bytes()
    for length in range(len(whole) - 1):
        file.path.write_bytes(whole[:length])
        with pytest.raises(DamagedDay, match="torn or damaged"):
            file.read(TODAY)


def test_record_with_a_changed_digit_is_refused(tmp_path: Path) -> None:
    """Its checksum tells."""
    file = day_file(tmp_path)
    file.write(RECORD)
    file.path.write_bytes(file.path.read_bytes().replace(b"-101.5", b"-001.5"))
    with pytest.raises(DamagedDay, match="its checksum is wrong"):
        file.read(TODAY)


@pytest.mark.parametrize(
    ("foreign", "why"),
    [
        (replace(RECORD, symbol="ETHUSDT"), "it belongs to ETHUSDT on paper-test"),
        (replace(RECORD, account="live"), "it belongs to BTCUSDT on live"),
        (replace(RECORD, day=TODAY + 1, date="2025-11-22"), "it is of 2025-11-22, a day that has not come"),
        (replace(RECORD, version=2), "it is of version 2, this program writes 1"),
    ],
    ids=["symbol", "account", "day", "version"],
)
def test_record_of_something_else_is_refused(tmp_path: Path, foreign: DayRecord, why: str) -> None:
    """Another symbol's, another account's, tomorrow's, a later program's."""
    file = day_file(tmp_path)
    file.write(foreign)
    with pytest.raises(DamagedDay, match=why):
        file.read(TODAY)


def test_record_that_cannot_be_used_is_kept_for_people(tmp_path: Path) -> None:
    """Under another name, so that the next one can be written."""
    file = day_file(tmp_path)
    write_whole(file.path, b"{")
    aside = file.put_aside()
    assert (aside.read_bytes(), file.read(TODAY)) == (b"{", None)


def test_acceptance_holds_for_its_day_and_symbol_only(tmp_path: Path) -> None:
    """What cannot be read accepts nothing."""
    file = day_file(tmp_path)
    assert file.acceptance(TODAY) is None
    file.accept(TODAY, Decimal(-80), 123)
    accepted = file.acceptance(TODAY)
    assert accepted is not None
    assert (accepted.accepted_quote, accepted.accepted_ms) == (Decimal(-80), 123)
    assert file.acceptance(TODAY + 1) is None
    other = day_file(tmp_path, symbol="ETHUSDT")
    other.accepted_path.write_bytes(file.accepted_path.read_bytes())
    assert other.acceptance(TODAY) is None
    file.accepted_path.write_bytes(b"{")
    assert file.acceptance(TODAY) is None


def test_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    """A disk that does not take the new record keeps the old one."""
    file = day_file(tmp_path)
    file.write(RECORD)
    file.path.with_suffix(".tmp").mkdir()  # where the new one has to be written first
    with pytest.raises(OSError, match="directory"):
        file.write(replace(RECORD, day=TODAY + 1))
    assert file.read(TODAY) == RECORD
