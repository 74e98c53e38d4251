"""The synthetic market is repeatable, plausible, and like the recordings in figures."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import islice, pairwise, takewhile
from pathlib import Path

import pytest

from sim.calibration import RECORDINGS, Observations, compare, measure
from sim.market import BookTicker, MarketError, MarketEvent, Trade
from sim.profiles import PROFILES, paced
from sim.recording import RecordedMarket
from sim.rules import MAINNET
from sim.synthetic import SyntheticMarket

from .conftest import ROOT

START_MS = 1_700_000_000_000


def events(*symbols: str, seed: int = 1, speed: str = "1") -> Iterator[MarketEvent]:
    """The endless events of a synthetic market."""
    rules = {symbol: MAINNET[symbol] for symbol in symbols}
    return iter(SyntheticMarket(rules, START_MS, seed=seed, speed=Fraction(speed)).take, None)


def digest(seed: int, *symbols: str) -> str:
    """A hash of the first events."""
    return hashlib.sha256(repr(list(islice(events(*symbols, seed=seed), 5_000))).encode()).hexdigest()


def test_the_same_seed_gives_the_same_market_to_the_last_bit() -> None:
    """Also in another process, with another hash seed."""
    code = "from test.test_sim_synthetic import digest; print(digest(7, 'BTCUSDT', 'ETHUSDT'))"
    other = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest(7, "BTCUSDT", "ETHUSDT")


def test_another_seed_gives_another_market() -> None:
    """The seed decides."""
    assert digest(1, "BTCUSDT") != digest(2, "BTCUSDT")


def test_a_symbol_is_not_changed_by_the_others_beside_it() -> None:
    """Each symbol has randomness of its own."""
    alone = list(islice(events("BTCUSDT"), 1_000))
    together = [event for event in islice(events("ETHUSDT", "BTCUSDT"), 4_000) if event.symbol == "BTCUSDT"]
    assert together[:1_000] == alone


@pytest.mark.parametrize("symbol", list(MAINNET))
def test_every_known_symbol_has_a_market_that_keeps_its_own_rules(symbol: str, seed: int) -> None:
    """Quotes never cross or change nothing, ids and times increase, sizes are positive, prices stay in bounds."""
    rules = MAINNET[symbol]
    quote: BookTicker | None = None
    last: MarketEvent | None = None
    traded = 0
    for event in islice(events(symbol, seed=seed), 30_000):
        assert last is None or event.time_ms >= last.time_ms
        last = event
        if isinstance(event, BookTicker):
            assert 0 < event.bid_ticks < event.ask_ticks
            assert min(event.bid_lots, event.ask_lots) >= 1
            assert rules.min_price < rules.price(event.bid_ticks) < rules.max_price
            assert quote is None or event.update_id > quote.update_id
            quote = event
        else:
            assert quote is not None
            traded += 1
            assert event.lots >= 1
            assert event.first_id <= event.last_id
            assert (
                event.price_ticks <= quote.bid_ticks
                if event.buyer_is_maker
                else event.price_ticks >= quote.ask_ticks
            )
    assert traded > 500


def test_trades_take_no_more_from_the_touch_than_it_shows() -> None:
    """A trade at the touch prints before the quote that shows what it has left."""
    quote: BookTicker | None = None
    trades: list[Trade] = []
    partly = 0
    for event in islice(events("BTCUSDT"), 50_000):
        if isinstance(event, Trade):
            trades.append(event)
            continue
        if quote is not None and len(trades) == 1:
            trade = trades[0]
            shown = quote.bid_lots if trade.buyer_is_maker else quote.ask_lots
            assert trade.lots <= shown
            same_price = event.bid_ticks == quote.bid_ticks and event.ask_ticks == quote.ask_ticks
            left = event.bid_lots if trade.buyer_is_maker else event.ask_lots
            if same_price:
                assert left == shown - trade.lots
                partly += 1
        quote, trades = event, []
    assert partly > 1_000


def test_the_market_starts_at_the_given_time_with_a_quote() -> None:
    """The exchange has a price from its first millisecond on."""
    first = next(events("BTCUSDT"))
    assert isinstance(first, BookTicker)
    assert (first.time_ms, first.bid_ticks) == (START_MS, 640_000)


def test_speed_divides_the_gaps_of_the_same_market() -> None:
    """At ten times the speed the same events come in a tenth of the time."""
    plain = list(islice(events("BTCUSDT"), 2_000))
    fast = list(islice(events("BTCUSDT", speed="10"), 2_000))
    spans_ms = [events_[-1].time_ms - START_MS for events_ in (plain, fast)]
    assert spans_ms[0] // 10 - 1 <= spans_ms[1] <= spans_ms[0] // 10 + 1
    assert all(type(before) is type(after) for before, after in zip(plain, fast, strict=True))


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
def test_the_figures_are_within_the_stated_tolerances_of_the_recording(data_dir: Path, symbol: str) -> None:
    """An hour of the synthetic market against the recording of 2024, figure by figure."""
    folder = next(folder for folder, recorded in reversed(RECORDINGS) if recorded == symbol)
    rules = {symbol: MAINNET[symbol]}
    recorded = measure(Observations(RecordedMarket(data_dir / folder, rules, 0, loop=False), symbol))
    synthetic = measure(Observations(SyntheticMarket(rules, 0, seed=1), symbol, 3_600_000))
    outside = [
        f"{real.name}: {made.value:.4g} for {real.value:.4g}, within x{real.within}"
        for real, made in zip(recorded, synthetic, strict=True)
        if not real.value / real.within <= made.value <= real.value * real.within
    ]
    assert outside == []


def test_the_comparison_of_figures_is_printed_as_a_table(data_dir: Path) -> None:
    """The documented command prints the documented table, of which the recorded columns are the same for ever."""
    command = [sys.executable, "-m", "sim.calibration", str(data_dir), "--minutes", "2"]
    printed = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert printed[0].startswith(
        "| figure | BTCUSDT 2023-04-04 | BTCUSDT 2024-07-18 | ETHUSDT 2024-07-18 | BTCUSDT"
    )
    assert len({line.count("|") for line in printed}) == 1
    documented = (ROOT / "docs" / "simulated-exchange.md").read_text(encoding="utf-8").splitlines()
    start = documented.index(printed[0])
    for shown, line in zip(documented[start : start + len(printed)], printed, strict=True):
        name, *recorded = shown.split(" | ")[:4]
        assert [name, *recorded] == line.split(" | ")[:4]


@pytest.mark.parametrize(("symbol", "rate"), [("BTCUSDT", 20.0), ("SOLUSDT", 5.0), ("NEXOUSDT", 20.0)])
def test_a_market_has_about_as_many_events_a_second_as_asked_for(symbol: str, rate: float, seed: int) -> None:
    """Within a half, in half an hour: calm and busy times alternate. Moves are larger where they come more seldom."""
    market = SyntheticMarket({symbol: MAINNET[symbol]}, 0, seed=seed, events_per_s=rate)
    seconds = 1800
    happened = sum(
        1 for _ in takewhile(lambda event: event.time_ms < seconds * 1000, iter(market.take, None))
    )
    assert 0.6 * rate < happened / seconds < 1.5 * rate
    usual = PROFILES[symbol]
    assert paced(usual, usual.events_per_s / 4).move_ticks == pytest.approx(2 * usual.move_ticks)


def test_a_price_that_would_fall_to_zero_stays_where_it_is(seed: int) -> None:
    """Near zero the bid moves no further down."""
    low = replace(PROFILES["BTCUSDT"], start_price="0.30", sweep_share=0.05, refill_share=0.0)
    market = SyntheticMarket({"BTCUSDT": MAINNET["BTCUSDT"]}, 0, seed=seed, profiles={"BTCUSDT": low})
    quotes = [event for event in islice(iter(market.take, None), 5_000) if isinstance(event, BookTicker)]
    assert all(0 < quote.bid_ticks < quote.ask_ticks for quote in quotes)
    assert any(before.bid_ticks != after.bid_ticks for before, after in pairwise(quotes))


def test_the_calibration_refuses_a_folder_without_recordings(tmp_path: Path) -> None:
    """A missing recording is an error that names the folder."""
    with pytest.raises(MarketError, match="There is no folder"):
        compare(tmp_path, 1)
