"""The account over REST: positions, balances, settings, history, listen keys.

Source: facts section 3.4, 7.1.
"""

from decimal import Decimal

from sim import payloads
from sim.account import MAX_NOTIONAL
from sim.auth import Security
from sim.errors import refusal
from sim.instrument import Instrument
from sim.money import ZERO
from sim.params import Params
from sim.payloads import Json
from sim.queries import Span, page
from sim.rest import Endpoint, Routes
from sim.rules import plain
from sim.venue import Venue


class AccountEndpoints:
    """Answers what concerns the account rather than a single order."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._asset = next(rules.quote_asset for rules in venue.account.rules.values())

    def routes(self) -> Routes:
        """Return the endpoints by method and path."""
        signed, trade, key = Security.SIGNED, Security.TRADE, Security.KEY
        v1, v3 = "/fapi/v1", "/fapi/v3"
        return {
            ("GET", f"{v3}/positionRisk"): Endpoint(self.position_risk, signed, 5),
            ("GET", f"{v3}/balance"): Endpoint(self.balance, signed, 5),
            ("GET", "/fapi/v2/balance"): Endpoint(self.balance, signed, 5),
            ("GET", f"{v3}/account"): Endpoint(self.account, signed, 5),
            ("GET", f"{v1}/accountConfig"): Endpoint(self.account_config, signed, 5),
            ("GET", f"{v1}/symbolConfig"): Endpoint(self.symbol_config, signed, 5),
            ("POST", f"{v1}/leverage"): Endpoint(self.set_leverage, trade),
            ("POST", f"{v1}/marginType"): Endpoint(self.set_margin_type, trade),
            ("GET", f"{v1}/positionSide/dual"): Endpoint(self.position_mode, signed, 30),
            ("POST", f"{v1}/positionSide/dual"): Endpoint(self.set_position_mode, trade),
            ("GET", f"{v1}/commissionRate"): Endpoint(self.commission_rate, signed, 20),
            ("GET", f"{v1}/leverageBracket"): Endpoint(self.leverage_bracket, signed),
            ("GET", f"{v1}/userTrades"): Endpoint(self.user_trades, signed, 5),
            ("GET", f"{v1}/income"): Endpoint(self.income, signed, 30),
            ("POST", f"{v1}/listenKey"): Endpoint(self.open_key, key),
            ("PUT", f"{v1}/listenKey"): Endpoint(self.keep_key, key),
            ("DELETE", f"{v1}/listenKey"): Endpoint(self.close_key, key),
            ("GET", "/sapi/v1/account/apiRestrictions"): Endpoint(self.key_rights, signed),
        }

    def position_risk(self, params: Params, now_ms: int) -> list[Json]:  # noqa: ARG002  all handlers are called alike
        """Return the symbols with a position or open orders, and no others."""
        account, marks = self._venue.account, self._venue.desk.marks
        return [
            payloads.position_risk(account, instrument, marks)
            for instrument in self._venue.chosen(params)
            if instrument.open or account.positions[instrument.symbol].lots
        ]

    def balance(self, params: Params, now_ms: int) -> list[Json]:  # noqa: ARG002
        """Return the wallet's balances."""
        account, available = self._venue.account, plain(self._available())
        return [
            {
                "accountAlias": "SimAccount",
                "asset": self._asset,
                "balance": plain(account.wallet),
                "crossWalletBalance": plain(account.wallet),
                "crossUnPnl": plain(account.unrealised(self._venue.desk.marks)),
                "availableBalance": available,
                "maxWithdrawAmount": available,
                "marginAvailable": True,
                "updateTime": self._updated_ms(),
            }
        ]

    def account(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002
        """Return totals, assets, and the positions that exist."""
        venue = self._venue
        account, marks = venue.account, venue.desk.marks
        held = sum((account.position_margin(symbol, mark) for symbol, mark in marks.items()), ZERO)
        needed = venue.desk.required_margin(next(iter(venue.instruments.values())))
        kept = sum((account.maintenance_margin(symbol, mark) for symbol, mark in marks.items()), ZERO)
        unrealised = account.unrealised(marks)
        available = plain(self._available())
        totals = {
            "InitialMargin": plain(needed),
            "MaintMargin": plain(kept),
            "WalletBalance": plain(account.wallet),
            "UnrealizedProfit": plain(unrealised),
            "MarginBalance": plain(account.wallet + unrealised),
            "PositionInitialMargin": plain(held),
            "OpenOrderInitialMargin": plain(max(needed - held, ZERO)),
            "CrossWalletBalance": plain(account.wallet),
            "CrossUnPnl": plain(unrealised),
        }
        asset = {
            "asset": self._asset,
            **{name[0].lower() + name[1:]: value for name, value in totals.items()},
            "availableBalance": available,
            "maxWithdrawAmount": available,
            "updateTime": self._updated_ms(),
        }
        return {
            **{f"total{name}": value for name, value in totals.items()},
            "availableBalance": available,
            "maxWithdrawAmount": available,
            "assets": [asset],
            "positions": [self._account_position(instrument, marks) for instrument in self._active()],
        }

    def account_config(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002
        """Return the account's modes."""
        return {
            "feeTier": 0,
            "canTrade": True,
            "canDeposit": True,
            "canWithdraw": True,
            "dualSidePosition": self._venue.hedge_mode,
            "updateTime": 0,
            "multiAssetsMargin": False,
            "tradeGroupId": -1,
        }

    def symbol_config(self, params: Params, now_ms: int) -> list[Json]:  # noqa: ARG002
        """Return margin type and leverage a symbol."""
        leverages = self._venue.account.leverages
        return [
            {
                "symbol": instrument.symbol,
                "marginType": "CROSSED",
                "isAutoAddMargin": False,
                "leverage": leverages[instrument.symbol],
                "maxNotionalValue": plain(MAX_NOTIONAL),
            }
            for instrument in self._venue.chosen(params)
        ]

    def set_leverage(self, params: Params, now_ms: int) -> Json:
        """Set the symbol's leverage; -4028 outside of what it allows, -2028 if margin would not suffice."""
        venue, instrument, leverage = self._venue, self._venue.instrument(params), params.integer("leverage")
        if not 1 <= leverage <= instrument.rules.max_leverage:
            raise refusal(-4028, leverage)
        changed = leverage != venue.account.leverages[instrument.symbol]
        if changed and venue.desk.required_margin(instrument, leverage) > venue.account.equity(
            venue.desk.marks
        ):
            raise refusal(-2028)
        venue.account.leverages[instrument.symbol] = leverage
        if changed and venue.user.is_heard:
            event = payloads.leverage_event(instrument.symbol, leverage, now_ms)
            venue.user.publish("ACCOUNT_CONFIG_UPDATE", payloads.encode(event), now_ms)
        return {
            "leverage": leverage,
            "maxNotionalValue": plain(MAX_NOTIONAL),
            "symbol": instrument.symbol,
        }

    def set_margin_type(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002
        """Refuse: CROSSED is in force (-4046); ISOLATED is blocked (-4047, -4048) or not simulated
        (-1020).
        """
        instrument = self._venue.instrument(params)
        kind = params.text("marginType")
        if kind == "CROSSED":
            raise refusal(-4046)
        if kind != "ISOLATED":
            raise refusal(-1130, "marginType")
        if instrument.open:
            raise refusal(-4047)
        if self._venue.account.positions[instrument.symbol].lots:
            raise refusal(-4048)
        raise refusal(-1020)

    def position_mode(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002
        """Return whether the account is in hedge mode."""
        return {"dualSidePosition": self._venue.hedge_mode}

    def set_position_mode(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002
        """Switch hedge mode; -4059 if unchanged, -4067 with open orders, -4068 with a position."""
        params.text("dualSidePosition")
        wanted = params.flag_or("dualSidePosition", default=False)
        if wanted is self._venue.hedge_mode:
            raise refusal(-4059)
        if any(instrument.open for instrument in self._venue.instruments.values()):
            raise refusal(-4067)
        if any(position.lots for position in self._venue.account.positions.values()):
            raise refusal(-4068)
        self._venue.hedge_mode = wanted
        return {"code": 200, "msg": "success"}

    def commission_rate(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002
        """Return the fees of a symbol."""
        rules = self._venue.instrument(params).rules
        return {
            "symbol": rules.symbol,
            "makerCommissionRate": plain(rules.maker_fee),
            "takerCommissionRate": plain(rules.taker_fee),
            "rpiCommissionRate": plain(rules.maker_fee),
        }

    def leverage_bracket(self, params: Params, now_ms: int) -> str:  # noqa: ARG002
        """Return the one bracket that is modelled, as a list."""
        rows = [payloads.leverage_bracket(instrument.rules) for instrument in self._venue.chosen(params)]
        return f"[{','.join(rows)}]"

    def user_trades(self, params: Params, now_ms: int) -> list[Json]:
        """Return fills of a symbol, oldest first."""
        instrument = self._venue.instrument(params)
        span = Span.of(params, "fromId", now_ms, default=500, most=1000)
        order_id = params.optional_integer("orderId")
        fills = (
            fill
            for fill in self._venue.ledger.fills
            if fill.symbol == instrument.symbol and order_id in (None, fill.order_id)
        )
        found = page(span, fills, lambda fill: fill.trade_id, lambda fill: fill.time_ms)
        return [payloads.user_trade(fill, instrument) for fill in found]

    def income(self, params: Params, now_ms: int) -> list[Json]:
        """Return movements of the wallet, oldest first."""
        symbols = {instrument.symbol for instrument in self._venue.chosen(params)}
        span = Span.of(params, "", now_ms, default=100, most=1000)
        kind = params.text_or("incomeType", "")
        rows = (row for row in self._venue.ledger.cash if row.symbol in symbols and kind in ("", row.kind))
        found = page(span, rows, lambda row: row.transaction_id, lambda row: row.time_ms)
        return [payloads.income(row, self._asset) for row in found]

    def open_key(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002
        """Return the listen key, valid for 60 minutes from now."""
        return {"listenKey": self._venue.user.open(now_ms)}

    def keep_key(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002
        """Extend the listen key; -1125 if there is none."""
        return {"listenKey": self._venue.user.keep_alive(now_ms)}

    def close_key(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002
        """End the listen key for all who use it."""
        self._venue.user.close(now_ms)
        return {}

    def key_rights(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002
        """Return what the API key may do."""
        return {
            "ipRestrict": False,
            "createTime": 1700000000000,
            "enableReading": True,
            "enableWithdrawals": self._venue.options.can_withdraw,
            "enableInternalTransfer": False,
            "enableMargin": False,
            "enableFutures": True,
            "permitsUniversalTransfer": False,
            "enableVanillaOptions": False,
            "enableFixApiTrade": False,
            "enableFixReadOnly": False,
            "enableSpotAndMarginTrading": False,
            "enablePortfolioMarginTrading": False,
        }

    def _available(self) -> Decimal:
        venue = self._venue
        needed = venue.desk.required_margin(next(iter(venue.instruments.values())))
        return max(venue.account.equity(venue.desk.marks) - needed, ZERO)

    def _updated_ms(self) -> int:
        return max((position.update_ms for position in self._venue.account.positions.values()), default=0)

    def _active(self) -> list[Instrument]:
        positions = self._venue.account.positions
        return [
            instrument
            for instrument in self._venue.instruments.values()
            if instrument.open or positions[instrument.symbol].lots
        ]

    def _account_position(self, instrument: Instrument, marks: dict[str, Decimal]) -> Json:
        risk = payloads.position_risk(self._venue.account, instrument, marks)
        names = (
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
        return {**{name: risk[name] for name in names}, "unrealizedProfit": risk["unRealizedProfit"]}
