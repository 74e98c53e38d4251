"""The exchange counts how the account behaves, and can hold it to reduce-only orders or to none."""

import json
from decimal import Decimal
from typing import Any

import pytest

from sim.conduct import ConductRules
from sim.exchange import Options
from sim.standing import NO_ORDERS, REDUCE_ONLY
from test.sim_factory import Rig

STATUS = "/fapi/v1/apiTradingStatus"
ORDER = "/fapi/v1/order"
STRICT = ConductRules(
    enforced=True,
    counts_from=(("UFR", 4), ("IFER", 4), ("GCR", 4), ("DR", 4)),
    triggers=(("UFR", "0.995"), ("IFER", "0.99"), ("GCR", "0.99"), ("DR", "0.99")),
)


def indicators(rig: Rig) -> dict[str, Any]:
    """Return the indicators of BTCUSDT by name."""
    rows = rig.call("GET", STATUS, symbol="BTCUSDT").body["indicators"]["BTCUSDT"]
    return {row["indicator"]: row for row in rows}


def cancel(rig: Rig, name: str) -> None:
    """Cancel an order."""
    assert rig.call("DELETE", ORDER, symbol="BTCUSDT", origClientOrderId=name).status == 200


def test_status_lists_four_indicators_a_symbol() -> None:
    """UFR, IFER, GCR, DR with value, triggerValue, isLocked, plannedRecoverTime; weight 1 or 10 (facts 3.4)."""
    rig = Rig("BTCUSDT", "ETHUSDT", quoted=False)
    reply = rig.call("GET", STATUS)
    assert list(reply.body["indicators"]) == ["BTCUSDT", "ETHUSDT"]
    assert reply.headers["x-mbx-used-weight-1m"] == "10"
    assert rig.call("GET", STATUS, symbol="BTCUSDT").headers["x-mbx-used-weight-1m"] == "11"
    rows = reply.body["indicators"]["BTCUSDT"]
    assert [row["indicator"] for row in rows] == ["UFR", "IFER", "GCR", "DR"]
    assert rows[0] == {
        "isLocked": False,
        "plannedRecoverTime": 0,
        "indicator": "UFR",
        "value": 0,
        "triggerValue": 0.995,
    }
    assert type(reply.body["updateTime"]) is int


def test_unfilled_ratio_counts_quantities() -> None:
    """1 - executed / ordered quantity of the last ten minutes (FAQ on quantitative rules)."""
    rig = Rig()
    rig.take("BUY", "0.010")
    rig.place("BUY", "49000", "0.030")
    assert indicators(rig)["UFR"]["value"] == 0.75
    rig.wait(600_000)
    assert indicators(rig)["UFR"]["value"] == 0


def test_fast_cancels_count_against_resting_orders() -> None:
    """Cancelled within five seconds and without a fill, of GTC, GTX and GTD orders (FAQ on quantitative rules)."""
    rig = Rig()
    for name, lived_ms in (("a", 4_999), ("b", 5_000)):
        rig.place("BUY", "49000", "0.010", newClientOrderId=name)
        rig.wait(lived_ms)
        cancel(rig, name)
    rig.take("BUY", "0.010")
    assert indicators(rig)["GCR"]["value"] == 0.5


def test_partly_filled_order_is_no_invalid_cancel() -> None:
    """What has traded was meant."""
    rig = Rig()
    rig.place("BUY", "50000.0", "0.010", newClientOrderId="a")
    rig.trade("50000.0", "10.004")
    cancel(rig, "a")
    assert indicators(rig)["GCR"]["value"] == 0


def test_expired_immediate_orders_are_a_ratio_of_their_own() -> None:
    """Expired IOC and FOK orders of all such (FAQ on quantitative rules)."""
    rig = Rig()
    rig.place("BUY", "49000", "0.010", "IOC")
    rig.place("BUY", "50000.1", "0.010", "IOC")
    rig.place("BUY", "50000.1", "0.010", "FOK")
    assert indicators(rig)["IFER"]["value"] == 0.3333


def test_dust_orders_are_counted_by_value() -> None:
    """Orders worth less than 50 (FAQ on quantitative rules); only reduce-only ones can be so small on BTCUSDT."""
    rig = Rig()
    rig.quote("49000.0", "49000.1")
    rig.take("SELL", "0.002")
    rig.take("BUY", "0.001", reduceOnly="true")
    assert indicators(rig)["DR"]["value"] == 0.5


def offend(rig: Rig) -> None:
    """Place and cancel four orders at once, and wait until the cycle of ten minutes has ended."""
    for count in range(4):
        rig.place("BUY", "49000", "0.010", newClientOrderId=f"o{count}")
        cancel(rig, f"o{count}")
    rig.wait(600_000 - rig.now_ms % 600_000)


def test_bad_ratio_locks_the_symbol_to_reduce_only_where_enforced() -> None:
    """-4400 for what opens, reduce-only passes; isLocked and plannedRecoverTime tell; it ends (facts 3.4, 9)."""
    rig = Rig(options=Options(conduct=STRICT))
    rig.take("BUY", "0.010")
    rig.wait(600_000)
    offend(rig)
    row = indicators(rig)["GCR"]
    assert (row["isLocked"], row["plannedRecoverTime"]) == (True, rig.now_ms + 600_000)
    reply = rig.place("BUY", "49000", "0.010")
    assert (reply.status, reply.code) == (400, -4400)
    assert rig.take("SELL", "0.010", reduceOnly="true").status == 200
    rig.wait(600_000)
    assert rig.place("BUY", "49000", "0.010").status == 200
    assert indicators(rig)["GCR"]["isLocked"] is False


def test_rules_are_only_shown_unless_they_are_enforced() -> None:
    """Enforcement is a switch, off by default."""
    rig = Rig(options=Options(conduct=ConductRules(counts_from=STRICT.counts_from)))
    offend(rig)
    assert rig.place("BUY", "49000", "0.010").status == 200


def test_few_orders_are_never_judged() -> None:
    """Ratios count from a number of orders on (FAQ on quantitative rules)."""
    rig = Rig(options=Options(conduct=ConductRules(enforced=True)))
    offend(rig)
    assert rig.place("BUY", "49000", "0.010").status == 200


# Restrictions on command


def restrict(rig: Rig, code: int, more: str = "&symbol=BTCUSDT&seconds=60") -> Any:
    """Put a restriction into force."""
    return rig.send("POST", "/sim/restrict", f"code={code}{more}", key="")


@pytest.mark.parametrize("code", sorted(REDUCE_ONLY | NO_ORDERS))
def test_restriction_refuses_with_its_code(code: int) -> None:
    """The account's and the symbol's risk control, region and status codes (facts 9), until they end."""
    rig = Rig()
    rig.take("BUY", "0.010")
    rig.place("BUY", "49000", "0.010", newClientOrderId="q1")
    assert restrict(rig, code).body["code"] == code
    reply = rig.place("BUY", "49000", "0.010")
    assert (reply.status, reply.code) == (400, code)
    assert reply.body["msg"]
    assert rig.amend("q1", "BUY", "49100", "0.010").code == code
    assert (
        rig.call("POST", f"{ORDER}/test", symbol="BTCUSDT", side="BUY", type="MARKET", quantity="1").code
        == code
    )
    reducing = rig.take("SELL", "0.010", reduceOnly="true").body
    assert reducing.get("code", 0) == (0 if code in REDUCE_ONLY else code)
    cancel(rig, "q1")
    rig.wait(60_000)
    assert rig.place("BUY", "49000", "0.010").status == 200


def test_position_mode_may_be_held() -> None:
    """-4531: the temporary block by COIN-M's synchronisation; orders go on (facts 3.4, 9)."""
    rig = Rig()
    path = "/fapi/v1/positionSide/dual"
    restrict(rig, -4531, "&seconds=60")
    assert rig.call("POST", path, dualSidePosition="true").code == -4531
    assert rig.place("BUY", "49000", "0.010", newClientOrderId="q1").status == 200
    cancel(rig, "q1")
    rig.wait(60_000)
    assert rig.call("POST", path, dualSidePosition="true").status == 200


def test_restriction_concerns_one_symbol_or_all() -> None:
    """Without a symbol it is the account's."""
    rig = Rig("BTCUSDT", "ETHUSDT", quoted=False)
    rig.quote("3000.00", "3000.01", symbol="ETHUSDT")
    order: dict[str, Any] = {"symbol": "ETHUSDT"}
    restrict(rig, -4087)
    assert rig.place("BUY", "2900", "0.100", **order).status == 200
    restrict(rig, -4088, "&seconds=60")
    assert rig.place("BUY", "2900", "0.100", **order).code == -4088
    restrict(rig, -4088, "&seconds=0")
    assert rig.place("BUY", "2900", "0.100", **order).status == 200


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("code=-2010&seconds=1", -1130),
        ("code=x&seconds=1", -1130),
        ("seconds=1", -1102),
        ("code=-4087", -1102),
        ("code=-4087&seconds=1&symbol=NOSUCH", -1121),
    ],
)
def test_faulty_restriction_is_refused(query: str, code: int) -> None:
    """Only what restricts orders, only symbols that there are."""
    assert Rig().send("POST", "/sim/restrict", query).code == code


def test_batch_elements_are_restricted_each_for_itself() -> None:
    """Elements of a batch get their own code (facts 3.3)."""
    rig = Rig()
    restrict(rig, -4400)
    item = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTX"}
    items = json.dumps([{**item, "price": "49000", "quantity": "0.010"}])
    reply = rig.call("POST", "/fapi/v1/batchOrders", batchOrders=items)
    assert (reply.status, reply.body[0]["code"]) == (200, -4400)


def test_ratio_values_are_rounded_to_four_places() -> None:
    """They are JSON numbers, no strings."""
    rig = Rig()
    for quantity in ("0.010", "0.020"):
        rig.place("BUY", "49000", quantity)
    rig.take("BUY", "0.007")
    assert Decimal(str(indicators(rig)["UFR"]["value"])) == Decimal("0.8108")
