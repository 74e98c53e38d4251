"""The books: each fill once, from whichever channel, to the last digit."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ledger import Ledger
from core.model import Fill, Position, Side

from .examples import fill

FLAT = Position.flat("BTCUSDT")
AS_OF_MS = 1_790_000_000_500
"""When a position was adopted, on the exchange's clock."""
FILLS = st.lists(
    st.builds(
        fill,
        trade_id=st.integers(1, 10**12),
        side=st.sampled_from(Side),
        price=st.decimals(1, 200_000, places=2),
        quantity=st.decimals(Decimal("0.001"), 1000, places=3),
        commission=st.decimals(-10, 100, places=8),
        commission_asset=st.sampled_from(["USDT", "BNB"]),
        realized_pnl_quote=st.decimals(-1000, 1000, places=8),
        is_maker=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda trade: trade.trade_id,
)


def opened(quantity: str = "0", entry: str = "0", last_trade_id: int = 0) -> Ledger:
    """Books that begin with this position."""
    books = Ledger()
    books.open(replace(FLAT, quantity=Decimal(quantity), entry_price=Decimal(entry)), last_trade_id)
    return books


def sums(books: Ledger) -> tuple[object, ...]:
    """Everything that does not depend on the order of trades."""
    return (
        books.position_quantity,
        books.realized_pnl_quote,
        books.fees,
        books.fill_count,
        books.maker_fill_count,
        books.bought_quantity,
        books.sold_quantity,
        books.traded_quote,
    )


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[Fill], list[Fill]]:
    """Trades, and the same trades as two channels may bring them: in any order, any of them twice."""
    trades = draw(FILLS)
    twice = draw(st.lists(st.sampled_from(trades), max_size=6)) if trades else []
    return trades, draw(st.permutations(trades + twice))


@given(deliveries())
def test_fills_in_any_order_and_twice_equal_each_of_them_once(case: tuple[list[Fill], list[Fill]]) -> None:
    """Every sum is the same, digit for digit."""
    trades, delivered = case
    straight, mixed = opened(), opened()
    assert all(straight.apply(one) for one in trades)
    assert sum(mixed.apply(one) for one in delivered) == len(trades)
    assert sums(mixed) == sums(straight)


@given(FILLS)
def test_position_is_the_signed_sum_of_the_fills(trades: list[Fill]) -> None:
    """Exactly, and so are the fees of each asset and the traded volume."""
    books = opened("1.5", "100")
    for one in trades:
        books.apply(one)
    assert books.position_quantity == Decimal("1.5") + sum(one.side.sign * one.quantity for one in trades)
    assert books.position_quantity == Decimal("1.5") + books.bought_quantity - books.sold_quantity
    assert books.traded_quote == sum(one.price * one.quantity for one in trades)
    for asset in ("USDT", "BNB"):
        paid = sum(one.commission for one in trades if one.commission_asset == asset)
        assert books.fees_in(asset) == paid


@given(FILLS, st.decimals(1, 200_000, places=2))
def test_profit_at_average_cost_equals_the_cash_that_moved(trades: list[Fill], mark: Decimal) -> None:
    """Whatever the way there: realised against the entry, plus open against the mark, is the cash flow."""
    books, realized, cash = opened(), Fraction(0), Fraction(0)
    for one in trades:
        before, entry = Fraction(books.position_quantity), Fraction(books.entry_price)
        books.apply(one)
        change = one.side.sign * Fraction(one.quantity)
        if before * change < 0:
            closed = min(abs(before), abs(change))
            realized += closed * (Fraction(one.price) - entry) * (1 if before > 0 else -1)
        cash -= change * Fraction(one.price)
    total = realized + Fraction(books.unrealized_pnl_quote(mark))
    exact = cash + Fraction(books.position_quantity) * Fraction(mark)
    assert abs(total - exact) < Fraction(1, 10**12)


@pytest.mark.parametrize(
    ("start", "side", "quantity", "position", "entry"),
    [
        (("0", "0"), Side.BUY, "2", "2", "200"),
        (("0", "0"), Side.SELL, "2", "-2", "200"),
        (("2", "100"), Side.BUY, "2", "4", "150"),
        (("-2", "100"), Side.SELL, "2", "-4", "150"),
        (("2", "100"), Side.SELL, "1", "1", "100"),
        (("-2", "100"), Side.BUY, "1", "-1", "100"),
        (("2", "100"), Side.SELL, "2", "0", "0"),
        (("2", "100"), Side.SELL, "3", "-1", "200"),
        (("-2", "100"), Side.BUY, "3", "1", "200"),
    ],
)
def test_entry_is_averaged_kept_renewed_or_gone(
    start: tuple[str, str], side: Side, quantity: str, position: str, entry: str
) -> None:
    """Adding averages, reducing keeps, crossing zero starts anew, closing leaves none; the trade is at 200."""
    books = opened(*start)
    books.apply(fill(1, side, quantity, price=Decimal(200)))
    assert (books.position_quantity, books.entry_price) == (Decimal(position), Decimal(entry))


def test_trades_that_the_opening_position_holds_are_not_counted_again() -> None:
    """Up to and with the last id that was known when the position was read."""
    books = opened("1", "100", last_trade_id=50)
    assert not books.apply(fill(49))
    assert not books.apply(fill(50))
    assert books.apply(fill(51, Side.BUY, "0.5"))
    assert books.position_quantity == Decimal("1.5")
    assert books.checkpoint_id == 50


def test_trades_up_to_the_time_of_the_opening_position_are_in_it_also_if_their_list_lagged() -> None:
    """They are summed, and neither move the position nor explain anything; later ones do, before and after."""
    books = Ledger()
    position = replace(FLAT, quantity=Decimal(1), entry_price=Decimal(100), update_ms=AS_OF_MS)
    books.open(position, 50, AS_OF_MS - 60_000)
    assert books.apply(replace(fill(51, Side.BUY, "0.5"), time_ms=AS_OF_MS))
    assert (books.position_quantity, books.entry_price) == (1, 100)
    assert (books.bought_quantity, books.unexplained_quantity) == (Decimal("0.5"), 0)
    assert books.apply(replace(fill(52, Side.SELL, "0.2"), time_ms=AS_OF_MS + 1))
    assert books.position_quantity == Decimal("0.8")


@pytest.mark.parametrize(
    ("position_ms", "last_trade_ms", "may_open"),
    [
        (0, 0, True),
        (5000, 5000, True),
        (9000, 5000, True),
        (4999, 5000, False),
        (0, 12_000, False),
        (0, 11_999, True),
        (1, 4999, True),
    ],
)
def test_position_older_than_the_last_trade_is_no_beginning_for_a_while(
    position_ms: int, last_trade_ms: int, may_open: bool
) -> None:
    """3 s if nothing says of which time it is, 10 s otherwise; now is 14.999 s."""
    position = replace(FLAT, update_ms=position_ms)
    assert Ledger().can_open(position, 50, last_trade_ms, 14_999) is may_open


def test_flat_position_may_have_held_trades_that_were_listed_only_later() -> None:
    """It bears no time: they move it until the exchange's position shows that they were in it; later ones stay."""
    books = Ledger()
    books.open(FLAT, 50, AS_OF_MS - 60_000, AS_OF_MS)
    assert not books.takes_back(FLAT)
    assert books.apply(replace(fill(51, Side.SELL, "0.5"), time_ms=AS_OF_MS))
    assert books.apply(replace(fill(52, Side.BUY, "0.2"), time_ms=AS_OF_MS + 1))
    assert books.position_quantity == Decimal("-0.3")
    assert not books.takes_back(FLAT)
    assert books.takes_back(replace(FLAT, quantity=Decimal("0.2"), entry_price=Decimal(90)))
    assert (books.position_quantity, books.entry_price) == (Decimal("0.2"), 90)
    assert (books.fill_count, books.sold_quantity, books.unexplained_quantity) == (2, Decimal("0.5"), 0)
    assert not books.takes_back(FLAT)


def test_fill_of_an_order_of_this_run_is_never_taken_back() -> None:
    """It came after the opening, whatever the clocks say; a late trade beside it is taken back all the same."""
    books = Ledger()
    books.open(FLAT, 50, AS_OF_MS - 60_000, AS_OF_MS)
    assert books.apply(replace(fill(52, Side.SELL, "0.2"), time_ms=AS_OF_MS), is_of_this_run=True)
    assert not books.takes_back(FLAT)
    assert books.apply(replace(fill(51, Side.SELL, "0.5"), time_ms=AS_OF_MS - 1))
    assert not books.takes_back(FLAT)
    assert books.takes_back(replace(FLAT, quantity=Decimal("-0.2"), entry_price=Decimal(90)))
    assert books.position_quantity == Decimal("-0.2")


def test_reading_that_lags_behind_a_fill_ends_no_doubt() -> None:
    """A fill of ours as large as the trade in doubt, and a flat position from before both: then they tell apart."""
    books, now_ms = Ledger(), AS_OF_MS + 1000
    books.open(FLAT, 50, AS_OF_MS - 60_000, AS_OF_MS)
    assert books.apply(replace(fill(51, Side.SELL, "0.5"), time_ms=AS_OF_MS))
    assert books.apply(replace(fill(52, Side.BUY, "0.5"), time_ms=now_ms), is_of_this_run=True)
    assert books.position_quantity == 0
    books.agree(FLAT, Decimal("0.1"), now_ms + Ledger.UNDATED_LAGS_AT_MOST_MS - 1)
    assert books.takes_back(replace(FLAT, quantity=Decimal("0.5"), entry_price=Decimal(90)))


def test_adopted_position_leaves_nothing_in_doubt() -> None:
    """It is the exchange's as it is: no later difference is one of the opening."""
    books = Ledger()
    books.open(FLAT, 50, AS_OF_MS - 60_000, AS_OF_MS)
    assert books.apply(replace(fill(51, Side.SELL, "0.5"), time_ms=AS_OF_MS))
    books.adopt(replace(FLAT, quantity=Decimal("0.3")), AS_OF_MS + 9000)
    assert not books.takes_back(replace(FLAT, quantity=Decimal("0.8")))


@pytest.mark.parametrize("opening_ms", [0, AS_OF_MS - 1])
def test_trade_is_taken_back_neither_after_an_agreement_nor_from_a_position_that_bears_its_time(
    opening_ms: int,
) -> None:
    """The same figures later are another difference, and that is unexplained."""
    books = Ledger()
    books.open(replace(FLAT, update_ms=opening_ms), 50, 0, AS_OF_MS)
    assert books.apply(replace(fill(51, Side.SELL, "0.5"), time_ms=AS_OF_MS))
    if not opening_ms:
        books.agree(replace(FLAT, quantity=Decimal("-0.5")), Decimal("0.1"), AS_OF_MS + 5000)
    assert not books.takes_back(FLAT)
    assert books.position_quantity == Decimal("-0.5")


def test_list_that_lacks_a_trade_of_which_the_stream_told_is_no_beginning() -> None:
    """What is kept until the books are opened has to be in the list, in whatever order it came."""
    books = Ledger()
    assert not books.apply(fill(52))
    assert not books.apply(fill(51))
    assert not books.can_open(FLAT, 51, 0, 0)
    assert books.can_open(FLAT, 52, 0, 0)


def test_ids_that_an_exchange_gives_anew_are_other_trades() -> None:
    """Known by a later time; what is told of the old ones again counts no more, whichever channel tells of it."""
    books = Ledger()
    old = [replace(fill(number, Side.BUY, "0.001"), time_ms=1_000_000 + number) for number in (49, 50, 51)]
    books.open(FLAT, 50, old[1].time_ms)
    assert [books.apply(one) for one in old] == [False, False, True]
    assert not books.apply(replace(old[2], time_ms=old[2].time_ms + 900))
    assert not books.ids_began_anew
    books.checkpoint_id = 51
    new = [replace(fill(number, Side.SELL, "0.002"), time_ms=1_020_000 + number) for number in (1, 50, 51)]
    assert [books.apply(one) for one in (*new, *new, *old)] == 3 * [True] + 6 * [False]
    assert (books.position_quantity, books.fill_count) == (Decimal("-0.005"), 4)
    assert books.ids_began_anew
    assert books.checkpoint_id == 0


def test_later_trade_below_the_checkpoint_shows_that_ids_began_anew_and_a_hidden_one_does_not() -> None:
    """The exchange gives one count of ids to all accounts: after a reset ours may be some that nobody here has had."""
    books = opened("0", "0")
    books.apply(replace(fill(90), time_ms=1_000_000))
    books.checkpoint_id = 90
    assert books.apply(replace(fill(80), time_ms=999_000))
    assert (books.ids_began_anew, books.checkpoint_id) == (False, 90)
    assert books.apply(replace(fill(70), time_ms=1_020_000))
    assert (books.ids_began_anew, books.checkpoint_id) == (True, 0)


def test_fills_before_the_opening_are_kept_for_it() -> None:
    """They are handed out once; those that the position holds already do not count."""
    books = Ledger()
    assert not books.apply(fill(50))
    assert not books.apply(fill(51))
    assert sums(books) == sums(Ledger())
    early = books.open(FLAT, 50)
    assert [one.trade_id for one in early] == [50, 51]
    assert [books.apply(one) for one in early] == [False, True]
    assert books.fill_count == 1


def test_adopted_position_replaces_position_and_entry_and_nothing_else() -> None:
    """What no trade explained makes no profit, no fee and no fill."""
    books = opened("1", "100")
    before = (books.realized_pnl_quote, books.fees, books.fill_count)
    books.adopt(replace(FLAT, quantity=Decimal(-3), entry_price=Decimal(70)), AS_OF_MS)
    assert (books.position_quantity, books.entry_price) == (-3, 70)
    assert (books.realized_pnl_quote, books.fees, books.fill_count) == before


def test_trade_that_an_adopted_position_holds_pays_its_fee_and_moves_nothing() -> None:
    """It comes late: its money is counted, the position has it already."""
    books = opened("1", "100")
    books.adopt(replace(FLAT, quantity=Decimal("1.5"), entry_price=Decimal(110)), AS_OF_MS)
    assert books.apply(fill(1, Side.BUY, "0.5", time_ms=AS_OF_MS, commission=Decimal("0.25")))
    assert (books.position_quantity, books.entry_price) == (Decimal("1.5"), 110)
    assert (books.fill_count, books.fees_in("USDT"), books.bought_quantity) == (
        1,
        Decimal("0.25"),
        Decimal("0.5"),
    )
    assert not books.apply(fill(1, Side.BUY, "0.5", time_ms=AS_OF_MS))


def test_trade_after_an_adopted_position_moves_it() -> None:
    """One millisecond decides."""
    books = opened("1", "100")
    books.adopt(replace(FLAT, quantity=Decimal("1.5"), entry_price=Decimal(110)), AS_OF_MS)
    books.apply(fill(2, Side.SELL, "0.5", time_ms=AS_OF_MS + 1))
    assert books.position_quantity == 1


def test_latest_fill_is_known_by_its_time_in_whatever_order_they_come() -> None:
    """The exchange's time, not the order of arrival."""
    books = opened()
    assert books.last_fill_ms == 0
    for trade_id, time_ms in ((1, AS_OF_MS), (2, AS_OF_MS + 7), (3, AS_OF_MS + 2)):
        books.apply(fill(trade_id, time_ms=time_ms))
    assert books.last_fill_ms == AS_OF_MS + 7


def test_memory_of_trade_ids_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only as many are remembered as could be told twice."""
    monkeypatch.setattr(Ledger, "REMEMBERED", 3)
    books = opened()
    for trade_id in (1, 2, 3, 4):
        books.apply(fill(trade_id))
    assert not books.apply(fill(2))
    assert len(books._seen) == 3


def test_trade_under_an_id_that_is_given_anew_is_not_the_first_to_be_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is the newest, and would be counted twice where it is told of twice."""
    monkeypatch.setattr(Ledger, "REMEMBERED", 2)
    books = opened()
    again = replace(fill(1), time_ms=fill(1).time_ms + 60_000)
    assert [books.apply(one) for one in (fill(1), fill(2), again, fill(3), again)] == 4 * [True] + [False]


def test_profit_is_realised_and_open_less_fees_with_funding() -> None:
    """Fees in another asset are not mixed into money of this one."""
    books = opened("2", "100")
    books.funding_quote = Decimal("-0.25")
    books.apply(
        fill(1, Side.SELL, "1", price=Decimal(110), realized_pnl_quote=Decimal(10), commission=Decimal("0.5"))
    )
    books.apply(fill(2, Side.BUY, "1", price=Decimal(100), commission=Decimal(3), commission_asset="BNB"))
    assert books.unrealized_pnl_quote(Decimal(105)) == 10
    assert books.pnl_quote(Decimal(105), "USDT") == Decimal("19.25")
    assert books.fees_in("BNB") == 3
    assert books.fees_in("ETH") == 0


@given(hidden=FILLS, known=FILLS)
def test_what_was_adopted_is_explained_by_the_trades_that_were_hidden(
    hidden: list[Fill], known: list[Fill]
) -> None:
    """Told of late, they leave the position as it is, and nothing of it unexplained."""
    books = opened()
    for one in known:
        books.apply(replace(one, time_ms=AS_OF_MS - 5000))
    told_later = [
        replace(one, trade_id=10**13 + number, time_ms=AS_OF_MS - 100) for number, one in enumerate(hidden)
    ]
    difference = sum((one.side.sign * one.quantity for one in told_later), Decimal(0))
    there = books.position_quantity + difference
    books.adopt(replace(FLAT, quantity=there), AS_OF_MS)
    assert books.unexplained_quantity == difference
    for one in told_later:
        books.apply(one)
        books.apply(one)
    assert (books.position_quantity, books.unexplained_quantity) == (there, 0)


def test_trade_that_is_told_of_late_leaves_the_entry_price_that_the_exchange_has() -> None:
    """One was bought at 100; of a sale and a purchase at 95 after it the purchase is told of first."""
    ledger, price = Ledger(), Decimal(100)
    theirs = Position("BTCUSDT", Decimal(1), price, price, Decimal(0), 1000)
    ledger.open(theirs, 0)
    bought = fill(2, Side.BUY, "1", price=Decimal(95), time_ms=3000)
    ledger.apply(bought)
    ledger.apply(fill(1, Side.SELL, "1", price=Decimal(95), time_ms=2000))
    assert (ledger.position_quantity, ledger.entry_price) == (1, Decimal("97.5"))
    theirs = replace(theirs, entry_price=Decimal(95), update_ms=2999)
    ledger.agree(theirs, Decimal("0.1"), 3000)
    assert ledger.entry_price == Decimal("97.5"), "a reading from before our last trade says nothing"
    ledger.agree(replace(theirs, update_ms=3000), Decimal("0.1"), 3000)
    assert ledger.entry_price == 95
    ledger.agree(replace(theirs, update_ms=3000, entry_price=Decimal("95.00000001")), Decimal("0.1"), 3000)
    assert ledger.entry_price == 95, "the exchange rounds"
