"""JSON of balances, positions and totals of the account, in the forms of versions 2 and 3.

Source: facts section 3.4; Binance's pages "Account Information V2/V3", "Futures Account Balance V3".
"""

from collections.abc import Mapping
from decimal import Decimal

from sim import payloads
from sim.brackets import max_notional
from sim.fees import BNB
from sim.instrument import Instrument
from sim.money import ZERO
from sim.payloads import Json
from sim.rules import plain
from sim.venue import Venue


def updated_ms(venue: Venue) -> int:
    """Return when the wallet or a position last changed; 0 would mean an asset that was never there."""
    account = venue.account
    return max(account.funded_ms, *(position.update_ms for position in account.positions.values()))


def available(venue: Venue) -> Decimal:
    """Return what is left of the margin balance for new margin."""
    needed = venue.desk.required_margin(next(iter(venue.instruments.values())))
    return max(venue.account.cover(venue.desk.marks) - needed, ZERO)


def balances(venue: Venue, asset: str) -> list[Json]:
    """Return the rows of GET balance: the quote asset, and BNB once there has been some."""
    account, free = venue.account, plain(available(venue))
    crossed = account.cross_wallet, account.cross_unrealised(venue.desk.marks)
    rows = [_balance(venue, asset, account.wallet, *crossed, free)]
    if venue.options.fees.bnb:
        bnb = account.fees.bnb
        rows.append(_balance(venue, BNB, bnb, bnb, ZERO, plain(bnb)))
    return rows


def _balance(
    venue: Venue, asset: str, wallet: Decimal, crossed: Decimal, unrealised: Decimal, free: str
) -> Json:
    return {
        "accountAlias": "SimAccount",
        "asset": asset,
        "balance": plain(wallet),
        "crossWalletBalance": plain(crossed),
        "crossUnPnl": plain(unrealised),
        "availableBalance": free,
        "maxWithdrawAmount": free,
        "marginAvailable": True,
        "updateTime": updated_ms(venue),
    }


def totals(venue: Venue) -> dict[str, str]:
    """Return the totals of the account by their name without prefix."""
    account, marks = venue.account, venue.desk.marks
    held = sum((account.position_margin(symbol, mark) for symbol, mark in marks.items()), ZERO)
    needed = venue.desk.required_margin(next(iter(venue.instruments.values())))
    unrealised = account.unrealised(marks)
    return {
        "InitialMargin": plain(needed),
        "MaintMargin": plain(account.maintenance(marks)),
        "WalletBalance": plain(account.wallet),
        "UnrealizedProfit": plain(unrealised),
        "MarginBalance": plain(account.wallet + unrealised),
        "PositionInitialMargin": plain(held),
        "OpenOrderInitialMargin": plain(max(needed - held, ZERO)),
        "CrossWalletBalance": plain(account.cross_wallet),
        "CrossUnPnl": plain(account.cross_unrealised(marks)),
    }


def account_body(venue: Venue, asset: str) -> Json:
    """Return totals and assets (BNB once there has been some), as both versions of GET account show them."""
    figures, free = totals(venue), plain(available(venue))
    rest = {"availableBalance": free, "maxWithdrawAmount": free}
    assets = [_asset(venue, asset, figures, free)]
    if venue.options.fees.bnb:
        bnb = plain(venue.account.fees.bnb)
        held = dict.fromkeys(("WalletBalance", "MarginBalance", "CrossWalletBalance"), bnb)
        assets.append(_asset(venue, BNB, {**dict.fromkeys(figures, plain(ZERO)), **held}, bnb))
    return {**{f"total{name}": value for name, value in figures.items()}, **rest, "assets": assets}


def _asset(venue: Venue, asset: str, figures: Mapping[str, str], free: str) -> Json:
    return {
        "asset": asset,
        **{name[0].lower() + name[1:]: value for name, value in figures.items()},
        "availableBalance": free,
        "maxWithdrawAmount": free,
        "marginAvailable": True,
        "updateTime": updated_ms(venue),
    }


def modes(venue: Venue) -> Json:
    """Return the rights and modes of the account."""
    return {
        "feeTier": venue.account.fees.tier,
        "canTrade": True,
        "canDeposit": True,
        "canWithdraw": True,
        "updateTime": 0,
        "multiAssetsMargin": venue.account.multi_assets,
        "tradeGroupId": -1,
    }


_V3_NAMES = (
    "symbol",
    "positionSide",
    "positionAmt",
    "isolatedMargin",
    "notional",
    "isolatedWallet",
    "initialMargin",
    "maintMargin",
    "updateTime",
)
_V2_NAMES = (
    *_V3_NAMES,
    "positionInitialMargin",
    "openOrderInitialMargin",
    "entryPrice",
    "breakEvenPrice",
    "bidNotional",
    "askNotional",
)


def position_v3(venue: Venue, instrument: Instrument) -> Json:
    """Return an element of ``positions`` of GET v3 account."""
    risk = payloads.position_risk(venue.account, instrument, venue.desk.marks)
    return {**{name: risk[name] for name in _V3_NAMES}, "unrealizedProfit": risk["unRealizedProfit"]}


def position_v2(venue: Venue, instrument: Instrument) -> Json:
    """Return an element of ``positions`` of GET v2 account."""
    risk = payloads.position_risk(venue.account, instrument, venue.desk.marks)
    leverage = venue.account.leverages[instrument.symbol]
    return {
        **{name: risk[name] for name in _V2_NAMES},
        "unrealizedProfit": risk["unRealizedProfit"],
        "leverage": str(leverage),
        "isolated": instrument.symbol in venue.account.isolated,
        "maxNotional": str(max_notional(instrument.rules, leverage)),
    }


def position_risk_v2(venue: Venue, instrument: Instrument) -> Json:
    """Return an element of GET v2 positionRisk: with leverage, margin type and the most that leverage allows."""
    risk = payloads.position_risk(venue.account, instrument, venue.desk.marks)
    leverage = venue.account.leverages[instrument.symbol]
    names = (
        "symbol",
        "positionAmt",
        "entryPrice",
        "breakEvenPrice",
        "markPrice",
        "unRealizedProfit",
        "liquidationPrice",
        "isolatedMargin",
        "positionSide",
        "notional",
        "isolatedWallet",
        "updateTime",
    )
    return {
        **{name: risk[name] for name in names},
        "leverage": str(leverage),
        "maxNotionalValue": str(max_notional(instrument.rules, leverage)),
        "marginType": payloads.margin_word(venue.account, instrument),
        "isAutoAddMargin": "false",
    }
