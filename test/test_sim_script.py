"""What a script makes happen to a market happens at its times, and a bad script is refused with one sentence."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.directed import DirectedMarket
from sim.market import BookTicker, DepthChange, FundingTerms, MarketError, MarketEvent, StreamMarket, Trade
from sim.rules import MAINNET
from sim.script import Happening, Move, read_script
from sim.synthetic import SyntheticMarket

START_MS = 1_700_000_000_000
RULES = {"BTCUSDT": MAINNET["BTCUSDT"]}


def script(folder: Path, text: str, symbols: Sequence[str] = ("BTCUSDT",)) -> tuple[Happening, ...]:
    """The happenings in a file with this text."""
    path = folder / "events.yaml"
    path.write_text(text, encoding="utf-8")
    return read_script(path, symbols)


def second_by_second(seconds: int) -> list[MarketEvent]:
    """A quiet market: every 100 ms a sale at the bid and then a quote, always the same."""
    events: list[MarketEvent] = []
    for step in range(seconds * 10):
        time_ms = START_MS + 100 * step
        events.append(BookTicker(time_ms, "BTCUSDT", 10 + step, 640_000, 2_000, 640_001, 3_000))
        events.append(
            Trade(time_ms, "BTCUSDT", 50 + step, 640_000, 100, 90 + step, 90 + step, buyer_is_maker=True)
        )
    return events


def directed(events: Sequence[MarketEvent], happenings: Sequence[Happening]) -> list[MarketEvent]:
    """The events under a script."""
    market = DirectedMarket(StreamMarket(RULES, iter(events)), happenings, START_MS)
    played = []
    while market.peek_ms() is not None:
        played.append(market.take())
    return played


def bids(events: Sequence[MarketEvent]) -> dict[int, int]:
    """The bid in ticks by seconds times ten since the start."""
    return {
        (event.time_ms - START_MS) // 100: event.bid_ticks
        for event in events
        if isinstance(event, BookTicker)
    }


def test_jump_moves_all_prices_from_its_time_on(tmp_path: Path) -> None:
    """100 bps of 64000.00 are 640.00; the touch in the way is printed, and ids go on without a gap or a repeat."""
    events = directed(second_by_second(4), script(tmp_path, "- {at_s: 2, event: jump, bps: -100}"))
    before, after = bids(events)[19], bids(events)[20]
    assert (before, after) == (640_000, 633_600)
    trades = [event for event in events if isinstance(event, Trade)]
    swept = next(trade for trade in trades if trade.time_ms == START_MS + 2_000)
    assert (swept.price_ticks, swept.lots, swept.buyer_is_maker) == (640_000, 2_000, True)
    assert [trade.trade_id for trade in trades] == list(range(50, 50 + len(trades)))
    assert trades[-1].price_ticks == 633_600


def test_jump_up_takes_the_ask(tmp_path: Path) -> None:
    """Whoever buys prints at the ask."""
    events = directed(second_by_second(2), script(tmp_path, "- {at_s: 1, event: jump, bps: 10}"))
    swept = next(event for event in events if isinstance(event, Trade) and not event.buyer_is_maker)
    assert (swept.price_ticks, swept.lots) == (640_001, 3_000)


def test_flash_crash_falls_stays_and_recovers_in_part(tmp_path: Path) -> None:
    """500 bps down within two seconds, a second at the bottom, 80 % back within four."""
    text = "- {at_s: 1, event: flash_crash, bps: -500, fall_s: 2, stay_s: 1, recover_s: 4, recovered_percent: 80}"
    found = bids(directed(second_by_second(10), script(tmp_path, text)))
    assert found[10] == 640_000
    assert found[20] == 640_000 - 16_000
    assert found[30] == found[40] == 640_000 - 32_000
    assert found[60] == 640_000 - 19_200
    assert found[80] == found[99] == 640_000 - 6_400
    falling = [found[step] for step in range(10, 31)]
    assert all(later < earlier for earlier, later in pairwise(falling))


def test_drought_makes_everything_rarer_and_smaller(tmp_path: Path) -> None:
    """A tenth of the quotes and the trades, each of a tenth of the size; then all is as before."""
    events = directed(
        second_by_second(8), script(tmp_path, "- {at_s: 2, event: drought, seconds: 4, factor: 10}")
    )
    dry = [event for event in events if 2_000 <= event.time_ms - START_MS < 6_000]
    assert [(event.bid_lots, event.ask_lots) for event in dry if isinstance(event, BookTicker)] == [
        (200, 300)
    ] * 4
    assert [event.lots for event in dry if isinstance(event, Trade)] == [10] * 4
    last = [event for event in events if isinstance(event, BookTicker)][-1]
    assert last.bid_lots == 2_000


def test_halt_silences_the_market(tmp_path: Path) -> None:
    """Neither quote nor trade for two seconds; the first thing after it is a quote."""
    events = directed(second_by_second(5), script(tmp_path, "- {at_s: 1, event: halt, seconds: 2}"))
    assert not [event for event in events if 1_000 <= event.time_ms - START_MS < 3_000]
    assert isinstance(next(event for event in events if event.time_ms >= START_MS + 3_000), BookTicker)


def test_halt_of_prints_leaves_the_quotes(tmp_path: Path) -> None:
    """Quotes go on while nobody trades."""
    happenings = script(tmp_path, "- {at_s: 1, event: halt, seconds: 2, prints_only: true}")
    halted = [e for e in directed(second_by_second(5), happenings) if 1_000 <= e.time_ms - START_MS < 3_000]
    assert len(halted) == 20
    assert all(isinstance(event, BookTicker) for event in halted)


def test_funding_spike_comes_and_goes_at_its_times(tmp_path: Path) -> None:
    """The rate is named, with a time if wanted, and left to the exchange again at the end."""
    text = "- {at_s: 1, event: funding, rate: 0.003, seconds: 2, due_in_s: 1.5}"
    events = directed(second_by_second(5), script(tmp_path, text))
    assert [event for event in events if isinstance(event, FundingTerms)] == [
        FundingTerms(START_MS + 1_000, "BTCUSDT", Decimal("0.003"), START_MS + 2_500),
        FundingTerms(START_MS + 3_000, "BTCUSDT", None),
    ]
    assert all(before.time_ms <= after.time_ms for before, after in pairwise(events))


def test_known_depth_is_forgotten_where_the_market_is_bent(tmp_path: Path) -> None:
    """Levels recorded at other prices say nothing of the queue any more; changes that follow are moved along."""
    levels = ((640_000, 2_000), (639_990, 500))
    events: list[MarketEvent] = [
        BookTicker(START_MS, "BTCUSDT", 1, 640_000, 2_000, 640_001, 3_000),
        DepthChange(START_MS, "BTCUSDT", 1, levels, (), snapshot=True),
        BookTicker(START_MS + 1_000, "BTCUSDT", 2, 640_000, 2_000, 640_001, 3_000),
        DepthChange(START_MS + 1_100, "BTCUSDT", 3, ((639_990, 0),), ()),
    ]
    played = directed(events, script(tmp_path, "- {at_s: 1, event: jump, bps: 100}"))
    depth = [event for event in played if isinstance(event, DepthChange)]
    assert depth[1:] == [
        DepthChange(START_MS + 1_000, "BTCUSDT", 1, (), (), snapshot=True),
        DepthChange(START_MS + 1_100, "BTCUSDT", 3, ((646_390, 0),), ()),
    ]


def test_event_of_one_symbol_leaves_the_others_alone(tmp_path: Path) -> None:
    """With a symbol named, only its prices move."""
    rules = {symbol: MAINNET[symbol] for symbol in ("BTCUSDT", "ETHUSDT")}
    happenings = script(tmp_path, "- {at_s: 0, event: jump, bps: 1000, symbol: ETHUSDT}", tuple(rules))
    plain = SyntheticMarket(rules, START_MS, seed=3)
    market = DirectedMarket(SyntheticMarket(rules, START_MS, seed=3), happenings, START_MS)
    for _ in range(500):
        before, after = plain.take(), market.take()
        assert isinstance(before, BookTicker | Trade)
        if before.symbol == "BTCUSDT":
            assert after == before
        elif isinstance(before, BookTicker):
            assert isinstance(after, BookTicker)
            assert after.bid_ticks > before.bid_ticks


@given(
    st.lists(
        st.tuples(st.integers(0, 3_000), st.integers(-500_000, 500_000), st.integers(0, 1_000)), max_size=6
    )
)
def test_bent_market_is_still_a_market(moves: list[tuple[int, int, int]]) -> None:
    """Whatever moves come together: time never decreases, prices stay positive, bid below ask, trade ids rise."""
    happenings = [Move(at_ms, None, size, fall, 100, fall, 500) for at_ms, size, fall in moves]
    events = directed(second_by_second(4), happenings)
    assert all(before.time_ms <= after.time_ms for before, after in pairwise(events))
    quotes = [event for event in events if isinstance(event, BookTicker)]
    assert all(0 < quote.bid_ticks < quote.ask_ticks for quote in quotes)
    ids = [event.trade_id for event in events if isinstance(event, Trade)]
    assert all(before < after for before, after in pairwise(ids))


def test_events_are_sorted_by_their_times(tmp_path: Path) -> None:
    """The order in the file does not matter."""
    happenings = script(
        tmp_path, "- {at_s: 9, event: jump, bps: 1}\n- {at_s: 2.5, event: halt, seconds: 1}\n"
    )
    assert [happening.at_ms for happening in happenings] == [2_500, 9_000]


REFUSED = [
    ("[", r"events\.yaml is no YAML in line 1: write a list of events\."),
    ("at_s: 3", r"events\.yaml is no list of events: begin each with `- at_s: SECONDS`\."),
    (
        "- {at_s: 2024-13-45, event: jump}",
        r"events\.yaml is no YAML in one of its values: write a list of events\.",
    ),
    (f"- {{at_s: {'9' * 5000}}}", r"events\.yaml is no YAML in one of its values"),
    ("[" * 5000, r"events\.yaml is no YAML in one of its values"),
    ("- jump", r"events\.yaml, event 1: it is no mapping, write at_s, event and its values\."),
    (
        "- {at_s: 1, event: boom}",
        r"event 1: boom is no event, use one of jump, flash_crash, drought, halt, funding\.",
    ),
    ("- {event: jump, bps: 5}", r"event 1: at_s is missing, use a number from 0 to 31622400\."),
    ("- {at_s: 1, event: jump}", r"event 1: bps is missing, use a number from -5000 to 5000\."),
    ("- {at_s: 1, event: jump, bps: -9000}", r"bps is -9000, use a number from -5000 to 5000\."),
    ("- {at_s: 1, event: jump, bps: .nan}", r"bps is nan, use a number"),
    ("- {at_s: 1, event: jump, bps: yes}", r"bps is True, use a number"),
    ("- {at_s: 1, event: jump, bps: 5, size: 2}", r"jump has no size, use at_s, event, symbol, bps\."),
    ("- {at_s: 1, event: jump, bps: 5, symbol: ETHUSDT}", r"ETHUSDT is not traded here, use BTCUSDT\."),
    ("- {at_s: 1, event: halt, seconds: 601}", r"seconds is 601, use a number from 0\.001 to 600\."),
    ("- {at_s: 1, event: halt, seconds: 6, prints_only: 3}", r"prints_only is 3, use true or false\."),
    ("- {at_s: 1, event: funding, rate: 0.5}", r"rate is 0\.5, use a number from -0\.03 to 0\.03\."),
    (
        "- {at_s: 1, event: jump, bps: 5}\n- {at_s: -1, event: jump, bps: 5}",
        r"event 2: at_s is -1, use a number",
    ),
]


@pytest.mark.parametrize(("text", "sentence"), REFUSED)
def test_bad_script_is_refused_with_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    """The file, the event, the value and what would be right."""
    with pytest.raises(MarketError, match=sentence) as caught:
        script(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_missing_script_is_refused(tmp_path: Path) -> None:
    """The path is in the sentence."""
    with pytest.raises(
        MarketError, match=r"nothing\.yaml cannot be read \(No such file.*\): name a YAML file"
    ):
        read_script(tmp_path / "nothing.yaml", ["BTCUSDT"])
