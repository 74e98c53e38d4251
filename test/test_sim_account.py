"""The account's money adds up to the last of eight decimals."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.account import Account, OpenInterest, Position
from sim.money import booked, product, share
from sim.rules import MAINNET

RULES = MAINNET["BTCUSDT"]
MARKS = {"BTCUSDT": Decimal(50_000), "ETHUSDT": Decimal(3_000)}


def account(wallet: str = "1000") -> Account:
    """Return an account in two symbols."""
    return Account({name: MAINNET[name] for name in MARKS}, Decimal(wallet))


def fill(acc: Account, lots: int, price: str, *, maker: bool = True) -> Decimal:
    """Book a fill in BTCUSDT and return what it realised."""
    return acc.book_fill("BTCUSDT", lots, RULES.price_ticks(Decimal(price)), 7, maker=maker).realised


def test_amounts_round_half_to_even_at_eight_decimals() -> None:
    """Rounding is defined once: half to even at 1e-8."""
    assert booked(Decimal("0.000000005")) == 0
    assert booked(Decimal("0.000000015")) == Decimal("0.00000002")
    assert share(Decimal("1.00000000"), 1, 3) == Decimal("0.33333333")
    assert product(Decimal("0.1"), 3, Decimal("0.000000005")) == Decimal("0.00000000")


def test_entry_price_is_the_average_of_the_buys() -> None:
    """Two buys of equal size meet in the middle."""
    acc = account()
    fill(acc, 10, "50000")
    fill(acc, 10, "50100")
    assert acc.positions["BTCUSDT"].entry_price(RULES) == Decimal(50_050)
    assert acc.positions["BTCUSDT"].unrealised(RULES, Decimal(50_150)) == Decimal(2)


@pytest.mark.parametrize(("direction", "profit"), [(1, "0.5"), (-1, "-0.5")])
def test_reducing_realises_against_the_average(direction: int, profit: str) -> None:
    """A long gains where the price rose, a short loses as much; the rest keeps its entry."""
    acc = account()
    fill(acc, 10 * direction, "50000")
    assert fill(acc, -5 * direction, "50100") == Decimal(profit)
    assert acc.positions["BTCUSDT"].entry_price(RULES) == Decimal(50_000)
    assert acc.positions["BTCUSDT"].realised == Decimal(profit)


def test_flip_realises_the_old_and_opens_the_new() -> None:
    """A sell larger than the long closes it and opens a short at the fill's price."""
    acc = account()
    fill(acc, 10, "50000")
    assert fill(acc, -15, "50200") == Decimal(2)
    position = acc.positions["BTCUSDT"]
    assert (position.lots, position.entry_price(RULES)) == (-5, Decimal(50_200))
    assert position.paid == product(Decimal("0.0002"), Decimal("251"))


def test_fees_follow_the_role() -> None:
    """Makers pay 0.02 %, takers 0.05 % of the value; both leave the wallet at once (facts 10)."""
    acc = account()
    fill(acc, 10, "50000")
    assert acc.fees_paid == Decimal("0.1")
    fill(acc, 10, "50000", maker=False)
    assert acc.fees_paid == Decimal("0.35")
    assert acc.wallet == Decimal("999.65")


def test_break_even_price_carries_the_fees_until_flat() -> None:
    """Closing at break-even brings back cost and entry fees; a flat position has none."""
    acc = account()
    fill(acc, 10, "50000")
    assert acc.positions["BTCUSDT"].break_even_price(RULES) == Decimal(50_010)
    fill(acc, -10, "50000")
    assert acc.positions["BTCUSDT"].break_even_price(RULES) == 0


@pytest.mark.parametrize(("lots", "received"), [(1000, "-5"), (-1000, "5")])
def test_longs_pay_a_positive_funding_rate(lots: int, received: str) -> None:
    """Funding is rate × mark × position, from long to short."""
    acc = account("100000")
    fill(acc, lots, "50000")
    before = acc.wallet
    assert acc.book_funding("BTCUSDT", Decimal(50_000), Decimal("0.0001")) == Decimal(received)
    assert acc.wallet - before == acc.funding_received == Decimal(received)


def test_initial_margin_takes_the_worse_side() -> None:
    """Long 500, bids 1000, asks 2500 of value: all asks filling is worse (2000 short) at 20x."""
    acc = account()
    fill(acc, 10, "50000")
    needed = acc.initial_margin("BTCUSDT", MARKS["BTCUSDT"], OpenInterest(Decimal(1000), Decimal(2500)))
    assert needed == Decimal(100)
    assert acc.initial_margin("BTCUSDT", MARKS["BTCUSDT"], OpenInterest(), leverage=10) == Decimal(50)
    assert acc.position_margin("BTCUSDT", MARKS["BTCUSDT"]) == Decimal(25)


@pytest.mark.parametrize("lots", [100, -100])
def test_equity_meets_maintenance_at_the_liquidation_price(lots: int) -> None:
    """At the liquidation price, wallet plus unrealised profit equals the maintenance margin of all positions."""
    acc = account("600")
    fill(acc, lots, "50000")
    acc.book_fill("ETHUSDT", 100, 300_000, 7, maker=True)
    price = acc.liquidation_price("BTCUSDT", MARKS)
    marks = {**MARKS, "BTCUSDT": price}
    kept = acc.maintenance_margin("BTCUSDT", price) + acc.maintenance_margin("ETHUSDT", marks["ETHUSDT"])
    assert abs(acc.equity(marks) - kept) < Decimal("0.000001")


def test_liquidation_price_is_zero_where_there_is_none() -> None:
    """Flat, or so small that no price above zero liquidates it."""
    acc = account("100000")
    assert acc.liquidation_price("BTCUSDT", MARKS) == 0
    fill(acc, 1, "50000")
    assert acc.liquidation_price("BTCUSDT", MARKS) == 0


def test_leverage_starts_within_what_the_symbol_allows() -> None:
    """The default of 20 is capped by the symbol."""
    rules = {"NEXOUSDT": MAINNET["NEXOUSDT"]}
    assert Account(rules, Decimal(1), default_leverage=100).leverages == {"NEXOUSDT": 50}


TRADE = st.tuples(
    st.integers(min_value=-500, max_value=500).filter(bool),
    st.integers(min_value=400_000, max_value=600_000),
    st.booleans(),
)


@settings(deadline=None)
@given(st.lists(TRADE, max_size=30))
def test_wallet_is_what_the_cash_says_once_flat(trades: list[tuple[int, int, bool]]) -> None:
    """After any trades and a close, the wallet has moved by exactly cash received less fees, to the last decimal."""
    acc = account()
    closing = -sum(lots for lots, _, _ in trades)
    trades = [*trades, (closing, 500_000, False)] if closing else trades
    cash = Fraction(0)
    for lots, ticks, maker in trades:
        acc.book_fill("BTCUSDT", lots, ticks, 7, maker=maker)
        cash -= Fraction(lots) / 1000 * Fraction(ticks) / 10
    position = acc.positions["BTCUSDT"]
    assert (position.lots, position.cost) == (0, 0)
    assert Fraction(acc.wallet) == 1000 + cash - Fraction(acc.fees_paid)
    assert Fraction(position.realised) == cash


@given(st.lists(TRADE, min_size=1, max_size=30))
def test_equity_does_not_depend_on_how_profit_is_split(trades: list[tuple[int, int, bool]]) -> None:
    """Wallet plus unrealised profit equals start plus cash plus value of what is held, less fees, at every step."""
    acc = account()
    cash, held = Fraction(0), 0
    for lots, ticks, maker in trades:
        acc.book_fill("BTCUSDT", lots, ticks, 7, maker=maker)
        cash -= Fraction(lots * ticks) / 10_000
        held += lots
        value = Fraction(held * 500_000) / 10_000
        assert Fraction(acc.equity(MARKS)) == 1000 + cash + value - Fraction(acc.fees_paid)


def test_untouched_position_is_worth_nothing() -> None:
    """A new position has no price and no profit."""
    position = Position()
    assert position.entry_price(RULES) == 0
    assert position.unrealised(RULES, Decimal(1)) == 0
