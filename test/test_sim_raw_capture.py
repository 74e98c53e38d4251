"""Raw captures become the market that they were taken from, with the depth of its book."""

import gzip
import json
from collections.abc import Sequence
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from sim.exchange import Exchange
from sim.market import BookTicker, DepthChange, FundingTerms, MarketError, MarketEvent, Trade
from sim.raw_capture import find_captures
from sim.recording import SEAM_MS, RecordedMarket
from sim.rules import MAINNET

from .sim_factory import KEY, SECRET, START_MS, Rig
from .test_sim_recording import played, write_day

RULES = {symbol: MAINNET[symbol] for symbol in ("BTCUSDT", "ETHUSDT")}
ON_BOOK = {"X": "MARKET"}


def quote(time_ms: int, update_id: int, bid: str = "64000.00", ask: str = "64000.10") -> dict[str, Any]:
    """A bookTicker payload; one coin at the bid, two at the ask."""
    sides = {"b": bid, "B": "1.000", "a": ask, "A": "2.000"}
    return {"e": "bookTicker", "u": update_id, "s": "BTCUSDT", **sides, "T": time_ms, "E": time_ms + 1}


def trade(time_ms: int, single_id: int, price: str, quantity: str, **more: object) -> dict[str, Any]:
    """A trade payload in which the taker sells."""
    ids = {"e": "trade", "E": time_ms, "T": time_ms, "s": "BTCUSDT", "t": single_id}
    return {**ids, "p": price, "q": quantity, **ON_BOOK, "m": True, **more}


def diff(time_ms: int, ids: tuple[int, int, int], *bids: tuple[str, str]) -> dict[str, Any]:
    """A depthUpdate payload with U, u and pu, and changes of bids."""
    first, last, before = ids
    levels = {"b": bids, "a": ()}
    ids_of = {"U": first, "u": last, "pu": before}
    return {"e": "depthUpdate", "E": time_ms, "T": time_ms, "s": "BTCUSDT", **ids_of, **levels}


def snapshot(time_ms: int, last_id: int) -> dict[str, Any]:
    """A reply of GET depth, three bids and an ask."""
    bids = [["64000.00", "1.000"], ["63999.90", "3.000"], ["63999.00", "0.500"]]
    return {"lastUpdateId": last_id, "E": time_ms, "T": time_ms, "bids": bids, "asks": [["64000.10", "2"]]}


STREAMS = {"bookTicker": "bookTicker", "trade": "trade", "depthUpdate": "depth@0ms", "aggTrade": "aggTrade"}


def line(received_us: int, payload: dict[str, Any]) -> str:
    """The line of a capture."""
    if "lastUpdateId" in payload:
        return f"{received_us} {json.dumps(payload)}"
    stream = f"{payload['s'].lower()}@{STREAMS.get(payload['e'], 'markPrice@1s')}"
    return f"{received_us} {json.dumps({'stream': stream, 'data': payload})}"


def capture(folder: Path, payloads: Sequence[dict[str, Any]], name: str = "usdm.jsonl.gz") -> Path:
    """A capture file whose lines were received a millisecond apart."""
    path = folder / name
    lines = [line(START_MS * 1000 + 1000 * number, payload) for number, payload in enumerate(payloads)]
    text = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return path


def replay(path: Path, *, loop: bool = False, symbol: str = "BTCUSDT") -> RecordedMarket:
    """A market of the capture."""
    return RecordedMarket(path, {symbol: RULES[symbol]}, START_MS, speed=Fraction(1), loop=loop)


def test_capture_gives_quotes_trades_and_depth_in_the_order_of_exchange_times(tmp_path: Path) -> None:
    """Prices and sizes are whole ticks and lots; at one time trades come first and depth last (README of the data)."""
    path = capture(
        tmp_path,
        [
            quote(1_000, 10),
            diff(1_100, (9, 12, 8), ("63990.00", "7.000")),
            snapshot(1_050, 11),
            diff(1_200, (13, 15, 12), ("63999.90", "0")),
            quote(1_200, 15),
            trade(1_200, 71, "64000.00", "0.250"),
        ],
    )
    bids = ((640_000, 1_000), (639_999, 3_000), (639_990, 500))
    assert played(replay(path)) == [
        BookTicker(START_MS, "BTCUSDT", 10, 640_000, 1_000, 640_001, 2_000),
        DepthChange(START_MS + 50, "BTCUSDT", 11, bids, ((640_001, 2_000),), snapshot=True),
        DepthChange(START_MS + 100, "BTCUSDT", 12, ((639_900, 7_000),), ()),
        Trade(START_MS + 200, "BTCUSDT", 71, 640_000, 250, 71, 71, buyer_is_maker=True),
        BookTicker(START_MS + 200, "BTCUSDT", 15, 640_000, 1_000, 640_001, 2_000),
        DepthChange(START_MS + 200, "BTCUSDT", 15, ((639_999, 0),), ()),
    ]


def test_single_trades_become_aggregates(tmp_path: Path) -> None:
    """Same price, side and time in a row are one (README of the data; aggTrade: `f`, `l`)."""
    singles = [
        trade(1_500, 70, "64000.00", "0.100"),
        trade(1_500, 71, "64000.00", "0.150"),
        trade(1_500, 72, "63999.90", "0.200"),
        trade(1_501, 73, "63999.90", "0.300"),
        trade(1_501, 74, "63999.90", "0.400", m=False),
    ]
    trades = played(replay(capture(tmp_path, [quote(1_000, 10), *singles])))[1:]
    assert [
        (each.trade_id, each.lots, each.first_id, each.last_id) for each in trades if isinstance(each, Trade)
    ] == [
        (70, 250, 70, 71),
        (71, 200, 72, 72),
        (72, 300, 73, 73),
        (73, 400, 74, 74),
    ]


def test_aggregate_trades_are_taken_as_they_are(tmp_path: Path) -> None:
    """A capture with both streams holds each trade twice; what only met invisible orders (`nq` 0) consumes nothing."""
    ids = {"e": "aggTrade", "E": 1_600, "s": "BTCUSDT", "f": 70, "l": 71, "T": 1_500, "m": True}
    aggregate = {**ids, "a": 5, "p": "64000.00", "q": "0.300", "nq": "0.250"}
    invisible = {**ids, "a": 6, "p": "64000.00", "q": "0.300", "nq": "0.000"}
    path = capture(
        tmp_path,
        [quote(1_000, 10), trade(1_500, 70, "64000.00", "0.250"), aggregate, invisible],
        "plain.jsonl",
    )
    assert played(replay(path))[1:] == [
        Trade(START_MS + 500, "BTCUSDT", 5, 640_000, 250, 70, 71, buyer_is_maker=True)
    ]


@pytest.mark.parametrize("has_aggregates", [False, True])
def test_first_trade_may_come_late_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_aggregates: bool
) -> None:
    """What a file begins with says which of its streams are busy, and not which there are."""
    monkeypatch.setattr("sim.raw_capture._HEAD_LINES", 2)
    late = [trade(1_500, 70, "64000.00", "0.300")]
    if has_aggregates:
        late.append({**late[0], "e": "aggTrade", "a": 5, "f": 70, "l": 70, "nq": "0.250"})
    played_trades = [
        (event.trade_id, event.lots)
        for event in played(replay(capture(tmp_path, [quote(1_000, 10), quote(1_100, 11), *late])))
        if isinstance(event, Trade)
    ]
    assert played_trades == [(5, 250) if has_aggregates else (70, 300)]


def test_trade_of_the_insurance_fund_fills_nobody_and_is_not_printed(tmp_path: Path) -> None:
    """2 % off the market and marked `X`: aggTrade leaves liquidation-fund and ADL trades out (Market streams)."""
    path = capture(
        tmp_path,
        [
            quote(1_000, 10),
            quote(2_000, 11),
            trade(3_000, 70, "62720.00", "5.000", X="INSURANCE_FUND"),
            quote(4_000, 12),
        ],
    )
    heard: list[str] = []
    rig = Rig(quoted=False)
    rig.exchange = Exchange(replay(path), api_key=KEY, api_secret=SECRET, now_ms=START_MS)
    rig.exchange.open_session("/market/ws/btcusdt@aggTrade", heard.append, START_MS)
    rig.wait(500)
    assert rig.place("BUY", "63000.00", "1.000", newClientOrderId="low").status == 200
    rig.wait(5_000)
    assert (rig.order("low")["status"], heard) == ("NEW", [])


def test_missing_diff_ends_the_known_book_until_the_next_snapshot(tmp_path: Path) -> None:
    """Each `pu` must equal the previous `u`; otherwise the book is invalid (How to manage a local order book)."""
    path = capture(
        tmp_path,
        [
            quote(1_000, 10),
            snapshot(1_000, 10),
            diff(1_100, (11, 12, 10), ("63990.00", "1")),
            diff(1_200, (14, 15, 13), ("63990.00", "2")),
            diff(1_300, (16, 17, 15), ("63990.00", "3")),
            snapshot(1_250, 16),
        ],
    )
    depth = [event for event in played(replay(path)) if isinstance(event, DepthChange)]
    assert [(each.last_id, each.snapshot, len(each.bids)) for each in depth] == [
        (10, True, 3),
        (12, False, 1),
        (15, True, 0),
        (16, True, 3),
        (17, False, 1),
    ]


def test_snapshot_that_the_diffs_do_not_reach_is_not_used(tmp_path: Path) -> None:
    """If the oldest diff begins behind the snapshot, changes between them were missed."""
    path = capture(tmp_path, [quote(1_000, 10), diff(1_100, (12, 14, 11)), snapshot(1_000, 10)])
    assert [type(event) for event in played(replay(path))] == [BookTicker]


NEXT_FILES: list[tuple[list[dict[str, Any]], list[tuple[int, bool, int]]]] = [
    ([diff(2_000, (13, 15, 12), ("63990.00", "2"))], [(15, False, 1)]),
    ([diff(2_000, (12, 15, 11), ("63990.00", "2"))], [(15, False, 1)]),
    (
        [diff(2_000, (14, 15, 13), ("63990.00", "2")), snapshot(2_000, 15)],
        [(15, True, 0), (15, True, 3), (15, False, 1)],
    ),
    ([snapshot(2_000, 20), diff(2_100, (19, 21, 18))], [(12, True, 0), (20, True, 3), (21, False, 0)]),
    ([snapshot(900, 11), diff(2_100, (13, 14, 12))], [(14, False, 0)]),
    ([quote(2_100, 16)], [(12, True, 0)]),
]


@pytest.mark.parametrize(("payloads", "changes"), NEXT_FILES)
def test_book_goes_on_in_the_next_file_if_its_first_diff_fits_and_ends_there_otherwise(
    tmp_path: Path, payloads: list[dict[str, Any]], changes: list[tuple[int, bool, int]]
) -> None:
    """A gap between two files is one like any other: nothing behind the touch stays as it was for ever."""
    capture(tmp_path, [quote(1_000, 10), snapshot(1_000, 10), diff(1_100, (11, 12, 10))], "a.jsonl")
    capture(tmp_path, [quote(1_900, 13), *payloads], "b.jsonl")
    depth = [event for event in played(replay(tmp_path)) if isinstance(event, DepthChange)]
    assert [(each.last_id, each.snapshot, len(each.bids)) for each in depth[2:]] == changes


def depth_of(folder: Path, *files: Sequence[dict[str, Any]]) -> list[tuple[int, int, bool, int]]:
    """Time, last id, whether it is a snapshot, and bids of the depth in a folder of such files."""
    for number, payloads in enumerate(files):
        capture(folder, payloads, f"{number}.jsonl")
    return [
        (each.time_ms - START_MS + 1_000, each.last_id, each.snapshot, len(each.bids))
        for each in played(replay(folder))
        if isinstance(each, DepthChange)
    ]


def test_snapshot_that_is_older_than_the_diff_before_it_heals_the_book(tmp_path: Path) -> None:
    """It counts from the time of the change before: without it the diffs would follow on nothing."""
    first = [quote(1_000, 10), snapshot(1_000, 10), diff(1_100, (11, 12, 10))]
    second = [quote(1_900, 13), diff(2_000, (14, 17, 13)), snapshot(1_950, 15), diff(1_980, (18, 19, 17))]
    assert depth_of(tmp_path, first, second)[2:] == [
        (2_000, 17, True, 0),
        (2_000, 15, True, 3),
        (2_000, 17, False, 0),
        (2_000, 19, False, 0),
    ]


def test_file_without_depth_ends_the_book_also_if_it_begins_before_the_last_change(tmp_path: Path) -> None:
    """The end counts from the time of that change, and is before the snapshot of the file after."""
    first = [quote(1_000, 10), snapshot(1_000, 10), diff(2_000, (11, 12, 10))]
    third = [quote(1_950, 15), snapshot(1_960, 15), diff(2_100, (16, 17, 15))]
    assert depth_of(tmp_path, first, [quote(1_900, 13)], third)[2:] == [
        (2_000, 12, True, 0),
        (2_000, 15, True, 3),
        (2_100, 17, False, 0),
    ]


OTHER_IDS: list[tuple[list[dict[str, Any]], list[tuple[int, int, bool, int]]]] = [
    (
        [snapshot(2_000, 5), diff(2_100, (6, 7, 5))],
        [(2_000, 12, True, 0), (2_000, 5, True, 3), (2_100, 7, False, 0)],
    ),
    (
        [diff(2_000, (4, 5, 3)), diff(2_100, (6, 7, 5)), snapshot(2_050, 6)],
        [(2_000, 5, True, 0), (2_050, 6, True, 3), (2_100, 7, False, 0)],
    ),
    (
        [diff(1_000, (4, 5, 3)), snapshot(2_050, 6), diff(2_100, (7, 8, 6))],
        [(2_050, 12, True, 0), (2_050, 6, True, 3), (2_100, 8, False, 0)],
    ),
]


@pytest.mark.parametrize(("payloads", "changes"), OTHER_IDS)
def test_ids_that_begin_lower_at_a_later_time_are_those_of_another_book(
    tmp_path: Path, payloads: list[dict[str, Any]], changes: list[tuple[int, int, bool, int]]
) -> None:
    """A testnet begins anew, another host counts for itself: what was known ends, and the next snapshot is taken."""
    first = [quote(1_000, 10), snapshot(1_000, 10), diff(1_100, (11, 12, 10))]
    assert depth_of(tmp_path, first, [quote(1_900, 3), *payloads])[2:] == changes


def test_funding_rate_comes_from_the_captured_mark_prices(tmp_path: Path) -> None:
    """`r` of markPriceUpdate; the funding time `T` belongs to the recorded day and is not used."""
    mark = {"e": "markPriceUpdate", "E": 1_200, "s": "BTCUSDT", "p": "64000", "T": 9_999, "r": "0.00002754"}
    events = played(replay(capture(tmp_path, [quote(1_000, 10), mark, {**mark, "E": 1_300}])))
    (terms,) = (event for event in events if isinstance(event, FundingTerms))
    assert (terms.time_ms - START_MS, str(terms.rate), terms.next_ms) == (200, "0.00002754", None)


def test_loop_forgets_the_book_at_its_seam(tmp_path: Path) -> None:
    """The pass that follows begins with another book, whose snapshot comes later."""
    change = diff(1_060, (12, 13, 11), ("63999.00", "0.400"))
    payloads = [quote(1_000, 10), snapshot(1_050, 11), change, quote(2_000, 20, "64000.30", "64000.40")]
    events = played(replay(capture(tmp_path, payloads), loop=True), 8)
    seam_ms = START_MS + 1_000 + SEAM_MS
    assert events[4:6] == [
        DepthChange(seam_ms, "BTCUSDT", 20, (), (), snapshot=True),
        BookTicker(seam_ms, "BTCUSDT", 21, 640_003, 1_000, 640_004, 2_000),
    ]
    second = events[6]
    assert isinstance(second, DepthChange)
    assert second.bids == ((640_003, 1_000), (640_002, 3_000), (639_993, 500))


def test_folder_of_captures_is_played_in_the_order_of_their_times(tmp_path: Path) -> None:
    """File names do not matter, the times of receipt do; a file without the symbol is passed over."""
    capture(tmp_path, [quote(1_000, 10)], "b.jsonl")
    later = line(START_MS * 1000 + 60_000_000, quote(5_000, 20))
    (tmp_path / "a.jsonl").write_text(later + "\n", encoding="ascii")
    other = line(START_MS * 1000, {**quote(1_000, 10), "s": "ETHUSDT"})
    (tmp_path / "c.jsonl").write_text(other + "\n", encoding="ascii")
    assert [event.time_ms - START_MS for event in played(replay(tmp_path))] == [0, 4_000]


BAD = [
    ('{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker"}}', r"usdm.jsonl:2: the message has no T"),
    ("[1]", r"usdm.jsonl:2: the message is no JSON object"),
    ('{"stream":"btcusdt@book', r"usdm.jsonl:2: the message is no JSON"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_bad_line_is_named_by_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    """One sentence says where and what."""
    path = capture(tmp_path, [quote(1_000, 10)], "usdm.jsonl")
    path.write_text(path.read_text("ascii") + f"1680652700423575 {text}\n", encoding="ascii")
    with pytest.raises(MarketError, match=message) as caught:
        played(replay(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("b", "64000.05", "price 64000.05 is not a multiple"),
        ("b", 64000.0, "64000.0 is a number and no text"),
        ("B", "much", "a value cannot be read"),
        ("b", "64000.20", "bid 64000.20 and ask 64000.10 are no market"),
    ],
)
def test_quote_that_fits_no_rule_is_named(tmp_path: Path, field: str, value: object, message: str) -> None:
    """Captures are read as strictly as public files."""
    path = capture(tmp_path, [quote(1_000, 10), {**quote(2_000, 11), field: value}], "usdm.jsonl")
    with pytest.raises(MarketError, match=rf"usdm\.jsonl:2: {message}"):
        played(replay(path))


def test_damaged_capture_is_refused(tmp_path: Path) -> None:
    """A cut file is told from a bad line."""
    path = capture(tmp_path, [quote(1_000 + number, number) for number in range(400)])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(MarketError, match=r"cannot be read \(.*\): use an undamaged capture"):
        replay(path)


def test_capture_without_the_symbol_says_what_it_has(tmp_path: Path) -> None:
    """The remedy is in the sentence."""
    path = capture(tmp_path, [quote(1_000, 10)])
    with pytest.raises(MarketError, match=r"holds no quotes of ETHUSDT: it has BTCUSDT\.$"):
        replay(path, symbol="ETHUSDT")


def test_captures_of_different_days_are_refused(tmp_path: Path) -> None:
    """A jump of two days between two lines is no market."""
    capture(tmp_path, [quote(1_000, 10)], "a.jsonl")
    late = line((START_MS + 48 * 3_600_000) * 1000, quote(5_000, 20))
    (tmp_path / "b.jsonl").write_text(late + "\n", encoding="ascii")
    with pytest.raises(MarketError, match=r"a\.jsonl and b\.jsonl begin 48 hours apart: name one of them\."):
        replay(tmp_path)


def test_folder_with_public_files_is_read_as_such(tmp_path: Path) -> None:
    """Captures are known by their names."""
    write_day(tmp_path)
    assert len(played(replay(tmp_path))) == 5


CAPTURED = [
    ("usdm-btcusdt-2023-04-04", "BTCUSDT", 6_765, 2_197),
    ("usdm-btcusdt-2024-07-18", "BTCUSDT", 7_113, 974),
    ("usdm-ethusdt-2024-07-18", "ETHUSDT", 9_089, 1_640),
]


def real(data_dir: Path, name: str, symbol: str) -> list[MarketEvent]:
    """The events of a real capture."""
    return played(replay(data_dir / "raw" / f"{name}.jsonl.gz", symbol=symbol), 100_000)


@pytest.mark.parametrize(("name", "symbol", "quotes", "singles"), CAPTURED)
def test_real_captures_are_read_whole(
    data_dir: Path, name: str, symbol: str, quotes: int, singles: int
) -> None:
    """Every quote fits the rules; single trades lie within the aggregates without loss."""
    events = real(data_dir, name, symbol)
    assert sum(isinstance(event, BookTicker) for event in events) == quotes
    trades = [event for event in events if isinstance(event, Trade)]
    assert sum(trade.last_id - trade.first_id + 1 for trade in trades) == singles
    assert sum(isinstance(event, DepthChange) and event.snapshot for event in events) == 1


@pytest.mark.parametrize(("name", "symbol"), [row[:2] for row in CAPTURED])
def test_real_depth_agrees_with_the_real_quotes(data_dir: Path, name: str, symbol: str) -> None:
    """The book kept from snapshot and diffs has the touch that bookTicker showed at the same update id."""
    shown: dict[int, tuple[int, int, int, int]] = {}
    bids: dict[int, int] = {}
    asks: dict[int, int] = {}
    alike = compared = 0
    for event in sorted(
        (event for event in real(data_dir, name, symbol) if isinstance(event, BookTicker | DepthChange)),
        key=lambda event: event.update_id if isinstance(event, BookTicker) else event.last_id,
    ):
        if isinstance(event, BookTicker):
            shown[event.update_id] = (event.bid_ticks, event.bid_lots, event.ask_ticks, event.ask_lots)
            latest = shown[event.update_id]
            continue
        for side, levels in ((bids, event.bids), (asks, event.asks)):
            side.update(levels)
            for price in [price for price, lots in levels if not lots]:
                side.pop(price, None)
        compared += 1
        best, worst = max(bids), min(asks)
        alike += (best, bids[best], worst, asks[worst]) == latest
    assert compared > 3_000
    assert alike / compared > 0.99


def test_capture_is_a_market_for_the_exchange_with_its_depth(data_dir: Path) -> None:
    """GET depth shows the recorded levels, which are no modelled ladder of equal sizes."""
    path = data_dir / "raw" / "usdm-btcusdt-2024-07-18.jsonl.gz"
    rig = Rig(quoted=False)
    rig.exchange = Exchange(replay(path), api_key=KEY, api_secret=SECRET, now_ms=START_MS)
    rig.wait(5_000)
    bids = rig.call("GET", "/fapi/v1/depth", symbol="BTCUSDT", limit="20").body["bids"]
    assert len({quantity for _, quantity in bids}) > 10
    prices = [float(price) for price, _ in bids]
    assert prices == sorted(prices, reverse=True)
    assert rig.place("BUY", bids[7][0], "0.010", newClientOrderId="deep").status == 200
    order = next(each for each in rig.record()["orders"] if each["clientOrderId"] == "deep")
    assert float(order["queueAhead"]) == pytest.approx(float(bids[7][1]))


def test_raw_folder_of_several_days_names_the_way_out(data_dir: Path) -> None:
    """The shared captures hold BTCUSDT in 2023 and in 2024."""
    with pytest.raises(MarketError, match=r"hours apart: name one of them"):
        find_captures(data_dir / "raw", "BTCUSDT")
    assert len(find_captures(data_dir / "raw", "ETHUSDT")) == 1


def test_quotes_of_one_time_keep_their_order(data_dir: Path) -> None:
    """Several quotes of one millisecond come by their update ids."""
    events = real(data_dir, "usdm-ethusdt-2024-07-18", "ETHUSDT")
    quotes = [event for event in events if isinstance(event, BookTicker)]
    for _, same in groupby(quotes, key=lambda quote: quote.time_ms):
        ids = [quote.update_id for quote in same]
        assert ids == sorted(ids)
