"""Funding is paid at real times, at the rate that the market names, once."""

from decimal import Decimal

import pytest

from sim.funding import Funding
from sim.market import FundingTerms

from .sim_factory import START_MS, Rig

MIDNIGHT_MS = 1_700_006_400_000
HOUR_MS = 3_600_000


def test_funding_is_due_once_at_the_next_of_its_times() -> None:
    """00, 08 and 16 o'clock UTC, like mainnet's eight-hour symbols (Get Funding Rate History)."""
    funding = Funding(Decimal("0.0001"), START_MS)
    assert funding.next_ms == MIDNIGHT_MS
    assert not funding.settles(MIDNIGHT_MS - 1)
    assert funding.settles(MIDNIGHT_MS)
    assert not funding.settles(MIDNIGHT_MS)
    assert funding.next_ms == MIDNIGHT_MS + 8 * HOUR_MS


def test_terms_of_the_market_change_rate_and_time() -> None:
    """`r` and `T` of the mark price stream are what the real market pays next (Mark Price Stream)."""
    funding = Funding(Decimal("0.0001"), START_MS)
    funding.change(FundingTerms(START_MS, "BTCUSDT", Decimal("-0.0003"), START_MS + HOUR_MS))
    assert (funding.rate, funding.next_ms) == (Decimal("-0.0003"), START_MS + HOUR_MS)


def test_terms_with_no_time_or_a_past_one_leave_the_time_alone() -> None:
    """A replay brings rates of another day, and its times have passed (docs/simulated-exchange.md, Funding)."""
    funding = Funding(Decimal("0.0001"), START_MS)
    funding.change(FundingTerms(START_MS, "BTCUSDT", Decimal("0.0002")))
    funding.change(FundingTerms(START_MS, "BTCUSDT", Decimal("0.0003"), START_MS))
    assert (funding.rate, funding.next_ms) == (Decimal("0.0003"), MIDNIGHT_MS)


def test_terms_of_the_payment_after_the_next_wait_until_that_is_paid() -> None:
    """A clock that is slow hears of them first: the stream names the time after from the moment of the payment on."""
    funding = Funding(Decimal("0.0001"), START_MS)
    early_ms, then_ms = MIDNIGHT_MS - 900, MIDNIGHT_MS + 4 * HOUR_MS
    funding.change(FundingTerms(early_ms, "BTCUSDT", Decimal("0.0003"), then_ms))
    assert (funding.rate, funding.next_ms) == (Decimal("0.0001"), MIDNIGHT_MS)
    assert not funding.settles(early_ms)
    assert funding.settles(MIDNIGHT_MS)
    assert funding.rate == Decimal("0.0001")
    assert not funding.settles(MIDNIGHT_MS + 1_000)
    assert (funding.rate, funding.next_ms) == (Decimal("0.0003"), then_ms)


@pytest.mark.parametrize(
    ("early_ms", "later_ms"), [(61_000, MIDNIGHT_MS + 4 * HOUR_MS), (900, MIDNIGHT_MS + 60_000)]
)
def test_payment_that_is_put_off_is_not_paid_at_its_former_time(early_ms: int, later_ms: int) -> None:
    """By the market long before it, or by a script, which puts it off by less than any interval of Binance's."""
    funding = Funding(Decimal("0.0001"), START_MS)
    funding.change(FundingTerms(MIDNIGHT_MS - early_ms, "BTCUSDT", Decimal("0.0003"), later_ms))
    assert not funding.settles(MIDNIGHT_MS)
    assert funding.settles(later_ms)


def test_position_pays_the_rate_that_the_market_named() -> None:
    """A long of one coin at a mark of 50000.05 pays 0.3 %, and premiumIndex has told rate and time before."""
    rig = Rig()
    rig.take("BUY", "1")
    due_ms = rig.now_ms + 5_000
    rig.market.events.append(FundingTerms(rig.now_ms + 1, "BTCUSDT", Decimal("0.003"), due_ms))
    rig.wait(1)
    told = rig.call("GET", "/fapi/v1/premiumIndex", symbol="BTCUSDT").body
    assert (told["lastFundingRate"], told["nextFundingTime"]) == ("0.003", due_ms)
    rig.wait(7_000)
    paid = Decimal(rig.record()["fundingTotal"])
    assert paid == Decimal("-150.00015")
    rig.wait(7_000)
    assert Decimal(rig.record()["fundingTotal"]) == paid


def test_rate_of_a_fault_stands_above_what_the_market_names() -> None:
    """A market of mark prices names one every second; when the fault ends, the newest of them is in force."""
    rig = Rig()
    rates = []
    rig.send("POST", "/sim/fault", "fault=funding-rate&rate=0.005&for_s=3")
    for number in range(5):
        rate = Decimal(number) / 10_000
        rig.market.events.append(FundingTerms(rig.now_ms + 1, "BTCUSDT", rate))
        rig.wait(1_000)
        rates.append(rig.call("GET", "/fapi/v1/premiumIndex", symbol="BTCUSDT").body["lastFundingRate"])
    assert [Decimal(rate) for rate in rates] == [
        *[Decimal("0.005")] * 2,
        *(Decimal(number) / 10_000 for number in (2, 3, 4)),
    ]
