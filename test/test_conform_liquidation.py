"""An account that cannot carry its positions is warned, then liquidated; and others' orders may reduce it."""

from decimal import Decimal
from typing import Any

import pytest

from sim.exchange import Options
from sim.streams import StreamOptions
from test.sim_factory import Rig, executions


def levered(wallet: str = "1000", **options: Any) -> tuple[Rig, list[Any]]:
    """Return an exchange on which a small account is 0.300 long, with an order resting, and its events from then on."""
    rig = Rig(wallet=wallet, options=Options(**options))
    assert rig.take("BUY", "0.300").body["status"] == "FILLED"
    rig.place("SELL", "51000", "0.010", newClientOrderId="quote", reduceOnly="true")
    return rig, rig.listen_to_user()


def fall(rig: Rig, bid: str, bid_qty: str = "10") -> None:
    """Let the market fall, and the mark price follow for two minutes."""
    price = Decimal(bid)
    rig.quote(str(price), str(price + Decimal("0.1")), bid_qty=bid_qty)
    rig.wait(120_000)


def of_kind(heard: list[Any], kind: str) -> list[Any]:
    """Return the events of a kind."""
    return [event for event in heard if event["e"] == kind]


def test_margin_call_warns_once() -> None:
    """MARGIN_CALL with cross wallet and positions s, ps, pa, mt CROSSED, iw, mp, up, mm as strings (facts 7.3)."""
    rig, heard = levered()
    fall(rig, "46900")
    calls = of_kind(heard, "MARGIN_CALL")
    assert len(calls) == 1
    assert set(calls[0]) == {"e", "E", "cw", "p"}
    row = calls[0]["p"][0]
    assert (row["s"], row["ps"], row["pa"], row["mt"]) == ("BTCUSDT", "BOTH", "0.300", "CROSSED")
    assert {type(value) for value in row.values()} == {str}
    assert set(row) == {"s", "ps", "pa", "mt", "iw", "mp", "up", "mm"}
    assert calls[0]["cw"] == rig.call("GET", "/fapi/v3/balance").body[0]["crossWalletBalance"]
    fall(rig, "46901")
    assert len(of_kind(heard, "MARGIN_CALL")) == 1


def test_margin_call_comes_again_after_a_recovery() -> None:
    """Once the margin is fine again, the next shortage is told too."""
    rig, heard = levered()
    for price in ("46900", "49000", "46900"):
        fall(rig, price)
    assert len(of_kind(heard, "MARGIN_CALL")) == 2


def test_ratio_of_the_margin_call_is_a_matter_of_choice() -> None:
    """Binance says "too high"; from which ratio on is a switch (facts 7.3)."""
    rig, heard = levered(streams=StreamOptions(margin_call_ratio=Decimal("0.1")))
    fall(rig, "48500")
    assert len(of_kind(heard, "MARGIN_CALL")) == 1


def test_healthy_account_hears_nothing() -> None:
    """No call, no liquidation."""
    rig, heard = levered("100000")
    fall(rig, "46900")
    assert heard == []


def test_liquidation_expires_orders_and_closes_the_position() -> None:
    """Orders end with er 5; the position by an autoclose- order of type LIQUIDATION, x CALCULATED (facts 4.2, 7.2)."""
    rig, heard = levered()
    fall(rig, "46500")
    assert rig.position() == "0.000"
    assert rig.order("quote")["status"] == "EXPIRED"
    events = [event["o"] for event in of_kind(heard, "ORDER_TRADE_UPDATE")]
    knocked = events[0]
    assert (knocked["c"], knocked["x"], knocked["X"], knocked["er"]) == ("quote", "EXPIRED", "EXPIRED", "5")
    opened, closed = events[1], events[2]
    assert opened["c"].startswith("autoclose-")
    assert (opened["x"], opened["X"], opened["o"], opened["f"], opened["S"]) == (
        "NEW",
        "NEW",
        "LIQUIDATION",
        "IOC",
        "SELL",
    )
    assert (closed["x"], closed["X"], closed["l"], closed["m"]) == ("CALCULATED", "FILLED", "0.300", False)
    assert closed["L"] == "46500.00"


def test_liquidation_fee_goes_to_the_insurance_fund() -> None:
    """liquidationFee of exchangeInfo, as INSURANCE_CLEAR in income and ACCOUNT_UPDATE (facts 3.4, 7.3, 10)."""
    rig, heard = levered("1500")
    fall(rig, "44600")
    rows = rig.call("GET", "/fapi/v1/income", incomeType="INSURANCE_CLEAR").body
    price = next(
        event["o"]
        for event in heard
        if event["e"] == "ORDER_TRADE_UPDATE" and event["o"]["x"] == "CALCULATED"
    )
    fee = Decimal(price["L"]) * Decimal("0.3") * Decimal("0.0125")
    assert Decimal(rows[0]["income"]) == -fee
    told = [event["a"] for event in of_kind(heard, "ACCOUNT_UPDATE") if event["a"]["m"] == "INSURANCE_CLEAR"]
    assert Decimal(told[0]["B"][0]["bc"]) == -fee


def test_insurance_fund_pays_what_the_wallet_cannot() -> None:
    """A wallet below zero with nothing left is filled up to zero (facts 3.4: INSURANCE_CLEAR)."""
    rig, _ = levered()
    fall(rig, "40000")
    assert rig.call("GET", "/fapi/v3/balance").body[0]["balance"] == "0.00000000"
    rows = rig.call("GET", "/fapi/v1/income", incomeType="INSURANCE_CLEAR").body
    assert [Decimal(row["income"]) > 0 for row in rows] == [False, True]


def test_insurance_fund_pays_also_for_a_client_that_closed_first() -> None:
    """After a jump beyond the margin, and before the next look at it: the wallet does not stay below zero."""
    rig = Rig(wallet="400")
    rig.call("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=50)
    rig.take("BUY", "0.300")
    heard = rig.listen_to_user()
    rig.quote("48000", "48000.1")
    assert rig.take("SELL", "0.300", reduceOnly="true").body["status"] == "FILLED"
    lost = Decimal(rig.call("GET", "/fapi/v3/balance").body[0]["balance"])
    assert lost < 0
    rig.wait(1_000)
    assert rig.call("GET", "/fapi/v3/balance").body[0]["balance"] == "0.00000000"
    rows = rig.call("GET", "/fapi/v1/income", incomeType="INSURANCE_CLEAR").body
    assert [Decimal(row["income"]) for row in rows] == [-lost]
    assert [event["a"]["m"] for event in of_kind(heard, "ACCOUNT_UPDATE")] == ["ORDER", "INSURANCE_CLEAR"]
    rig.wait(1_000)
    assert len(rig.call("GET", "/fapi/v1/income", incomeType="INSURANCE_CLEAR").body) == 1


@pytest.mark.parametrize("price", ["46500", "40000"])
def test_money_is_conserved_through_a_liquidation(price: str) -> None:
    """The wallet is what it was plus every row of income."""
    rig, _ = levered()
    fall(rig, price)
    income = sum(Decimal(row["income"]) for row in rig.call("GET", "/fapi/v1/income", limit=1000).body)
    assert Decimal(rig.call("GET", "/fapi/v3/balance").body[0]["balance"]) == 1000 + income


def test_larger_position_goes_first_and_the_rest_may_stay() -> None:
    """Positions are closed from the largest maintenance margin down, until what is left is covered."""
    rig = Rig("BTCUSDT", "ETHUSDT", quoted=False, wallet="1000")
    rig.quote("50000.0", "50000.1")
    rig.quote("3000.00", "3000.01", symbol="ETHUSDT")
    rig.take("BUY", "0.300")
    rig.call("POST", "/fapi/v1/order", symbol="ETHUSDT", side="BUY", type="MARKET", quantity="0.010")
    rig.quote("47000.0", "47000.1", bid_qty="10")
    rig.wait(3000)
    while rig.position() != "0.000":
        price = str(
            Decimal(rig.call("GET", "/fapi/v1/ticker/bookTicker", symbol="BTCUSDT").body["bidPrice"]) - 50
        )
        fall(rig, price)
    rows = rig.call("GET", "/fapi/v3/positionRisk").body
    wallet = Decimal(rig.call("GET", "/fapi/v3/balance").body[0]["balance"])
    assert [row["symbol"] for row in rows] == (["ETHUSDT"] if wallet > 1 else [])


def test_orders_are_refused_while_the_liquidation_lacks_a_market() -> None:
    """-2023 until the book has taken the position (facts 9)."""
    rig, heard = levered()
    fall(rig, "46000", bid_qty="0")
    assert rig.position() == "0.300"
    assert rig.place("BUY", "45000", "0.010").code == -2023
    assert of_kind(heard, "ORDER_TRADE_UPDATE")
    fall(rig, "46000")
    assert rig.position() == "0.000"
    assert rig.place("BUY", "45000", "0.010").code != -2023


def test_short_is_liquidated_by_a_rise() -> None:
    """The same on the other side."""
    rig = Rig(wallet="1000")
    rig.take("SELL", "0.300")
    heard = rig.listen_to_user()
    fall(rig, "53500")
    assert rig.position() == "0.000"
    assert [event["o"]["S"] for event in of_kind(heard, "ORDER_TRADE_UPDATE")] == ["BUY", "BUY"]


def test_liquidation_price_is_where_it_happens() -> None:
    """positionRisk's liquidationPrice: a little above nothing happens, a little below it does (facts 3.4)."""
    rig, _ = levered()
    price = Decimal(rig.call("GET", "/fapi/v3/positionRisk").body[0]["liquidationPrice"]).quantize(Decimal(1))
    fall(rig, str(price + 5))
    assert rig.position() == "0.300"
    fall(rig, str(price - 5))
    assert rig.position() == "0.000"


# Fills of others' making


def test_deleveraging_reduces_the_position_under_a_foreign_id() -> None:
    """Client id adl_autoclose; events as for any fill (facts 4.2)."""
    rig = Rig()
    rig.take("SELL", "0.300")
    heard = rig.listen_to_user()
    reply = rig.send("POST", "/sim/adl", "symbol=BTCUSDT&quantity=0.1", key="")
    assert (reply.body["clientOrderId"], reply.body["side"], rig.position()) == (
        "adl_autoclose",
        "BUY",
        "-0.200",
    )
    assert executions(heard) == [("adl_autoclose", "NEW"), ("adl_autoclose", "TRADE")]
    assert rig.send("POST", "/sim/adl", "symbol=BTCUSDT").body["executedQty"] == "0.200"
    assert rig.send("POST", "/sim/adl", "symbol=BTCUSDT").code == -2022


@pytest.mark.parametrize(
    ("query", "code"), [("", -1102), ("symbol=NOSUCH", -1121), ("symbol=BTCUSDT&quantity=0", -4003)]
)
def test_faulty_deleveraging_is_refused(query: str, code: int) -> None:
    """Like an order's parameters."""
    rig = Rig()
    rig.take("SELL", "0.300")
    assert rig.send("POST", "/sim/adl", query).code == code


def test_reduce_only_order_that_could_flip_needs_margin() -> None:
    """-4118 where other orders of its side would, with it, turn a position around that margin cannot carry (4.5, 9)."""
    rig = Rig(wallet="1000")
    rig.take("BUY", "0.100")
    rig.place("SELL", "50100", "0.399", newClientOrderId="other")
    assert rig.take("SELL", "0.100", reduceOnly="true").code == -4118
    rig.call("DELETE", "/fapi/v1/order", symbol="BTCUSDT", origClientOrderId="other")
    assert rig.take("SELL", "0.100", reduceOnly="true").body["status"] == "FILLED"
