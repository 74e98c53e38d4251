"""Every error code that a request of a client can bring about, brought about by it; with its status and its shape.

Codes that only faults bring about (-1000, -1001, -1006 to -1008, -1016, -5043 ...) are tested with the faults.
"""

from collections.abc import Callable
from typing import Any

import pytest

from sim.deployment import Deployment
from sim.exchange import ApiKey, Options
from sim.limits import LimitSizes
from test.sim_factory import START_MS, Reply, Rig

V1 = "/fapi/v1"
ORDER = f"{V1}/order"
LIMIT = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.010"}
Story = Callable[[Rig], Reply]


def post(path: str = ORDER, **params: object) -> Story:
    """Return the story of one POST; without a path it is a LIMIT order of 0.010 at 49000 with these changes."""
    base: dict[str, Any] = {**LIMIT, "price": "49000"} if path == ORDER else {}
    sent = {name: value for name, value in {**base, **params}.items() if value is not None}
    return lambda rig: rig.call("POST", path, **sent)


def get(path: str, **params: object) -> Story:
    """Return the story of one GET."""
    return lambda rig: rig.call("GET", path, **params)


def delete(path: str, **params: object) -> Story:
    """Return the story of one DELETE."""
    return lambda rig: rig.call("DELETE", path, **params)


def after(*stories: Story) -> Story:
    """Return the story that is all of these in turn; the last reply counts."""

    def tell(rig: Rig) -> Reply:
        return [story(rig) for story in stories][-1]

    return tell


def amend(**changes: object) -> Story:
    """Return the story of amending a resting GTC order."""
    put: dict[str, Any] = {"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.010", "price": "49100"}
    sent = {**put, "origClientOrderId": "q1", **changes}
    return after(post(newClientOrderId="q1"), lambda rig: rig.call("PUT", ORDER, **sent))


def raw(method: str, path: str, query: str, key: str = "paper-key") -> Story:
    """Return the story of a request sent as it is."""
    return lambda rig: rig.send(method, path, query, key=key)


def own(path: str, query: str) -> Story:
    """Return the story of a control request."""
    return raw("POST", path, query)


BUY = post(type="MARKET", timeInForce=None, price=None)
NO_BOOK = {"type": "LIMIT", "timeInForce": "GTC", "price": None, "priceMatch": "QUEUE", "symbol": "ETHUSDT"}
LATER = str(START_MS + 1000)

CASES: list[tuple[int, int, Story]] = [
    (-1015, 429, after(*[post()] * 7)),
    (-1020, 400, post(closePosition="true")),
    (-1021, 400, raw("GET", f"{V1}/accountConfig", f"timestamp={START_MS - 6000}&signature=00")),
    (-1022, 400, raw("GET", f"{V1}/accountConfig", f"timestamp={START_MS}&signature=00")),
    (-1023, 400, get(f"{V1}/income", startTime=2, endTime=1)),
    (-1100, 400, post(price="1e5")),
    (-1101, 400, raw("GET", f"{V1}/depth", "symbol=BTCUSDT&symbol=BTCUSDT")),
    (-1102, 400, post(quantity=None)),
    (-1105, 400, raw("GET", f"{V1}/depth", "symbol=BTCUSDT&limit=")),
    (-1106, 400, post(stopPrice="1")),
    (-1111, 400, post(quantity="0.0101")),
    (-1115, 400, post(timeInForce="XXX")),
    (-1116, 400, post(type="XXX")),
    (-1117, 400, post(side="XXX")),
    (-1120, 400, get(f"{V1}/klines", symbol="BTCUSDT", interval="1s")),
    (-1121, 400, post(symbol="XXX")),
    (-1122, 400, after(own("/sim/restrict", "code=-1122&symbol=BTCUSDT&seconds=9"), post())),
    (-1125, 400, raw("PUT", f"{V1}/listenKey", "")),
    (-1127, 400, get(f"{V1}/aggTrades", symbol="BTCUSDT", startTime=0, endTime=4_000_000)),
    (-1128, 400, get(f"{V1}/userTrades", symbol="BTCUSDT", fromId=1, startTime=1)),
    (-1130, 400, get(f"{V1}/depth", symbol="BTCUSDT", limit=1500)),
    (-1131, 400, raw("GET", f"{V1}/accountConfig", f"recvWindow=60001&timestamp={START_MS}&signature=00")),
    (-2011, 400, delete(ORDER, symbol="BTCUSDT", orderId=99)),
    (-2013, 400, get(ORDER, symbol="BTCUSDT", orderId=99)),
    (-2014, 401, raw("GET", f"{V1}/accountConfig", "", key="")),
    (-2015, 401, raw("GET", f"{V1}/accountConfig", "", key="unknown")),
    (-2019, 400, post(quantity="100")),
    (-1136, 400, post(newOrderRespType="FULL")),
    (-2022, 400, post(reduceOnly="true")),
    (-2027, 400, after(post(f"{V1}/leverage", symbol="BTCUSDT", leverage=125), post(quantity="2"))),
    (-2028, 400, after(post(quantity="20"), post(f"{V1}/leverage", symbol="BTCUSDT", leverage=1))),
    (-4001, 400, post(price="0")),
    (-4002, 400, post(price="4529764.1")),
    (-4003, 400, post(quantity="0")),
    (-4005, 400, post(quantity="1001")),
    (-4013, 400, post(price="556.7")),
    (-4014, 400, post(price="49000.05")),
    (-4015, 400, post(newClientOrderId="x" * 37)),
    (-4016, 400, post(price="53000")),
    (-4021, 400, get(f"{V1}/depth", symbol="BTCUSDT", limit=3)),
    (-4024, 400, post(side="SELL", price="47000")),
    (-4028, 400, post(f"{V1}/leverage", symbol="BTCUSDT", leverage=126)),
    (
        -4032,
        400,
        delete(f"{V1}/batchOrders", symbol="BTCUSDT", orderIdList=str(list(range(11))).replace(" ", "")),
    ),
    (-4046, 400, post(f"{V1}/marginType", symbol="BTCUSDT", marginType="CROSSED")),
    (-4047, 400, after(post(), post(f"{V1}/marginType", symbol="BTCUSDT", marginType="ISOLATED"))),
    (-4048, 400, after(BUY, post(f"{V1}/marginType", symbol="BTCUSDT", marginType="ISOLATED"))),
    (-4049, 400, post(f"{V1}/positionMargin", symbol="BTCUSDT", amount=1, type=1)),
    (-4059, 400, post(f"{V1}/positionSide/dual", dualSidePosition="false")),
    (-4060, 400, post(positionSide="UP")),
    (-4061, 400, post(positionSide="LONG")),
    (-4067, 400, after(post(), post(f"{V1}/positionSide/dual", dualSidePosition="true"))),
    (-4068, 400, after(BUY, post(f"{V1}/positionSide/dual", dualSidePosition="true"))),
    (-4082, 400, post(f"{V1}/batchOrders", batchOrders="[]")),
    (-4116, 400, after(post(newClientOrderId="q1"), post(newClientOrderId="q1"))),
    (-4120, 400, post(type="TAKE_PROFIT_MARKET")),
    (-4164, 400, post(quantity="0.001")),
    (-4165, 400, get(f"{V1}/allOrders", symbol="BTCUSDT", startTime=0, endTime=700_000_000)),
    (-4170, 400, after(post(), post(f"{V1}/multiAssetsMargin", multiAssetsMargin="true"))),
    (-4171, 400, post(f"{V1}/multiAssetsMargin", multiAssetsMargin="false")),
    (
        -4531,
        400,
        after(
            own("/sim/restrict", "code=-4531&seconds=9"),
            post(f"{V1}/positionSide/dual", dualSidePosition="true"),
        ),
    ),
    (-5021, 400, post(timeInForce="FOK")),
    (-5022, 400, post(timeInForce="GTX", price="50000.1")),
    (-5025, 400, after(BUY, lambda rig: rig.call("PUT", ORDER, **{**LIMIT, "price": "49000", "orderId": 1}))),
    (-5027, 400, amend(price="49000")),
    (-5029, 400, amend(quantity="0.001")),
    (-5037, 400, post(price=None, priceMatch="OPPONENT_10")),
    (-5038, 400, post(type="MARKET", timeInForce=None, price=None, priceMatch="QUEUE")),
    (-5039, 400, post(selfTradePreventionMode="XXX")),
    (-5040, 400, post(timeInForce="GTD", goodTillDate=LATER)),
    (-5041, 400, post(**NO_BOOK)),
    (-5047, 400, amend(reduceOnly="true")),
]


@pytest.mark.parametrize(("code", "status", "story"), CASES, ids=[str(case[0]) for case in CASES])
def test_request_brings_about_its_code(code: int, status: int, story: Story) -> None:
    """HTTP status, code as int, a sentence in msg, nothing else in the body (facts 5, 9)."""
    limits = LimitSizes(orders_per_ten_seconds=6)
    rig = Rig("BTCUSDT", "ETHUSDT", quoted=False, options=Options(limits=limits))
    rig.quote("50000.0", "50000.1")
    reply = story(rig)
    assert (reply.status, reply.body["code"]) == (status, code)
    assert set(reply.body) == {"code", "msg"}
    assert type(reply.body["code"]) is int
    assert len(reply.body["msg"]) > 10
    assert "{" not in reply.body["msg"]
    assert reply.headers["content-type"] == "application/json"


def test_too_small_a_quantity_and_a_step_between_need_other_lots() -> None:
    """-4004 and -4023 where minimum and step are coarser than the precision (facts 3.2, 9)."""
    rig = Rig("DOGEUSDT", quoted=False, options=Options(deployment=Deployment.DEMO))
    order = {**LIMIT, "symbol": "DOGEUSDT", "price": "0.1"}
    assert rig.call("POST", ORDER, **{**order, "quantity": "0.5"}).code == -1111
    rules = rig.exchange._venue.instruments["DOGEUSDT"].rules
    object.__setattr__(rules, "quantity_precision", 2)
    assert rig.call("POST", ORDER, **{**order, "quantity": "0.5"}).code == -4004
    assert rig.call("POST", ORDER, **{**order, "quantity": "100.5"}).code == -4023


def test_number_of_open_orders_is_limited() -> None:
    """-2025 at MAX_NUM_ORDERS of the symbol (facts 3.2, 9)."""
    rig = Rig(options=Options(limits=LimitSizes(orders_per_ten_seconds=1000)))
    replies = [rig.place("BUY", "49000", "0.002") for _ in range(201)]
    assert {reply.status for reply in replies[:200]} == {200}
    assert replies[200].code == -2025


def test_market_order_needs_a_counterparty_near_the_mark() -> None:
    """-4131 where the best price is beyond PERCENT_PRICE of the mark (facts 3.2, 9)."""
    rig = Rig()
    rig.quote("50000.0", "53000.0")
    assert rig.take("BUY", "0.010").code == -4131


def test_order_counts_again_in_the_next_window() -> None:
    """-1015 with Retry-After until the fixed window ends (facts 5)."""
    rig = Rig(options=Options(limits=LimitSizes(orders_per_ten_seconds=1)))
    rig.place("BUY", "49000", "0.010")
    reply = rig.place("BUY", "49000", "0.010")
    assert (reply.status, reply.code) == (429, -1015)
    rig.wait(int(reply.headers["retry-after"]) * 1000)
    assert rig.place("BUY", "49000", "0.010").status == 200


def test_ban_ends_when_it_says() -> None:
    """418 names the epoch time of its end in the text, Retry-After the seconds until then (facts 5)."""
    rig = Rig(options=Options(limits=LimitSizes(weight_per_minute=1, patience=1)))
    replies = [rig.send("GET", f"{V1}/ping") for _ in range(3)]
    assert [(reply.status, reply.body.get("code")) for reply in replies] == [
        (200, None),
        (429, -1003),
        (418, -1003),
    ]
    wait_s = int(replies[2].headers["retry-after"])
    assert f"banned until {rig.now_ms + wait_s * 1000}" in replies[2].body["msg"]
    rig.wait(wait_s * 1000)
    assert rig.send("GET", f"{V1}/ping").status == 200


@pytest.mark.parametrize("key", ["a b", "<script>", "k" * 500])
def test_strange_key_is_an_unknown_one(key: str) -> None:
    """-2015 (401) for what is no key of the account (facts 9)."""
    assert Rig(keys=[ApiKey("other", "s")]).send("GET", f"{V1}/accountConfig", "", key=key).code == -2015


@pytest.mark.parametrize("code", [-1122, -4140, -4141, -5024])
def test_codes_of_a_halt_are_chosen(code: int) -> None:
    """Which codes orders and amendments of a halted symbol get is unsure, so they are switches (facts 9)."""
    rig = Rig(options=Options(halted_order_code=code, halted_amend_code=code))
    rig.place("BUY", "49000", "0.010", newClientOrderId="q1")
    rig.send("POST", "/sim/halt", "seconds=5")
    assert rig.place("BUY", "49000", "0.010").code == code
    assert rig.amend("q1", "BUY", "49100", "0.010").code == code
    assert rig.call("DELETE", ORDER, symbol="BTCUSDT", origClientOrderId="q1").status == 200


@pytest.mark.parametrize(
    "path", ["ticker/bookTicker", "depth", "premiumIndex", "klines", "openOrders", "userTrades"]
)
def test_symbol_that_is_not_listed_is_an_invalid_one(path: str) -> None:
    """-1121 for a symbol that this host does not list (facts 9, 11.22); lists leave it out and the others go on."""
    rig = Rig("BTCUSDT", "ETHUSDT")
    rig.send("POST", "/sim/fault", "fault=symbol-missing&symbol=BTCUSDT&for_s=5")
    assert rig.call("GET", f"{V1}/{path}", symbol="BTCUSDT", interval="1m").code == -1121
    assert rig.call("GET", f"{V1}/{path}", symbol="ETHUSDT", interval="1m").status == 200
    info = rig.send("GET", f"{V1}/exchangeInfo").body["symbols"]
    assert [each["symbol"] for each in info] == ["ETHUSDT"]
    assert [each["symbol"] for each in rig.send("GET", f"{V1}/ticker/bookTicker").body] == ["ETHUSDT"]
