"""Market data over REST conforms to the documented protocol: fields, types, weights, limits, both deployments."""

from decimal import Decimal
from typing import Any

import pytest

from sim.deployment import Deployment, deployed
from sim.exchange import Options
from sim.limits import LimitSizes
from sim.market import DepthChange, FundingTerms
from sim.rules import MAINNET
from test.sim_factory import START_MS, Rig, ScriptedMarket

V1 = "/fapi/v1"
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
FIVE = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT")


def get(rig: Rig, path: str, query: str = "") -> Any:
    """Return the body of an unsigned GET."""
    return rig.send("GET", f"{V1}/{path}", query, key="").body


def info(symbol: str, deployment: Deployment = Deployment.MAINNET) -> dict[str, Any]:
    """Return a symbol's element of exchangeInfo."""
    rig = Rig(symbol, quoted=False, options=Options(deployment=deployment))
    row: dict[str, Any] = get(rig, "exchangeInfo")["symbols"][0]
    return row


def filters(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the filters by name."""
    return {item["filterType"]: item for item in row["filters"]}


def traded() -> Rig:
    """Return an exchange on which five trades have happened, the third and later ones bought, a minute apart."""
    rig = Rig()
    for count, price in enumerate(("50000.0", "50010.0", "49990.0", "50005.0", "50007.0")):
        rig.trade(price, f"{count + 1}", sold=count < 2)
        rig.wait(MINUTE_MS)
    return rig


# exchangeInfo


def test_exchange_info_has_the_documented_top_level() -> None:
    """timezone, serverTime, futuresType, rateLimits, exchangeFilters, assets, symbols, in this order (facts 3.2)."""
    body = get(Rig(quoted=False), "exchangeInfo")
    assert list(body) == [
        "timezone",
        "serverTime",
        "futuresType",
        "rateLimits",
        "exchangeFilters",
        "assets",
        "symbols",
    ]
    assert (body["timezone"], body["futuresType"], body["exchangeFilters"]) == ("UTC", "U_MARGINED", [])
    assert list(body["assets"][0]) == ["asset", "marginAvailable", "autoAssetExchange"]


def test_symbol_has_the_documented_fields_in_the_order_in_which_they_are_sent() -> None:
    """The element of ``symbols`` (facts 3.2)."""
    names = " ".join(info("BTCUSDT"))
    assert names == (
        "symbol pair contractType deliveryDate onboardDate status maintMarginPercent requiredMarginPercent "
        "baseAsset quoteAsset marginAsset pricePrecision quantityPrecision baseAssetPrecision quotePrecision "
        "underlyingType underlyingSubType triggerProtect liquidationFee marketTakeBound maxMoveOrderLimit "
        "filters orderTypes timeInForce permissionSets"
    )


def test_symbol_is_a_perpetual_that_trades_for_ever() -> None:
    """contractType, status and the default delivery date of a perpetual (facts 3.2)."""
    row = info("BTCUSDT")
    assert (row["contractType"], row["status"], row["deliveryDate"]) == (
        "PERPETUAL",
        "TRADING",
        4133404800000,
    )
    assert row["maxMoveOrderLimit"] == 10000
    assert row["timeInForce"] == ["GTC", "IOC", "FOK", "GTX", "GTD"]


def test_the_seven_live_filters_are_there() -> None:
    """The only types live on mainnet; MIN_NOTIONAL's key is notional; limit is an int (facts 3.2)."""
    found = filters(info("BTCUSDT"))
    assert set(found) == {
        "PRICE_FILTER",
        "LOT_SIZE",
        "MARKET_LOT_SIZE",
        "MAX_NUM_ORDERS",
        "MIN_NOTIONAL",
        "PERCENT_PRICE",
        "POSITION_RISK_CONTROL",
    }
    assert found["MAX_NUM_ORDERS"]["limit"] == 200
    assert found["MIN_NOTIONAL"]["notional"] == "50"
    assert found["PERCENT_PRICE"]["multiplierDecimal"] == "4"
    assert found["POSITION_RISK_CONTROL"]["positionControlSide"] == "NONE"


@pytest.mark.parametrize(
    ("symbol", "tick", "step", "most", "market_most", "notional", "precisions"),
    [
        ("BTCUSDT", "0.10", "0.001", "1000", "120", "50", (2, 3)),
        ("ETHUSDT", "0.01", "0.001", "10000", "2000", "20", (2, 3)),
        ("SOLUSDT", "0.0100", "0.01", "1000000", "80000", "5", (4, 2)),
        ("XRPUSDT", "0.0001", "0.1", "1000000", "1000000", "5", (4, 1)),
        ("DOGEUSDT", "0.000010", "1", "300000000", "10000000", "5", (6, 0)),
    ],
)
def test_mainnet_filters_are_those_of_the_snapshot(
    symbol: str, tick: str, step: str, most: str, market_most: str, notional: str, precisions: tuple[int, int]
) -> None:
    """The mainnet table (facts 10)."""
    row = info(symbol)
    found = filters(row)
    assert found["PRICE_FILTER"]["tickSize"] == tick
    assert (found["LOT_SIZE"]["stepSize"], found["LOT_SIZE"]["minQty"]) == (step, step)
    assert (found["LOT_SIZE"]["maxQty"], found["MARKET_LOT_SIZE"]["maxQty"]) == (most, market_most)
    assert found["MIN_NOTIONAL"]["notional"] == notional
    assert (found["PERCENT_PRICE"]["multiplierUp"], found["PERCENT_PRICE"]["multiplierDown"]) == (
        "1.0500",
        "0.9500",
    )
    assert (row["pricePrecision"], row["quantityPrecision"]) == precisions
    assert (row["liquidationFee"], row["marketTakeBound"], row["triggerProtect"]) == (
        "0.012500",
        "0.05",
        "0.0500",
    )


@pytest.mark.parametrize(
    ("symbol", "step", "most", "market_most", "orders", "bound"),
    [
        ("BTCUSDT", "0.0001", "1000", "120", 10000, "0.30"),
        ("ETHUSDT", "0.001", "10000", "10000", 10000, "0.10"),
        ("SOLUSDT", "0.01", "1000000", "6000", 200, "0.10"),
        ("XRPUSDT", "0.1", "1000000", "1000000", 200, "0.10"),
        ("DOGEUSDT", "1", "10000000", "10000000", 199, "0.10"),
    ],
)
def test_demo_filters_are_those_of_the_snapshot(
    symbol: str, step: str, most: str, market_most: str, orders: int, bound: str
) -> None:
    """The demo table: other lots, maxima and order counts than mainnet's (facts 10, rule zero)."""
    row = info(symbol, Deployment.DEMO)
    found = filters(row)
    assert (found["LOT_SIZE"]["stepSize"], found["LOT_SIZE"]["minQty"]) == (step, step)
    assert (found["LOT_SIZE"]["maxQty"], found["MARKET_LOT_SIZE"]["maxQty"]) == (most, market_most)
    assert found["MAX_NUM_ORDERS"]["limit"] == orders
    assert (row["marketTakeBound"], row["liquidationFee"]) == (bound, "0.020000")


@pytest.mark.parametrize(("deployment", "weight"), [(Deployment.MAINNET, 2400), (Deployment.DEMO, 6000)])
def test_rate_limits_are_those_of_the_deployment(deployment: Deployment, weight: int) -> None:
    """REQUEST_WEIGHT 2400 or 6000 a minute, ORDERS 1200 a minute and 300 in ten seconds (facts 3.2)."""
    rows = get(Rig(quoted=False, options=Options(deployment=deployment)), "exchangeInfo")["rateLimits"]
    assert rows == [
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": weight},
        {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 1200},
        {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 300},
    ]


def test_limits_may_be_set_apart_from_the_deployment() -> None:
    """A small pool makes tests of limits short."""
    options = Options(deployment=Deployment.DEMO, limits=LimitSizes(weight_per_minute=7))
    assert get(Rig(quoted=False, options=options), "exchangeInfo")["rateLimits"][0]["limit"] == 7


def test_demo_counts_the_market_in_its_own_lots() -> None:
    """Quantities of the market stay what they are where a lot is smaller; smaller orders are possible (facts 10)."""
    rig = Rig(options=Options(deployment=Deployment.DEMO))
    rig.trade("50000.0", "1.5")
    assert get(rig, "depth", "symbol=BTCUSDT&limit=5")["bids"][0] == ["50000.00", "10.0000"]
    assert get(rig, "trades", "symbol=BTCUSDT")[0]["qty"] == "1.5000"
    assert rig.place("BUY", "49000", "0.0011").body["origQty"] == "0.0011"
    assert rig.place("BUY", "49000", "0.0001").code == -4164


def test_demo_counts_depth_in_its_own_lots_too() -> None:
    """Levels of a recorded book are multiplied like the touch; what has no quantity passes as it is."""
    market = ScriptedMarket({"BTCUSDT": MAINNET["BTCUSDT"]})
    terms = FundingTerms(2, "BTCUSDT", Decimal("0.0001"))
    market.events.extend([DepthChange(1, "BTCUSDT", 7, ((500_000, 3),), ((500_001, 4),)), terms])
    demo = deployed(market, Deployment.DEMO)
    assert demo.peek_ms() == 1
    assert demo.take() == DepthChange(1, "BTCUSDT", 7, ((500_000, 30),), ((500_001, 40),))
    assert demo.take() == terms
    assert deployed(market, Deployment.MAINNET) is market


# Klines


def test_kline_is_an_array_of_twelve() -> None:
    """openTime, o, h, l, c, vol, closeTime, quoteVol, trades, takerBase, takerQuote, "0" (facts 3.1)."""
    rows = get(traded(), "klines", "symbol=BTCUSDT&interval=1d")
    midnight_ms = START_MS - START_MS % DAY_MS
    assert rows == [
        [
            midnight_ms,
            "50000.00",
            "50010.00",
            "49990.00",
            "50007.00",
            "15.000",
            midnight_ms + DAY_MS - 1,
            "750045.00000000",
            10,
            "12.000",
            "600025.00000000",
            "0",
        ]
    ]
    assert [type(value) for value in rows[0]] == [int, *[str] * 5, int, str, int, str, str, str]


def test_last_kline_is_still_open() -> None:
    """The last row's close time lies ahead (facts 3.1)."""
    rig = traded()
    rows = get(rig, "klines", "symbol=BTCUSDT&interval=1m")
    assert rows[-1][6] > rig.now_ms
    assert [row[0] - rows[0][0] for row in rows] == [count * MINUTE_MS for count in range(6)]
    assert rows[-1][5] == "0.000"


def test_klines_are_paged_by_their_opening() -> None:
    """limit takes the newest, startTime the oldest from there; endTime ends (facts 3.1)."""
    rig = traded()
    rows = get(rig, "klines", "symbol=BTCUSDT&interval=1m")
    assert get(rig, "klines", "symbol=BTCUSDT&interval=1m&limit=2") == rows[-2:]
    start_ms, end_ms = rows[1][0], rows[3][0]
    assert get(rig, "klines", f"symbol=BTCUSDT&interval=1m&startTime={start_ms}&limit=2") == rows[1:3]
    assert (
        get(rig, "klines", f"symbol=BTCUSDT&interval=1m&startTime={start_ms}&endTime={end_ms}") == rows[1:4]
    )


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("symbol=BTCUSDT&interval=1s", -1120),
        ("symbol=BTCUSDT&interval=7m", -1120),
        ("symbol=BTCUSDT", -1102),
        ("interval=1m", -1102),
        ("symbol=NOSUCH&interval=1m", -1121),
        ("symbol=BTCUSDT&interval=1m&limit=1501", -1130),
        ("symbol=BTCUSDT&interval=1m&limit=0", -1130),
        ("symbol=BTCUSDT&interval=1m&startTime=2&endTime=1", -1023),
        ("symbol=BTCUSDT&interval=1m&startTime=x", -1100),
    ],
)
def test_faulty_kline_request_gets_its_code(query: str, code: int) -> None:
    """There are no candles of a second; limits and names are checked (facts 3.1, 9)."""
    assert get(traded(), "klines", query)["code"] == code


def test_klines_before_any_trade_are_empty() -> None:
    """Nothing is made up."""
    assert get(Rig(), "klines", "symbol=BTCUSDT&interval=1m") == []


# Trades


def test_aggregated_trade_has_the_documented_fields() -> None:
    """a, p, q, nq, f, l, T, m (facts 3.1); nq leaves out RPI, of which there is none (facts 0)."""
    rig = Rig()
    rig.trade("50000.0", "1.5", sold=True)
    assert get(rig, "aggTrades", "symbol=BTCUSDT") == [
        {"a": 2, "p": "50000.00", "q": "1.500", "nq": "1.500", "f": 1, "l": 2, "T": START_MS + 2, "m": True}
    ]


def test_single_trade_has_the_documented_fields() -> None:
    """id, price, qty, quoteQty, time, isBuyerMaker, isRPITrade (facts 3.1)."""
    rig = Rig()
    rig.trade("50000.0", "1.5", sold=False)
    assert get(rig, "trades", "symbol=BTCUSDT") == [
        {
            "id": 2,
            "price": "50000.00",
            "qty": "1.500",
            "quoteQty": "75000.00000000",
            "time": START_MS + 2,
            "isBuyerMaker": False,
            "isRPITrade": False,
        }
    ]


def test_aggregated_trades_are_paged() -> None:
    """fromId is inclusive, times narrow, limit takes the newest without either (facts 3.1)."""
    rig = traded()
    rows = get(rig, "aggTrades", "symbol=BTCUSDT")
    assert [row["a"] for row in rows] == [2, 3, 4, 5, 6]
    assert get(rig, "aggTrades", "symbol=BTCUSDT&limit=2") == rows[-2:]
    assert get(rig, "aggTrades", "symbol=BTCUSDT&fromId=3&limit=2") == rows[1:3]
    times = f"startTime={rows[1]['T']}&endTime={rows[2]['T']}"
    assert get(rig, "aggTrades", f"symbol=BTCUSDT&{times}") == rows[1:3]
    assert get(rig, "aggTrades", f"symbol=BTCUSDT&endTime={rows[2]['T']}&limit=2") == rows[1:3]
    assert get(rig, "trades", "symbol=BTCUSDT&limit=1")[0]["price"] == "50007.00"


@pytest.mark.parametrize(
    ("path", "query", "code"),
    [
        ("aggTrades", "", -1102),
        ("trades", "", -1102),
        ("trades", "symbol=NOSUCH", -1121),
        ("aggTrades", "symbol=BTCUSDT&limit=1001", -1130),
        ("trades", "symbol=BTCUSDT&limit=1001", -1130),
        ("aggTrades", "symbol=BTCUSDT&startTime=2&endTime=1", -1023),
        ("aggTrades", "symbol=BTCUSDT&startTime=0&endTime=3600001", -1127),
    ],
)
def test_faulty_request_for_trades_gets_its_code(path: str, query: str, code: int) -> None:
    """At most 1000 rows, at most an hour (facts 3.1, 9)."""
    assert get(Rig(), path, query)["code"] == code


# Tickers


def test_day_ticker_sums_up_the_trades() -> None:
    """Change, average, extremes and volumes of the last 24 hours, as strings; ids, times and counts as ints."""
    rig = traded()
    row = get(rig, "ticker/24hr", "symbol=BTCUSDT")
    assert row == {
        "symbol": "BTCUSDT",
        "priceChange": "7.00",
        "priceChangePercent": "0.014",
        "weightedAvgPrice": "50003.00",
        "lastPrice": "50007.00",
        "lastQty": "5.000",
        "openPrice": "50000.00",
        "highPrice": "50010.00",
        "lowPrice": "49990.00",
        "volume": "15.000",
        "quoteVolume": "750045.00000000",
        "openTime": START_MS - START_MS % MINUTE_MS,
        "closeTime": rig.now_ms,
        "firstId": 1,
        "lastId": 2,
        "count": 10,
    }


def test_day_ticker_forgets_after_a_day() -> None:
    """Only the last 24 hours count."""
    rig = traded()
    rig.wait(DAY_MS)
    rig.trade("51000.0", "1")
    row = get(rig, "ticker/24hr", "symbol=BTCUSDT")
    assert (row["volume"], row["highPrice"], row["openPrice"]) == ("1.000", "51000.00", "51000.00")


def test_tickers_are_one_or_all() -> None:
    """An object with symbol, an array without; zeros before the first trade."""
    rig = Rig("BTCUSDT", "ETHUSDT", quoted=False)
    rig.trade("50000.0", "1")
    assert [row["lastPrice"] for row in get(rig, "ticker/24hr")] == ["50000.00", "0.00"]
    assert get(rig, "ticker/price", "symbol=BTCUSDT") == {
        "symbol": "BTCUSDT",
        "price": "50000.00",
        "time": START_MS + 1,
    }
    assert [row["price"] for row in get(rig, "ticker/price")] == ["50000.00", "0.00"]
    assert rig.send("GET", "/fapi/v2/ticker/price", "symbol=BTCUSDT").body["price"] == "50000.00"


# Weights


@pytest.mark.parametrize(
    ("path", "query", "weight"),
    [
        ("ping", "", 1),
        ("time", "", 1),
        ("exchangeInfo", "", 1),
        ("depth", "symbol=BTCUSDT&limit=5", 2),
        ("depth", "symbol=BTCUSDT&limit=50", 2),
        ("depth", "symbol=BTCUSDT&limit=100", 5),
        ("depth", "symbol=BTCUSDT&limit=500", 10),
        ("depth", "symbol=BTCUSDT&limit=1000", 20),
        ("klines", "symbol=BTCUSDT&interval=1m&limit=99", 1),
        ("klines", "symbol=BTCUSDT&interval=1m&limit=100", 2),
        ("klines", "symbol=BTCUSDT&interval=1m&limit=499", 2),
        ("klines", "symbol=BTCUSDT&interval=1m", 5),
        ("klines", "symbol=BTCUSDT&interval=1m&limit=1000", 5),
        ("klines", "symbol=BTCUSDT&interval=1m&limit=1001", 10),
        ("aggTrades", "symbol=BTCUSDT", 20),
        ("trades", "symbol=BTCUSDT", 5),
        ("ticker/24hr", "symbol=BTCUSDT", 1),
        ("ticker/24hr", "", 40),
        ("ticker/price", "symbol=BTCUSDT", 1),
        ("ticker/price", "", 2),
    ],
)
def test_market_data_weighs_what_is_documented(path: str, query: str, weight: int) -> None:
    """The weight column (facts 3.1), told in X-MBX-USED-WEIGHT-1M (facts 5)."""
    headers = Rig().send("GET", f"{V1}/{path}", query).headers
    assert headers["x-mbx-used-weight-1m"] == str(weight)


@pytest.mark.parametrize("symbol", FIVE)
def test_every_symbol_answers_every_question(symbol: str) -> None:
    """The five symbols are alike."""
    rig = Rig(symbol, quoted=False)
    for path in (
        "depth",
        "trades",
        "aggTrades",
        "ticker/24hr",
        "ticker/price",
        "ticker/bookTicker",
        "premiumIndex",
    ):
        assert rig.send("GET", f"{V1}/{path}", f"symbol={symbol}").status == 200
