"""Recordings are read exactly, replayed in order, looped without a jump, and refused with one sentence."""

import gzip
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.market import BookTicker, Market, MarketError, MarketEvent, Trade
from sim.public_files import Units, find_days
from sim.recording import SEAM_MS, RecordedMarket
from sim.rules import MAINNET

START_MS = 1_700_000_000_000
RULES = {"BTCUSDT": MAINNET["BTCUSDT"]}
QUOTE_HEADER = "update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,event_time"
TRADE_HEADER = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker"
QUOTES = (
    "10,64000.00,1.500,64000.10,2.000,1000,1001",
    "12,64000.00,1.250,64000.10,2.000,1500,1501",
    "19,64000.40,0.010,64000.50,0.020,3000,3001",
)
TRADES = (
    "5,64000.00,0.250,70,71,1500,true",
    "6,64000.10,2.000,72,72,2500,false",
)


def write_day(
    folder: Path,
    day: str = "2024-07-18",
    quotes: Sequence[str] = QUOTES,
    trades: Sequence[str] = TRADES,
    *,
    header: bool = True,
) -> None:
    """Write both files of a day of BTCUSDT, plain."""
    for kind, columns, rows in (("bookTicker", QUOTE_HEADER, quotes), ("aggTrades", TRADE_HEADER, trades)):
        lines = [columns, *rows] if header else list(rows)
        (folder / f"BTCUSDT-{kind}-{day}.csv").write_text("\n".join(lines) + "\n", encoding="ascii")


def played(market: Market, most: int = 1_000) -> list[MarketEvent]:
    """Take the events of a market until it ends."""
    events: list[MarketEvent] = []
    while market.peek_ms() is not None and len(events) < most:
        due_ms = market.peek_ms()
        events.append(market.take())
        assert events[-1].time_ms == due_ms
    return events


def replay(folder: Path, *, speed: str = "1", loop: bool = False) -> RecordedMarket:
    """A market of the recording in `folder`."""
    return RecordedMarket(folder, RULES, START_MS, speed=Fraction(speed), loop=loop)


EXPECTED = [
    BookTicker(START_MS, "BTCUSDT", 10, 640_000, 1_500, 640_001, 2_000),
    Trade(START_MS + 500, "BTCUSDT", 5, 640_000, 250, 70, 71, buyer_is_maker=True),
    BookTicker(START_MS + 500, "BTCUSDT", 12, 640_000, 1_250, 640_001, 2_000),
    Trade(START_MS + 1_500, "BTCUSDT", 6, 640_001, 2_000, 72, 72, buyer_is_maker=False),
    BookTicker(START_MS + 2_000, "BTCUSDT", 19, 640_004, 10, 640_005, 20),
]


def test_events_come_in_time_order_with_trades_before_quotes_of_the_same_time(tmp_path: Path) -> None:
    """Prices and sizes are whole ticks and lots, times are mapped to the start."""
    write_day(tmp_path)
    assert played(replay(tmp_path)) == EXPECTED


def test_a_file_without_header_is_read_like_one_with(tmp_path: Path) -> None:
    """Older public files have no header line."""
    write_day(tmp_path, header=False)
    assert played(replay(tmp_path)) == EXPECTED


def test_columns_are_found_by_their_names_in_any_order(tmp_path: Path) -> None:
    """A header decides where a column is."""
    write_day(tmp_path)
    reversed_columns = [",".join(reversed(line.split(","))) for line in (QUOTE_HEADER, *QUOTES)]
    (tmp_path / "BTCUSDT-bookTicker-2024-07-18.csv").write_text("\n".join(reversed_columns), encoding="ascii")
    assert played(replay(tmp_path)) == EXPECTED


@pytest.mark.parametrize("ending", [".csv.gz", ".csv.zip", ".zip"])
def test_compressed_files_are_read_like_plain_ones(tmp_path: Path, ending: str) -> None:
    """gzip, and zip with either name."""
    write_day(tmp_path)
    for plain in sorted(tmp_path.glob("*.csv")):
        packed = plain.with_name(plain.name.removesuffix(".csv") + ending)
        if ending == ".csv.gz":
            packed.write_bytes(gzip.compress(plain.read_bytes()))
        else:
            with zipfile.ZipFile(packed, "w") as archive:
                archive.write(plain, plain.name)
        plain.unlink()
    assert played(replay(tmp_path)) == EXPECTED


def test_microsecond_times_are_read_as_milliseconds(tmp_path: Path) -> None:
    """Newer public files count microseconds."""
    in_us = [QUOTES[0].replace("1000,1001", "1721347022507999,0")]
    write_day(tmp_path, quotes=[*in_us, QUOTES[0].replace("1000,1001", "1721347022509000,0")], trades=[])
    first, second = played(replay(tmp_path))
    assert second.time_ms - first.time_ms == 2


def test_several_days_are_played_in_the_order_of_their_dates(tmp_path: Path) -> None:
    """The next day follows the day before without a seam."""
    write_day(tmp_path, "2024-07-19", quotes=["30,64001.00,1,64001.10,1,9000,9000"], trades=[])
    write_day(tmp_path, "2024-07-18")
    events = played(replay(tmp_path))
    assert events[:-1] == EXPECTED
    assert events[-1].time_ms == START_MS + 8_000


def test_speed_divides_the_gaps(tmp_path: Path) -> None:
    """At two and a half times the speed two seconds take 800 ms."""
    write_day(tmp_path)
    assert [event.time_ms - START_MS for event in played(replay(tmp_path, speed="2.5"))] == [
        0,
        200,
        200,
        600,
        800,
    ]


def test_trades_before_the_first_quote_and_events_that_go_back_in_time_are_left_out(tmp_path: Path) -> None:
    """A trade needs a quote to happen at, and time never decreases."""
    early = "4,64000.00,0.250,69,69,900,true"
    backwards = "13,64000.00,1.250,64000.10,2.000,1400,1501"
    write_day(tmp_path, quotes=[*QUOTES[:2], backwards, QUOTES[2]], trades=[early, *TRADES])
    assert played(replay(tmp_path)) == EXPECTED


def test_a_trade_of_nothing_is_left_out(tmp_path: Path) -> None:
    """Recorders wrote those with invisible orders alone as such; every order that the price is through would fill."""
    write_day(tmp_path, trades=["4,63000.00,0.000,69,69,1400,true", *TRADES])
    assert played(replay(tmp_path)) == EXPECTED


def test_a_recording_that_does_not_loop_ends(tmp_path: Path) -> None:
    """After the last event there is none, and taking one is an error."""
    write_day(tmp_path)
    market = replay(tmp_path)
    played(market)
    assert market.peek_ms() is None
    with pytest.raises(StopIteration):
        market.take()


def test_a_loop_goes_on_at_the_price_where_the_pass_before_ended(tmp_path: Path) -> None:
    """The second pass is the first one, four ticks higher, 100 ms after the end, with ids that go on."""
    write_day(tmp_path)
    second = played(replay(tmp_path, loop=True), 10)[5:]
    seam_ms = START_MS + 2_000 + SEAM_MS
    assert second == [
        BookTicker(seam_ms, "BTCUSDT", 20, 640_004, 1_500, 640_005, 2_000),
        Trade(seam_ms + 500, "BTCUSDT", 7, 640_004, 250, 73, 74, buyer_is_maker=True),
        BookTicker(seam_ms + 500, "BTCUSDT", 22, 640_004, 1_250, 640_005, 2_000),
        Trade(seam_ms + 1_500, "BTCUSDT", 8, 640_005, 2_000, 75, 75, buyer_is_maker=False),
        BookTicker(seam_ms + 2_000, "BTCUSDT", 29, 640_008, 10, 640_009, 20),
    ]


def test_a_loop_of_a_rising_recording_is_turned_over_before_it_drifts_away(tmp_path: Path) -> None:
    """A recording that rises by 8 % never gets further than a tenth and one pass from where it began."""
    rise = ["1,64000.00,1,64000.10,2,1000,0", "2,69120.00,3,69120.10,4,2000,0"]
    trade = ["1,69120.10,1,1,1,2000,false"]
    write_day(tmp_path, quotes=rise, trades=trade)
    events = played(replay(tmp_path, loop=True), 90)
    quotes = [event for event in events if isinstance(event, BookTicker)]
    prices = [quote.bid_ticks for quote in quotes]
    assert max(prices) < 640_000 * 1.19
    assert min(prices) > 640_000 * 0.95
    assert all(quote.ask_ticks - quote.bid_ticks == 1 for quote in quotes)
    mirrored = next(quote for before, quote in pairwise(quotes) if quote.bid_ticks < before.bid_ticks)
    assert (mirrored.bid_lots, mirrored.ask_lots) == (4_000, 3_000)
    sold = [event for event in events if isinstance(event, Trade) and event.buyer_is_maker]
    assert sold
    assert sold[0].price_ticks == mirrored.bid_ticks


def test_a_loop_so_wild_that_prices_would_reach_zero_begins_at_its_own_prices_again(tmp_path: Path) -> None:
    """A fall by 60 % cannot be repeated further down, nor turned over further up and back for ever."""
    wild = ["1,100.00,1,100.10,1,1000,0", "2,300.00,1,300.10,1,1500,0", "3,40.00,1,40.10,1,2000,0"]
    write_day(tmp_path, quotes=wild, trades=[])
    quotes = played(replay(tmp_path, loop=True), 60)
    assert all(isinstance(quote, BookTicker) and quote.bid_ticks > 0 for quote in quotes)


@pytest.mark.parametrize("most_kept", [len(EXPECTED), len(EXPECTED) - 1])
def test_a_loop_is_the_same_whether_the_recording_is_kept_or_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_kept: int
) -> None:
    """A short recording is read once and outlives its files; a longer one is read for each pass."""
    write_day(tmp_path)
    expected = played(replay(tmp_path, loop=True), 3 * len(EXPECTED))
    monkeypatch.setattr("sim.recording.KEPT_EVENTS", most_kept)
    market = replay(tmp_path, loop=True)
    assert played(market, 2 * len(EXPECTED) - 1) == expected[: 2 * len(EXPECTED) - 1]
    for path in tmp_path.iterdir():
        path.unlink()
    if most_kept == len(EXPECTED):
        assert played(market, len(EXPECTED) + 1) == expected[2 * len(EXPECTED) - 1 :]
    else:
        with pytest.raises(MarketError, match="cannot be read"):
            played(market, len(EXPECTED) + 1)


def test_symbols_are_merged_by_their_times(tmp_path: Path) -> None:
    """Two symbols of one folder share the time line."""
    write_day(tmp_path)
    for path in sorted(tmp_path.glob("BTCUSDT-*")):
        text = path.read_text(encoding="ascii").replace("6400", "340").replace(",1500,", ",1501,")
        (tmp_path / path.name.replace("BTC", "ETH")).write_text(text, encoding="ascii")
    rules = {symbol: MAINNET[symbol] for symbol in ("BTCUSDT", "ETHUSDT")}
    market = RecordedMarket(tmp_path, rules, START_MS, loop=False)
    events = played(market)
    assert [event.time_ms - START_MS for event in events] == [
        0,
        0,
        500,
        500,
        501,
        501,
        1_500,
        1_500,
        2_000,
        2_000,
    ]
    assert market.rules == rules


BAD_LINES = [
    (
        "quotes",
        "10,64000.05,1,64000.10,2,1000,1",
        r"BTCUSDT-bookTicker-2024-07-18.csv:2: price 64000.05 is not",
    ),
    (
        "quotes",
        "10,64000.00,1.0005,64000.10,2,1000,1",
        "csv:2: quantity 1.0005 is not a multiple of the step",
    ),
    ("quotes", "10,64000.20,1,64000.10,2,1000,1", "csv:2: bid 64000.20 and ask 64000.10 are no market"),
    ("quotes", "10,64000.00,-1,64000.10,2,1000,1", "csv:2: -1 is negative"),
    ("quotes", "10,sixty,1,64000.10,2,1000,1", "csv:2: a value cannot be read"),
    ("quotes", "10,64000.00,1", "csv:2: there are too few columns"),
    ("trades", "5,64000.00,0.250,70,71,noon,true", "csv:2: invalid literal"),
    ("trades", "5,64000.00,0.250,70,71,1000,maybe", "csv:2: a value cannot be read"),
]


@pytest.mark.parametrize(("kind", "line", "message"), BAD_LINES)
def test_a_bad_line_is_named_by_file_and_line(tmp_path: Path, kind: str, line: str, message: str) -> None:
    """Whatever is wrong in a line, one sentence says where and what."""
    if kind == "quotes":
        write_day(tmp_path, quotes=[line])
    else:
        write_day(tmp_path, trades=[line])
    with pytest.raises(MarketError, match=message) as caught:
        played(replay(tmp_path))
    assert str(caught.value).count("\n") == 0


def test_a_failure_comes_after_what_was_read_before_and_stays(tmp_path: Path) -> None:
    """Events in front of a bad line are handed out, and a broken market never looks like one that has ended."""
    write_day(tmp_path, quotes=[*QUOTES, "20,64000.45,1,64000.60,1,3100,1"])
    market = replay(tmp_path)
    assert [market.take() for _ in EXPECTED] == EXPECTED
    for _ in range(2):
        with pytest.raises(MarketError, match="csv:5"):
            market.peek_ms()
        with pytest.raises(MarketError, match="csv:5"):
            market.take()


def test_a_header_without_a_needed_column_is_named(tmp_path: Path) -> None:
    """The missing column is in the sentence."""
    write_day(tmp_path)
    path = tmp_path / "BTCUSDT-bookTicker-2024-07-18.csv"
    path.write_text("update_id,price\n1,2\n", encoding="ascii")
    with pytest.raises(MarketError, match=r"csv:1: the header has no column best_bid_price\.$"):
        replay(tmp_path)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """The sentence says which folder and what should be in it."""
    with pytest.raises(
        MarketError, match=r"There is no folder .*nowhere: name one that holds BTCUSDT-bookTicker"
    ):
        replay(tmp_path / "nowhere")


def test_a_folder_without_the_symbol_is_refused(tmp_path: Path) -> None:
    """The sentence names the file that is missing."""
    write_day(tmp_path)
    with pytest.raises(MarketError, match=r"has no file ETHUSDT-bookTicker-DAY.csv"):
        find_days(tmp_path, "ETHUSDT")


def test_a_day_with_quotes_but_no_trades_is_refused(tmp_path: Path) -> None:
    """The sentence names the day."""
    write_day(tmp_path)
    write_day(tmp_path, "2024-07-19")
    (tmp_path / "BTCUSDT-aggTrades-2024-07-19.csv").unlink()
    with pytest.raises(MarketError, match=r"not both, for 2024-07-19"):
        find_days(tmp_path, "BTCUSDT")


def test_a_recording_without_quotes_is_refused(tmp_path: Path) -> None:
    """Headers alone are no market, and a loop of nothing is none either."""
    write_day(tmp_path, quotes=[], trades=[])
    with pytest.raises(MarketError, match="holds no quote"):
        replay(tmp_path, loop=True)


@pytest.mark.parametrize(
    ("ending", "content"), [(".csv.gz", b"no gzip"), (".zip", b"no zip"), (".csv", b"\xff\n")]
)
def test_a_damaged_file_is_refused(tmp_path: Path, ending: str, content: bytes) -> None:
    """A broken download is told from a bad line."""
    write_day(tmp_path)
    (tmp_path / "BTCUSDT-bookTicker-2024-07-18.csv").unlink()
    (tmp_path / f"BTCUSDT-bookTicker-2024-07-18{ending}").write_bytes(content)
    with pytest.raises(MarketError, match=r"cannot be read \(.*\): download it again"):
        replay(tmp_path)


def test_more_different_numbers_than_are_kept_are_still_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory for converted numbers is bounded."""
    monkeypatch.setattr("sim.public_files._CACHED_TEXTS", 2)
    write_day(tmp_path)
    assert played(replay(tmp_path)) == EXPECTED


@given(
    st.one_of(
        st.decimals(min_value=0, max_value=10**9, places=4).map(lambda value: f"{value:f}"),
        st.from_regex(r"[0-9]{0,4}\.?[0-9]{0,5}", fullmatch=True),
        st.sampled_from(["", ".", "1e3", "+1", "-1", " 1", "1_0", "٣", "NaN", "0.30", "00.1"]),
    ),
    st.sampled_from([rules.tick_size for rules in MAINNET.values()] + [Decimal("0.5"), Decimal(10)]),
)
def test_texts_are_read_exactly_with_and_without_decimals(text: str, unit: Decimal) -> None:
    """The short way for plain texts gives what the long way gives, or the same refusal."""
    rules = replace(MAINNET["BTCUSDT"], tick_size=unit)
    try:
        expected: object = rules.price_ticks(Decimal(text))
    except (ValueError, InvalidOperation) as error:
        expected = type(error)
    try:
        found: object = Units(rules.price_ticks, unit)[text]
    except (ValueError, InvalidOperation) as error:
        found = type(error)
    assert found == expected or (isinstance(expected, int) and expected < 0 and found is ValueError)


RECORDED = [
    ("usdm-2023-04-04", "BTCUSDT", 44_205 + 5_252),
    ("usdm-2024-07-18", "BTCUSDT", 52_260 + 5_554),
    ("usdm-2024-07-18", "ETHUSDT", 47_328 + 5_559),
    ("spot-2024-07-23", "NEXOUSDT", 33_437 + 7_489),
]


@pytest.mark.parametrize(("folder", "symbol", "count"), RECORDED)
def test_the_real_recordings_are_read_whole_and_looped_smoothly(
    data_dir: Path, folder: str, symbol: str, count: int
) -> None:
    """Every line fits the rules, ids and times go on, and at the seam the mid moves by a tick at most."""
    market = RecordedMarket(data_dir / folder, {symbol: MAINNET[symbol]}, START_MS)
    events = [market.take() for _ in range(count + 500)]
    assert all(before.time_ms <= after.time_ms for before, after in pairwise(events))
    assert events[count].time_ms - events[count - 1].time_ms == SEAM_MS
    quotes = [event for event in events if isinstance(event, BookTicker)]
    assert all(before.update_id < after.update_id for before, after in pairwise(quotes))
    last = next(event for event in reversed(events[:count]) if isinstance(event, BookTicker))
    first = next(event for event in events[count:] if isinstance(event, BookTicker))
    assert abs(first.bid_ticks + first.ask_ticks - last.bid_ticks - last.ask_ticks) <= 2


@pytest.mark.parametrize(("folder", "symbol", "least"), [(*row[:2], 0.998) for row in RECORDED[:3]])
def test_trades_agree_with_the_quote_in_force(data_dir: Path, folder: str, symbol: str, least: float) -> None:
    """With trades before quotes at equal times, nearly all trades are at the touch before them or beyond it."""
    market = RecordedMarket(data_dir / folder, {symbol: MAINNET[symbol]}, START_MS, loop=False)
    agree = total = 0
    quote: BookTicker | None = None
    for event in played(market, 10**6):
        if isinstance(event, BookTicker):
            quote = event
        elif quote is not None:
            total += 1
            sold, bought = event.price_ticks <= quote.bid_ticks, event.price_ticks >= quote.ask_ticks
            agree += sold if event.buyer_is_maker else bought
    assert agree >= least * total > 5_000
