"""Orders over REST behave as Binance's do: life, replies, refusals."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.exchange import Options
from sim.orders import ExpiryReason, OrderStatus
from test.sim_factory import Rig, executions

ORDER = "/fapi/v1/order"


def test_post_only_order_rests() -> None:
    """A GTX order behind the touch is NEW and in openOrders, with the fields of facts 3.3 and without avgPrice."""
    rig = Rig()
    reply = rig.place("BUY", "49999.9", "0.010", newClientOrderId="q1")
    assert (reply.status, reply.body["status"], reply.body["clientOrderId"]) == (200, "NEW", "q1")
    assert {"avgPrice", "cumQuote"}.isdisjoint(reply.body)
    assert reply.body["price"] == "49999.90"
    assert reply.body["origQty"] == "0.010"
    assert reply.body["reduceOnly"] is False
    rows = rig.call("GET", "/fapi/v1/openOrders", symbol="BTCUSDT").body
    assert [(row["orderId"], row["avgPrice"], row["cumQuote"]) for row in rows] == [
        (reply.body["orderId"], "0.00000000", "0.00000000")
    ]


@pytest.mark.parametrize(("side", "price"), [("BUY", "50000.1"), ("BUY", "50007"), ("SELL", "50000")])
def test_post_only_order_that_would_take_never_existed(side: str, price: str) -> None:
    """HTTP 400 -5022; no order, no event, and its client id is free (facts 4.1)."""
    rig = Rig()
    heard = rig.listen_to_user()
    assert rig.place(side, price, "0.010", newClientOrderId="q1").code == -5022
    assert rig.order("q1")["code"] == -2013
    assert rig.call("GET", "/fapi/v1/allOrders", symbol="BTCUSDT").body == []
    assert heard == []


def test_post_only_order_that_would_meet_our_own_is_refused() -> None:
    """Two GTX quotes of one account never trade: the second would take (facts 4.4)."""
    rig = Rig()
    rig.quote("49990.0", "50010.0")
    rig.place("SELL", "50005", "0.010")
    assert rig.place("BUY", "50005", "0.010").code == -5022


def test_acknowledgement_shows_the_order_as_accepted() -> None:
    """ACK (default) says NEW, RESULT waits for the end of a market order (facts 3.3)."""
    rig = Rig()
    assert rig.take("BUY", "0.010", newOrderRespType="ACK").body["status"] == "NEW"
    reply = rig.take("BUY", "0.010").body
    assert (reply["status"], reply["executedQty"], reply["cumQty"]) == ("FILLED", "0.010", "0.010")
    assert rig.take("BUY", "0.010", newOrderRespType="FULL").code == -1136


def test_limit_order_takes_and_rests_with_what_is_left() -> None:
    """A crossing GTC order trades the touch, then joins the book (facts 4.1)."""
    rig = Rig()
    heard = rig.listen_to_user()
    rig.place("BUY", "50000.1", "12", "GTC", newClientOrderId="q1")
    order = rig.order("q1")
    assert (order["status"], order["executedQty"], order["avgPrice"]) == (
        "PARTIALLY_FILLED",
        "10.000",
        "50000.10000000",
    )
    assert executions(heard) == [("q1", "NEW"), ("q1", "TRADE")]
    assert [event["e"] for event in heard[1:]] == ["TRADE_LITE", "ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE"]


@pytest.mark.parametrize("is_amended", [False, True])
def test_rest_of_a_taker_waits_for_more_than_what_it_has_taken(is_amended: bool) -> None:
    """The next quote shows the ten coins again: they are gone; the two that are left are filled by an ask below."""
    rig = Rig(wallet="1000000")
    rig.place("BUY", "49999" if is_amended else "50000.1", "12", "GTC", newClientOrderId="q1")
    if is_amended:
        rig.amend("q1", "BUY", "50000.1", "12")
    rig.quote("50000.00", "50000.10")
    assert rig.order("q1")["executedQty"] == "10.000"
    rig.quote("49999.90", "50000.00")
    assert rig.order("q1")["executedQty"] == "12.000"


def test_immediate_order_expires_with_its_rest() -> None:
    """IOC: what does not fill at once ends as EXPIRED with reason 2 (facts 4.1, 7.2)."""
    rig = Rig()
    heard = rig.listen_to_user()
    rig.place("SELL", "50000", "12", "IOC", newClientOrderId="q1")
    assert (rig.order("q1")["status"], rig.order("q1")["executedQty"]) == ("EXPIRED", "10.000")
    last = heard[-1]["o"]
    assert (last["x"], last["X"], last["er"], last["z"]) == ("EXPIRED", "EXPIRED", "2", "10.000")


def test_fill_or_kill_fills_whole_or_is_refused() -> None:
    """FOK that cannot fill is -5021, without order or event (facts 4.1)."""
    rig = Rig()
    heard = rig.listen_to_user()
    assert rig.place("BUY", "50000.1", "10.001", "FOK").code == -5021
    assert heard == []
    assert rig.place("BUY", "50000.1", "10", "FOK", newOrderRespType="RESULT").body["status"] == "FILLED"


def test_market_order_without_enough_book_expires_with_its_rest() -> None:
    """What the modelled levels cannot fill ends with reason 9 (facts 7.2)."""
    rig = Rig()
    rig.quote("50000.0", "50000.1", "0.001", "0.001")
    heard = rig.listen_to_user()
    assert rig.take("BUY", "1.5").body["status"] == "EXPIRED"
    assert heard[-1]["o"]["er"] == "9"


def test_market_order_before_any_quote_is_refused_or_expires() -> None:
    """Without a mark there is no notional to check; reduce-only has nothing to reduce."""
    rig = Rig(quoted=False)
    assert rig.take("BUY", "1").code == -4164
    assert rig.take("BUY", "1", reduceOnly="true").code == -2022


def test_limit_order_before_any_quote_rests() -> None:
    """There is nothing to cross yet; the first quote may fill it."""
    rig = Rig(quoted=False)
    assert rig.place("BUY", "50000.1", "0.010", newClientOrderId="q1").status == 200
    rig.quote("50000.0", "50000.1")
    assert rig.order("q1")["status"] == "FILLED"


def test_trade_fills_us_after_the_queue() -> None:
    """Ten coins are ahead at the touch; the eleventh is ours, at our price, as maker."""
    rig = Rig()
    rig.place("BUY", "50000.0", "0.010", newClientOrderId="q1")
    rig.trade("50000.0", "10")
    assert rig.order("q1")["status"] == "NEW"
    rig.trade("50000.0", "0.004")
    assert (rig.order("q1")["status"], rig.order("q1")["executedQty"]) == ("PARTIALLY_FILLED", "0.004")
    rig.trade("49999.9", "0.001")
    assert rig.order("q1")["status"] == "FILLED"
    fills = rig.call("GET", "/fapi/v1/userTrades", symbol="BTCUSDT").body
    assert [(row["qty"], row["price"], row["maker"]) for row in fills] == [
        ("0.004", "50000.00", True),
        ("0.006", "50000.00", True),
    ]


# Refusals


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"symbol": "NOSUCH"}, -1121),
        ({"side": "LONG"}, -1117),
        ({"type": "PEGGED"}, -1116),
        ({"type": "LIQUIDATION"}, -1116),
        ({"type": "STOP_MARKET"}, -4120),
        ({"timeInForce": "GTA"}, -1115),
        ({"timeInForce": "GTD"}, -1102),
        ({"timeInForce": None}, -1102),
        ({"quantity": None}, -1102),
        ({"price": None}, -1102),
        ({"quantity": "-1"}, -1100),
        ({"quantity": "1e-3"}, -1100),
        ({"quantity": "0"}, -4003),
        ({"quantity": "0.0001"}, -1111),
        ({"quantity": "1001"}, -4005),
        ({"price": "0"}, -4001),
        ({"price": "49000.05"}, -4014),
        ({"price": "49000.005"}, -1111),
        ({"price": "556.70"}, -4013),
        ({"price": "4529764.1"}, -4002),
        ({"price": "52600"}, -4016),
        ({"side": "SELL", "price": "47400"}, -4024),
        ({"quantity": "0.001", "price": "49999.9"}, -4164),
        ({"quantity": "100"}, -2019),
        ({"quantity": "500"}, -2019),
        ({"reduceOnly": "true"}, -2022),
        ({"newClientOrderId": "with space"}, -4015),
        ({"newClientOrderId": "x" * 37}, -4015),
        ({"positionSide": "LONG"}, -4061),
        ({"positionSide": "UP"}, -4060),
        ({"selfTradePreventionMode": "SOME"}, -5039),
        ({"stopPrice": "1"}, -1106),
        ({"priceMatch": "QUEUE"}, -1106),
        ({"closePosition": "true"}, -1020),
        ({"reduceOnly": "yes"}, -1130),
    ],
)
def test_faulty_order_gets_its_code(change: dict[str, str | None], code: int) -> None:
    """Each fault has Binance's code at HTTP 400 (facts 3.2, 9), and leaves no order."""
    rig = Rig()
    params: dict[str, Any] = {
        "symbol": "BTCUSDT",
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "GTX",
        "quantity": "0.010",
        "price": "49000",
        **change,
    }
    reply = rig.call("POST", ORDER, **{name: value for name, value in params.items() if value is not None})
    assert (reply.status, reply.code) == (400, code)
    assert rig.call("GET", "/fapi/v1/openOrders", symbol="BTCUSDT").body == []


@pytest.mark.parametrize(("field", "value"), [("price", "50000"), ("timeInForce", "GTC")])
def test_market_order_takes_no_price_and_no_time_in_force(field: str, value: str) -> None:
    """Extra parameters of a type are -1106 (facts 3.3)."""
    assert Rig().take("BUY", "0.010", **{field: value}).code == -1106


@pytest.mark.parametrize(("quantity", "code"), [("120.001", -4005), ("0.0005", -1111), ("0", -4003)])
def test_market_order_has_its_own_lot_filter(quantity: str, code: int) -> None:
    """MARKET_LOT_SIZE has the smaller maximum (facts 3.2)."""
    assert Rig().take("BUY", quantity).code == code


@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_market_order_far_from_the_mark_is_refused(side: str) -> None:
    """-4131 if the best price that it would meet is outside of the price band (facts 9)."""
    rig = Rig()
    rig.quote("40000.0", "60000.0")
    assert rig.take(side, "0.010").code == -4131


def test_price_band_is_one_sided() -> None:
    """A deep BUY is allowed (facts 3.2)."""
    assert Rig().place("BUY", "10000", "0.010").status == 200


def test_client_id_is_unique_among_open_orders() -> None:
    """-4116 while the first lives; afterwards the id may be used again (facts 3.3)."""
    rig = Rig()
    rig.place("BUY", "49000", "0.010", newClientOrderId="q1")
    assert rig.place("BUY", "49000", "0.010", newClientOrderId="q1").code == -4116
    rig.call("DELETE", ORDER, symbol="BTCUSDT", origClientOrderId="q1")
    second = rig.place("BUY", "49000", "0.010", newClientOrderId="q1")
    assert rig.order("q1")["orderId"] == second.body["orderId"]


def test_open_orders_are_limited_a_symbol() -> None:
    """-2025 at MAX_NUM_ORDERS (facts 3.2)."""
    rig = Rig("NEXOUSDT", quoted=False)
    rig.quote("1.214", "1.216", "100", "100", symbol="NEXOUSDT")
    codes = [
        rig.place("BUY", "1.100", "10", symbol="NEXOUSDT", newClientOrderId=f"q{count}").status
        for count in range(200)
    ]
    assert set(codes) == {200}
    assert rig.place("BUY", "1.100", "10", symbol="NEXOUSDT").code == -2025


def test_minimum_notional_does_not_bind_reduce_only() -> None:
    """reduceOnly is exempt from MIN_NOTIONAL (facts 3.2)."""
    rig = Rig()
    rig.take("BUY", "0.010")
    assert rig.place("SELL", "50000.1", "0.001", reduceOnly="true").status == 200


def test_margin_counts_the_worse_side_only() -> None:
    """Quotes on both sides need the margin of one; a third of the same side does not fit (facts 3.4)."""
    rig = Rig(wallet="100")
    assert rig.place("BUY", "50000.0", "0.035").status == 200
    assert rig.place("SELL", "50000.1", "0.035").status == 200
    assert rig.place("BUY", "50000.0", "0.010").code == -2019


# Reduce-only


def test_reduce_only_order_is_cut_to_the_position() -> None:
    """The reply shows the smaller quantity (facts 4.5)."""
    rig = Rig()
    rig.take("SELL", "0.010")
    reply = rig.take("BUY", "0.050", reduceOnly="true")
    assert (reply.body["origQty"], reply.body["status"], rig.position()) == ("0.010", "FILLED", "0.000")


def test_reduce_only_order_in_the_wrong_direction_is_refused() -> None:
    """-2022 if it would enlarge (facts 4.5)."""
    rig = Rig()
    rig.take("SELL", "0.010")
    assert rig.take("SELL", "0.010", reduceOnly="true").code == -2022


def test_resting_reduce_only_order_follows_the_position() -> None:
    """It shrinks with the position and expires with reason 4 when there is none (facts 4.5, 7.2)."""
    rig = Rig()
    rig.take("BUY", "0.010")
    heard = rig.listen_to_user()
    rig.place("SELL", "50010", "0.010", reduceOnly="true", newClientOrderId="r1")
    rig.take("SELL", "0.004")
    assert rig.order("r1")["origQty"] == "0.006"
    rig.take("SELL", "0.006")
    assert rig.order("r1")["status"] == "EXPIRED"
    assert heard[-1]["o"]["er"] == str(int(ExpiryReason.REDUCE_ONLY))
    rig.quote("50020.0", "50020.1")
    assert rig.position() == "0.000"


def test_two_reduce_only_orders_never_turn_the_position() -> None:
    """Filled in one sweep, the second finds nothing left."""
    rig = Rig()
    rig.take("BUY", "0.010")
    rig.place("SELL", "50010", "0.008", reduceOnly="true", newClientOrderId="r1")
    rig.place("SELL", "50011", "0.008", reduceOnly="true", newClientOrderId="r2")
    rig.quote("50020.0", "50020.1")
    assert rig.position() == "0.000"
    assert (rig.order("r1")["executedQty"], rig.order("r2")["executedQty"]) == ("0.008", "0.002")


def test_position_that_reduce_only_orders_cover_already_has_no_room_for_another_where_that_is_asked() -> None:
    """Sources disagree: by default it is taken. What others leave of the position may be covered (facts 4.5)."""
    assert Options().refuses_covered_reduce_only is False
    rig = Rig(options=Options(refuses_covered_reduce_only=True))
    rig.take("BUY", "0.010")
    rig.place("SELL", "50010", "0.006", reduceOnly="true", newClientOrderId="r1")
    assert rig.place("SELL", "50011", "0.005", reduceOnly="true").code == -4118
    assert rig.take("SELL", "0.010", reduceOnly="true").code == -4118
    assert rig.place("SELL", "50011", "0.004", reduceOnly="true", newClientOrderId="r2").status == 200
    assert rig.amend("r2", "SELL", "50012", "0.005", reduceOnly="true").code == -4118
    assert rig.amend("r2", "SELL", "50012", "0.004", reduceOnly="true").status == 200
    assert rig.take("SELL", "0.001").status == 200
    assert rig.position() == "0.009"


def test_reduce_only_order_filled_in_part_beside_another_rests_with_what_is_left_of_it() -> None:
    """One print takes an ordinary order whole and 0.006 of it, and cuts it to 0.008: 0.002 rest, and no more trade."""
    rig = Rig()
    rig.take("BUY", "0.010")
    rig.quote("50000.0", "50001.0")
    rig.place("SELL", "50000.2", "0.002", newClientOrderId="a")
    rig.place("SELL", "50000.3", "0.010", reduceOnly="true", newClientOrderId="b")
    rig.trade("50000.3", "0.008", sold=False)
    shown = rig.order("b")
    assert (shown["status"], shown["origQty"], shown["executedQty"]) == ("PARTIALLY_FILLED", "0.008", "0.006")
    rig.place("BUY", "50000.1", "0.005")
    rig.trade("50000.1", "0.005")
    rig.trade("50000.3", "1", sold=False)
    assert (rig.order("b")["status"], rig.order("b")["executedQty"]) == ("FILLED", "0.008")
    assert rig.position() == "0.005"


STEPS, LOTS = st.integers(0, 1), st.integers(2, 12)


@settings(max_examples=400)
@given(
    st.booleans(),
    st.lists(st.tuples(STEPS, LOTS, st.booleans()), min_size=2, max_size=5),
    st.lists(st.tuples(STEPS, LOTS), min_size=1, max_size=5),
)
def test_book_holds_of_every_order_what_the_desk_says_is_left(
    is_long: bool, orders: list[tuple[int, int, bool]], prints: list[tuple[int, int]]
) -> None:
    """Whatever is filled in part, cut to the position, or both at once."""
    rig = Rig()
    rig.take("BUY" if is_long else "SELL", "0.010")
    rig.quote("49999.0", "50001.0")
    away, side = (1, "SELL") if is_long else (-1, "BUY")
    for steps, lots, reduces in orders:
        price = f"{50000 + away * steps / 10:.1f}"
        rig.place(side, price, f"{lots / 1000:.3f}", reduceOnly=str(reduces).lower())
    instrument = rig.exchange._venue.instruments["BTCUSDT"]  # no reply tells what the book holds
    for steps, lots in prints:
        rig.trade(f"{50000 + away * steps / 10:.1f}", f"{lots / 1000:.3f}", sold=not is_long)
        resting = [*instrument.matcher.bids.orders, *instrument.matcher.asks.orders]
        assert {order.order_id: order.lots for order in resting} == {
            order.order_id: order.remaining_lots for order in instrument.open.values()
        }


# Self-trade prevention


@pytest.mark.parametrize(
    ("mode", "maker", "taker"),
    [
        ("EXPIRE_MAKER", "EXPIRED_IN_MATCH", "FILLED"),
        ("EXPIRE_TAKER", "NEW", "EXPIRED_IN_MATCH"),
        ("EXPIRE_BOTH", "EXPIRED_IN_MATCH", "EXPIRED_IN_MATCH"),
        ("NONE", "FILLED", "FILLED"),
    ],
)
def test_own_taker_meets_own_maker(mode: str, maker: str, taker: str) -> None:
    """The taker's mode decides who expires, with reason 1 (facts 4.4)."""
    rig = Rig()
    rig.quote("49990.0", "50010.0")
    rig.place("SELL", "50005", "0.010", newClientOrderId="m")
    heard = rig.listen_to_user()
    rig.place("BUY", "50010", "0.010", "GTC", newClientOrderId="t", selfTradePreventionMode=mode)
    assert (rig.order("m")["status"], rig.order("t")["status"]) == (maker, taker)
    reasons = {
        event["o"]["er"]
        for event in heard
        if event["e"] == "ORDER_TRADE_UPDATE" and event["o"]["x"] == "EXPIRED"
    }
    assert reasons <= {"1"}
    if mode == "NONE":
        assert rig.position() == "0.000"


def test_flatten_with_the_default_mode_expires_our_quotes_in_its_way() -> None:
    """The default is EXPIRE_MAKER on the taker's side (facts 3.3, 4.4)."""
    rig = Rig()
    rig.quote("49990.0", "50010.0")
    rig.place("BUY", "50000", "0.010", newClientOrderId="m")
    rig.take("SELL", "0.010")
    assert rig.order("m")["status"] == OrderStatus.EXPIRED_IN_MATCH


def test_immediate_taker_cut_by_prevention_says_so() -> None:
    """An IOC taker that expires against our own maker has reason 3 (facts 4.2)."""
    rig = Rig()
    rig.quote("49990.0", "50010.0")
    rig.place("SELL", "50005", "0.010")
    heard = rig.listen_to_user()
    rig.place("BUY", "50010", "0.010", "IOC", selfTradePreventionMode="EXPIRE_TAKER")
    assert heard[-1]["o"]["er"] == "3"


def test_fill_or_kill_ignores_prevention() -> None:
    """FOK takers are exempt (facts 4.4)."""
    rig = Rig()
    rig.quote("49990.0", "50010.0")
    rig.place("SELL", "50005", "0.010", newClientOrderId="m")
    assert rig.place("BUY", "50005", "0.010", "FOK", newOrderRespType="RESULT").body["status"] == "FILLED"
    assert rig.order("m")["status"] == "FILLED"


def test_fill_or_kill_counts_each_of_our_own_orders_once() -> None:
    """Two of 0.010 at one price are 0.020: 0.021 would fill in part, and is -5021 (facts 4.1)."""
    rig = Rig()
    rig.quote("49990.0", "50010.0")
    for name in ("m1", "m2"):
        rig.place("SELL", "50005", "0.010", newClientOrderId=name)
    assert rig.place("BUY", "50005", "0.021", "FOK").code == -5021
    assert rig.place("BUY", "50005", "0.020", "FOK", newOrderRespType="RESULT").body["status"] == "FILLED"


# Amend


def resting(tif: str = "GTX") -> tuple[Rig, list[Any]]:
    """Return an exchange with one resting bid q1, and the list of user events from then on."""
    rig = Rig()
    rig.place("BUY", "49999.0", "0.010", tif, newClientOrderId="q1")
    return rig, rig.listen_to_user()


def test_amendment_keeps_the_ids_and_says_what_is_new() -> None:
    """AMENDMENT carries new price and quantity and the modifyId; the reply is the live order (facts 4.3)."""
    rig, heard = resting()
    reply = rig.amend("q1", "BUY", "49998.0", "0.020", modifyId="77")
    assert (reply.body["orderId"], reply.body["price"], reply.body["origQty"]) == (1, "49998.00", "0.020")
    assert (reply.body["status"], reply.body["modifyId"], reply.body["pair"]) == ("NEW", 77, "BTCUSDT")
    event = heard[-1]["o"]
    assert (event["x"], event["X"], event["p"], event["q"], event["M"]) == (
        "AMENDMENT",
        "NEW",
        "49998.00",
        "0.020",
        "77",
    )


def test_amended_order_goes_to_the_tail() -> None:
    """Even a mere decrease of the size loses the place in the queue (facts 4.3)."""
    rig = Rig()
    rig.place("BUY", "50000.0", "0.020", newClientOrderId="q1")
    rig.trade("50000.0", "4")
    assert rig.record()["orders"][0]["queueAhead"] == "6.000"
    rig.amend("q1", "BUY", "50000.0", "0.010")
    assert rig.record()["orders"][0]["queueAhead"] == "10.000"


def test_amended_quantity_is_the_total() -> None:
    """What has been executed is part of the new quantity (facts 4.3)."""
    rig = Rig()
    rig.place("BUY", "50000.0", "0.010", newClientOrderId="q1")
    rig.trade("50000.0", "10.004")
    rig.amend("q1", "BUY", "49999.0", "0.014")
    rig.trade("49998.0", "1")
    assert (rig.order("q1")["executedQty"], rig.order("q1")["status"]) == ("0.014", "FILLED")


def test_amendment_down_to_the_executed_quantity_cancels() -> None:
    """Case (a): nothing would remain (facts 4.3)."""
    rig = Rig()
    rig.place("BUY", "50000.0", "0.010", newClientOrderId="q1")
    rig.trade("50000.0", "10.004")
    heard = rig.listen_to_user()
    assert rig.amend("q1", "BUY", "50000.0", "0.004").body["status"] == "CANCELED"
    assert executions(heard) == [("q1", "CANCELED")]


@pytest.mark.parametrize("refuses", [False, True])
def test_post_only_order_amended_into_the_market_is_lost(refuses: bool) -> None:
    """Case (b): the resting order is gone too; the reply's form is undocumented and may be chosen (facts 4.3)."""
    rig = Rig(options=Options(amend_refuses_crossing=refuses))
    rig.place("BUY", "49999.0", "0.010", newClientOrderId="q1")
    reply = rig.amend("q1", "BUY", "50000.1", "0.010")
    assert (reply.code if refuses else reply.body["status"]) == (-5022 if refuses else "EXPIRED")
    assert rig.order("q1")["status"] == "EXPIRED"
    assert rig.position() == "0.000"


def test_ordinary_order_amended_into_the_market_trades() -> None:
    """GTC crosses as a taker after its AMENDMENT."""
    rig, heard = resting("GTC")
    rig.amend("q1", "BUY", "50000.1", "0.010")
    assert executions(heard) == [("q1", "AMENDMENT"), ("q1", "TRADE")]
    assert rig.order("q1")["status"] == "FILLED"


@pytest.mark.parametrize(
    ("side", "price", "quantity", "more", "code"),
    [
        ("BUY", "49999.0", "0.010", {}, -5027),
        ("BUY", "49999.0", "0.001", {}, -5029),
        ("BUY", "49999.05", "0.010", {}, -4014),
        ("BUY", "52600", "0.010", {}, -4016),
        ("BUY", "49999.0", "0.0105", {}, -1111),
        ("BUY", "49999.0", "80", {}, -2019),
        ("SELL", "50001.0", "0.010", {}, -1117),
        ("BUY", "49998.0", "0.010", {"reduceOnly": "true"}, -5047),
        ("BUY", "49998.0", "0.010", {"priceMatch": "QUEUE"}, -1106),
        ("BUY", "49998.0", "0.010", {"modifyId": "x"}, -1100),
        ("BUY", "49998.0", "0.010", {"origClientOrderId": "other"}, -2013),
    ],
)
def test_refused_amendment_leaves_the_order_alone(
    side: str, price: str, quantity: str, more: dict[str, str], code: int
) -> None:
    """Faulty amendments change nothing (facts 4.3)."""
    rig, heard = resting()
    assert rig.amend("q1", side, price, quantity, **more).code == code
    order = rig.order("q1")
    assert (order["status"], order["price"], order["origQty"]) == ("NEW", "49999.00", "0.010")
    assert heard == []


def test_amendment_needs_price_and_quantity_and_a_name() -> None:
    """Both values and an id are mandatory (facts 4.3)."""
    rig, _ = resting()
    for params in ({"price": "1"}, {"quantity": "1"}):
        assert (
            rig.call("PUT", ORDER, symbol="BTCUSDT", side="BUY", origClientOrderId="q1", **params).code
            == -1102
        )
    assert rig.call("PUT", ORDER, symbol="BTCUSDT", side="BUY", price="1", quantity="1").code == -1102


def test_ended_order_cannot_be_amended() -> None:
    """-2013 for an order that is no longer open."""
    rig, _ = resting()
    rig.call("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")
    assert rig.amend("q1", "BUY", "49998.0", "0.010").code == -2013


def test_small_reduce_only_order_may_be_amended_with_the_flag() -> None:
    """Below the minimum notional only reduceOnly=true on a reduce-only order passes, cut to its position."""
    rig = Rig()
    rig.take("BUY", "0.001")
    rig.place("SELL", "50010", "0.001", reduceOnly="true", newClientOrderId="r1")
    assert rig.amend("r1", "SELL", "50020", "0.0009").code == -1111
    assert rig.amend("r1", "SELL", "50020", "0.001", reduceOnly="true").status == 200
    assert rig.amend("r1", "SELL", "50030", "0.005", reduceOnly="true").body["origQty"] == "0.001"


@pytest.mark.parametrize(
    ("held", "quantity", "total"), [("0.100", "0.008", "0.008"), ("0.006", "0.010", "0.006")]
)
def test_amended_total_of_a_reduce_only_order_holds_what_was_executed(
    held: str, quantity: str, total: str
) -> None:
    """The quantity is the new total (facts 4.3): what is left of it is cut to the position."""
    rig = Rig()
    rig.take("BUY", held)
    rig.place("SELL", "50000.1", "0.006", reduceOnly="true", newClientOrderId="r1")
    rig.trade("50000.1", "10.004", sold=False)
    assert rig.order("r1")["executedQty"] == "0.004"
    reply = rig.amend("r1", "SELL", "50010", quantity, reduceOnly="true")
    assert (reply.status, reply.body["origQty"]) == (200, total)
    rig.quote("50011.0", "50011.1")
    assert (rig.order("r1")["status"], rig.order("r1")["executedQty"]) == ("FILLED", total)


def test_order_is_amended_ten_thousand_times_at_most() -> None:
    """-5026 beyond maxMoveOrderLimit (facts 4.3)."""
    rig, _ = resting()
    prices = ("49998.0", "49999.0")
    venue = rig.exchange._venue  # ten thousand signed requests would test patience, not the limit
    order = venue.instruments["BTCUSDT"].by_client["q1"]
    order.modify_count = 9_999
    assert rig.amend("q1", "BUY", prices[0], "0.010").status == 200
    assert rig.amend("q1", "BUY", prices[1], "0.010").code == -5026


# Cancel


def test_cancelled_order_is_replied_in_its_final_state() -> None:
    """DELETE returns the order as CANCELED, keeping what was executed (facts 3.3, 4.2)."""
    rig = Rig()
    rig.place("BUY", "50000.0", "0.010", newClientOrderId="q1")
    rig.trade("50000.0", "10.004")
    heard = rig.listen_to_user()
    reply = rig.call("DELETE", ORDER, symbol="BTCUSDT", orderId=1)
    assert (reply.body["status"], reply.body["executedQty"]) == ("CANCELED", "0.004")
    assert executions(heard) == [("q1", "CANCELED")]
    rig.trade("50000.0", "100")
    assert rig.order("q1")["executedQty"] == "0.004"


def test_unknown_or_ended_order_cannot_be_cancelled() -> None:
    """-2011 either way (facts 3.3)."""
    rig = Rig()
    assert rig.call("DELETE", ORDER, symbol="BTCUSDT", orderId=7).code == -2011
    rig.take("BUY", "0.010", newClientOrderId="q1")
    assert rig.call("DELETE", ORDER, symbol="BTCUSDT", origClientOrderId="q1").code == -2011
    assert rig.call("DELETE", ORDER, symbol="BTCUSDT").code == -1102


def test_cancel_all_succeeds_with_a_code() -> None:
    """The success body holds the int 200 as code (facts 3.3); one symbol only."""
    rig = Rig("BTCUSDT", "ETHUSDT", quoted=False)
    rig.place("BUY", "50000.0", "0.010")
    rig.place("BUY", "3000.0", "0.010", symbol="ETHUSDT")
    reply = rig.call("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")
    assert reply.body == {"code": 200, "msg": "The operation of cancel all open order is done."}
    rows = rig.call("GET", "/fapi/v1/openOrders").body
    assert [row["symbol"] for row in rows] == ["ETHUSDT"]


def test_countdown_that_ends_before_anything_else_is_told_of() -> None:
    """Whoever lets time pass for the exchange may be asleep until the next second."""
    rig, told = Rig(), []
    rig.exchange.on_sooner = lambda: told.append(rig.exchange.next_due_ms())
    path = "/fapi/v1/countdownCancelAll"
    rig.call("POST", path, symbol="BTCUSDT", countdownTime=60_000)
    assert told == []
    rig.call("POST", path, symbol="BTCUSDT", countdownTime=137)
    assert told == [rig.now_ms + 137]


def test_countdown_cancels_unless_it_is_refreshed() -> None:
    """The dead-man switch runs on the exchange, a symbol; each call replaces the timer, 0 disarms (facts 3.3)."""
    rig = Rig()
    path = "/fapi/v1/countdownCancelAll"
    rig.place("BUY", "49000", "0.010", newClientOrderId="q1")
    reply = rig.call("POST", path, symbol="BTCUSDT", countdownTime=1000)
    assert reply.body == {"symbol": "BTCUSDT", "countdownTime": "1000"}
    rig.wait(900)
    rig.call("POST", path, symbol="BTCUSDT", countdownTime=1000)
    rig.wait(900)
    assert rig.order("q1")["status"] == "NEW"
    rig.call("POST", path, symbol="BTCUSDT", countdownTime=0)
    rig.wait(5000)
    assert rig.order("q1")["status"] == "NEW"
    rig.call("POST", path, symbol="BTCUSDT", countdownTime=137)
    assert (rig.exchange.next_due_ms() or 0) <= rig.now_ms + 137
    due_ms = rig.now_ms + 137
    rig.wait(137)
    order = rig.order("q1")
    assert (order["status"], order["updateTime"]) == ("CANCELED", due_ms)


# Batches


def batch(rig: Rig, method: str, items: object, **more: object) -> Any:
    """Send a batch."""
    text = json.dumps(items, separators=(",", ":"))
    return rig.call(method, "/fapi/v1/batchOrders", batchOrders=text, **more)


def element(side: str = "BUY", price: str = "49000", **more: str) -> dict[str, str]:
    """Return an order as an element of a batch."""
    base = {"symbol": "BTCUSDT", "side": side, "type": "LIMIT", "timeInForce": "GTX"}
    return {**base, "price": price, "quantity": "0.010", **more}


def test_batch_answers_each_for_itself() -> None:
    """HTTP 200 with orders and errors in request order (facts 3.3)."""
    rig = Rig()
    items = [
        element(newClientOrderId="a"),
        element(price="50001"),
        element("SELL", "51000", newClientOrderId="b"),
    ]
    reply = batch(rig, "POST", items)
    assert reply.status == 200
    assert [row.get("clientOrderId", row.get("code")) for row in reply.body] == ["a", -5022, "b"]
    amended = batch(
        rig,
        "PUT",
        [element(price="48000", origClientOrderId="a"), element(price="48000", origClientOrderId="z")],
    )
    assert [row.get("price", row.get("code")) for row in amended.body] == ["48000.00", -2013]
    cancelled = rig.call(
        "DELETE", "/fapi/v1/batchOrders", symbol="BTCUSDT", origClientOrderIdList='["a","z"]'
    )
    assert [row.get("status", row.get("code")) for row in cancelled.body] == ["CANCELED", -2011]
    by_id = rig.call("DELETE", "/fapi/v1/batchOrders", symbol="BTCUSDT", orderIdList="[2]")
    assert [row["status"] for row in by_id.body] == ["CANCELED"]
    assert [row["code"] for row in rig.record()["rejected"]] == [-5022, -2013, -2011]


@pytest.mark.parametrize(
    ("items", "code"), [([element()] * 6, -4082), ([], -4082), ({}, -1130), (["x"], -1130), ("[", -1130)]
)
def test_faulty_batch_is_refused_whole(items: object, code: int) -> None:
    """More than five are -4082, what is no list of objects -1130 (facts 3.3)."""
    assert batch(Rig(), "POST", items).code == code


def test_at_most_ten_orders_are_cancelled_at_once() -> None:
    """-4032 beyond ten (facts 3.3)."""
    reply = Rig().call(
        "DELETE", "/fapi/v1/batchOrders", symbol="BTCUSDT", orderIdList=json.dumps(list(range(11)))
    )
    assert reply.code == -4032


# Queries


def test_old_unfilled_orders_are_forgotten() -> None:
    """Ended without fills: not found from three days on; filled: still there, until 90 days (facts 3.3).

    The orders are made older, because days of a market take seconds.
    """
    rig, day_ms = Rig(), 86_400_000
    rig.place("BUY", "49000", "0.010", newClientOrderId="q1")
    rig.call("DELETE", ORDER, symbol="BTCUSDT", origClientOrderId="q1")
    rig.take("BUY", "0.010", newClientOrderId="q2")
    orders = list(rig.exchange._venue.ledger.orders())

    def listed(age_ms: int) -> list[str]:
        for order in orders:
            order.time_ms = rig.now_ms - age_ms
        rows = rig.call("GET", "/fapi/v1/allOrders", symbol="BTCUSDT").body
        return [row["clientOrderId"] for row in rows]

    assert listed(3 * day_ms) == ["q1", "q2"]
    assert rig.order("q1")["status"] == "CANCELED"
    assert listed(3 * day_ms + 1) == ["q2"]
    assert rig.order("q1")["code"] == -2013
    assert rig.order("q2")["status"] == "FILLED"
    listed(90 * day_ms)
    assert rig.order("q2")["status"] == "FILLED"
    listed(90 * day_ms + 1)
    assert rig.order("q2")["code"] == -2013


def test_open_order_is_found_only_while_open() -> None:
    """GET openOrder gives -2013 once the order has ended (facts 3.3)."""
    rig, _ = resting()
    assert rig.call("GET", "/fapi/v1/openOrder", symbol="BTCUSDT", orderId=1).body["clientOrderId"] == "q1"
    rig.call("DELETE", ORDER, symbol="BTCUSDT", orderId=1)
    assert rig.call("GET", "/fapi/v1/openOrder", symbol="BTCUSDT", orderId=1).code == -2013


def test_order_of_another_symbol_is_not_found() -> None:
    """An id counts with its symbol only."""
    rig = Rig("BTCUSDT", "ETHUSDT", quoted=False)
    rig.place("BUY", "50000.0", "0.010")
    assert rig.call("GET", ORDER, symbol="ETHUSDT", orderId=1).code == -2013


def test_all_orders_pages_by_id() -> None:
    """orderId is inclusive, oldest first; limits over 1000 are invalid (facts 3.3)."""
    rig = Rig()
    for count in range(5):
        rig.place("BUY", "49000", "0.010", newClientOrderId=f"q{count}")
    found = rig.call("GET", "/fapi/v1/allOrders", symbol="BTCUSDT", orderId=2, limit=2).body
    assert [row["orderId"] for row in found] == [2, 3]
    newest = rig.call("GET", "/fapi/v1/allOrders", symbol="BTCUSDT", limit=2).body
    assert [row["orderId"] for row in newest] == [4, 5]
    assert rig.call("GET", "/fapi/v1/allOrders", symbol="BTCUSDT", limit=1001).code == -1130


def test_hedge_mode_asks_for_a_position_side() -> None:
    """Orders without positionSide get -4061; reduceOnly is not wanted; hedging is not simulated (facts 4.5)."""
    rig = Rig(options=Options(hedge_mode=True))
    assert rig.place("BUY", "49000", "0.010").code == -4061
    assert rig.place("BUY", "49000", "0.010", positionSide="LONG", reduceOnly="true").code == -1106
    assert rig.place("BUY", "49000", "0.010", positionSide="LONG").code == -1020


@pytest.mark.parametrize("act", ["fill", "end"])
def test_ended_order_admits_nothing_more(act: str) -> None:
    """The life of an order is a one-way street: terminal states refuse fills and other ends."""
    rig = Rig()
    rig.place("BUY", "49000", "0.010", newClientOrderId="q1")
    order = rig.exchange._venue.instruments["BTCUSDT"].by_client["q1"]
    rig.call("DELETE", ORDER, symbol="BTCUSDT", orderId=1)
    with pytest.raises(ValueError, match="order 1"):
        order.execute(1, 490_000, 1) if act == "fill" else order.end(OrderStatus.EXPIRED, 1)
