"""The account over REST conforms to the documented protocol: fields, types, settings, fees, history."""

import json
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from sim.account import Account
from sim.brackets import bracket_of, brackets_of, max_notional
from sim.exchange import Options
from sim.fees import TIERS, FeeOptions, Fees
from sim.money import booked
from sim.rules import MAINNET
from test.sim_factory import Rig

V1, V2, V3 = "/fapi/v1", "/fapi/v2", "/fapi/v3"
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
SUCCESS = {"code": 200, "msg": "success"}


def holding() -> Rig:
    """Return an exchange on which the account is 0.010 long."""
    rig = Rig("BTCUSDT", "ETHUSDT", quoted=False)
    rig.quote("50000.0", "50000.1")
    rig.quote("3000.00", "3000.01", symbol="ETHUSDT")
    rig.take("BUY", "0.010")
    return rig


def types_of(row: dict[str, Any]) -> dict[str, type]:
    """Return the type of every field."""
    return {name: type(value) for name, value in row.items()}


def strings(names: str) -> dict[str, type]:
    """Return that all fields of the names are strings."""
    return dict.fromkeys(names.split(), str)


# Balances and positions

RISK = strings(
    "symbol positionSide positionAmt entryPrice breakEvenPrice markPrice unRealizedProfit liquidationPrice "
    "isolatedMargin notional marginAsset isolatedWallet initialMargin maintMargin positionInitialMargin "
    "openOrderInitialMargin bidNotional askNotional"
)
TOTALS = strings(
    "totalInitialMargin totalMaintMargin totalWalletBalance totalUnrealizedProfit totalMarginBalance "
    "totalPositionInitialMargin totalOpenOrderInitialMargin totalCrossWalletBalance totalCrossUnPnl "
    "availableBalance maxWithdrawAmount"
)


def test_position_risk_of_version_three_has_the_documented_fields() -> None:
    """Strings but adl and updateTime; no leverage, no marginType (facts 3.4)."""
    row = holding().call("GET", f"{V3}/positionRisk").body[0]
    assert types_of(row) == {**RISK, "adl": int, "updateTime": int}
    assert (row["positionSide"], row["marginAsset"]) == ("BOTH", "USDT")


def test_position_risk_of_version_three_leaves_out_what_is_flat() -> None:
    """Flat and without orders: absent; with symbol too (facts 3.4)."""
    rig = holding()
    assert [row["symbol"] for row in rig.call("GET", f"{V3}/positionRisk").body] == ["BTCUSDT"]
    assert rig.call("GET", f"{V3}/positionRisk", symbol="ETHUSDT").body == []


def test_position_risk_of_version_two_shows_all_symbols() -> None:
    """Adds leverage (string), marginType in lower case, isAutoAddMargin (string), maxNotionalValue (facts 3.4)."""
    rows = holding().call("GET", f"{V2}/positionRisk").body
    assert [row["symbol"] for row in rows] == ["BTCUSDT", "ETHUSDT"]
    row = rows[0]
    assert (row["leverage"], row["marginType"], row["isAutoAddMargin"]) == ("20", "cross", "false")
    assert (row["maxNotionalValue"], rows[1]["positionAmt"]) == ("100000000", "0.000")
    assert {name: kind for name, kind in types_of(row).items() if kind is not str} == {"updateTime": int}


@pytest.mark.parametrize("version", [V2, V3])
def test_balance_has_the_same_shape_in_both_versions(version: str) -> None:
    """accountAlias to updateTime (facts 3.4)."""
    row = Rig().call("GET", f"{version}/balance").body[0]
    assert types_of(row) == {
        **strings(
            "accountAlias asset balance crossWalletBalance crossUnPnl availableBalance maxWithdrawAmount"
        ),
        "marginAvailable": bool,
        "updateTime": int,
    }


def test_account_of_version_three_has_totals_assets_and_what_is_held() -> None:
    """Totals as strings; positions only where there is something (facts 3.4)."""
    body = holding().call("GET", f"{V3}/account").body
    assert types_of(body) == {**TOTALS, "assets": list, "positions": list}
    assert [row["symbol"] for row in body["positions"]] == ["BTCUSDT"]
    assert "leverage" not in body["positions"][0]


def test_account_of_version_two_adds_modes_and_all_symbols() -> None:
    """feeTier, rights, modes; positions of all symbols with leverage and isolated (facts 3.4)."""
    body = holding().call("GET", f"{V2}/account").body
    flags = {"canTrade": bool, "canDeposit": bool, "canWithdraw": bool, "multiAssetsMargin": bool}
    numbers = {"feeTier": int, "updateTime": int, "tradeGroupId": int}
    assert types_of(body) == {**TOTALS, **flags, **numbers, "assets": list, "positions": list}
    assert [row["symbol"] for row in body["positions"]] == ["BTCUSDT", "ETHUSDT"]
    row = body["positions"][0]
    assert (row["leverage"], row["isolated"], row["maxNotional"]) == ("20", False, "100000000")
    assert row["entryPrice"] == "50000.10000000"


def test_totals_of_both_versions_agree() -> None:
    """They are one account."""
    rig = holding()
    old, new = (rig.call("GET", f"{version}/account").body for version in (V2, V3))
    assert {name: old[name] for name in TOTALS} == {name: new[name] for name in TOTALS}
    assert old["assets"] == new["assets"]


# Settings


def test_leverage_that_somebody_else_sets_is_told_as_it_is() -> None:
    """ACCOUNT_CONFIG_UPDATE and GET symbolConfig speak of one account, also where a symbol does not go so far."""
    rig = Rig("BTCUSDT", "SOLUSDT", quoted=False)
    heard = rig.listen_to_user()
    rig.send("POST", "/sim/fault", "fault=leverage&leverage=125")
    rig.wait(1)
    told = {event["ac"]["s"]: event["ac"]["l"] for event in heard}
    rows = rig.call("GET", f"{V1}/symbolConfig").body
    assert told == {row["symbol"]: row["leverage"] for row in rows} == {"BTCUSDT": 125, "SOLUSDT": 100}


def test_account_configuration_has_the_documented_fields() -> None:
    """The cheap replacement of the two 30-weight questions (facts 3.4)."""
    reply = Rig(options=Options(fees=FeeOptions(tier=3))).call("GET", f"{V1}/accountConfig")
    assert reply.body == {
        "feeTier": 3,
        "canTrade": True,
        "canDeposit": True,
        "canWithdraw": True,
        "dualSidePosition": False,
        "updateTime": 0,
        "multiAssetsMargin": False,
        "tradeGroupId": -1,
    }
    assert reply.headers["x-mbx-used-weight-1m"] == "5"


def test_symbol_configuration_follows_the_leverage() -> None:
    """marginType in upper case, leverage as int, maxNotionalValue as string (facts 3.4)."""
    rig = Rig()
    rig.call("POST", f"{V1}/leverage", symbol="BTCUSDT", leverage=50)
    assert rig.call("GET", f"{V1}/symbolConfig", symbol="BTCUSDT").body == [
        {
            "symbol": "BTCUSDT",
            "marginType": "CROSSED",
            "isAutoAddMargin": False,
            "leverage": 50,
            "maxNotionalValue": "12000000",
        }
    ]


def test_leverage_is_replied_with_what_it_allows() -> None:
    """leverage int, maxNotionalValue string, symbol (facts 3.4)."""
    reply = Rig().call("POST", f"{V1}/leverage", symbol="BTCUSDT", leverage=125)
    assert reply.body == {"leverage": 125, "maxNotionalValue": "50000", "symbol": "BTCUSDT"}
    assert Rig().call("POST", f"{V1}/leverage", symbol="BTCUSDT").code == -1102


def test_high_leverage_holds_small_positions_only() -> None:
    """-2027: an order, or a change of leverage with one, beyond the bracket's cap (facts 9)."""
    rig = Rig()
    rig.call("POST", f"{V1}/leverage", symbol="BTCUSDT", leverage=125)
    assert rig.place("BUY", "49000", "1.1").code == -2027
    assert rig.place("BUY", "49000", "1.0").status == 200
    rig.call("POST", f"{V1}/leverage", symbol="BTCUSDT", leverage=100)
    rig.place("BUY", "49000", "1.0")
    assert rig.call("POST", f"{V1}/leverage", symbol="BTCUSDT", leverage=125).code == -2027


def test_asset_mode_is_switched_and_announced() -> None:
    """Unchanged -4171; success; ACCOUNT_CONFIG_UPDATE with ai.j (facts 3.4, 7.3)."""
    rig = Rig()
    heard = rig.listen_to_user()
    path = f"{V1}/multiAssetsMargin"
    assert rig.call("POST", path, multiAssetsMargin="false").code == -4171
    assert rig.call("POST", path, multiAssetsMargin="true").body == SUCCESS
    assert rig.call("GET", path).body == {"multiAssetsMargin": True}
    assert [event["ai"] for event in heard] == [{"j": True}]
    assert heard[0]["e"] == "ACCOUNT_CONFIG_UPDATE"
    assert rig.call("POST", f"{V1}/marginType", symbol="BTCUSDT", marginType="ISOLATED").code == -4168
    assert rig.call("GET", f"{V1}/accountConfig").body["multiAssetsMargin"] is True


@pytest.mark.parametrize(("value", "code"), [("", -1102), ("yes", -1130)])
@pytest.mark.parametrize("name", ["multiAssetsMargin", "feeBurn"])
def test_switch_takes_true_or_false_only(name: str, value: str, code: int) -> None:
    """Flags are the strings "true" and "false" in requests (facts 3)."""
    params = {name: value} if value else {}
    assert Rig().call("POST", f"{V1}/{name}", **params).code == code


def test_asset_mode_is_blocked_by_orders() -> None:
    """-4170 with open orders (facts 3.4: -4167 to -4172)."""
    rig = Rig()
    rig.place("BUY", "49000", "0.010")
    assert rig.call("POST", f"{V1}/multiAssetsMargin", multiAssetsMargin="true").code == -4170


def test_order_limits_are_the_accounts_own() -> None:
    """rateLimit/order: both ORDERS windows (facts 3.4)."""
    reply = Rig().call("GET", f"{V1}/rateLimit/order")
    assert reply.body == [
        {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 300},
        {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 1200},
    ]


@pytest.mark.parametrize(
    ("method", "path", "weight"),
    [
        ("GET", f"{V3}/positionRisk", 5),
        ("GET", f"{V2}/positionRisk", 5),
        ("GET", f"{V3}/balance", 5),
        ("GET", f"{V3}/account", 5),
        ("GET", f"{V2}/account", 5),
        ("GET", f"{V1}/accountConfig", 5),
        ("GET", f"{V1}/symbolConfig", 5),
        ("GET", f"{V1}/positionSide/dual", 30),
        ("GET", f"{V1}/multiAssetsMargin", 30),
        ("GET", f"{V1}/feeBurn", 30),
        ("GET", f"{V1}/commissionRate", 20),
        ("GET", f"{V1}/leverageBracket", 1),
        ("GET", f"{V1}/userTrades", 5),
        ("GET", f"{V1}/income", 30),
        ("GET", f"{V1}/rateLimit/order", 1),
        ("GET", f"{V1}/allOrders", 5),
        ("GET", f"{V1}/openOrders", 1),
        ("POST", f"{V1}/leverage", 1),
        ("POST", f"{V1}/marginType", 1),
        ("POST", f"{V1}/positionSide/dual", 1),
        ("POST", f"{V1}/multiAssetsMargin", 1),
        ("POST", f"{V1}/feeBurn", 1),
        ("POST", f"{V1}/countdownCancelAll", 10),
        ("POST", f"{V1}/listenKey", 1),
        ("PUT", f"{V1}/listenKey", 1),
        ("DELETE", f"{V1}/listenKey", 1),
    ],
)
def test_account_request_weighs_what_is_documented(method: str, path: str, weight: int) -> None:
    """The weight column (facts 3.3, 3.4), refused or not."""
    reply = Rig().call(method, path, symbol="BTCUSDT")
    assert reply.headers["x-mbx-used-weight-1m"] == str(weight)


# Brackets


def test_brackets_are_numbers_and_begin_with_binances_own() -> None:
    """A list with symbol or without; JSON numbers (facts 3.4); BTC's first two brackets (facts 10)."""
    rig = Rig("BTCUSDT", "ETHUSDT", quoted=False)
    one = rig.call("GET", f"{V1}/leverageBracket", symbol="BTCUSDT").body
    everything = rig.call("GET", f"{V1}/leverageBracket").body
    assert [row["symbol"] for row in everything] == ["BTCUSDT", "ETHUSDT"]
    assert one == everything[:1]
    assert one[0]["brackets"][:2] == [
        {
            "bracket": 1,
            "initialLeverage": 125,
            "notionalCap": 50000,
            "notionalFloor": 0,
            "maintMarginRatio": 0.004,
            "cum": 0,
        },
        {
            "bracket": 2,
            "initialLeverage": 100,
            "notionalCap": 600000,
            "notionalFloor": 50000,
            "maintMarginRatio": 0.005,
            "cum": 50,
        },
    ]
    assert len(one[0]["brackets"]) > 5


def test_bracket_of_one_symbol_may_come_without_a_list() -> None:
    """List, or single object when symbol is sent: a switch (facts 3.4)."""
    rig = Rig(options=Options(one_bracket_as_object=True))
    assert rig.call("GET", f"{V1}/leverageBracket", symbol="BTCUSDT").body["symbol"] == "BTCUSDT"
    assert [row["symbol"] for row in rig.call("GET", f"{V1}/leverageBracket").body] == ["BTCUSDT"]


@pytest.mark.parametrize(
    ("symbol", "cap", "leverage", "rate"),
    [
        ("BTCUSDT", 50_000, 125, "0.004"),
        ("ETHUSDT", 50_000, 125, "0.004"),
        ("SOLUSDT", 20_000, 100, "0.005"),
        ("XRPUSDT", 10_000, 75, "0.005"),
        ("DOGEUSDT", 10_000, 75, "0.005"),
    ],
)
def test_first_bracket_is_that_of_the_snapshot(symbol: str, cap: int, leverage: int, rate: str) -> None:
    """The first maintenance brackets (facts 10)."""
    first = brackets_of(MAINNET[symbol])[0]
    assert (first.cap, first.max_leverage, first.rate) == (cap, leverage, Decimal(rate))


@pytest.mark.parametrize("symbol", sorted(MAINNET))
def test_maintenance_margin_runs_on_without_a_jump(symbol: str) -> None:
    """At the end of a bracket it is the same by this one and by the next, and grows with every one."""
    rows = brackets_of(MAINNET[symbol])
    for row, following in pairwise(rows):
        edge = Decimal(row.cap)
        assert row.maintenance(edge) == following.maintenance(edge)
        assert (following.floor, following.rate > row.rate) == (row.cap, True)
        assert bracket_of(MAINNET[symbol], edge + 1) is following
        assert max_notional(MAINNET[symbol], row.max_leverage) == row.cap


@pytest.mark.parametrize("lots", [100, -100, 2_000, -2_000, 80_000, -80_000])
def test_liquidation_price_is_right_in_every_bracket(lots: int) -> None:
    """Equity meets the maintenance margin of whichever bracket the position is in at that price."""
    rules = MAINNET["BTCUSDT"]
    wallet = Decimal(abs(lots)) * 4
    account = Account({"BTCUSDT": rules}, wallet)
    account.book_fill("BTCUSDT", lots, 500_000, 7, maker=True)
    price = account.liquidation_price("BTCUSDT", {"BTCUSDT": Decimal(50_000)})
    assert price > 0
    marks = {"BTCUSDT": price}
    assert abs(account.equity(marks) - account.maintenance(marks)) < Decimal("0.00001") * abs(lots)


# Fees


@pytest.mark.parametrize("tier", range(10))
def test_fees_follow_the_tier(tier: int) -> None:
    """VIP 0 pays 0.02 % and 0.05 % (facts 10); commissionRate tells what the fills then cost (facts 3.4)."""
    rig = Rig(options=Options(fees=FeeOptions(tier=tier)))
    rates = rig.call("GET", f"{V1}/commissionRate", symbol="BTCUSDT").body
    maker, taker = TIERS[tier]
    assert rates == {
        "symbol": "BTCUSDT",
        "makerCommissionRate": maker,
        "takerCommissionRate": taker,
        "rpiCommissionRate": maker,
    }
    rig.take("BUY", "0.010")
    rig.place("SELL", "50000.1", "0.010")
    rig.trade("50000.2", "20", sold=False)
    fees = [Decimal(row["commission"]) for row in rig.call("GET", f"{V1}/userTrades", symbol="BTCUSDT").body]
    assert fees == [booked(Decimal("500.001") * Decimal(rate)) for rate in (taker, maker)]


def test_fees_paid_in_bnb_are_a_tenth_less() -> None:
    """feeBurn: 10 % off, in BNB from the futures wallet; fills, income and balance say so (facts 3.4, 10)."""
    rig = Rig(options=Options(fees=FeeOptions(bnb=Decimal(1), bnb_price=Decimal(500))))
    heard = rig.listen_to_user()
    assert rig.call("GET", f"{V1}/feeBurn").body == {"feeBurn": False}
    assert rig.call("POST", f"{V1}/feeBurn", feeBurn="true").body == SUCCESS
    assert rig.call("GET", f"{V1}/feeBurn").body == {"feeBurn": True}
    rig.take("BUY", "0.010")
    paid = booked(Decimal("500.001") * Decimal("0.0005") * Decimal("0.9") / 500)
    fill = rig.call("GET", f"{V1}/userTrades", symbol="BTCUSDT").body[0]
    assert (fill["commissionAsset"], Decimal(fill["commission"])) == ("BNB", paid)
    row = rig.call("GET", f"{V1}/income").body[0]
    assert (row["incomeType"], row["asset"], Decimal(row["income"])) == ("COMMISSION", "BNB", -paid)
    wallet = {row["asset"]: row["balance"] for row in rig.call("GET", f"{V3}/balance").body}
    assert (wallet["USDT"], Decimal(wallet["BNB"])) == ("100000.00000000", 1 - paid)
    for version in (V2, V3):
        quote, bnb = rig.call("GET", f"{version}/account").body["assets"]
        assert types_of(bnb) == types_of(quote)
        assert (bnb["asset"], Decimal(bnb["walletBalance"]), Decimal(bnb["initialMargin"])) == (
            "BNB",
            1 - paid,
            0,
        )
    trade = next(
        event["o"] for event in heard if event["e"] == "ORDER_TRADE_UPDATE" and event["o"]["x"] == "TRADE"
    )
    assert (trade["N"], Decimal(trade["n"])) == ("BNB", paid)
    update = next(event["a"] for event in heard if event["e"] == "ACCOUNT_UPDATE")
    assert [(row["a"], row["bc"]) for row in update["B"]] == [("USDT", "0.00000000"), ("BNB", "0.00000000")]


def test_fees_are_paid_in_the_margin_asset_without_enough_bnb() -> None:
    """BNB must sit in the futures wallet (facts 10)."""
    rig = Rig(options=Options(fees=FeeOptions(burns_bnb=True, bnb=Decimal("0.0000001"))))
    rig.take("BUY", "0.010")
    fill = rig.call("GET", f"{V1}/userTrades", symbol="BTCUSDT").body[0]
    assert (fill["commissionAsset"], fill["commission"]) == ("USDT", "0.25000050")


@pytest.mark.parametrize(
    "wrong", [{"tier": 10}, {"tier": -1}, {"bnb": Decimal(-1)}, {"bnb_price": Decimal(0)}]
)
def test_impossible_fee_options_are_refused(wrong: dict[str, Any]) -> None:
    """There are ten tiers, and no negative BNB."""
    with pytest.raises(ValueError, match=r"tier|BNB"):
        FeeOptions(**wrong)


def test_rates_of_the_symbol_hold_at_the_lowest_tier() -> None:
    """What a symbol sets for itself is what VIP 0 pays."""
    rules = MAINNET["BTCUSDT"]
    assert Fees(FeeOptions()).rate(rules, maker=True) == rules.maker_fee


# Fills and income


def test_fill_has_the_documented_fields() -> None:
    """userTrades (facts 3.4); commission positive is a cost."""
    rig = holding()
    row = rig.call("GET", f"{V1}/userTrades", symbol="BTCUSDT").body[0]
    assert types_of(row) == {
        **strings("symbol pair side positionSide price qty quoteQty baseQty commission commissionAsset"),
        **strings("marginAsset realizedPnl"),
        "id": int,
        "orderId": int,
        "buyer": bool,
        "maker": bool,
        "time": int,
    }
    assert (row["buyer"], row["maker"], Decimal(row["commission"]) > 0) == (True, False, True)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({}, -1102),
        ({"symbol": "BTCUSDT", "fromId": 1, "startTime": 1}, -1128),
        ({"symbol": "BTCUSDT", "fromId": 1, "endTime": 1}, -1128),
        ({"symbol": "BTCUSDT", "startTime": 0, "endTime": 7 * DAY_MS + 1}, -4165),
        ({"symbol": "BTCUSDT", "startTime": 2, "endTime": 1}, -1023),
        ({"symbol": "BTCUSDT", "limit": 1001}, -1130),
        ({"symbol": "BTCUSDT", "limit": 0}, -1130),
        ({"symbol": "BTCUSDT", "fromId": "x"}, -1100),
    ],
)
def test_faulty_request_for_fills_gets_its_code(params: dict[str, Any], code: int) -> None:
    """fromId not with times, at most 7 days, at most 1000 (facts 3.4)."""
    assert Rig().call("GET", f"{V1}/userTrades", **params).code == code


def test_fills_of_the_last_week_are_shown_by_default_and_of_three_months_at_all() -> None:
    """Default last 7 days; history of 3 months (facts 0, 3.4)."""
    rig = holding()
    path = f"{V1}/userTrades"
    week_old_ms = age_fill(rig, 8 * DAY_MS)
    assert rig.call("GET", path, symbol="BTCUSDT").body == []
    assert len(rig.call("GET", path, symbol="BTCUSDT", fromId=1).body) == 1
    assert len(rig.call("GET", path, symbol="BTCUSDT", startTime=week_old_ms).body) == 1
    age_fill(rig, 83 * DAY_MS)
    assert rig.call("GET", path, symbol="BTCUSDT", fromId=1).body == []


def age_fill(rig: Rig, by_ms: int) -> int:
    """Let the only fill be older, which is quicker than waiting; return its time."""
    fills = rig.exchange._venue.ledger.fills
    fills[0] = replace(fills[0], time_ms=fills[0].time_ms - by_ms)
    return fills[0].time_ms


def test_income_has_the_documented_fields() -> None:
    """tranId int, tradeId string, info (facts 3.4)."""
    row = holding().call("GET", f"{V1}/income").body[0]
    assert types_of(row) == {
        **strings("symbol incomeType income asset info tradeId"),
        "time": int,
        "tranId": int,
    }
    assert (row["incomeType"], row["income"][0], row["tradeId"]) == ("COMMISSION", "-", "1")


def test_income_is_paged() -> None:
    """page counts from 1 in pages of limit, oldest first (facts 3.4)."""
    rig = Rig()
    for _ in range(5):
        rig.take("BUY", "0.010")
    path = f"{V1}/income"
    pages = [
        [row["tranId"] for row in rig.call("GET", path, limit=2, page=page).body] for page in (1, 2, 3, 4)
    ]
    assert pages == [[1, 2], [3, 4], [5], []]
    assert [row["tranId"] for row in rig.call("GET", path, limit=2).body] == [4, 5]
    assert rig.call("GET", path, page=0).code == -1130
    assert rig.call("GET", path, limit=1001).code == -1130
    assert rig.call("GET", path, startTime=2, endTime=1).code == -1023


def test_transaction_ids_are_unique_within_a_type() -> None:
    """tranId is unique per user and type (facts 3.4)."""
    rig = holding()
    rig.take("SELL", "0.010")
    rows = rig.call("GET", f"{V1}/income").body
    assert len({(row["incomeType"], row["tranId"]) for row in rows}) == len(rows)
    assert {row["incomeType"] for row in rows} == {"COMMISSION", "REALIZED_PNL"}


# Listen key


def test_listen_key_is_one_and_extends() -> None:
    """64 characters; POST while active returns the same; PUT too; DELETE {} and then PUT -1125 (facts 3.4, 7.1)."""
    rig = Rig()
    path = f"{V1}/listenKey"
    key = rig.send("POST", path).body["listenKey"]
    assert len(key) == 64
    assert rig.send("POST", path).body == rig.send("PUT", path).body == {"listenKey": key}
    assert rig.send("DELETE", path).body == {}
    assert rig.send("PUT", path).code == -1125
    assert rig.send("POST", path).body["listenKey"] != key


def test_listen_key_lives_an_hour_from_the_last_request() -> None:
    """Valid 60 minutes from the last POST or PUT (facts 7.1)."""
    rig = Rig()
    path = f"{V1}/listenKey"
    rig.send("POST", path)
    rig.wait(HOUR_MS - 1)
    assert rig.send("PUT", path).status == 200
    rig.wait(HOUR_MS)
    assert rig.send("PUT", path).code == -1125


# Dead-man switch, as far as replies go


@pytest.mark.parametrize(
    ("params", "code"), [({}, -1102), ({"symbol": "BTCUSDT"}, -1102), ({"countdownTime": 1}, -1102)]
)
def test_countdown_needs_symbol_and_time(params: dict[str, Any], code: int) -> None:
    """Both are mandatory (facts 3.3)."""
    assert Rig().call("POST", f"{V1}/countdownCancelAll", **params).code == code


def test_flags_are_booleans_in_every_reply() -> None:
    """Flags are JSON booleans in responses (facts 3)."""
    text = json.dumps(holding().call("GET", f"{V2}/account").body)
    assert '"true"' not in text
    assert '"false"' not in text
