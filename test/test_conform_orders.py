"""Orders conform to the documented protocol: dates, matched prices, self-trade prevention, tests, amendments."""

import json
from typing import Any

import pytest

from sim.exchange import Options
from sim.orders import StpMode
from test.sim_factory import Reply, Rig, executions

ORDER = "/fapi/v1/order"
MINUTE_MS, DAY_MS = 60_000, 86_400_000
ORDER_FIELDS = {
    "orderId": int,
    "symbol": str,
    "status": str,
    "clientOrderId": str,
    "price": str,
    "origQty": str,
    "executedQty": str,
    "cumQty": str,
    "timeInForce": str,
    "type": str,
    "origType": str,
    "side": str,
    "positionSide": str,
    "reduceOnly": bool,
    "closePosition": bool,
    "stopPrice": str,
    "workingType": str,
    "priceProtect": bool,
    "priceMatch": str,
    "selfTradePreventionMode": str,
    "goodTillDate": int,
    "updateTime": int,
}


def types_of(row: dict[str, Any]) -> dict[str, type]:
    """Return the type of every field."""
    return {name: type(value) for name, value in row.items()}


def resting(tif: str = "GTX", **more: object) -> Rig:
    """Return an exchange on which BUY 0.010 at 49999 rests as q1."""
    rig = Rig()
    assert rig.place("BUY", "49999.0", "0.010", tif, newClientOrderId="q1", **more).status == 200
    return rig


# The order object


def test_placed_order_has_exactly_the_documented_fields_and_types() -> None:
    """The reply of POST order since 2026-06-30: strings for amounts, ints for ids and times, bools for flags (3.3)."""
    assert types_of(Rig().place("BUY", "49999.0", "0.010").body) == ORDER_FIELDS


def test_cancelled_order_has_the_fields_of_a_placed_one() -> None:
    """DELETE replies without avgPrice and cumQuote, with executedQty and cumQty (facts 3.3)."""
    rig = resting()
    reply = rig.call("DELETE", ORDER, symbol="BTCUSDT", origClientOrderId="q1")
    assert types_of(reply.body) == ORDER_FIELDS


def test_amended_order_has_pair_and_the_modify_id_that_was_sent() -> None:
    """PUT replies like an order plus pair, modifyId only if it was sent (facts 3.3)."""
    rig = resting()
    assert types_of(rig.amend("q1", "BUY", "49998.0", "0.010").body) == {**ORDER_FIELDS, "pair": str}
    named = rig.amend("q1", "BUY", "49997.0", "0.010", modifyId=77).body
    assert types_of(named) == {**ORDER_FIELDS, "pair": str, "modifyId": int}
    assert named["modifyId"] == 77


def test_queried_order_has_average_price_value_and_time_but_no_cumulated_quantity() -> None:
    """GET order keeps avgPrice, cumQuote, time and lacks cumQty (facts 3.3)."""
    wanted = {**ORDER_FIELDS, "avgPrice": str, "cumQuote": str, "time": int}
    del wanted["cumQty"]
    rig = resting()
    assert types_of(rig.order("q1")) == wanted
    listed = rig.call("GET", "/fapi/v1/openOrders", symbol="BTCUSDT").body
    assert types_of(listed[0]) == wanted
    assert types_of(rig.call("GET", "/fapi/v1/allOrders", symbol="BTCUSDT").body[0]) == wanted


def test_order_numbers_rise() -> None:
    """orderId is monotonic per symbol (facts 3.3)."""
    rig = Rig()
    ids = [rig.place("BUY", "49000", "0.010").body["orderId"] for _ in range(3)]
    assert ids == sorted(set(ids))


def test_order_id_wins_over_the_client_id() -> None:
    """Where both are sent, orderId names the order (facts 3.3)."""
    rig = resting()
    rig.place("BUY", "49990", "0.010", newClientOrderId="q2")
    found = rig.call("GET", ORDER, symbol="BTCUSDT", orderId=2, origClientOrderId="q1").body
    assert found["clientOrderId"] == "q2"


@pytest.mark.parametrize("name", ["a", "A.b:C/d_e-9", "x" * 36])
def test_client_id_of_the_documented_letters_is_accepted(name: str) -> None:
    """1 to 36 of letters, digits and . : / _ - (facts 3.3)."""
    assert Rig().place("BUY", "49000", "0.010", newClientOrderId=name).body["clientOrderId"] == name


def test_client_id_is_unique_among_open_orders_only() -> None:
    """-4116 while the first one is open; reusable after it has closed (facts 3.3, 9)."""
    rig = resting()
    assert rig.place("BUY", "49990", "0.010", newClientOrderId="q1").code == -4116
    rig.call("DELETE", ORDER, symbol="BTCUSDT", origClientOrderId="q1")
    assert rig.place("BUY", "49990", "0.010", newClientOrderId="q1").status == 200


def test_list_of_orders_takes_an_id_beside_times() -> None:
    """allOrders: orderId is inclusive; only userTrades forbids times beside its id (facts 3.3, 3.4)."""
    rig = Rig()
    for _ in range(3):
        rig.place("BUY", "49000", "0.010")
    times = {"startTime": rig.now_ms - 10, "endTime": rig.now_ms}
    found = rig.call("GET", "/fapi/v1/allOrders", symbol="BTCUSDT", orderId=2, **times).body
    assert [row["orderId"] for row in found] == [2, 3]
    assert len(rig.call("GET", "/fapi/v1/allOrders", **times).body) == 3
    too_long = {"startTime": 0, "endTime": 8 * DAY_MS}
    assert rig.call("GET", "/fapi/v1/allOrders", symbol="BTCUSDT", **too_long).code == -4165


# Good till date


def dated(rig: Rig, until_ms: int, **more: object) -> Reply:
    """Place a GTD order."""
    return rig.place("BUY", "49999.0", "0.010", "GTD", goodTillDate=until_ms, newClientOrderId="g", **more)


def test_dated_order_ends_at_its_date() -> None:
    """GTD ends by the system as EXPIRED, cut to whole seconds (facts 3.3, 4.1, 4.2)."""
    rig = Rig()
    heard = rig.listen_to_user()
    until_ms = rig.now_ms + 700_123
    reply = dated(rig, until_ms).body
    whole_ms = until_ms - until_ms % 1000
    assert (reply["timeInForce"], reply["goodTillDate"]) == ("GTD", whole_ms)
    rig.wait(whole_ms - 1 - rig.now_ms)
    assert rig.order("g")["status"] == "NEW"
    rig.wait(1)
    assert rig.order("g")["status"] == "EXPIRED"
    assert executions(heard) == [("g", "NEW"), ("g", "EXPIRED")]
    last = heard[-1]["o"]
    assert (last["X"], last["gtd"], last["f"], last["T"]) == ("EXPIRED", whole_ms, "GTD", whole_ms)


@pytest.mark.parametrize(("from_now_ms", "absolute_ms"), [(600_000, 0), (0, 0), (0, 253402300799000)])
def test_date_outside_of_the_documented_range_is_refused(from_now_ms: int, absolute_ms: int) -> None:
    """-5040: not more than 600 s ahead, or at the end of time (facts 3.3, 9)."""
    rig = Rig()
    assert dated(rig, absolute_ms or rig.now_ms + from_now_ms).code == -5040
    assert dated(rig, rig.now_ms + 600_001).status == 200


def test_date_belongs_to_dated_orders() -> None:
    """GTD without goodTillDate is -1102; goodTillDate with another time in force -1106 (facts 3.3, 9)."""
    rig = Rig()
    assert rig.place("BUY", "49999.0", "0.010", "GTD").code == -1102
    later_ms = rig.now_ms + DAY_MS
    assert rig.place("BUY", "49999.0", "0.010", "GTC", goodTillDate=later_ms).code == -1106
    assert rig.take("BUY", "0.010", goodTillDate=later_ms).code == -1106


def test_dated_order_takes_like_any_other() -> None:
    """GTD may trade on arrival (facts 4.1)."""
    rig = Rig()
    reply = rig.place(
        "BUY", "50000.1", "0.010", "GTD", goodTillDate=rig.now_ms + DAY_MS, newOrderRespType="RESULT"
    )
    assert reply.body["status"] == "FILLED"


def test_ordinary_order_is_cancelled_after_a_year() -> None:
    """GTC is cancelled automatically one year after placement (facts 4.1)."""
    rig = resting("GTC")
    order = rig.exchange._venue.instruments["BTCUSDT"].by_client["q1"]
    order.time_ms -= 365 * DAY_MS  # a year of seconds would test patience
    heard = rig.listen_to_user()
    rig.wait(1000)
    assert executions(heard) == [("q1", "CANCELED")]
    assert not order.is_open


@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_immediate_order_that_meets_nothing_expires_at_once(side: str) -> None:
    """IOC away from the market never rests: NEW, then EXPIRED with er 2 (facts 4.1, 4.2)."""
    rig = Rig()
    heard = rig.listen_to_user()
    price = "49000" if side == "BUY" else "51000"
    reply = rig.place(side, price, "0.010", "IOC", newClientOrderId="i", newOrderRespType="RESULT").body
    assert (reply["status"], reply["executedQty"]) == ("EXPIRED", "0.000")
    assert executions(heard) == [("i", "NEW"), ("i", "EXPIRED")]
    assert heard[-1]["o"]["er"] == "2"
    assert rig.call("GET", "/fapi/v1/openOrders", symbol="BTCUSDT").body == []


# Price match


@pytest.mark.parametrize(
    ("side", "mode", "price"),
    [
        ("BUY", "QUEUE", "50000.00"),
        ("BUY", "QUEUE_5", "49999.60"),
        ("BUY", "QUEUE_10", "49999.10"),
        ("BUY", "QUEUE_20", "49998.10"),
        ("SELL", "QUEUE", "50000.10"),
        ("SELL", "QUEUE_5", "50000.50"),
        ("BUY", "OPPONENT", "50000.10"),
        ("BUY", "OPPONENT_5", "50000.50"),
        ("SELL", "OPPONENT", "50000.00"),
        ("SELL", "OPPONENT_5", "49999.60"),
    ],
)
def test_matched_price_comes_from_the_book(side: str, mode: str, price: str) -> None:
    """QUEUE_n is the n-th price of the own side, OPPONENT_n of the other (facts 3.3)."""
    rig = Rig()
    heard = rig.listen_to_user()
    params = {"symbol": "BTCUSDT", "side": side, "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.010"}
    reply = rig.call("POST", ORDER, **params, priceMatch=mode)
    assert (reply.status, reply.body["price"], reply.body["priceMatch"]) == (200, price, mode)
    assert (heard[0]["o"]["pm"], heard[0]["o"]["p"]) == (mode, price)


@pytest.mark.parametrize("mode", ["OPPONENT_10", "OPPONENT_20", "BEST"])
def test_disabled_or_unknown_price_match_is_refused(mode: str) -> None:
    """OPPONENT_10 and _20 have been disabled since 2025-10-23; -5037 (facts 0, 3.3, 9)."""
    params = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.010"}
    assert Rig().call("POST", ORDER, **params, priceMatch=mode).code == -5037


def test_price_match_needs_a_book() -> None:
    """-5041 while no depth matches (facts 9)."""
    params = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.010"}
    assert Rig(quoted=False).call("POST", ORDER, **params, priceMatch="QUEUE").code == -5041


def test_price_match_is_for_limit_orders_without_price() -> None:
    """-1106 beside a price, -5038 on MARKET; NONE is as good as nothing (facts 3.3, 4.3, 9)."""
    rig = Rig()
    assert rig.place("BUY", "49999", "0.010", "GTC", priceMatch="QUEUE").code == -1106
    assert rig.take("BUY", "0.010", priceMatch="QUEUE").code == -5038
    assert rig.place("BUY", "49999", "0.010", "GTC", priceMatch="NONE").status == 200


def test_matched_price_meets_the_filters_too() -> None:
    """A post-only order at the opponent's price would take: -5022 (facts 4.1)."""
    params = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTX", "quantity": "0.010"}
    rig = Rig()
    assert rig.call("POST", ORDER, **params, priceMatch="OPPONENT").code == -5022
    assert rig.call("POST", ORDER, **{**params, "quantity": "0.001"}, priceMatch="QUEUE_20").code == -4164


def test_amendment_may_match_the_price() -> None:
    """priceMatch replaces price in PUT order; a later plain price ends it (facts 3.3, 4.3)."""
    rig = resting("GTC")
    put = {"symbol": "BTCUSDT", "side": "BUY", "origClientOrderId": "q1", "quantity": "0.010"}
    reply = rig.call("PUT", ORDER, **put, priceMatch="QUEUE")
    assert (reply.body["price"], reply.body["priceMatch"]) == ("50000.00", "QUEUE")
    assert rig.call("PUT", ORDER, **put, priceMatch="QUEUE", price="49000").code == -1106
    assert rig.amend("q1", "BUY", "49998.0", "0.010").body["priceMatch"] == "NONE"


# Self-trade prevention


def meet_own(mode: str, tif: str = "IOC", **options: Any) -> tuple[Rig, list[Any], Reply]:
    """Let an order meet a resting one of the same account at 50005; both sides of the market are further away."""
    rig = Rig(options=Options(**options))
    rig.quote("49990.0", "50010.0")
    rig.place("SELL", "50005.0", "0.010", "GTC", newClientOrderId="maker")
    heard = rig.listen_to_user()
    more = {"selfTradePreventionMode": mode} if mode else {}
    reply = rig.place(
        "BUY", "50005.0", "0.010", tif, newClientOrderId="taker", newOrderRespType="RESULT", **more
    )
    return rig, heard, reply


@pytest.mark.parametrize(
    ("mode", "maker", "taker", "reason"),
    [
        ("EXPIRE_MAKER", "EXPIRED_IN_MATCH", "EXPIRED", "2"),
        ("EXPIRE_TAKER", "NEW", "EXPIRED_IN_MATCH", "3"),
        ("EXPIRE_BOTH", "EXPIRED_IN_MATCH", "EXPIRED_IN_MATCH", "3"),
        ("NONE", "FILLED", "FILLED", "0"),
    ],
)
def test_taker_decides_who_expires(mode: str, maker: str, taker: str, reason: str) -> None:
    """The incoming order's mode decides; er 1 for the maker, 2 or 3 for an IOC's rest (facts 4.2, 4.4)."""
    rig, heard, reply = meet_own(mode)
    assert (rig.order("maker")["status"], reply.body["status"]) == (maker, taker)
    assert reply.body["selfTradePreventionMode"] == mode
    last = [
        event["o"] for event in heard if event["e"] == "ORDER_TRADE_UPDATE" and event["o"]["c"] == "taker"
    ][-1]
    assert (last["er"], last["V"]) == (reason, mode)
    ended = [
        event["o"] for event in heard if event["e"] == "ORDER_TRADE_UPDATE" and event["o"]["c"] == "maker"
    ]
    if maker == "EXPIRED_IN_MATCH":
        assert [(event["x"], event["X"], event["er"]) for event in ended] == [("EXPIRED", maker, "1")]


@pytest.mark.parametrize(("default", "status"), [("EXPIRE_MAKER", "EXPIRED_IN_MATCH"), ("NONE", "FILLED")])
def test_mode_that_is_not_sent_is_a_matter_of_choice(default: str, status: str) -> None:
    """EXPIRE_MAKER by one page, NONE by others: a switch (facts 3.3, unsure)."""
    rig, _, _ = meet_own("", default_stp=StpMode(default))
    assert rig.order("maker")["status"] == status


def test_prevention_holds_for_resting_kinds_of_takers() -> None:
    """GTC that meets its own maker with EXPIRE_MAKER rests where the maker stood (facts 4.4)."""
    rig, _, reply = meet_own("EXPIRE_MAKER", "GTC")
    assert (reply.body["status"], rig.order("maker")["status"]) == ("NEW", "EXPIRED_IN_MATCH")


def test_prevention_is_ignored_for_fill_or_kill() -> None:
    """FOK takers trade with their own (facts 4.4)."""
    rig, _, reply = meet_own("EXPIRE_TAKER", "FOK")
    assert (reply.body["status"], rig.order("maker")["status"]) == ("FILLED", "FILLED")


def test_market_hedge_kills_own_quotes_by_default() -> None:
    """A MARKET order with the default mode expires the resting quote it would meet (facts 4.4)."""
    rig = Rig()
    rig.quote("49990.0", "50010.0")
    rig.place("SELL", "50005.0", "0.010", newClientOrderId="quote")
    assert rig.take("BUY", "0.010").body["status"] == "FILLED"
    assert rig.order("quote")["status"] == "EXPIRED_IN_MATCH"


@pytest.mark.parametrize(("resets", "mode"), [(False, "EXPIRE_BOTH"), (True, "NONE")])
def test_mode_after_an_amendment_is_a_matter_of_choice(resets: bool, mode: str) -> None:
    """Kept by the change log of 2024-01-08, reset to NONE by older pages: a switch (facts 4.3, unsure)."""
    rig = Rig(options=Options(amend_resets_stp=resets))
    rig.place("BUY", "49999.0", "0.010", newClientOrderId="q1", selfTradePreventionMode="EXPIRE_BOTH")
    assert rig.amend("q1", "BUY", "49998.0", "0.010").body["selfTradePreventionMode"] == mode


# Test orders


def test_test_order_is_checked_and_forgotten() -> None:
    """POST order/test validates only; ids and times are zero; it costs the ORDERS slots (facts 3.3)."""
    rig = Rig()
    heard = rig.listen_to_user()
    params = {
        "symbol": "BTCUSDT",
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "GTX",
        "newClientOrderId": "t",
    }
    reply = rig.call("POST", f"{ORDER}/test", **params, quantity="0.010", price="49999")
    assert types_of(reply.body) == ORDER_FIELDS
    assert (reply.body["orderId"], reply.body["updateTime"], reply.body["clientOrderId"]) == (0, 0, "t")
    assert reply.body["executedQty"] == "0.000"
    assert reply.headers["x-mbx-order-count-10s"] == "1"
    assert reply.headers["x-mbx-order-count-1m"] == "1"
    assert reply.headers["x-mbx-used-weight-1m"] == "-1"
    assert rig.order("t")["code"] == -2013
    assert heard == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"price": "49999.05"}, -4014),
        ({"quantity": "0.001"}, -4164),
        ({"timeInForce": "XXX"}, -1115),
        ({"newOrderRespType": "FULL"}, -1136),
        ({"symbol": "NOSUCH"}, -1121),
    ],
)
def test_test_order_is_refused_like_a_real_one(change: dict[str, str], code: int) -> None:
    """The filters and parameters of a real order (facts 3.3, 9)."""
    base = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}
    params = {**base, "quantity": "0.010", "price": "49999", **change}
    assert Rig().call("POST", f"{ORDER}/test", **params).code == code


# Amendments


def test_history_of_amendments_tells_before_and_after() -> None:
    """GET orderAmendment: ids, times, price and origQty before and after, a running count, modifyId if sent (3.3)."""
    rig = resting()
    rig.amend("q1", "BUY", "49998.0", "0.010", modifyId=5)
    rig.wait(10)
    rig.amend("q1", "BUY", "49998.0", "0.020")
    rows = rig.call("GET", "/fapi/v1/orderAmendment", symbol="BTCUSDT", origClientOrderId="q1").body
    assert [row["amendment"] for row in rows] == [
        {
            "price": {"before": "49999.00", "after": "49998.00"},
            "origQty": {"before": "0.010", "after": "0.010"},
            "count": 1,
            "modifyId": 5,
        },
        {
            "price": {"before": "49998.00", "after": "49998.00"},
            "origQty": {"before": "0.010", "after": "0.020"},
            "count": 2,
        },
    ]
    assert [row["amendmentId"] for row in rows] == [1, 2]
    assert rows[1]["time"] - rows[0]["time"] == 10
    first = {name: rows[0][name] for name in ("symbol", "pair", "orderId", "clientOrderId")}
    assert first == {"symbol": "BTCUSDT", "pair": "BTCUSDT", "orderId": 1, "clientOrderId": "q1"}


def test_history_of_amendments_is_paged() -> None:
    """limit 50 by default, 100 at most; times narrow it (facts 3.3)."""
    rig = resting()
    for step in range(60):
        rig.amend("q1", "BUY", f"{49990 - step}", "0.010")
        rig.wait(1)
    path = "/fapi/v1/orderAmendment"
    rows = rig.call("GET", path, symbol="BTCUSDT", orderId=1).body
    assert [row["amendment"]["count"] for row in rows] == list(range(11, 61))
    assert len(rig.call("GET", path, symbol="BTCUSDT", orderId=1, limit=100).body) == 60
    assert rig.call("GET", path, symbol="BTCUSDT", orderId=1, limit=101).code == -1130
    since = rig.call("GET", path, symbol="BTCUSDT", orderId=1, startTime=rows[-1]["time"]).body
    assert [row["amendment"]["count"] for row in since] == [60]


def test_ended_order_keeps_its_newest_amendments() -> None:
    """As many as one reply has, under their own counts: an exchange of weeks must not hold all of every order."""
    rig = resting()
    for step in range(130):
        rig.amend("q1", "BUY", f"{49990 - step}", "0.010")
        rig.wait(100)
    path = "/fapi/v1/orderAmendment"
    told = rig.call("GET", path, symbol="BTCUSDT", orderId=1, limit=100).body
    rig.call("DELETE", "/fapi/v1/order", symbol="BTCUSDT", orderId=1)
    assert rig.call("GET", path, symbol="BTCUSDT", orderId=1, limit=100).body == told
    assert [row["amendment"]["count"] for row in told] == list(range(31, 131))
    assert len(rig.record()["orders"][0]["amendments"]) == 100


def test_record_tells_of_an_amendment_that_took_also_where_it_is_kept_no_longer() -> None:
    """Whether an order ever would have crossed is the record's proof of good behaviour."""
    rig = Rig()
    rig.place("BUY", "49990", "0.010", "GTC", newClientOrderId="q1")
    rig.quote("49999", "50000", ask_qty="0.001")
    rig.amend("q1", "BUY", "50000", "0.010")
    for step in range(100):
        rig.amend("q1", "BUY", f"{49990 - step}", "0.010")
        rig.wait(100)
    rig.call("DELETE", "/fapi/v1/order", symbol="BTCUSDT", origClientOrderId="q1")
    (order,) = rig.record()["orders"]
    assert (order["wouldCross"], any(seen["wouldCross"] for seen in order["amendments"])) == (True, False)


def test_unknown_order_has_no_history() -> None:
    """-2013, and -1102 without a name (facts 3.3)."""
    rig = Rig()
    assert rig.call("GET", "/fapi/v1/orderAmendment", symbol="BTCUSDT", orderId=9).code == -2013
    assert rig.call("GET", "/fapi/v1/orderAmendment", symbol="BTCUSDT").code == -1102


def test_only_limit_orders_are_amended() -> None:
    """-5025 for a MARKET order (facts 4.3, 9)."""
    rig = Rig()
    rig.take("BUY", "0.010", newClientOrderId="m")
    assert rig.amend("m", "BUY", "49998.0", "0.010").code == -5025


@pytest.mark.parametrize("code", [-2013, -2011])
def test_code_for_amending_an_ended_order_is_a_matter_of_choice(code: int) -> None:
    """-2013 or -2011, undocumented: a switch (facts 4.3, unsure)."""
    rig = Rig(options=Options(amend_of_ended_code=code))
    rig.place("BUY", "49999.0", "0.010", newClientOrderId="q1")
    rig.call("DELETE", ORDER, symbol="BTCUSDT", origClientOrderId="q1")
    assert rig.amend("q1", "BUY", "49998.0", "0.010").code == code


def test_amendment_costs_the_slots_of_a_new_order_and_a_cancel_none() -> None:
    """PUT counts 1 on both ORDERS windows, DELETE nothing (facts 3.3, 5)."""
    rig = resting()
    headers = rig.amend("q1", "BUY", "49998.0", "0.010").headers
    assert (headers["x-mbx-order-count-10s"], headers["x-mbx-order-count-1m"]) == ("2", "2")
    rig.call("DELETE", ORDER, symbol="BTCUSDT", origClientOrderId="q1")
    assert rig.place("BUY", "49000", "0.010").headers["x-mbx-order-count-1m"] == "3"


def test_amendment_is_told_with_its_id_and_new_values() -> None:
    """ORDER_TRADE_UPDATE x=AMENDMENT: q and p are the new values, z is kept, M is the modifyId as text (facts 4.3)."""
    rig = Rig()
    rig.place("BUY", "50000.0", "0.010", newClientOrderId="q1")
    rig.trade("50000.0", "10.004")
    heard = rig.listen_to_user()
    rig.amend("q1", "BUY", "49998.0", "0.020", modifyId=9)
    event = heard[0]["o"]
    assert (event["x"], event["X"], event["M"]) == ("AMENDMENT", "PARTIALLY_FILLED", "9")
    assert (event["q"], event["p"], event["z"]) == ("0.020", "49998.00", "0.004")


# The second look at the time


def test_slow_way_to_the_engine_costs_the_window() -> None:
    """Place and modify are held against recvWindow again at the matching engine: -5028, not executed (facts 2, 9)."""
    rig = Rig(options=Options(engine_ms=200))
    rig.place("BUY", "49000", "0.010", newClientOrderId="q1")
    assert rig.place("BUY", "49000", "0.010", recvWindow=199).code == -5028
    assert rig.amend("q1", "BUY", "49100", "0.010", recvWindow=199).code == -5028
    assert rig.call("DELETE", ORDER, symbol="BTCUSDT", origClientOrderId="q1", recvWindow=199).status == 200
    assert rig.place("BUY", "49000", "0.010", recvWindow=200).status == 200


@pytest.mark.parametrize("code", [-1106, -4062])
def test_reduce_only_has_no_place_in_hedge_mode(code: int) -> None:
    """-1106 or -4062: a switch (facts 4.5, 9)."""
    rig = Rig(options=Options(hedge_mode=True, hedge_reduce_only_code=code))
    assert rig.place("BUY", "49000", "0.010", positionSide="LONG", reduceOnly="true").code == code


# Batches


def batch(rig: Rig, method: str, items: list[dict[str, str]], **more: object) -> Reply:
    """Send a batch."""
    orders = json.dumps(items, separators=(",", ":"))
    return rig.call(method, "/fapi/v1/batchOrders", batchOrders=orders, **more)


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_slow_way_to_the_engine_costs_a_batch_the_window(method: str) -> None:
    """Its orders have no timestamp of their own: that of the request counts for each (facts 2, 9)."""
    rig = Rig(options=Options(engine_ms=200))
    rig.place("BUY", "49000", "0.010", newClientOrderId="q1")
    row = {"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.010", "price": "49100"}
    if method == "POST":
        row |= {"type": "LIMIT", "timeInForce": "GTX"}
    else:
        row |= {"origClientOrderId": "q1"}
    assert [each["code"] for each in batch(rig, method, [row, row], recvWindow=199).body] == [-5028, -5028]
    assert batch(rig, method, [row], recvWindow=200).body[0]["status"] == "NEW"


def test_batch_of_amendments_answers_in_request_order() -> None:
    """PUT batchOrders: each element an order or code and msg, HTTP 200 even if all failed (facts 3.3)."""
    rig = resting()
    row = {"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.010"}
    items = [
        {**row, "origClientOrderId": "none", "price": "49000"},
        {**row, "origClientOrderId": "q1", "price": "49000", "modifyId": "3"},
        {**row, "origClientOrderId": "q1", "price": "49000"},
        {**row, "origClientOrderId": "q1"},
    ]
    reply = batch(rig, "PUT", items)
    assert reply.status == 200
    assert [row.get("code", row.get("modifyId")) for row in reply.body] == [-2013, 3, -5027, -1102]
    assert types_of(reply.body[1]) == {**ORDER_FIELDS, "pair": str, "modifyId": int}
    assert batch(rig, "PUT", items[:1]).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_batch_costs_five_and_one(method: str) -> None:
    """Batches count 5 on the 10 s window and 1 on the minute, weight 5 (facts 3.3, 5)."""
    rig = Rig()
    reply = batch(rig, method, [{"symbol": "BTCUSDT"}])
    assert (reply.headers["x-mbx-order-count-10s"], reply.headers["x-mbx-order-count-1m"]) == ("5", "1")
    assert rig.send("GET", "/fapi/v1/ping").headers["x-mbx-used-weight-1m"] == "6"


def test_client_that_cleans_up_conditional_orders_finds_none() -> None:
    """There are none to be had (facts 3.4, 11): the list is empty, the cancel is done, placing one is refused."""
    rig = Rig()
    assert rig.call("GET", "/fapi/v1/openAlgoOrders", symbol="BTCUSDT").body == []
    assert rig.call("GET", "/fapi/v1/openAlgoOrders").body == []
    assert rig.call("GET", "/fapi/v1/openAlgoOrders", symbol="NOPEUSDT").code == -1121
    assert rig.call("DELETE", "/fapi/v1/algoOpenOrders", symbol="BTCUSDT").body["code"] == 200
    assert rig.call("DELETE", "/fapi/v1/algoOpenOrders").code == -1102
    assert rig.call("POST", "/fapi/v1/algoOrder", symbol="BTCUSDT").status == 404
