"""The exchange as a whole: time, market data, account, settings, control, and no input that breaks it."""

import random
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.auth import sign
from sim.exchange import Exchange, Options, Request
from sim.limits import LimitSizes
from sim.money import booked
from sim.record import Ledger
from test.sim_factory import KEY, SECRET, START_MS, Rig, ScriptedMarket

V1 = "/fapi/v1"
HOUR_MS = 3_600_000
MIDNIGHT_MS = 1_700_006_400_000


# Market data


def test_time_and_ping_need_nothing() -> None:
    """NONE endpoints answer without key or signature (facts 2, 3.1)."""
    rig = Rig()
    assert rig.send("GET", f"{V1}/ping", key="").body == {}
    assert rig.send("GET", f"{V1}/time", key="").body == {"serverTime": rig.now_ms}


def test_exchange_info_is_always_the_full_list() -> None:
    """symbol= is ignored, even an unknown one (facts 3.1)."""
    rig = Rig("BTCUSDT", "ETHUSDT", quoted=False)
    info = rig.send("GET", f"{V1}/exchangeInfo", "symbol=NOSUCH").body
    assert [row["symbol"] for row in info["symbols"]] == ["BTCUSDT", "ETHUSDT"]
    assert info["futuresType"] == "U_MARGINED"
    assert [row["asset"] for row in info["assets"]] == ["USDT"]


def test_depth_shows_the_touch_and_modelled_levels() -> None:
    """Each further tick shows the touch's size (design 6)."""
    book = Rig().send("GET", f"{V1}/depth", "symbol=BTCUSDT&limit=5").body
    assert book["bids"][:2] == [["50000.00", "10.000"], ["49999.90", "10.000"]]
    assert book["asks"][-1] == ["50000.50", "10.000"]
    assert len(book["bids"]) == len(book["asks"]) == 5


@pytest.mark.parametrize(("limit", "code"), [("3", -4021), ("1500", -1130), ("x", -1100), ("²", -1100)])
def test_depth_refuses_other_limits(limit: str, code: int) -> None:
    """Only the listed depths exist (facts 3.1)."""
    assert Rig().send("GET", f"{V1}/depth", f"symbol=BTCUSDT&limit={limit}").code == code


def test_book_ticker_is_one_or_all() -> None:
    """With symbol an object, without an array; zeros before the first quote (facts 3.1)."""
    rig = Rig("BTCUSDT", "ETHUSDT", quoted=False)
    rig.quote("50000.0", "50000.1")
    one = rig.send("GET", f"{V1}/ticker/bookTicker", "symbol=BTCUSDT").body
    assert one == {
        "symbol": "BTCUSDT",
        "bidPrice": "50000.00",
        "bidQty": "10.000",
        "askPrice": "50000.10",
        "askQty": "10.000",
        "time": START_MS + 1,
        "lastUpdateId": 1,
    }
    everything = rig.send("GET", f"{V1}/ticker/bookTicker").body
    assert [row["bidPrice"] for row in everything] == ["50000.00", "0.00"]


def test_premium_index_tells_mark_and_funding() -> None:
    """Mark, index, rate and next funding time (facts 3.1); the mark follows each second."""
    rig = Rig()
    rig.quote("50009.9", "50010.2")
    rig.wait(1000)
    row = rig.send("GET", f"{V1}/premiumIndex", "symbol=BTCUSDT").body
    assert (row["indexPrice"], row["markPrice"]) == ("50010.05000000", "50002.05000000")
    assert (row["lastFundingRate"], row["nextFundingTime"]) == ("0.00010000", MIDNIGHT_MS)
    assert len(rig.send("GET", f"{V1}/premiumIndex").body) == 1


# Account


def test_flat_account_has_no_position_rows() -> None:
    """Only symbols with a position or open orders are listed (facts 3.4, 11.10)."""
    rig = Rig()
    assert rig.call("GET", "/fapi/v3/positionRisk").body == []
    rig.place("BUY", "49000", "0.010")
    rows = rig.call("GET", "/fapi/v3/positionRisk", symbol="BTCUSDT").body
    assert (rows[0]["positionAmt"], rows[0]["bidNotional"]) == ("0.000", "490.00000000")
    assert rows[0]["openOrderInitialMargin"] == "24.50000000"
    assert "leverage" not in rows[0]


def test_balance_and_account_agree_with_the_fills() -> None:
    """Wallet, profit and margins follow from the one fill (facts 3.4)."""
    rig = Rig(wallet="1000")
    rig.take("BUY", "0.010")
    rig.quote("50099.9", "50100.2")
    rig.wait(60_000)
    row = rig.call("GET", "/fapi/v3/balance").body[0]
    assert (row["asset"], row["balance"]) == ("USDT", "999.74999950")
    account = rig.call("GET", "/fapi/v3/account").body
    mark = Decimal(rig.call("GET", "/fapi/v3/positionRisk").body[0]["markPrice"])
    profit = Decimal(account["totalUnrealizedProfit"])
    assert profit == booked(Decimal("0.01") * (mark - Decimal("50000.1")))
    assert Decimal(account["totalMarginBalance"]) == Decimal("999.7499995") + profit
    assert account["availableBalance"] == row["availableBalance"]
    assert [position["positionAmt"] for position in account["positions"]] == ["0.010"]
    assert account["assets"][0]["walletBalance"] == row["balance"]


def test_settings_are_told() -> None:
    """accountConfig, symbolConfig, commissionRate, leverageBracket and the key's rights (facts 3.4)."""
    rig = Rig(options=Options(can_withdraw=True))
    assert rig.call("GET", f"{V1}/accountConfig").body["dualSidePosition"] is False
    config = rig.call("GET", f"{V1}/symbolConfig", symbol="BTCUSDT").body[0]
    assert (config["marginType"], config["leverage"]) == ("CROSSED", 20)
    assert rig.call("GET", f"{V1}/commissionRate", symbol="BTCUSDT").body["makerCommissionRate"] == "0.000200"
    bracket = rig.call("GET", f"{V1}/leverageBracket", symbol="BTCUSDT").body[0]["brackets"][0]
    assert (bracket["initialLeverage"], str(bracket["maintMarginRatio"])) == (125, "0.004")
    rights = rig.call("GET", "/sapi/v1/account/apiRestrictions").body
    assert (rights["enableFutures"], rights["enableWithdrawals"]) == (True, True)


def test_leverage_is_changed_and_announced() -> None:
    """The reply has int leverage; the user stream hears ACCOUNT_CONFIG_UPDATE on a change (facts 3.4, 7.3)."""
    rig = Rig()
    heard = rig.listen_to_user()
    for _ in range(2):
        reply = rig.call("POST", f"{V1}/leverage", symbol="BTCUSDT", leverage=5)
        assert (reply.body["leverage"], reply.body["symbol"]) == (5, "BTCUSDT")
    assert [event["ac"] for event in heard] == [{"s": "BTCUSDT", "l": 5}]
    assert rig.call("POST", f"{V1}/leverage", symbol="BTCUSDT", leverage=0).code == -4028
    assert rig.call("POST", f"{V1}/leverage", symbol="BTCUSDT", leverage=126).code == -4028


def test_leverage_below_what_margin_allows_is_refused() -> None:
    """-2028 if the wallet could not carry the orders (facts 3.4)."""
    rig = Rig(wallet="100")
    rig.place("BUY", "50000", "0.030")
    assert rig.call("POST", f"{V1}/leverage", symbol="BTCUSDT", leverage=2).code == -2028


@pytest.mark.parametrize(("kind", "code"), [("CROSSED", -4046), ("ODD", -1130)])
def test_margin_is_crossed_at_first(kind: str, code: int) -> None:
    """Unchanged is -4046, an unknown margin type -1130 (facts 3.4)."""
    assert Rig().call("POST", f"{V1}/marginType", symbol="BTCUSDT", marginType=kind).code == code


def test_modes_are_blocked_by_orders_and_positions() -> None:
    """-4047/-4067 with open orders, -4048/-4068 with a position (facts 3.4)."""
    rig = Rig()
    isolate: Any = {"symbol": "BTCUSDT", "marginType": "ISOLATED"}
    rig.place("BUY", "49000", "0.010")
    assert rig.call("POST", f"{V1}/marginType", **isolate).code == -4047
    assert rig.call("POST", f"{V1}/positionSide/dual", dualSidePosition="true").code == -4067
    rig.call("DELETE", f"{V1}/allOpenOrders", symbol="BTCUSDT")
    rig.take("BUY", "0.010")
    assert rig.call("POST", f"{V1}/marginType", **isolate).code == -4048
    assert rig.call("POST", f"{V1}/positionSide/dual", dualSidePosition="true").code == -4068


def test_position_mode_is_switched() -> None:
    """Unchanged is -4059; afterwards orders without positionSide get -4061 (facts 3.4, 4.5)."""
    rig = Rig()
    path = f"{V1}/positionSide/dual"
    assert rig.call("POST", path, dualSidePosition="false").code == -4059
    assert rig.call("POST", path).code == -1102
    assert rig.call("POST", path, dualSidePosition="true").body == {"code": 200, "msg": "success"}
    assert rig.call("GET", path).body == {"dualSidePosition": True}
    assert rig.call("GET", f"{V1}/accountConfig").body["dualSidePosition"] is True
    assert rig.place("BUY", "49000", "0.010").code == -4061


def test_trades_are_paged_by_id() -> None:
    """fromId is inclusive and excludes times; orderId narrows (facts 3.4)."""
    rig = Rig()
    for _ in range(4):
        rig.take("BUY", "0.010")
    path = f"{V1}/userTrades"
    assert [row["id"] for row in rig.call("GET", path, symbol="BTCUSDT", fromId=2, limit=2).body] == [2, 3]
    assert [row["id"] for row in rig.call("GET", path, symbol="BTCUSDT", limit=1).body] == [4]
    assert [row["id"] for row in rig.call("GET", path, symbol="BTCUSDT", orderId=3).body] == [3]
    since = rig.call("GET", path, symbol="BTCUSDT", startTime=START_MS, limit=2).body
    assert [row["id"] for row in since] == [1, 2]
    assert rig.call("GET", path, symbol="BTCUSDT", startTime=rig.now_ms + 1).body == []
    assert rig.call("GET", path, symbol="BTCUSDT", startTime=0, endTime=5).body == []
    assert rig.call("GET", path, symbol="BTCUSDT", fromId=1, startTime=1).code == -1128
    assert rig.call("GET", path, symbol="BTCUSDT", startTime=0, endTime=rig.now_ms).code == -4165
    assert rig.call("GET", path, symbol="BTCUSDT", limit=0).code == -1130


def test_income_lists_fees_profit_and_funding() -> None:
    """One row a movement, costs negative (facts 3.4)."""
    rig = Rig()
    rig.take("BUY", "0.010")
    rig.wait(MIDNIGHT_MS - rig.now_ms)
    rig.quote("50100.0", "50100.1")
    rig.take("SELL", "0.010")
    rows = rig.call("GET", f"{V1}/income", symbol="BTCUSDT").body
    assert [row["incomeType"] for row in rows] == ["COMMISSION", "FUNDING_FEE", "COMMISSION", "REALIZED_PNL"]
    assert [row["income"] for row in rows] == ["-0.25000050", "-0.05000005", "-0.25050000", "0.99900000"]
    assert [row["tranId"] for row in rows] == [1, 2, 3, 4]
    only = rig.call("GET", f"{V1}/income", incomeType="FUNDING_FEE").body
    assert [row["tradeId"] for row in only] == [""]


def test_income_of_a_month_is_had_at_once() -> None:
    """Three months are shown, and no seven days bound a question; without times it is the last week (facts 3.4)."""
    rig = Rig()
    rig.take("BUY", "0.010")
    cash = rig.exchange._venue.ledger.cash
    began_ms = rig.now_ms - 30 * 86_400_000  # a month that need not be waited for
    cash.append(replace(cash.pop(), time_ms=began_ms))
    rig.take("SELL", "0.010")
    path = f"{V1}/income"

    def commissions(**times: int) -> int:
        return len(rig.call("GET", path, incomeType="COMMISSION", limit=1000, **times).body)

    assert commissions(startTime=began_ms, endTime=rig.now_ms) == 2
    assert commissions(startTime=began_ms) == 2
    assert commissions() == 1
    assert rig.call("GET", path, startTime=rig.now_ms, endTime=began_ms).code == -1023


def test_funding_is_settled_at_its_hours() -> None:
    """At 00, 08 and 16 UTC, on the mark, told as ACCOUNT_UPDATE with the symbol and no position (facts 7.3)."""
    rig = Rig("BTCUSDT", "ETHUSDT", quoted=False)
    rig.quote("50000.0", "50000.1")
    rig.take("SELL", "0.010")
    rig.wait(MIDNIGHT_MS - 1 - rig.now_ms)
    heard = rig.listen_to_user()
    rig.wait(1)
    assert [event["a"]["m"] for event in heard] == ["FUNDING_FEE"]
    body = heard[0]["a"]
    assert (body["S"], body["P"], body["B"][0]["bc"]) == ("BTCUSDT", [], "0.05000005")
    assert heard[0]["E"] == MIDNIGHT_MS
    rig.wait(8 * HOUR_MS)
    assert rig.record()["fundingTotal"] == "0.10000010"


# Limits and headers


def test_weight_is_told_in_the_header() -> None:
    """The running total of the minute; -1 on order endpoints, with the order counts beside it (facts 5)."""
    rig = Rig()
    assert rig.send("GET", f"{V1}/time").headers["x-mbx-used-weight-1m"] == "1"
    assert rig.call("GET", "/fapi/v3/balance").headers["x-mbx-used-weight-1m"] == "6"
    headers = rig.place("BUY", "49000", "0.010").headers
    assert headers["x-mbx-used-weight-1m"] == "-1"
    assert (headers["x-mbx-order-count-10s"], headers["x-mbx-order-count-1m"]) == ("1", "1")
    assert (
        "x-mbx-order-count-10s" not in rig.call("DELETE", f"{V1}/order", symbol="BTCUSDT", orderId=1).headers
    )
    assert rig.send("GET", f"{V1}/time").headers["x-mbx-used-weight-1m"] == "8"


@pytest.mark.parametrize(
    ("path", "query", "weight"),
    [
        ("depth", "symbol=BTCUSDT", 10),
        ("depth", "symbol=BTCUSDT&limit=5", 2),
        ("ticker/bookTicker", "symbol=BTCUSDT", 2),
        ("ticker/bookTicker", "", 5),
        ("premiumIndex", "symbol=BTCUSDT", 1),
        ("premiumIndex", "", 10),
        ("openOrders", "symbol=BTCUSDT", 1),
        ("openOrders", "", 40),
    ],
)
def test_weight_follows_the_parameters(path: str, query: str, weight: int) -> None:
    """Weights as in facts 3; refused requests cost as much."""
    rig = Rig()
    assert rig.send("GET", f"{V1}/{path}", query).headers["x-mbx-used-weight-1m"] == str(weight)


def test_over_the_weight_everything_waits_then_is_banned() -> None:
    """429 with Retry-After, cancels included; going on earns 418 (facts 5)."""
    rig = Rig(options=Options(limits=LimitSizes(weight_per_minute=2, patience=2)))
    rig.send("GET", f"{V1}/ping")
    rig.send("GET", f"{V1}/ping")
    replies = [rig.call("DELETE", f"{V1}/order", symbol="BTCUSDT", orderId=1) for _ in range(3)]
    assert [(reply.status, reply.code) for reply in replies] == [(429, -1003), (429, -1003), (418, -1003)]
    assert int(replies[0].headers["retry-after"]) == 40
    assert int(replies[2].headers["retry-after"]) == 120


def test_over_the_order_limit_new_orders_wait() -> None:
    """429 -1015; cancels still pass (facts 5, 9)."""
    rig = Rig(options=Options(limits=LimitSizes(orders_per_ten_seconds=1)))
    rig.place("BUY", "49000", "0.010", newClientOrderId="q1")
    reply = rig.place("BUY", "49000", "0.010")
    assert (reply.status, reply.code, "retry-after" in reply.headers) == (429, -1015, True)
    assert rig.call("DELETE", f"{V1}/order", symbol="BTCUSDT", origClientOrderId="q1").status == 200


def test_unknown_path_is_not_found() -> None:
    """404 with a JSON body that names path and method."""
    reply = Rig().send("PATCH", f"{V1}/nonsense")
    assert (reply.status, reply.code) == (404, -5000)


# Control


def test_record_tells_what_each_order_saw() -> None:
    """Bid, ask and mid at arrival and at every amendment, and whether it would have crossed."""
    rig = Rig()
    rig.place("BUY", "49990", "0.010", newClientOrderId="q1")
    rig.quote("49995.0", "49995.1")
    rig.amend("q1", "BUY", "49980", "0.020")
    order = rig.record()["orders"][0]
    assert (order["bid"], order["ask"], order["mid"]) == ("50000.00", "50000.10", "50000.05")
    assert (order["price"], order["arrival"]["price"], order["wouldCross"]) == ("49980.00", "49990.00", False)
    assert [(seen["mid"], seen["origQty"]) for seen in order["amendments"]] == [("49995.05", "0.020")]
    assert order["queueAhead"] is None


def test_record_adds_up() -> None:
    """Fills, fees, refusals, position and request counts are all there."""
    rig = Rig()
    rig.take("BUY", "0.010", newClientOrderId="t1")
    rig.place("BUY", "50000.1", "0.010", newClientOrderId="bad")
    record = rig.record()
    assert [(row["clientOrderId"], row["fee"]) for row in record["fills"]] == [("t1", "0.25000050")]
    assert [(row["clientOrderId"], row["code"]) for row in record["rejected"]] == [("bad", -5022)]
    assert record["positions"][0]["positionAmt"] == "0.010"
    assert Decimal(record["wallet"]) == 100_000 - Decimal(record["feesTotal"])
    assert record["requests"]["POST /fapi/v1/order"] == 2
    assert len(rig.send("GET", "/sim/record").body["orders"]) == 1


def test_record_can_be_read_piecewise() -> None:
    """since leaves out what last changed before."""
    rig = Rig()
    rig.take("BUY", "0.010")
    rig.place("BUY", "1", "1")
    rig.wait(10)
    rig.take("BUY", "0.020")
    record = rig.send("GET", "/sim/record", f"symbol=BTCUSDT&since={rig.now_ms}").body
    assert [order["origQty"] for order in record["orders"]] == ["0.020"]
    assert [fill["qty"] for fill in record["fills"]] == ["0.020"]
    assert record["rejected"] == []


def test_forced_fill_moves_the_position_as_a_foreign_order() -> None:
    """The account receives a taker fill at the touch under a client id of its own, with the usual events."""
    rig = Rig(wallet="10")
    heard = rig.listen_to_user()
    reply = rig.send("POST", "/sim/fill", "symbol=BTCUSDT&side=SELL&quantity=3", key="")
    assert (reply.body["clientOrderId"], reply.body["avgPrice"], rig.position()) == (
        "sim-fill-1",
        "50000.00000000",
        "-3.000",
    )
    assert [event["e"] for event in heard] == [
        "ORDER_TRADE_UPDATE",
        "TRADE_LITE",
        "ORDER_TRADE_UPDATE",
        "ACCOUNT_UPDATE",
    ]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("symbol=NOSUCH&side=BUY&quantity=1", -1121),
        ("symbol=BTCUSDT&side=UP&quantity=1", -1117),
        ("symbol=BTCUSDT&side=BUY&quantity=0.0001", -1111),
        ("symbol=BTCUSDT&side=BUY&quantity=1", -4131),
        ("", -1102),
    ],
)
def test_forced_fill_needs_a_market_and_sound_numbers(query: str, code: int) -> None:
    """Faults are refused like an order's."""
    assert Rig(quoted=False).send("POST", "/sim/fill", query).code == code


@pytest.mark.parametrize("name", ["bookTicker", "btcusdt@bookTicker"])
def test_silence_withholds_a_stream_for_a_while(name: str) -> None:
    """Payloads are withheld, sockets stay open, REST goes on; other streams are not touched."""
    rig = Rig()
    _, heard = rig.listen("/public/ws/btcusdt@bookTicker")
    _, trades = rig.listen("/market/ws/btcusdt@aggTrade")
    rig.send("POST", "/sim/silence", f"stream={name}&seconds=2")
    rig.quote("50000.0", "50000.2")
    rig.trade("50000.0", "1")
    rig.wait(100)
    assert heard == []
    assert len(trades) == 1
    assert rig.send("GET", f"{V1}/ticker/bookTicker", "symbol=BTCUSDT").body["askPrice"] == "50000.20"
    rig.wait(2000)
    rig.quote("50000.0", "50000.3")
    assert [event["a"] for event in heard] == ["50000.30"]


@pytest.mark.parametrize("name", ["userData", "ORDER_TRADE_UPDATE"])
def test_silence_reaches_user_events_too(name: str) -> None:
    """All user data, or one kind of event."""
    rig = Rig()
    heard = rig.listen_to_user()
    rig.send("POST", "/sim/silence", f"stream={name}&seconds=0.5")
    rig.place("BUY", "49000", "0.010")
    assert heard == []


# Time


def test_time_that_steps_back_is_read_as_none_passed() -> None:
    """The exchange's clock never runs backwards."""
    rig = Rig()
    rig.wait(5000)
    late_ms = rig.now_ms
    reply = rig.exchange.handle(Request("GET", f"{V1}/time", "", {}, ""), late_ms - 4000)
    assert reply.body == b'{"serverTime":%d}' % late_ms


def test_next_due_time_is_the_next_event_or_timer() -> None:
    """advance has nothing to do before it, and something at it."""
    rig = Rig(quoted=False)
    assert rig.exchange.next_due_ms() == START_MS + 1000
    rig.wait(1000)
    assert rig.exchange.next_due_ms() == START_MS + 2000


def test_events_and_timers_happen_in_the_order_of_their_times() -> None:
    """A long step gives the same as many small ones: marks, fills and their times."""
    histories = []
    for step_ms in (1, 250, 60_000):
        rig = Rig("BTCUSDT")
        dice = random.Random(7)
        rig.place("BUY", "49999.5", "0.010", newClientOrderId="b")
        rig.place("SELL", "50000.6", "0.010", newClientOrderId="s")
        heard = rig.listen_to_user()
        _, marks = rig.listen("/market/ws/btcusdt@markPrice@1s")
        feed = Rig("BTCUSDT", quoted=False)
        feed.now_ms = rig.now_ms
        for _ in range(200):
            feed.now_ms += dice.randrange(100)
            drift = Decimal(dice.randrange(-10, 10)) / 10
            feed.quote(str(50000 + drift), str(50000 + drift + Decimal("0.1")))
            feed.market.events.clear()
            rig.market.events.append(_last_quote(feed))
        for _ in range(0, 60_000, step_ms):
            rig.wait(step_ms)
        histories.append((heard, marks, rig.record()["fills"]))
    assert histories[0][2]
    assert histories[0] == histories[1] == histories[2]


def _last_quote(rig: Rig) -> Any:
    return rig.exchange._venue.instruments["BTCUSDT"].quote


def test_symbols_do_not_mix() -> None:
    """Quotes, orders and positions of one symbol leave another's alone."""
    rig = Rig("BTCUSDT", "ETHUSDT", quoted=False)
    rig.quote("50000.0", "50000.1")
    rig.quote("3000.00", "3000.01", symbol="ETHUSDT")
    rig.place("BUY", "3000.00", "0.100", symbol="ETHUSDT", newClientOrderId="e")
    rig.place("BUY", "50000.0", "0.010", newClientOrderId="b")
    rig.trade("2999.00", "1", symbol="ETHUSDT")
    assert [row["clientOrderId"] for row in rig.call("GET", f"{V1}/openOrders").body] == ["b"]
    rows = rig.call("GET", "/fapi/v3/positionRisk").body
    assert [(row["symbol"], row["positionAmt"]) for row in rows] == [
        ("BTCUSDT", "0.000"),
        ("ETHUSDT", "0.100"),
    ]


def test_history_is_bounded() -> None:
    """The oldest closed orders give way; open ones and the newest under a client id stay."""
    rig = Rig(options=Options(history=2))
    rig.place("BUY", "49000", "0.010", newClientOrderId="open")
    for _ in range(4):
        rig.take("BUY", "0.010", newClientOrderId="t")
    assert [order["orderId"] for order in rig.record()["orders"]] == [1, 4, 5]
    assert [fill["orderId"] for fill in rig.record()["fills"]] == [4, 5]
    assert rig.order("t")["orderId"] == 5
    assert rig.order("open")["status"] == "NEW"


def test_forgotten_order_gives_up_its_client_id() -> None:
    """Once the last order of a client id is forgotten, the id names nothing."""
    ledger = Ledger(history=0)
    rig = Rig(options=Options(history=0))
    rig.take("BUY", "0.010", newClientOrderId="t")
    assert rig.order("t")["code"] == -2013
    assert list(ledger.orders()) == []


def test_record_lets_go_of_what_no_query_finds_any_more() -> None:
    """Ended without a fill and three days old: an exchange of weeks would hold every quote of a market maker."""
    day_ms = 24 * 3600 * 1000
    rig = Rig()
    rig.quote("49990.0", "50010.0")
    rig.place("SELL", "50005.0", "0.010", newClientOrderId="own")  # the next one meets it: listed for 90 days
    rig.take("BUY", "0.010", newClientOrderId="filled")
    for name in ("old", "young", "last"):
        rig.place("BUY", "49000", "0.010", newClientOrderId=name)
    rig.place("BUY", "48000", "0.010", newClientOrderId="open")
    for order in rig.exchange._venue.ledger.orders():
        order.time_ms -= 2 * day_ms if order.client_order_id == "young" else 3 * day_ms
    for name in ("old", "young", "last"):
        rig.call("DELETE", f"{V1}/order", symbol="BTCUSDT", origClientOrderId=name)
    assert [order["clientOrderId"] for order in rig.record()["orders"]] == [
        "own",
        "filled",
        "old",
        "young",
        "last",
        "open",
    ]
    for order in rig.exchange._venue.ledger.orders():
        order.time_ms -= 1
    rig.place("BUY", "47000", "0.010", newClientOrderId="next")
    rig.call("DELETE", f"{V1}/order", symbol="BTCUSDT", origClientOrderId="next")
    assert [order["clientOrderId"] for order in rig.record()["orders"]] == [
        "own",
        "filled",
        "young",
        "last",
        "open",
        "next",
    ]
    assert rig.order("old")["code"] == -2013
    assert rig.order("own")["status"] == "EXPIRED_IN_MATCH"


NAME_WORDS = (
    "symbol side type timeInForce price quantity reduceOnly newClientOrderId origClientOrderId orderId batchOrders "
    "orderIdList origClientOrderIdList limit stream seconds fromId startTime endTime leverage marginType countdownTime "
    "dualSidePosition modifyId since positionSide selfTradePreventionMode newOrderRespType recvWindow goodTillDate "
    "priceMatch interval page incomeType feeBurn multiAssetsMargin code"
)
VALUE_WORDS = (
    "BTCUSDT BUY SELL LIMIT MARKET GTX GTC IOC FOK 1 0.010 50000 50000.1 49999.9 true false q1 q2 [1] [{}] "
    "GTD QUEUE OPPONENT_5 1m 1M -4400 "
    '["q1"] [{"symbol":"BTCUSDT","side":"BUY"}] 999999999999999999 99999999999999999999.99999999999999999999 0 %ff +'
)
NAMES, VALUES = NAME_WORDS.split(), VALUE_WORDS.split()
PAGES = {("GET", "/sim/"), ("GET", "/sim/view")}
"""Made for people: their answers are no JSON."""
ROUTES = sorted(set(Rig().exchange._router._routes) - PAGES)
PAIRS = st.tuples(st.sampled_from(NAMES), st.one_of(st.sampled_from(VALUES), st.text(max_size=8)))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([*ROUTES, ("HEAD", "")]), st.lists(PAIRS, max_size=9)), max_size=6))
def test_no_request_raises(requests: list[tuple[tuple[str, str], list[tuple[str, str]]]]) -> None:
    """Whatever is asked, signed as it should be, the answer is JSON with a status; errors have code and msg."""
    rig = Rig()
    for (method, path), pairs in requests:
        query = "&".join([f"{name}={value}" for name, value in pairs] + [f"timestamp={rig.now_ms}"])
        reply = rig.send(method, path, f"{query}&signature={sign(SECRET, query)}")
        if reply.status != 200:
            assert set(reply.body) == {"code", "msg"}


@settings(max_examples=300, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES)), min_size=1, max_size=6))
def test_no_order_raises(orders: list[dict[str, str]]) -> None:
    """Nearly sound orders, each off in its own way, are placed or refused."""
    rig = Rig()
    for changes in orders:
        base = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "price": "50000.1"}
        reply = rig.call("POST", f"{V1}/order", **{**base, "quantity": "0.010", **changes})
        assert reply.status in (200, 400)


@given(st.text(max_size=60))
def test_no_control_message_raises(text: str) -> None:
    """Whatever a client says on a socket, it is answered or the connection is dropped."""
    session, heard = Rig(quoted=False).listen("/public/ws")
    session.receive(text, START_MS)
    assert len(heard) == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(min_value=0, max_value=10**6))
def test_random_life_keeps_the_books_straight(seed: int) -> None:
    """Under random orders and market moves, position, wallet and record tell one story at any time."""
    dice = random.Random(seed)
    rig = Rig()
    for _ in range(60):
        _random_step(rig, dice)
    record = rig.record()
    bought = sum(
        (Decimal(row["qty"]) * (1 if row["buyer"] else -1) for row in record["fills"]),
        Decimal(0),
    )
    assert Decimal(record["positions"][0]["positionAmt"]) == bought
    fees = sum((Decimal(row["commission"]) for row in record["fills"]), Decimal(0))
    profit = sum((Decimal(row["realizedPnl"]) for row in record["fills"]), Decimal(0))
    assert Decimal(record["feesTotal"]) == fees
    assert Decimal(record["wallet"]) == 100_000 + profit - fees
    for order in record["orders"]:
        filled = sum(
            (Decimal(row["qty"]) for row in record["fills"] if row["orderId"] == order["orderId"]), Decimal(0)
        )
        assert filled == Decimal(order["executedQty"])
        if order["timeInForce"] == "GTX":
            assert not order["wouldCross"] or order["status"] == "EXPIRED"
    for row in record["fills"]:
        order = next(order for order in record["orders"] if order["orderId"] == row["orderId"])
        assert row["maker"] or order["timeInForce"] != "GTX"


def _random_step(rig: Rig, dice: random.Random) -> None:
    tick = Decimal(dice.randrange(-8, 9)) / 10
    size = Decimal(dice.randrange(1, 40)) / 1000
    side = dice.choice(["BUY", "SELL"])
    price = str(50000 + tick)
    act = dice.randrange(6)
    if act == 0:
        rig.quote(price, str(50000 + tick + Decimal("0.1")), str(size), str(size))
    elif act == 1:
        rig.trade(price, str(size), sold=side == "SELL")
    elif act == 2:
        rig.take(side, str(size), reduceOnly=dice.choice(["true", "false"]))
    elif act == 3:
        rig.amend(f"q{dice.randrange(5)}", side, price, str(size))
    elif act == 4:
        rig.call("DELETE", f"{V1}/order", symbol="BTCUSDT", origClientOrderId=f"q{dice.randrange(5)}")
    else:
        more: dict[str, str] = {"reduceOnly": "true"} if dice.random() < 0.3 else {}
        tif = dice.choice(["GTX", "GTX", "GTC", "IOC", "FOK"])
        rig.place(side, price, str(size), tif, newClientOrderId=f"q{dice.randrange(5)}", **more)


def test_exchange_opens_with_its_own_defaults() -> None:
    """Five thousand in the wallet, as a new demo account has (facts 1)."""
    exchange = Exchange(ScriptedMarket(Rig().rules), api_key=KEY, api_secret=SECRET, now_ms=START_MS)
    assert (
        b'"wallet":"5000.00000000"'
        in exchange.handle(Request("GET", "/sim/record", "", {}, ""), START_MS).body
    )
