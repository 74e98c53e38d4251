"""What is recorded can be replayed, event by event, whatever happens to the recorder."""

import gzip
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.cli import main
from sim.day_files import DayFiles
from sim.market import BookTicker, MarketError, MarketEvent, Trade
from sim.public_files import QUOTES, TRADES
from sim.recording import RecordedMarket
from sim.rules import MAINNET
from sim.stream_reader import StreamReader

from .conftest import ROOT
from .test_metrics_file import full_disk
from .test_sim_cli import get, running
from .test_sim_recording import played

RULES = {"BTCUSDT": MAINNET["BTCUSDT"]}
MIDNIGHT_MS = 1_721_347_200_000  # 2024-07-19, 00:00 UTC
Payload = dict[str, Any]


def quote(time_ms: int, update_id: int, bid_ticks: int = 640_000, lots: int = 1_500) -> Payload:
    """A bookTicker payload at so many ms after midnight."""
    rules = RULES["BTCUSDT"]
    sides = {"b": rules.price_text(bid_ticks), "a": rules.price_text(bid_ticks + 1)}
    sizes = {"B": rules.quantity_text(lots), "A": rules.quantity_text(lots + 1)}
    times = {"T": MIDNIGHT_MS + time_ms, "E": MIDNIGHT_MS + time_ms + 3}
    return {"e": "bookTicker", "u": update_id, "s": "BTCUSDT", **sides, **sizes, **times, "st": 1}


def trade(
    time_ms: int, trade_id: int, ticks: int = 640_000, lots: int = 250, *, sells: bool = True
) -> Payload:
    """An aggTrade payload of two single trades."""
    rules = RULES["BTCUSDT"]
    ids = {"a": trade_id, "f": 2 * trade_id, "l": 2 * trade_id + 1}
    amounts = {"p": rules.price_text(ticks), "q": rules.quantity_text(lots), "nq": rules.quantity_text(lots)}
    return {"e": "aggTrade", "s": "BTCUSDT", **ids, **amounts, "T": MIDNIGHT_MS + time_ms, "m": sells}


def recorded(folder: Path, payloads: Sequence[Payload], flush_after: int = 3) -> DayFiles:
    """The files of the payloads, flushed every so often."""
    files = DayFiles(folder)
    for number, payload in enumerate(payloads, 1):
        files.put(payload)
        if number % flush_after == 0:
            files.flush()
    files.flush()
    return files


def replayed(folder: Path, first_ms: int) -> list[MarketEvent]:
    """The events of the files at their recorded times, if the first of them is at `first_ms`."""
    return played(RecordedMarket(folder, RULES, first_ms, speed=Fraction(1), loop=False))


def test_files_have_the_names_columns_and_rows_of_the_public_ones(tmp_path: Path) -> None:
    """SYMBOL-KIND-DAY, days by UTC transaction time, texts as they came (data.binance.vision)."""
    recorded(tmp_path, [quote(-1, 10), trade(0, 5), quote(1, 12)])
    texts = {path.name: gzip.decompress(path.read_bytes()).decode() for path in tmp_path.iterdir()}
    quotes = "update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,event_time\n"
    trades = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n"
    assert texts == {
        "BTCUSDT-bookTicker-2024-07-18.csv.gz": quotes
        + "10,64000.00,1.500,64000.10,1.501,1721347199999,1721347200002\n",
        "BTCUSDT-bookTicker-2024-07-19.csv.gz": quotes
        + "12,64000.00,1.500,64000.10,1.501,1721347200001,1721347200004\n",
        "BTCUSDT-aggTrades-2024-07-18.csv.gz": trades,
        "BTCUSDT-aggTrades-2024-07-19.csv.gz": trades + "5,64000.00,0.250,10,11,1721347200000,true\n",
    }


STEPS = st.lists(
    st.tuples(
        st.booleans(),
        st.integers(0, 40_000),
        st.integers(630_000, 650_000),
        st.integers(1, 10**6),
        st.booleans(),
    ),
    min_size=1,
    max_size=40,
)


@given(STEPS, st.integers(1, 7))
def test_replay_of_the_files_gives_the_same_events(
    steps: list[tuple[bool, int, int, int, bool]], flush_after: int
) -> None:
    """Over midnight and whatever the flushes: same times, ids, prices, sizes and sides, trades first at one time."""
    time_ms = -200_000
    payloads = [quote(time_ms, 0)]
    for number, (is_quote, gap_ms, ticks, lots, sells) in enumerate(steps, 1):
        time_ms += gap_ms
        payloads.append(
            quote(time_ms, number, ticks, lots)
            if is_quote
            else trade(time_ms, number, ticks, lots, sells=sells)
        )
    reader = StreamReader(RULES["BTCUSDT"])
    events: list[BookTicker | Trade] = []
    for payload in payloads:
        event = reader.quote(payload) if payload["e"] == "bookTicker" else reader.trade(payload)
        assert event is not None
        events.append(event)
    start_ms = MIDNIGHT_MS - 200_000
    expected = sorted(events, key=lambda event: (event.time_ms, isinstance(event, BookTicker)))
    while isinstance(expected[0], Trade):
        del expected[0]  # there is no quote yet that it could have happened at
    with tempfile.TemporaryDirectory() as folder:
        recorded(Path(folder), payloads, flush_after)
        assert replayed(Path(folder), start_ms) == expected


def test_recording_goes_on_in_the_same_files(tmp_path: Path) -> None:
    """A second run adds its lines; the header stays the only one."""
    recorded(tmp_path, [quote(0, 10), trade(5, 5)])
    recorded(tmp_path, [quote(10, 11), trade(15, 6)])
    assert [event.time_ms - MIDNIGHT_MS for event in replayed(tmp_path, MIDNIGHT_MS)] == [0, 5, 10, 15]


@pytest.mark.parametrize("lost", [1, 20, 50])
def test_half_written_end_is_cut_off_when_the_file_is_gone_on_with(tmp_path: Path, lost: int) -> None:
    """What a power cut has left of the last write is no line; the lines before it stay."""
    recorded(tmp_path, [quote(0, 10), quote(1, 11)], flush_after=1)
    path = tmp_path / "BTCUSDT-bookTicker-2024-07-19.csv.gz"
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(MarketError, match="cannot be read"):
        replayed(tmp_path, MIDNIGHT_MS)
    recorded(tmp_path, [quote(7, 12)])
    assert [event.time_ms - MIDNIGHT_MS for event in replayed(tmp_path, MIDNIGHT_MS)] == [0, 7]


def test_disk_with_room_for_half_of_the_rows_gets_none_of_them(tmp_path: Path) -> None:
    """It takes what fits and says so by a number alone; what is appended behind half a member cannot be read."""
    files = recorded(tmp_path, [quote(0, 10), trade(5, 5)], flush_after=1)
    files.put(quote(7, 12))
    size = (tmp_path / "BTCUSDT-bookTicker-2024-07-19.csv.gz").stat().st_size
    full = r"cannot be written \(No space left on device\): free space or use another folder"
    with full_disk(size + 20), pytest.raises(MarketError, match=full):
        files.flush()
    assert [event.time_ms - MIDNIGHT_MS for event in replayed(tmp_path, MIDNIGHT_MS)] == [0, 5]
    files.flush()
    assert [event.time_ms - MIDNIGHT_MS for event in replayed(tmp_path, MIDNIGHT_MS)] == [0, 5, 7]


def test_file_that_is_no_gzip_is_left_alone(tmp_path: Path) -> None:
    """It is somebody else's."""
    path = tmp_path / "BTCUSDT-bookTicker-2024-07-19.csv.gz"
    path.write_bytes(b"precious text")
    with pytest.raises(MarketError, match=r"cannot be gone on with .*: record into another folder\.$"):
        recorded(tmp_path, [quote(0, 10)])
    assert path.read_bytes() == b"precious text"


def test_day_that_is_there_in_another_form_is_not_doubled(tmp_path: Path) -> None:
    """A downloaded .csv or .zip of the day would be read instead of what is recorded."""
    (tmp_path / "BTCUSDT-aggTrades-2024-07-19.zip").touch()
    with pytest.raises(
        MarketError, match=r"has a file BTCUSDT-aggTrades-2024-07-19\.zip already: record into another"
    ):
        recorded(tmp_path, [quote(0, 10)])


def test_repeated_messages_are_written_once(tmp_path: Path) -> None:
    """Reconnecting may bring what was there before; another exchange's smaller ids are no repetition."""
    files = recorded(tmp_path, [quote(0, 10), quote(0, 10), trade(1, 5), trade(1, 5)])
    assert files.counts == {QUOTES: 1, TRADES: 1}
    files.resume()
    files.put(quote(5, 3))
    assert files.counts[QUOTES] == 2


def test_trade_with_invisible_orders_alone_is_not_written(tmp_path: Path) -> None:
    """At `nq` 0 it has consumed nothing that quotes show, and fills nobody, as on the live market."""
    invisible = trade(1, 5) | {"nq": "0.000"}
    files = recorded(tmp_path, [quote(0, 10), invisible, trade(2, 6), invisible])
    assert (files.counts[TRADES], files.refused) == (1, 0)
    assert [event.trade_id for event in replayed(tmp_path, MIDNIGHT_MS) if isinstance(event, Trade)] == [6]


@pytest.mark.parametrize(
    "change",
    [{"b": "1e5"}, {"b": 64000.0}, {"b": "64000,5"}, {"T": "noon"}, {"u": None}, {"B": "-1"}, {"B": "NaN"}],
)
def test_message_that_is_no_quote_is_counted_and_not_written(tmp_path: Path, change: Payload) -> None:
    """A bad line would make the whole file unreadable."""
    files = recorded(tmp_path, [quote(0, 10), {**quote(1, 11), **change}])
    assert (files.counts[QUOTES], files.refused) == (1, 1)
    assert len(replayed(tmp_path, MIDNIGHT_MS)) == 1


@pytest.mark.parametrize(
    ("bid", "ask"), [("0.00", "64000.10"), ("64000.00", "0"), ("64000.10", "64000.10"), ("10", "9.5")]
)
def test_quote_that_is_no_market_is_counted_once_and_not_written(tmp_path: Path, bid: str, ask: str) -> None:
    """A side is empty in a crash, or at a halt: the replay passes that moment, and goes on with the next quote."""
    no_market = quote(1, 11) | {"b": bid, "a": ask}
    files = recorded(tmp_path, [quote(0, 10), no_market, no_market, trade(2, 5), quote(3, 12)])
    assert (files.counts[QUOTES], files.refused) == (2, 1)
    assert [event.time_ms - MIDNIGHT_MS for event in replayed(tmp_path, MIDNIGHT_MS)] == [0, 2, 3]


def record(*arguments: str) -> "subprocess.Popen[str]":
    """The recorder as a program."""
    command = [sys.executable, "-m", "sim", "record", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_recorder_ends_by_itself_and_its_files_hold_what_was_traded(tmp_path: Path) -> None:
    """Three seconds of another exchange: the trades in the file are that exchange's own."""
    with running("--seed", "9") as exchange:
        with record("--url", exchange.url, "--out", str(tmp_path / "new"), "--duration", "3") as program:
            out, err = program.communicate(timeout=20)
        own = {row["a"]: row for row in get(f"{exchange.url}/fapi/v1/aggTrades?symbol=BTCUSDT&limit=1000")}
    assert (program.returncode, err) == (0, "")
    assert out.startswith("recording BTCUSDT from ws://127.0.0.1:")
    assert " trades are in " in out
    events = replayed(tmp_path / "new", 0)
    assert sum(isinstance(event, BookTicker) for event in events) > 20
    for event in events:
        if isinstance(event, Trade):
            assert own[event.trade_id]["p"] == RULES["BTCUSDT"].price_text(event.price_ticks)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_files_are_whole_after_any_end(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C ends it with 0; a kill leaves whole lines, too."""
    with running("--seed", "9") as exchange, record("--url", exchange.url, "--out", str(tmp_path)) as program:
        deadline_s = time.monotonic() + 10
        while not any(path.stat().st_size > 500 for path in tmp_path.glob("*bookTicker*")):
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        program.send_signal(number)
        program.communicate(timeout=10)
    assert program.returncode == (0 if number is signal.SIGINT else -number)
    assert len(replayed(tmp_path, 0)) > 10


REFUSED = [
    (
        ["--out", "x", "--url", "https://example.org"],
        "argument --url: https://example.org is not on this machine: use",
    ),
    (
        ["--out", "x", "--symbol", "BTC/USDT"],
        "argument --symbol: BTC/USDT is no symbol: use letters and digits",
    ),
    (["--out", "x", "--symbol", ","], "argument --symbol: there is no symbol: name one, like BTCUSDT"),
    (
        ["--out", "x", "--duration", "0"],
        "argument --duration: 0 is no duration: use a number of seconds above 0",
    ),
    (["--out", "x", "--duration", "soon"], "argument --duration: soon is no duration"),
    ([], "the following arguments are required: --out"),
    (["--out", "/dev/null/x"], "/dev/null/x cannot be made (Not a directory): name another folder."),
]


@pytest.mark.parametrize(("arguments", "sentence"), REFUSED, ids=lambda value: " ".join(value)[:40])
def test_bad_command_line_is_refused_with_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing on stdout, one line on stderr, exit code 2."""
    try:
        code: object = main(["record", *arguments])
    except SystemExit as leaving:
        code = leaving.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1


def test_recording_of_nothing_is_a_fault(tmp_path: Path) -> None:
    """A symbol that the exchange does not have is acknowledged and silent (facts 6), so it is told at the end."""
    with (
        running() as exchange,
        record(
            "--url", exchange.url, "--out", str(tmp_path), "--symbol", "ABCUSDT", "--duration", "1"
        ) as program,
    ):
        _, err = program.communicate(timeout=20)
    assert program.returncode == 1
    assert "no quote of ABCUSDT came from" in err
