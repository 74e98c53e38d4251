"""Isolated margin: what is set aside for a position, what that position can lose, and what only it can lose.

Sources: facts section 3.4 (marginType, leverage, positionRisk, balance), 7.3 (ACCOUNT_UPDATE, MARGIN_CALL), 9 (codes);
Binance's pages "Modify Isolated Position Margin", "Get Position Margin Change History" and "Error Code".
"""

import random
from decimal import Decimal
from typing import Any

import pytest

from sim.account import Account
from sim.rules import MAINNET
from test.sim_factory import Reply, Rig, executions

V1 = "/fapi/v1"
LEVERAGE = 20
FEE = Decimal("0.0005")


def isolated(wallet: str = "10000", *, symbols: tuple[str, ...] = ("BTCUSDT",)) -> Rig:
    """Return an exchange on which BTCUSDT is isolated and still flat."""
    rig = Rig(*symbols, wallet=wallet)
    assert set_margin(rig, "ISOLATED").body == {"code": 200, "msg": "success"}
    return rig


def set_margin(rig: Rig, kind: str, symbol: str = "BTCUSDT") -> Reply:
    """Ask for a margin type."""
    return rig.call("POST", f"{V1}/marginType", symbol=symbol, marginType=kind)


def adjust(rig: Rig, amount: str, kind: int = 1) -> Reply:
    """Add (1) or take away (2) margin."""
    return rig.call("POST", f"{V1}/positionMargin", symbol="BTCUSDT", amount=amount, type=kind)


def risk(rig: Rig, symbol: str = "BTCUSDT") -> dict[str, Any]:
    """Return the symbol's row of positionRisk."""
    (row,) = rig.call("GET", "/fapi/v3/positionRisk", symbol=symbol).body
    return dict(row)


def wallets(rig: Rig) -> tuple[Decimal, Decimal]:
    """Return the whole wallet, and the part that is crossed."""
    row = rig.call("GET", "/fapi/v3/balance").body[0]
    return Decimal(row["balance"]), Decimal(row["crossWalletBalance"])


def fall(rig: Rig, bid: str, symbol: str = "BTCUSDT") -> None:
    """Let the market move, and the mark price follow for two minutes."""
    rig.quote(bid, str(Decimal(bid) + Decimal("0.1")), symbol=symbol)
    rig.wait(120_000)


def of_kind(heard: list[Any], kind: str) -> list[Any]:
    """Return the events of a kind."""
    return [event for event in heard if event["e"] == kind]


def test_margin_type_is_changed_while_flat_and_shown_everywhere() -> None:
    """200 with code 200; symbolConfig, v2 positionRisk, v2 account and ACCOUNT_UPDATE tell of it (facts 3.4, 7.3)."""
    rig = Rig()
    heard = rig.listen_to_user()
    assert set_margin(rig, "ISOLATED").body == {"code": 200, "msg": "success"}
    assert rig.call("GET", f"{V1}/symbolConfig", symbol="BTCUSDT").body[0]["marginType"] == "ISOLATED"
    assert rig.call("GET", "/fapi/v2/positionRisk", symbol="BTCUSDT").body[0]["marginType"] == "isolated"
    assert rig.call("GET", "/fapi/v2/account").body["positions"][0]["isolated"] is True
    (update,) = of_kind(heard, "ACCOUNT_UPDATE")
    assert (update["a"]["m"], update["a"]["P"][0]["mt"]) == ("MARGIN_TYPE_CHANGE", "isolated")
    assert set_margin(rig, "ISOLATED").code == -4046
    assert set_margin(rig, "CROSSED").status == 200
    assert rig.call("GET", f"{V1}/symbolConfig", symbol="BTCUSDT").body[0]["marginType"] == "CROSSED"


@pytest.mark.parametrize("kind", ["ISOLATED", "CROSSED"])
def test_margin_type_stays_with_orders_or_a_position(kind: str) -> None:
    """-4047 and -4048, in both directions (facts 3.4, 9)."""
    rig = Rig() if kind == "ISOLATED" else isolated()
    rig.place("BUY", "49000", "0.010", newClientOrderId="q1")
    assert set_margin(rig, kind).code == -4047
    rig.call("DELETE", f"{V1}/order", symbol="BTCUSDT", origClientOrderId="q1")
    rig.take("BUY", "0.010")
    assert set_margin(rig, kind).code == -4048


def test_isolated_margin_and_multi_assets_mode_exclude_each_other() -> None:
    """-4168 for isolated margin under Multi-Assets mode, -4167 the other way round (facts 9, "Error Code")."""
    rig = isolated()
    assert rig.call("POST", f"{V1}/multiAssetsMargin", multiAssetsMargin="true").code == -4167
    set_margin(rig, "CROSSED")
    assert rig.call("POST", f"{V1}/multiAssetsMargin", multiAssetsMargin="true").status == 200
    assert set_margin(rig, "ISOLATED").code == -4168


def test_position_sets_its_initial_margin_aside() -> None:
    """isolatedWallet is value / leverage, isolatedMargin that with the profit; the crossed wallet is the rest (3.4)."""
    rig = isolated()
    rig.take("BUY", "0.100")
    row, value = risk(rig), Decimal("5000.01")
    held = value / LEVERAGE
    assert Decimal(row["isolatedWallet"]) == held
    assert Decimal(row["isolatedMargin"]) == held + Decimal(row["unRealizedProfit"])
    assert wallets(rig) == (10_000 - value * FEE, 10_000 - value * FEE - held)
    total = rig.call("GET", "/fapi/v3/account").body
    assert Decimal(total["totalCrossWalletBalance"]) == wallets(rig)[1]
    assert Decimal(total["totalCrossUnPnl"]) == 0
    assert Decimal(total["availableBalance"]) == wallets(rig)[1]


def test_fill_tells_of_the_isolated_wallet() -> None:
    """ACCOUNT_UPDATE has mt isolated and iw, and cw apart from wb (facts 7.3)."""
    rig = isolated()
    heard = rig.listen_to_user()
    rig.take("BUY", "0.100")
    (update,) = of_kind(heard, "ACCOUNT_UPDATE")
    entry, balance = update["a"]["P"][0], update["a"]["B"][0]
    assert (entry["mt"], entry["iw"]) == ("isolated", "250.00050000")
    assert Decimal(balance["wb"]) - Decimal(balance["cw"]) == Decimal(entry["iw"])


def test_closing_gives_the_margin_back_in_proportion() -> None:
    """Half of it for half of the position, all of it with the rest; a flip sets aside for the new side (3.4)."""
    rig = isolated()
    rig.take("BUY", "0.100")
    rig.take("SELL", "0.050")
    assert Decimal(risk(rig)["isolatedWallet"]) == Decimal("125.00025")
    rig.take("SELL", "0.150")
    assert Decimal(risk(rig)["isolatedWallet"]) == Decimal(5000) / LEVERAGE
    rig.take("BUY", "0.100")
    assert rig.position() == "0.000"
    assert len(set(wallets(rig))) == 1


def test_leverage_of_an_isolated_position_can_only_rise() -> None:
    """-4161 for a lower one, which a crossed position may have (facts 3.4, 9)."""
    rig = isolated()
    assert rig.call("POST", f"{V1}/leverage", symbol="BTCUSDT", leverage=10).status == 200
    rig.take("BUY", "0.010")
    reply = rig.call("POST", f"{V1}/leverage", symbol="BTCUSDT", leverage=9)
    assert (reply.status, reply.code) == (400, -4161)
    assert rig.call("POST", f"{V1}/leverage", symbol="BTCUSDT", leverage=25).status == 200
    crossed = Rig()
    crossed.take("BUY", "0.010")
    assert crossed.call("POST", f"{V1}/leverage", symbol="BTCUSDT", leverage=9).status == 200


def test_profit_of_an_isolated_position_carries_no_other_order() -> None:
    """New orders stand on the crossed margin balance: -2019 where only isolated profit would cover them (3.4, 9)."""
    rig = isolated("300")
    rig.take("BUY", "0.100")
    fall(rig, "52000")
    assert Decimal(risk(rig)["unRealizedProfit"]) > 190
    assert rig.place("BUY", "51000", "0.100").code == -2019
    assert rig.place("SELL", "53000", "0.100", reduceOnly="true").status == 200


def test_liquidation_price_is_where_the_own_margin_ends() -> None:
    """Isolated wallet + profit at it = maintenance margin; the rest of the wallet does not count (facts 3.4)."""
    small, large = isolated("1000"), isolated("100000")
    for rig in (small, large):
        rig.take("BUY", "0.100")
    row = risk(small)
    assert row["liquidationPrice"] == risk(large)["liquidationPrice"]
    price = Decimal(row["liquidationPrice"])
    equity = Decimal(row["isolatedWallet"]) + (price - Decimal(row["entryPrice"])) * Decimal("0.1")
    assert abs(equity - price * Decimal("0.1") * Decimal("0.004")) < Decimal("0.00001")


@pytest.mark.parametrize(("above", "is_held"), [("1", True), ("-1", False)])
def test_position_lives_down_to_its_liquidation_price(above: str, *, is_held: bool) -> None:
    """A unit above it the position is held, a unit below it is gone (facts 3.4, 4.2)."""
    rig = isolated("100000")
    rig.take("BUY", "0.100")
    limit = Decimal(risk(rig)["liquidationPrice"]).quantize(Decimal("0.1"))
    fall(rig, str(limit + Decimal(above)))
    assert (rig.position() == "0.100") is is_held


def test_liquidation_takes_the_isolated_margin_and_nothing_else() -> None:
    """Through a gap, the wallet loses the margin set aside and the opening fee; the insurance fund pays the rest."""
    rig = isolated("100000", symbols=("BTCUSDT", "ETHUSDT"))
    rig.take("BUY", "0.100", symbol="ETHUSDT")
    rig.take("BUY", "0.100")
    heard = rig.listen_to_user()
    before = wallets(rig)[1]
    fall(rig, "40000")
    assert rig.position() == "0.000"
    assert wallets(rig) == (before, before)
    assert risk(rig, "ETHUSDT")["positionAmt"] == "0.100"
    assert next(name for name, kind in executions(heard) if kind == "CALCULATED").startswith("autoclose-")
    reasons = [event["a"]["m"] for event in of_kind(heard, "ACCOUNT_UPDATE")]
    assert "INSURANCE_CLEAR" in reasons


def test_liquidation_of_an_isolated_position_leaves_other_orders() -> None:
    """Only the symbol's own orders expire with er 5 (facts 4.2)."""
    rig = isolated("100000", symbols=("BTCUSDT", "ETHUSDT"))
    rig.take("BUY", "0.100")
    rig.place("SELL", "51000", "0.010", newClientOrderId="own", reduceOnly="true")
    rig.place("SELL", "51000", "0.010", symbol="ETHUSDT", newClientOrderId="other")
    heard = rig.listen_to_user()
    fall(rig, "47000")
    ended = [
        (each["o"]["c"], each["o"]["er"])
        for each in of_kind(heard, "ORDER_TRADE_UPDATE")
        if each["o"]["x"] == "EXPIRED"
    ]
    assert ended == [("own", "5")]
    assert rig.place("BUY", "46000", "0.010").status == 200


def test_crossed_liquidation_spares_isolated_positions() -> None:
    """The crossed margin balance ends, the isolated position and its margin stay (facts 3.4)."""
    rig = isolated("600", symbols=("BTCUSDT", "ETHUSDT"))
    rig.take("BUY", "0.100")
    held = risk(rig)["isolatedWallet"]
    rig.take("BUY", "0.100", symbol="ETHUSDT")
    fall(rig, "45000", symbol="ETHUSDT")
    assert rig.call("GET", "/fapi/v3/positionRisk", symbol="ETHUSDT").body == []
    assert (rig.position(), risk(rig)["isolatedWallet"]) == ("0.100", held)
    assert wallets(rig)[1] == 0


def test_margin_call_of_an_isolated_position_has_no_cross_wallet() -> None:
    """MARGIN_CALL with mt ISOLATED and iw; cw comes with crossed positions only (facts 7.3)."""
    rig = isolated("100000")
    rig.take("BUY", "0.100")
    heard = rig.listen_to_user()
    fall(rig, "47720")
    (call,) = of_kind(heard, "MARGIN_CALL")
    assert set(call) == {"e", "E", "p"}
    assert (call["p"][0]["mt"], call["p"][0]["iw"]) == ("ISOLATED", "250.00050000")


def test_funding_of_an_isolated_position_changes_its_margin() -> None:
    """FUNDING_FEE with the isolated position in P, where crossed funding has none (facts 7.3)."""
    rig = isolated()
    rig.take("BUY", "0.100")
    rig.wait(3600 * 1000)
    heard = rig.listen_to_user()
    crossed = wallets(rig)[1]
    rig.wait(3000 * 1000)
    (update,) = [each["a"] for each in of_kind(heard, "ACCOUNT_UPDATE")]
    assert (update["m"], update["S"]) == ("FUNDING_FEE", "BTCUSDT")
    paid = Decimal(update["B"][0]["bc"])
    assert paid < 0
    assert Decimal(update["P"][0]["iw"]) == Decimal("250.0005") + paid
    assert wallets(rig)[1] == crossed


def test_margin_is_added_and_taken_away() -> None:
    """amount as a number, code 200, type echoed; MARGIN_TRANSFER on the stream; history by USER_ADJUST and TRADE."""
    rig = isolated()
    rig.take("BUY", "0.100")
    heard = rig.listen_to_user()
    before = Decimal(risk(rig)["liquidationPrice"])
    assert adjust(rig, "100").body == {
        "amount": 100.0,
        "code": 200,
        "msg": "Successfully modify position margin.",
        "type": 1,
    }
    assert Decimal(risk(rig)["isolatedWallet"]) == Decimal("350.0005")
    assert Decimal(risk(rig)["liquidationPrice"]) < before
    assert adjust(rig, "40", 2).body["type"] == 2
    updates = [each["a"] for each in of_kind(heard, "ACCOUNT_UPDATE")]
    assert [(each["m"], each["P"][0]["iw"]) for each in updates] == [
        ("MARGIN_TRANSFER", "350.00050000"),
        ("MARGIN_TRANSFER", "310.00050000"),
    ]
    rows = rig.call("GET", f"{V1}/positionMargin/history", symbol="BTCUSDT").body
    assert [(row["type"], row["deltaType"], row["amount"]) for row in rows] == [
        (1, "TRADE", "250.00050000"),
        (1, "USER_ADJUST", "100.00000000"),
        (2, "USER_ADJUST", "40.00000000"),
    ]
    assert set(rows[0]) == {"symbol", "type", "deltaType", "amount", "asset", "time", "positionSide"}
    taken = rig.call("GET", f"{V1}/positionMargin/history", symbol="BTCUSDT", type=2, limit=1).body
    assert [row["amount"] for row in taken] == ["40.00000000"]


@pytest.mark.parametrize(
    ("amount", "kind", "code"),
    [("10", 3, -1130), ("0", 1, -4055), ("10000", 1, -4050), ("1", 2, -4051)],
)
def test_margin_that_cannot_be_moved_is_refused(amount: str, kind: int, code: int) -> None:
    """-4055 for nothing, -4050 above the available balance, -4051 below the initial margin ("Error Code")."""
    rig = isolated()
    rig.take("BUY", "0.100")
    reply = adjust(rig, amount, kind)
    assert (reply.status, reply.code) == (400, code)
    assert risk(rig)["isolatedWallet"] == "250.00050000"


def test_margin_belongs_to_an_isolated_position() -> None:
    """-4049 for a crossed symbol, -4054 without a position ("Error Code")."""
    rig = Rig()
    assert adjust(rig, "1").code == -4049
    set_margin(rig, "ISOLATED")
    assert adjust(rig, "1").code == -4054


def test_profit_that_is_not_realised_cannot_be_taken_out() -> None:
    """What may be taken is the isolated wallet above the initial margin at the mark (model, docs)."""
    rig = isolated()
    rig.take("BUY", "0.100")
    fall(rig, "52000")
    assert adjust(rig, "1", 2).code == -4051


@pytest.mark.parametrize("seed", range(20))
def test_margin_set_aside_is_conserved(seed: int) -> None:
    """Through any fills, crossed and isolated wallet make up the wallet; a flat position holds nothing."""
    rules, draw = MAINNET["BTCUSDT"], random.Random(seed)
    account = Account({"BTCUSDT": rules}, Decimal(100_000), isolated={"BTCUSDT": Decimal(0)})
    for now_ms in range(200):
        lots = draw.choice([-3, -2, -1, 1, 2, 3]) * draw.randrange(1, 40)
        if draw.random() < 0.1:
            lots = -account.positions["BTCUSDT"].lots or lots
        account.book_fill(
            "BTCUSDT", lots, draw.randrange(490_000, 510_000), now_ms, maker=draw.random() < 0.5
        )
        held = account.isolated["BTCUSDT"]
        assert account.cross_wallet + held == account.wallet
        assert (held > 0) is bool(account.positions["BTCUSDT"].lots)
        assert held == sum(change.amount for change in account.margin_changes)


@pytest.mark.parametrize("seed", range(4))
def test_wallet_is_the_sum_of_its_income_whatever_happens(seed: int) -> None:
    """Orders, margin types, margins, leverages, jumps and funding in any order: no money comes or goes unseen (3.4)."""
    draw, rig = random.Random(seed), Rig("BTCUSDT", "ETHUSDT", wallet="20000")
    prices = dict.fromkeys(rig.rules, Decimal(50_000))
    for _ in range(250):
        symbol = draw.choice(list(prices))
        dice = draw.random()
        if dice < 0.3:
            prices[symbol] = (prices[symbol] * Decimal(1 + draw.gauss(0, 0.01))).quantize(Decimal("0.1"))
            rig.quote(str(prices[symbol]), str(prices[symbol] + 1), symbol=symbol)
        elif dice < 0.6:
            rig.take(draw.choice(["BUY", "SELL"]), draw.choice(["0.010", "0.500", "2"]), symbol=symbol)
        elif dice < 0.7:
            set_margin(rig, draw.choice(["ISOLATED", "CROSSED"]), symbol)
        elif dice < 0.8:
            kind, amount = draw.choice([1, 2]), draw.choice(["1", "100"])
            rig.call("POST", f"{V1}/positionMargin", symbol=symbol, amount=amount, type=kind)
        elif dice < 0.9:
            rig.call("POST", f"{V1}/leverage", symbol=symbol, leverage=draw.choice([5, 20, 50]))
        else:
            rig.wait(draw.choice([1_000, 20_000, 300_000]))
        account, ledger = rig.exchange._venue.account, rig.exchange._venue.ledger
        assert account.wallet == 20_000 + sum(row.amount for row in ledger.cash)
        assert account.cross_wallet + sum(account.isolated.values()) == account.wallet
        assert all(account.positions[name].lots or not held for name, held in account.isolated.items())
