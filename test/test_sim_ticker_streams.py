"""Streams of trades and prices: klines, mark prices, tickers, liquidations, changes of status."""

from typing import Any

import pytest

from test.sim_factory import START_MS, Rig

MINUTE_MS = 60_000
NEXT_MINUTE_MS = START_MS - START_MS % MINUTE_MS + MINUTE_MS


def rest_klines(rig: Rig, interval: str = "1m") -> Any:
    """Return the reply of GET klines."""
    return rig.send("GET", "/fapi/v1/klines", f"symbol=BTCUSDT&interval={interval}").body


# Klines


def test_kline_event_has_the_documented_fields() -> None:
    """The k object of facts 6; ids, times and counts are ints, x a boolean, the rest texts."""
    rig = Rig()
    _, heard = rig.listen("/market/ws/btcusdt@kline_1m")
    rig.trade("50000.1", "0.5", sold=False)
    rig.trade("49999.9", "1.5")
    rig.wait(250)
    assert heard == [
        {
            "e": "kline",
            "E": START_MS + 250,
            "s": "BTCUSDT",
            "k": {
                "t": NEXT_MINUTE_MS - MINUTE_MS,
                "T": NEXT_MINUTE_MS - 1,
                "s": "BTCUSDT",
                "i": "1m",
                "f": 1,
                "L": 2,
                "o": "50000.10",
                "c": "49999.90",
                "h": "50000.10",
                "l": "49999.90",
                "v": "2.000",
                "n": 4,
                "x": False,
                "q": "99999.90000000",
                "V": "0.500",
                "Q": "25000.05000000",
                "B": "0",
            },
            "st": 1,
        }
    ]


@pytest.mark.parametrize("interval", ["1m", "3m", "15m", "1h", "4h", "12h", "1d", "3d", "1w", "1M"])
def test_stream_and_rest_show_the_same_candle(interval: str) -> None:
    """kline_<i> says of the open candle what the last row of GET klines says (facts 3.1, 6)."""
    rig = Rig()
    _, heard = rig.listen(f"/market/ws/btcusdt@kline_{interval}")
    rig.trade("50000.1", "0.5", sold=False)
    rig.wait(90_000)
    rig.trade("50010.0", "0.25")
    rig.wait(250)
    row, told = rest_klines(rig, interval)[-1], heard[-1]["k"]
    names = ["t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q", "B"]
    assert [told[name] for name in names] == row
    assert told["i"] == interval


def test_kline_is_told_at_most_four_times_a_second_and_only_if_it_traded() -> None:
    """Every 250 ms (facts 6); without trades nothing is said."""
    rig = Rig()
    _, heard = rig.listen("/market/ws/btcusdt@kline_1m")
    for _ in range(200):
        rig.trade("50000.1", "0.5")
        rig.wait(4)
    assert [event["E"] % 250 for event in heard] == [0] * 4
    rig.wait(1000)
    count = len(heard)
    rig.wait(3000)
    assert len(heard) == count


def test_ended_candle_is_told_once_with_x_true() -> None:
    """x tells that the candle has ended; the next one begins with its first trade (facts 6)."""
    rig = Rig()
    _, heard = rig.listen("/market/ws/btcusdt@kline_1m")
    rig.trade("50000.1", "0.5")
    rig.wait(NEXT_MINUTE_MS - rig.now_ms)
    ended = [event for event in heard if event["k"]["x"]]
    assert [(event["E"], event["k"]["t"], event["k"]["v"]) for event in ended] == [
        (NEXT_MINUTE_MS, NEXT_MINUTE_MS - MINUTE_MS, "0.500")
    ]
    rig.trade("50001.0", "0.1")
    rig.wait(250)
    assert (heard[-1]["k"]["t"], heard[-1]["k"]["x"], heard[-1]["k"]["v"]) == (NEXT_MINUTE_MS, False, "0.100")


def test_quiet_candle_ends_too() -> None:
    """A minute without trades ends with the close before it, no volume and the ids -1."""
    rig = Rig()
    _, heard = rig.listen("/market/ws/btcusdt@kline_1m")
    rig.trade("50000.1", "0.5")
    rig.wait(NEXT_MINUTE_MS + MINUTE_MS - rig.now_ms)
    last = heard[-1]["k"]
    assert (last["x"], last["o"], last["v"], last["n"], last["f"], last["L"]) == (
        True,
        "50000.10",
        "0.000",
        0,
        -1,
        -1,
    )


def test_new_listener_hears_the_open_candle_at_once() -> None:
    """Within 250 ms, although there has been no trade since; others hear it once more."""
    rig = Rig()
    rig.trade("50000.1", "0.5")
    _, first = rig.listen("/market/ws/btcusdt@kline_1m")
    rig.wait(1000)
    assert len(first) == 1
    rig.listen("/market/ws/btcusdt@kline_1m")
    rig.wait(1000)
    assert len(first) == 2


@pytest.mark.parametrize("stream", ["kline_1s", "kline_2m", "kline", "kline_1min"])
def test_kline_of_another_interval_is_silent(stream: str) -> None:
    """1s exists for spot only (facts 3.1)."""
    rig = Rig()
    _, heard = rig.listen(f"/market/ws/btcusdt@{stream}")
    rig.trade("50000.1", "0.5")
    rig.wait(2000)
    assert heard == []


def test_continuous_kline_tells_the_same_candle() -> None:
    """<pair>_<contract type>@continuousKline_<i>: pair and contract type instead of the symbol (facts 1)."""
    rig = Rig()
    _, plain = rig.listen("/market/ws/btcusdt@kline_5m")
    _, heard = rig.listen("/market/ws/btcusdt_perpetual@continuousKline_5m")
    rig.trade("50000.1", "0.5")
    rig.wait(250)
    candle = plain[0]["k"]
    del candle["s"]
    assert heard == [
        {
            "e": "continuous_kline",
            "E": START_MS + 250,
            "ps": "BTCUSDT",
            "ct": "PERPETUAL",
            "k": candle,
            "st": 1,
        }
    ]


# Marks and tickers


def test_marks_of_all_symbols_come_as_one_array() -> None:
    """!markPrice@arr@1s, and !markPrice@arr every three seconds (facts 1, 6)."""
    rig = Rig("BTCUSDT", "ETHUSDT")
    _, fast = rig.listen("/market/ws/!markPrice@arr@1s")
    _, slow = rig.listen("/market/ws/!markPrice@arr")
    rig.wait(3000)
    assert [[row["s"] for row in rows] for rows in fast] == [["BTCUSDT", "ETHUSDT"]] * 3
    assert len(slow) == 1
    assert slow[0][0]["e"] == "markPriceUpdate"


def test_mark_before_the_first_quote_is_not_told() -> None:
    """There is no mark price yet."""
    rig = Rig(quoted=False)
    _, heard = rig.listen("/market/ws/btcusdt@markPrice@1s/!markPrice@arr@1s")
    rig.wait(3000)
    assert heard == []


def test_mark_price_event_has_the_documented_fields() -> None:
    """p mark, ap its average, i index, P settlement, r funding rate, T next funding (facts 6)."""
    rig = Rig()
    _, heard = rig.listen("/market/ws/btcusdt@markPrice@1s")
    rig.wait(1000)
    event = heard[0]
    assert set(event) == {"e", "E", "s", "p", "ap", "i", "P", "r", "T", "st"}
    index = rig.send("GET", "/fapi/v1/premiumIndex", "symbol=BTCUSDT").body
    assert (event["p"], event["i"], event["r"], event["T"]) == (
        index["markPrice"],
        index["indexPrice"],
        index["lastFundingRate"],
        index["nextFundingTime"],
    )


def test_ticker_says_what_the_day_ticker_of_rest_says() -> None:
    """24hrTicker under short names, every two seconds if there were trades (Binance, market streams)."""
    rig = Rig()
    _, heard = rig.listen("/market/ws/btcusdt@ticker")
    rig.trade("50000.1", "0.5")
    rig.trade("50010.1", "0.25")
    rig.wait(4000)
    assert len(heard) == 1
    event = heard[0]
    day = rig.send("GET", "/fapi/v1/ticker/24hr", "symbol=BTCUSDT").body
    assert (event["e"], event["E"] % 2000) == ("24hrTicker", 0)
    assert (event["o"], event["c"], event["h"], event["l"]) == (
        day["openPrice"],
        day["lastPrice"],
        day["highPrice"],
        day["lowPrice"],
    )
    assert (event["p"], event["P"], event["w"]) == (
        day["priceChange"],
        day["priceChangePercent"],
        day["weightedAvgPrice"],
    )
    assert (event["v"], event["q"], event["Q"]) == (day["volume"], day["quoteVolume"], day["lastQty"])
    assert (event["n"], event["F"], event["L"]) == (day["count"], day["firstId"], day["lastId"])


def test_mini_ticker_is_the_short_form() -> None:
    """24hrMiniTicker: close, open, high, low, volume, value (Binance, market streams)."""
    rig = Rig()
    _, heard = rig.listen("/market/ws/btcusdt@miniTicker")
    rig.trade("50000.1", "0.5")
    rig.wait(2000)
    stamp = heard[0].pop("E")
    assert stamp % 2000 == 0
    assert heard == [
        {
            "e": "24hrMiniTicker",
            "s": "BTCUSDT",
            "c": "50000.10",
            "o": "50000.10",
            "h": "50000.10",
            "l": "50000.10",
            "v": "0.500",
            "q": "25000.05000000",
            "st": 1,
        }
    ]


@pytest.mark.parametrize("name", ["ticker", "miniTicker"])
def test_tickers_of_all_symbols_hold_those_that_changed(name: str) -> None:
    """!ticker@arr and !miniTicker@arr: every second, only symbols with news (Binance, market streams)."""
    rig = Rig("BTCUSDT", "ETHUSDT")
    _, heard = rig.listen(f"/market/ws/!{name}@arr")
    rig.wait(2000)
    assert heard == []
    rig.trade("50000.1", "0.5")
    rig.trade("50000.1", "0.5", symbol="ETHUSDT")
    rig.wait(1000)
    rig.trade("50000.1", "0.5", symbol="ETHUSDT")
    rig.wait(1000)
    assert [[row["s"] for row in rows] for rows in heard] == [["BTCUSDT", "ETHUSDT"], ["ETHUSDT"]]


def test_quotes_of_all_symbols_come_every_five_seconds() -> None:
    """!bookTicker is throttled to 5 s and belongs to /public (facts 6)."""
    rig = Rig("BTCUSDT", "ETHUSDT")
    _, heard = rig.listen("/public/ws/!bookTicker")
    for size in range(1, 103):
        rig.quote("50000.00", "50000.10", str(size))
        rig.wait(99)
    assert {event["e"] for event in heard} == {"bookTicker"}
    assert [event["s"] for event in heard] == ["BTCUSDT", "ETHUSDT", "BTCUSDT"]


# Rare ones


@pytest.mark.parametrize("stream", ["btcusdt@forceOrder", "!forceOrder@arr"])
def test_liquidation_is_told_to_the_market(stream: str) -> None:
    """The order that closed the position, once a second at most (facts 6)."""
    rig = Rig(wallet="2600")
    rig.take("BUY", "1")
    _, heard = rig.listen(f"/market/ws/{stream}")
    rig.quote("47000.00", "47000.10")
    rig.wait(30_000)
    assert rig.position() == "0.000"
    assert len(heard) == 1
    order = heard[0]["o"]
    assert set(order) == {"s", "S", "o", "f", "q", "p", "ap", "X", "l", "z", "T"}
    assert (heard[0]["e"], order["s"], order["S"], order["q"], order["z"]) == (
        "forceOrder",
        "BTCUSDT",
        "SELL",
        "1.000",
        "1.000",
    )
    assert (order["o"], order["f"], order["X"], order["ap"]) == ("LIMIT", "IOC", "FILLED", "47000.00000000")


def test_liquidation_before_the_listener_came_is_not_told() -> None:
    """Streams tell what happens from now on."""
    rig = Rig(wallet="2600")
    rig.take("BUY", "1")
    rig.quote("47000.00", "47000.10")
    rig.wait(30_000)
    _, heard = rig.listen("/market/ws/!forceOrder@arr")
    rig.wait(3000)
    assert heard == []


def test_change_of_status_is_told() -> None:
    """contractInfo names the new status: what tells of halts and delistings (facts 6)."""
    rig = Rig()
    _, heard = rig.listen("/market/ws/!contractInfo")
    rig.wait(2000)
    assert heard == []
    regime = rig.exchange._venue.instruments["BTCUSDT"].regime
    regime.status = "SETTLING"
    rig.wait(1000)
    regime.status = "TRADING"
    rig.wait(2000)
    assert [(event["s"], event["cs"]) for event in heard] == [("BTCUSDT", "SETTLING"), ("BTCUSDT", "TRADING")]
    assert set(heard[0]) == {"e", "E", "s", "ps", "ct", "dt", "ot", "cs", "bks", "st"}
    assert (heard[0]["ct"], heard[0]["dt"]) == ("PERPETUAL", 4_133_404_800_000)


@pytest.mark.parametrize(
    "stream",
    ["btcusdt@kline_1m", "btcusdt@ticker", "btcusdt@miniTicker", "btcusdt@markPrice", "!ticker@arr"],
)
def test_market_streams_are_heard_on_the_market_route_only(stream: str) -> None:
    """Elsewhere they are acknowledged and silent (facts 1, 11.1)."""
    rig = Rig()
    heard = [rig.listen(f"{route}/ws/{stream}")[1] for route in ("/market", "/public", "/private", "")]
    rig.trade("50000.1", "0.5")
    rig.wait(3000)
    assert [bool(each) for each in heard] == [True, False, False, False]


def test_streams_without_listeners_have_no_turns() -> None:
    """Nobody subscribed costs nothing."""
    rig = Rig()
    streams = rig.exchange._streams
    assert streams.due_ms is None
    names = "btcusdt@kline_1m/btcusdt@markPrice/!ticker@arr/!contractInfo/btcusdt@forceOrder"
    session, _ = rig.listen(f"/market/ws/{names}")
    assert streams.due_ms == START_MS + 250
    session.closed(rig.now_ms)
    assert streams.due_ms is None
